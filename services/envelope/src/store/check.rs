//! What an operator's check reads, under one snapshot: accounts and envelopes page by page, what follows from each, and questions
//! about all rows at once, whose every answer is a finding.
//!
//! Must never write, nor need memory that grows with the database: what has to be sorted the database sorts.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use countersign_chassis::check::{Answer, Question, Snapshot};
use countersign_chassis::config::DatabaseConfig;
use countersign_chassis::database::prepared;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::envelope::{parts, row};
use super::history::entry;
use super::int8;
use super::rows::assemble;
use super::settings::amount;
use crate::domain::audit::{Beside, Columns};
use crate::domain::credit::Amount;
use crate::domain::envelope::{Digest, Envelope};
use crate::domain::id::{AccountId, DocumentId, EnvelopeId};
use crate::domain::verify::Entry;

/// Accounts, envelopes, events and entries that are read at a time.
const PAGE: i64 = 500;

/// What must never have an answer, of all rows at once.
pub const QUESTIONS: &[Question] = &[
    Question {
        invariant: "feed.positions",
        sql: "SELECT NULL::uuid AS account, NULL::uuid AS subject,
                format('partition %s: %s places from %s to %s above the floor %s', h.part, count(f.position), min(f.position),
                    max(f.position), h.floor_position) AS detail
            FROM feed_head AS h LEFT JOIN feed AS f ON f.part = h.part WHERE $1 IS NULL
            GROUP BY h.part, h.floor_position
            HAVING count(f.position) > 0 AND (min(f.position) <> h.floor_position + 1
                OR count(DISTINCT f.position) <> count(f.position) OR max(f.position) - min(f.position) + 1 <> count(f.position))",
    },
    Question {
        invariant: "feed.partitions",
        sql: "SELECT NULL::uuid AS account, NULL::uuid AS subject, format('%s partitions have a head', count(*)) AS detail
            FROM feed_head HAVING count(*) <> 16 AND $1 IS NULL",
    },
    Question {
        invariant: "feed.settled",
        sql: "SELECT o.account_id AS account, o.envelope_id AS subject,
                format('event %s waits behind the settled mark, where nobody looks', o.sequence) AS detail
            FROM outbox AS o JOIN feed_head AS h USING (part)
            WHERE o.id <= h.settled_id AND ($1 IS NULL OR o.account_id = $1)",
    },
    Question {
        // Events of an envelope in the order in which they are told: those in the feed, then those that wait.
        invariant: "feed.order",
        sql: "SELECT account_id AS account, envelope_id AS subject,
                CASE WHEN before IS NULL THEN format('event %s is told, and none before', sequence)
                    ELSE format('event %s is told behind %s', sequence, before) END AS detail
            FROM (
                SELECT told.*, lag(sequence) OVER (PARTITION BY account_id, envelope_id ORDER BY stage, place) AS before
                FROM (
                    SELECT account_id, envelope_id, part, sequence, 0 AS stage, position AS place FROM feed
                    UNION ALL SELECT account_id, envelope_id, part, sequence, 1, id FROM outbox
                ) AS told WHERE $1 IS NULL OR account_id = $1
            ) AS steps JOIN feed_head AS h USING (part)
            WHERE sequence <> before + 1 OR (before IS NULL AND sequence <> 1 AND h.floor_position = 0)",
    },
    Question {
        // Told to the end. Of a feed that was cut off the beginning may be gone.
        invariant: "feed.end",
        sql: "SELECT v.account_id AS account, v.id AS subject,
                format('%s of %s events are told', coalesce(told.last, 0), v.sequence) AS detail
            FROM envelope AS v
            JOIN feed_head AS h ON h.part = get_byte(uuid_send(v.id), 15) % 16
            LEFT JOIN (
                SELECT account_id, envelope_id, max(sequence) AS last FROM (
                    SELECT account_id, envelope_id, sequence FROM feed UNION ALL SELECT account_id, envelope_id, sequence FROM outbox
                ) AS places GROUP BY account_id, envelope_id
            ) AS told ON told.account_id = v.account_id AND told.envelope_id = v.id
            WHERE ($1 IS NULL OR v.account_id = $1)
                AND (told.last <> v.sequence OR (told.last IS NULL AND h.floor_position = 0))",
    },
    Question {
        invariant: "feed.envelope",
        sql: "SELECT told.account_id AS account, told.envelope_id AS subject,
                format('event %s is told of another partition or mode, or of no envelope', told.sequence) AS detail
            FROM (
                SELECT account_id, envelope_id, part, livemode, sequence FROM feed
                UNION ALL SELECT account_id, envelope_id, part, livemode, sequence FROM outbox
            ) AS told LEFT JOIN envelope AS v ON v.account_id = told.account_id AND v.id = told.envelope_id
            WHERE ($1 IS NULL OR told.account_id = $1)
                AND (v.id IS NULL OR v.livemode <> told.livemode OR told.part <> get_byte(uuid_send(v.id), 15) % 16)",
    },
    Question {
        invariant: "idempotency.once",
        sql: "SELECT account_id AS account, NULL::uuid AS subject, format('%s replies for one key', count(*)) AS detail
            FROM idempotency WHERE $1 IS NULL OR account_id = $1 GROUP BY account_id, id HAVING count(*) > 1",
    },
    Question {
        invariant: "idempotency.about",
        sql: "SELECT i.account_id AS account, i.about AS subject, 'a reply tells of an envelope that is not there' AS detail
            FROM idempotency AS i LEFT JOIN envelope AS v ON v.account_id = i.account_id AND v.id = i.about
            WHERE i.about IS NOT NULL AND v.id IS NULL AND ($1 IS NULL OR i.account_id = $1)",
    },
    Question {
        // The reply to the call that purged it was begun shortly before, and stays.
        invariant: "idempotency.purged",
        sql: "SELECT i.account_id AS account, i.about AS subject,
                CASE WHEN i.reply IS NULL THEN 'a reply is gone of what was not purged' ELSE 'a reply is kept of what was purged' END
                    AS detail
            FROM idempotency AS i JOIN envelope AS v ON v.account_id = i.account_id AND v.id = i.about
            WHERE ($1 IS NULL OR i.account_id = $1)
                AND CASE WHEN i.reply IS NULL THEN v.purged_at IS NULL
                    ELSE i.used_at < v.purged_at - interval '5 minutes' END",
    },
    Question {
        // 38: what was said about the purge itself stays.
        invariant: "purge.particulars",
        sql: "SELECT p.account_id AS account, p.envelope_id AS subject,
                format('what is personal about event %s is kept of what was purged', p.sequence) AS detail
            FROM envelope AS v JOIN event_particulars AS p ON p.account_id = v.account_id AND p.envelope_id = v.id
            JOIN event AS e ON e.account_id = p.account_id AND e.envelope_id = p.envelope_id AND e.sequence = p.sequence
            WHERE v.purged_at IS NOT NULL AND e.kind <> 38 AND e.occurred_at < v.purged_at AND ($1 IS NULL OR v.account_id = $1)",
    },
    Question {
        invariant: "envelope.metadata",
        sql: "SELECT v.account_id AS account, v.id AS subject,
                format('%s entries lead to it', coalesce(entries.count, 0)) AS detail
            FROM envelope AS v LEFT JOIN (
                SELECT account_id, envelope_id, count(*) FROM envelope_metadata
                WHERE $1 IS NULL OR account_id = $1 GROUP BY account_id, envelope_id
            ) AS entries ON entries.account_id = v.account_id AND entries.envelope_id = v.id
            WHERE ($1 IS NULL OR v.account_id = $1) AND (
                coalesce(entries.count, 0) <> (SELECT count(*) FROM jsonb_object_keys(v.metadata)) OR EXISTS (
                    SELECT FROM jsonb_each_text(v.metadata) AS it WHERE NOT EXISTS (
                        SELECT FROM envelope_metadata AS entry WHERE entry.account_id = v.account_id
                            AND entry.entry = metadata_entry(it.key, it.value) AND entry.envelope_id = v.id
                    )
                ))",
    },
    Question {
        invariant: "envelope.replacement",
        sql: "SELECT v.account_id AS account, v.id AS subject, 'the envelope in its place does not know of it' AS detail
            FROM envelope AS v LEFT JOIN envelope AS w ON w.account_id = v.account_id AND w.id = v.replaced_by
            WHERE v.replaced_by IS NOT NULL AND w.replaces IS DISTINCT FROM v.id AND ($1 IS NULL OR v.account_id = $1)",
    },
    Question {
        invariant: "bytes.condemned",
        sql: "SELECT NULL::uuid AS account, NULL::uuid AS subject,
                format('%s are condemned, and some row names them', encode(sha256, 'hex')) AS detail
            FROM blob_removal WHERE $1 IS NULL AND condemned_at IS NOT NULL AND blob_is_needed(sha256)",
    },
    Question {
        invariant: "ledger.owner",
        sql: "SELECT l.account_id AS account, l.envelope_id AS subject, 'an entry is of an envelope that is not there' AS detail
            FROM ledger_entry AS l LEFT JOIN envelope AS v ON v.account_id = l.account_id AND v.id = l.envelope_id
            WHERE l.envelope_id IS NOT NULL AND v.id IS NULL AND ($1 IS NULL OR l.account_id = $1)",
    },
];

/// What stands beside an envelope.
const BESIDE: &str = "
SELECT v.status, v.warning_at, v.reminder_at, v.keeping_at,
    ARRAY(SELECT version FROM artifact_job AS j WHERE j.account_id = v.account_id AND j.envelope_id = v.id) AS jobs,
    ARRAY(SELECT document_id FROM ingest_job AS j WHERE j.account_id = v.account_id AND j.envelope_id = v.id) AS readings,
    ARRAY(SELECT kind FROM ledger_entry AS l WHERE l.account_id = v.account_id AND l.envelope_id = v.id ORDER BY id) AS kinds,
    ARRAY(SELECT unit FROM ledger_entry AS l WHERE l.account_id = v.account_id AND l.envelope_id = v.id ORDER BY id) AS units,
    ARRAY(SELECT amount FROM ledger_entry AS l WHERE l.account_id = v.account_id AND l.envelope_id = v.id ORDER BY id) AS amounts
FROM envelope AS v WHERE v.account_id = $1 AND v.id = $2";

const EVENTS: &str = "
SELECT e.sequence, e.record, e.prev_hash, e.hash, p.salt, p.content, e.id, e.kind, e.recipient_id, e.occurred_at
FROM event AS e LEFT JOIN event_particulars AS p
    ON p.account_id = e.account_id AND p.envelope_id = e.envelope_id AND p.sequence = e.sequence
WHERE e.account_id = $1 AND e.envelope_id = $2 AND e.sequence > $3 ORDER BY e.sequence LIMIT $4";

const ENVELOPES: &str = "
SELECT account_id, id FROM envelope
WHERE (account_id, id) > ($1, $2) AND ($3 IS NULL OR account_id = $3) ORDER BY account_id, id LIMIT $4";

const ACCOUNTS: &str = "SELECT id FROM account WHERE id > $1 AND ($2 IS NULL OR id = $2) ORDER BY id LIMIT $3";

const ENTRIES: &str = "
SELECT sequence, kind, unit, amount, balance_after FROM ledger_entry
WHERE account_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";

const SUMS: &str = "
SELECT (SELECT entries FROM ledger_head WHERE account_id = $1) AS entries,
    ARRAY(SELECT unit FROM ledger_balance WHERE account_id = $1 ORDER BY unit) AS units,
    ARRAY(SELECT available FROM ledger_balance WHERE account_id = $1 ORDER BY unit) AS available";

const UPLOADS: &str = "
SELECT account_id, id, sha256, size_bytes, base_sha256, base_size_bytes FROM upload
WHERE (account_id, id) > ($1, $2) AND ($3 IS NULL OR account_id = $3) ORDER BY account_id, id LIMIT $4";

enum ReadBeside {}
enum ReadEvents {}
enum ReadEntries {}
enum ReadSums {}

#[derive(QueryableByName)]
struct BesideRow {
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    warning_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    reminder_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    keeping_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Array<SmallInt>)]
    jobs: Vec<i16>,
    #[diesel(sql_type = Array<SqlUuid>)]
    readings: Vec<Uuid>,
    #[diesel(sql_type = Array<SmallInt>)]
    kinds: Vec<i16>,
    #[diesel(sql_type = Array<Text>)]
    units: Vec<String>,
    #[diesel(sql_type = Array<BigInt>)]
    amounts: Vec<i64>,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = Bytea)]
    record: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    prev_hash: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    hash: Vec<u8>,
    #[diesel(sql_type = Nullable<Bytea>)]
    salt: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    content: Option<Vec<u8>>,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    recipient_id: Option<Uuid>,
    #[diesel(sql_type = Timestamptz)]
    occurred_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct NamedRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// An entry of the ledger, as far as sums go.
#[derive(QueryableByName)]
struct EntryRow {
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = Text)]
    unit: String,
    #[diesel(sql_type = BigInt)]
    amount: i64,
    #[diesel(sql_type = BigInt)]
    balance_after: i64,
}

#[derive(QueryableByName)]
struct SumsRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    entries: Option<i64>,
    #[diesel(sql_type = Array<Text>)]
    units: Vec<String>,
    #[diesel(sql_type = Array<BigInt>)]
    available: Vec<i64>,
}

#[derive(QueryableByName)]
struct UploadRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bytea)]
    sha256: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
    #[diesel(sql_type = Nullable<Bytea>)]
    base_sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    base_size_bytes: Option<i64>,
}

/// What is wrong with an account's ledger.
pub type Sums = Vec<String>;

/// Bytes that a row names, and how many.
type Bytes = (Digest, u64);

/// The database as of one instant.
pub struct Looked(Snapshot);

impl Looked {
    /// As of now.
    pub async fn open(config: &DatabaseConfig) -> anyhow::Result<Self> {
        Ok(Self(Snapshot::open(config).await?))
    }

    /// The answers to a question.
    pub async fn ask(&self, question: &Question, account: Option<Uuid>) -> anyhow::Result<Vec<Answer>> {
        self.0.ask(question, account).await
    }

    /// Accounts after that one.
    pub async fn accounts(&self, after: Uuid, only: Option<Uuid>) -> QueryResult<Vec<Uuid>> {
        let query = diesel::sql_query(ACCOUNTS).bind::<SqlUuid, _>(after).bind::<Nullable<SqlUuid>, _>(only);
        let rows: Vec<IdRow> = query.bind::<BigInt, _>(PAGE).load(&mut self.0.connection()).await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// Envelopes after that one, discarded ones too.
    pub async fn envelopes(
        &self,
        after: (Uuid, Uuid),
        only: Option<Uuid>,
    ) -> QueryResult<Vec<(AccountId, EnvelopeId)>> {
        let query = diesel::sql_query(ENVELOPES).bind::<SqlUuid, _>(after.0).bind::<SqlUuid, _>(after.1);
        let query = query.bind::<Nullable<SqlUuid>, _>(only).bind::<BigInt, _>(PAGE);
        let rows: Vec<NamedRow> = query.load(&mut self.0.connection()).await?;
        let named = |row: NamedRow| (AccountId::from_uuid(row.account_id), EnvelopeId::from_uuid(row.id));
        Ok(rows.into_iter().map(named).collect())
    }

    /// An envelope, and what stands beside it. The statements travel together.
    pub async fn envelope(&self, account: AccountId, id: EnvelopeId) -> QueryResult<(Envelope, Beside)> {
        let mut conn = self.0.connection();
        let query = diesel::sql_query(BESIDE).bind::<SqlUuid, _>(account.uuid()).bind::<SqlUuid, _>(id.uuid());
        let beside = prepared::<ReadBeside, _>(query).get_result::<BesideRow>(&mut conn);
        let (row, parts, beside) =
            futures_util::join!(row(self.0.connection(), account, id), parts(self.0.connection(), account, id), beside);
        let row = row?.ok_or(diesel::result::Error::NotFound)?;
        Ok((assemble(row, parts?)?, beside?.beside()?))
    }

    /// The events of an envelope after a sequence.
    pub async fn events(&self, account: AccountId, id: EnvelopeId, after: u64) -> QueryResult<Vec<(Entry, Columns)>> {
        let query = diesel::sql_query(EVENTS)
            .bind::<SqlUuid, _>(account.uuid())
            .bind::<SqlUuid, _>(id.uuid())
            .bind::<BigInt, _>(int8(after))
            .bind::<BigInt, _>(PAGE);
        let rows: Vec<EventRow> = prepared::<ReadEvents, _>(query).load(&mut self.0.connection()).await?;
        rows.into_iter().map(EventRow::event).collect()
    }

    /// Follows an account's ledger from its first entry to its balances: says how many entries there are, and what is wrong.
    pub async fn ledger(&self, account: Uuid) -> anyhow::Result<(u64, Sums)> {
        let (mut balances, mut wrong, mut last) = (BTreeMap::<String, i64>::new(), Vec::new(), 0);
        loop {
            let query = diesel::sql_query(ENTRIES).bind::<SqlUuid, _>(account).bind::<BigInt, _>(last);
            let query = prepared::<ReadEntries, _>(query.bind::<BigInt, _>(PAGE));
            let page: Vec<EntryRow> = query.load(&mut self.0.connection()).await.context("the ledger")?;
            if page.is_empty() {
                break;
            }
            for entry in page {
                if entry.sequence != last + 1 {
                    tell(&mut wrong, format!("entry {} follows entry {last}", entry.sequence));
                }
                last = entry.sequence;
                let balance = balances.entry(entry.unit).or_default();
                *balance += if entry.kind == 2 { -entry.amount } else { entry.amount };
                if *balance != entry.balance_after || *balance < 0 {
                    let told = format!("entry {last} leaves {balance} and says {}", entry.balance_after);
                    tell(&mut wrong, told);
                }
            }
        }
        let query = prepared::<ReadSums, _>(diesel::sql_query(SUMS).bind::<SqlUuid, _>(account));
        let sums: SumsRow = query.get_result(&mut self.0.connection()).await.context("the ledger")?;
        if sums.entries != Some(last) {
            wrong.push(format!("its head counts {:?} of {last} entries", sums.entries));
        }
        let kept: BTreeMap<String, i64> = sums.units.into_iter().zip(sums.available).collect();
        for unit in balances.keys().chain(kept.keys()).collect::<std::collections::BTreeSet<_>>() {
            let (is, sum) = (kept.get(unit).copied(), balances.get(unit).copied().unwrap_or_default());
            if is != Some(sum) {
                wrong.push(format!("{sum} {unit} are left by the entries and {is:?} by the balance"));
            }
        }
        Ok((last.unsigned_abs(), wrong))
    }

    /// What uploads after that one name.
    pub async fn uploads(
        &self,
        after: (Uuid, Uuid),
        only: Option<Uuid>,
    ) -> QueryResult<Vec<((Uuid, Uuid), Vec<Bytes>)>> {
        let query = diesel::sql_query(UPLOADS).bind::<SqlUuid, _>(after.0).bind::<SqlUuid, _>(after.1);
        let query = query.bind::<Nullable<SqlUuid>, _>(only).bind::<BigInt, _>(PAGE);
        let rows: Vec<UploadRow> = query.load(&mut self.0.connection()).await?;
        rows.into_iter().map(UploadRow::bytes).collect()
    }
}

fn digest(bytes: Vec<u8>) -> QueryResult<Digest> {
    bytes.try_into().map_err(|_| super::corrupt("digest"))
}

impl UploadRow {
    fn bytes(self) -> QueryResult<((Uuid, Uuid), Vec<Bytes>)> {
        let mut bytes = vec![(digest(self.sha256)?, self.size_bytes.unsigned_abs())];
        if let (Some(sha256), Some(size)) = (self.base_sha256, self.base_size_bytes) {
            bytes.push((digest(sha256)?, size.unsigned_abs()));
        }
        Ok(((self.account_id, self.id), bytes))
    }
}

impl EventRow {
    fn event(self) -> QueryResult<(Entry, Columns)> {
        let columns =
            Columns { id: self.id, kind: self.kind, recipient: self.recipient_id, occurred_at: self.occurred_at };
        let entry = entry((self.sequence, self.record, self.prev_hash, self.hash, self.salt, self.content))?;
        Ok((entry, columns))
    }
}

impl BesideRow {
    fn beside(self) -> QueryResult<Beside> {
        let entries = self.kinds.iter().zip(&self.units).zip(&self.amounts);
        let of = |wanted: i16| {
            let those = entries.clone().filter(move |((kind, _), _)| **kind == wanted);
            those.map(|((_, unit), value)| amount(unit, value.unsigned_abs())).collect::<QueryResult<Vec<Amount>>>()
        };
        let (charges, refunds) = (of(2)?, of(3)?);
        Ok(Beside {
            status: self.status,
            warning_at: self.warning_at,
            reminder_at: self.reminder_at,
            keeping_at: self.keeping_at,
            artifact_jobs: self.jobs,
            readings: self.readings.into_iter().map(DocumentId::from_uuid).collect(),
            charges,
            refunds,
        })
    }
}

/// What is told of one ledger at most: after a wrong entry all that follow it can be wrong, too.
const WRONG_MAX: usize = 1_000;

fn tell(wrong: &mut Vec<String>, what: String) {
    if wrong.len() < WRONG_MAX {
        wrong.push(what);
    }
}
