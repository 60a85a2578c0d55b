//! Pages of summaries, newest first. A page is a walk along one index from where the last one ended, so that it costs the same
//! however many envelopes there are. What other filters let through of that is looked at one by one: two of which each fits many and
//! both fit few take longer, at most as long as a statement may.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::database::{DatabaseError, PreparedByText};
use diesel::QueryResult;
use diesel::QueryableByName;
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Bool, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _};
use futures_util::FutureExt as _;
use serde_json::json;
use uuid::Uuid;

use super::envelope::row;
use super::rows::status_of;
use super::{Scope, Store};
use crate::domain::address::search_form;
use crate::domain::id::EnvelopeId;
use crate::domain::personal::Personal;
use crate::domain::status::Status;
use crate::execute::new_id;

/// An envelope in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the contract's EnvelopeSummary")]
pub struct Summary {
    pub id: EnvelopeId,
    pub status: Status,
    pub subject: String,
    pub external_reference: String,
    pub revision: u64,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub requires_replacement: bool,
}

/// Which envelopes to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those.
    pub status: Option<Status>,
    /// Only those that owe a replacement, or do not.
    pub requires_replacement: Option<bool>,
    /// Only those created then or later …
    pub created_from: Option<DateTime<Utc>>,
    /// … and before then.
    pub created_before: Option<DateTime<Utc>>,
    /// Only those with a recipient of this address.
    pub recipient: Option<Personal>,
    /// Only those with all of these.
    pub metadata: BTreeMap<String, String>,
    /// Only those before this one in the list.
    pub before: Option<EnvelopeId>,
    /// How many at most.
    pub limit: i64,
}

/// A page, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The envelopes.
    pub page: Vec<Summary>,
    /// The revision of the envelope that was asked about, at the time of the page or before; none if the scope does not have it.
    pub seen: Option<u64>,
}

/// By which index a page is walked to: by whatever is likely to leave the fewest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    Metadata,
    Recipient,
    Page,
}

/// How far the time of an id may be from that of the creation: some ids are drawn before the lock is waited for.
const DRAWN_APART: TimeDelta = TimeDelta::minutes(1);
/// What a summary is made of.
const COLUMNS: &str = "id, status, subject, external_reference, revision, created_at, expires_at, requires_replacement";
const BY_METADATA: &str = "SELECT envelope_id FROM envelope_metadata
    WHERE account_id = $1 AND entry = metadata_entry($11, $12) AND envelope_id < $3 AND envelope_id >= $4";
/// Sorted and made unique by the index: somebody may be in an envelope twice.
const BY_RECIPIENT: &str = "SELECT DISTINCT ON (envelope_id) envelope_id FROM recipient
    WHERE account_id = $1 AND address = $9 AND envelope_id < $3 AND envelope_id >= $4";

impl Walk {
    fn of(filter: &Filter) -> Self {
        match filter {
            Filter { metadata, .. } if !metadata.is_empty() => Self::Metadata,
            Filter { recipient: Some(_), .. } => Self::Recipient,
            _ => Self::Page,
        }
    }

    /// Only what is asked for stands in the text: Postgres guesses badly what a condition leaves that holds for everything.
    fn sql(self, filter: &Filter) -> String {
        let mut which = "account_id = $1 AND livemode = $2 AND discarded_at IS NULL".to_owned();
        let conditions = [
            (filter.status.is_some(), " AND status = $6"),
            (filter.requires_replacement == Some(true), " AND requires_replacement"),
            (filter.requires_replacement == Some(false), " AND NOT requires_replacement"),
            (filter.created_from.is_some(), " AND created_at >= $7"),
            (filter.created_before.is_some(), " AND created_at < $8"),
            (!filter.metadata.is_empty(), " AND metadata @> $10"),
            (
                filter.recipient.is_some() && self != Self::Recipient,
                " AND EXISTS (
                    SELECT FROM recipient AS r WHERE r.account_id = $1 AND r.envelope_id = envelope.id AND r.address = $9
                )",
            ),
        ];
        which.extend(conditions.into_iter().filter(|(is_asked_for, _)| *is_asked_for).map(|(_, condition)| condition));
        let found = match self {
            Self::Metadata => BY_METADATA,
            Self::Recipient => BY_RECIPIENT,
            Self::Page => {
                let walk = "id < $3 AND id >= $4 ORDER BY id DESC LIMIT $5";
                return format!("SELECT {COLUMNS} FROM envelope WHERE {which} AND {walk}");
            }
        };
        // One by one in the order in which they are found, until there are enough: of a lateral row Postgres assumes that there
        // is one, so that no plan reads all of them first.
        format!(
            "SELECT e.* FROM ({found} ORDER BY envelope_id DESC) AS found CROSS JOIN LATERAL (
                SELECT {COLUMNS} FROM envelope WHERE {which} AND id = found.envelope_id LIMIT 1
            ) AS e ORDER BY found.envelope_id DESC LIMIT $5"
        )
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Text)]
    external_reference: String,
    #[diesel(sql_type = BigInt)]
    revision: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    requires_replacement: bool,
}

impl Row {
    fn summary(self) -> QueryResult<Summary> {
        Ok(Summary {
            id: EnvelopeId::from_uuid(self.id),
            status: status_of(self.status)?,
            subject: self.subject,
            external_reference: self.external_reference,
            revision: self.revision.unsigned_abs(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            requires_replacement: self.requires_replacement,
        })
    }
}

/// The first id of those that were drawn from then on: ids begin with the time, to the millisecond.
fn first_of(from: DateTime<Utc>) -> Uuid {
    let [time @ .., _, _, _, _, _, _, _, _, _, _] = new_id(from).into_bytes();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(time).for_each(|(byte, time)| *byte = time);
    Uuid::from_bytes(bytes)
}

async fn page(mut conn: &AsyncPgConnection, scope: Scope, filter: &Filter) -> QueryResult<Vec<Summary>> {
    let before = filter.before.map_or(Uuid::max(), |id| id.uuid());
    let (entry, walk) = (filter.metadata.first_key_value(), Walk::of(filter));
    let query = diesel::sql_query(walk.sql(filter))
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(scope.account.uuid())
        .bind::<Bool, _>(scope.livemode.unwrap_or(true))
        .bind::<SqlUuid, _>(filter.created_before.map_or(before, |time| before.min(first_of(time + DRAWN_APART))))
        .bind::<SqlUuid, _>(filter.created_from.map_or(Uuid::nil(), |time| first_of(time - DRAWN_APART)))
        .bind::<BigInt, _>(filter.limit)
        .bind::<Nullable<SmallInt>, _>(filter.status.map(|status| status as i16))
        .bind::<Nullable<Timestamptz>, _>(filter.created_from)
        .bind::<Nullable<Timestamptz>, _>(filter.created_before)
        .bind::<Nullable<Text>, _>(filter.recipient.as_ref().map(search_form))
        .bind::<Jsonb, _>(json!(filter.metadata))
        .bind::<Nullable<Text>, _>(entry.map(|(key, _)| key.clone()))
        .bind::<Nullable<Text>, _>(entry.map(|(_, value)| value.clone()));
    // What finds is planned as if all of it were wanted: where nearly every row is found, it would be read and sorted as a whole.
    let mut before = conn;
    let in_order =
        async { if walk == Walk::Page { Ok(()) } else { before.batch_execute("SET LOCAL enable_sort = off").await } };
    let (ordered, rows) = futures_util::join!(in_order, PreparedByText(query).load::<Row>(&mut conn));
    ordered?;
    let rows = rows?;
    rows.into_iter().map(Row::summary).collect()
}

/// The page, and before it the revision of one that somebody has seen: the page is at least as fresh as that.
pub(super) async fn listed(
    conn: &AsyncPgConnection,
    scope: Scope,
    filter: &Filter,
    seen: Option<EnvelopeId>,
) -> QueryResult<Listed> {
    let seen_now = async {
        match seen {
            Some(id) => row(conn, scope.account, id).await,
            None => Ok(None),
        }
    };
    let (seen_now, page) = futures_util::join!(seen_now, page(conn, scope, filter));
    // Also of one that was thrown away meanwhile.
    let seen = seen_now?.filter(|row| row.is_in(scope)).map(|row| row.revision());
    Ok(Listed { seen, page: page? })
}

impl Store {
    /// A page of the account's envelopes, newest first, and the revision of the one that was seen.
    pub async fn envelopes(
        &self,
        scope: Scope,
        filter: Filter,
        seen: Option<EnvelopeId>,
    ) -> Result<Listed, DatabaseError> {
        self.read_one(scope.account, move |conn| async move { listed(conn, scope, &filter, seen).await }.boxed()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_time_begin_there() {
        let at = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap_or_default();
        let first = first_of(at);
        assert!(first <= new_id(at) && new_id(at) < first_of(at + TimeDelta::milliseconds(1)));
        assert!(new_id(at - TimeDelta::milliseconds(1)) < first);
    }
}
