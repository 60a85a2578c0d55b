//! By which entries of their metadata envelopes are found. The metadata themselves are a column of the envelope.

use countersign_chassis::database::prepared;
use diesel::QueryResult;
use diesel::sql_types::{Jsonb, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::terms::metadata;
use crate::domain::envelope::Envelope;

const ENTER: &str = "
INSERT INTO envelope_metadata (account_id, entry, envelope_id)
SELECT $1, metadata_entry(key, value), $2 FROM jsonb_each_text($3)";

/// What is in both stays as it is.
const CHANGE: &str = "
WITH gone AS (
    DELETE FROM envelope_metadata USING jsonb_each_text($3) AS old
    WHERE account_id = $1 AND envelope_id = $2 AND entry = metadata_entry(old.key, old.value)
        AND $4 ->> old.key IS DISTINCT FROM old.value
)
INSERT INTO envelope_metadata (account_id, entry, envelope_id)
SELECT $1, metadata_entry(key, value), $2 FROM jsonb_each_text($4) WHERE $3 ->> key IS DISTINCT FROM value";

enum Enter {}
enum Change {}

/// Enters those of a new envelope.
pub(super) async fn enter(mut conn: &AsyncPgConnection, new: &Envelope) -> QueryResult<()> {
    if new.terms.metadata.is_empty() {
        return Ok(());
    }
    let query = diesel::sql_query(ENTER)
        .bind::<SqlUuid, _>(new.account.uuid())
        .bind::<SqlUuid, _>(new.id.uuid())
        .bind::<Jsonb, _>(metadata(&new.terms));
    prepared::<Enter, _>(query).execute(&mut conn).await.map(drop)
}

/// Enters those that have come, and takes out those that have gone.
pub(super) async fn change(mut conn: &AsyncPgConnection, before: &Envelope, after: &Envelope) -> QueryResult<()> {
    if before.terms.metadata == after.terms.metadata {
        return Ok(());
    }
    let query = diesel::sql_query(CHANGE)
        .bind::<SqlUuid, _>(after.account.uuid())
        .bind::<SqlUuid, _>(after.id.uuid())
        .bind::<Jsonb, _>(metadata(&before.terms))
        .bind::<Jsonb, _>(metadata(&after.terms));
    prepared::<Change, _>(query).execute(&mut conn).await.map(drop)
}
