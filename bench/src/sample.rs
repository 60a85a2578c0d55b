//! One call of each kind, made once through a tap: what the service says to its database becomes the limit's script, and the
//! envelope as it was before becomes the stock that both sides use up.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign::v1::{Envelope, SeenDocument, SignRequest};
use countersign_chassis::keys::Key;
use countersign_envelope::credential::Keyring;
use countersign_envelope::domain::id::{AccountId, EnvelopeId, RecipientId};
use countersign_envelope::domain::recipient::Credential;
use tokio_postgres::Client as Database;
use uuid::Uuid;

use crate::load::{Call, Caller, Stock};
use crate::scripts::{self, About};
use crate::stage::Opening;
use crate::tap::{Flight, Tap};

/// Calls before the one that counts, so that every connection has prepared its statements.
const WARM: usize = 24;
/// How long other work of the service takes at most.
const REST: Duration = Duration::from_millis(200);
/// What an envelope consists of, and where each table keeps its id.
const TABLES: [(&str, &str); 4] =
    [("envelope", "id"), ("recipient", "envelope_id"), ("document", "envelope_id"), ("field", "envelope_id")];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// CreateEnvelope.
    Create,
    /// SendEnvelope.
    Send,
    /// Sign, by the first of two.
    Sign,
    /// Decline, which ends the envelope.
    Decline,
    /// GetEnvelope.
    Get,
    /// ListEnvelopes.
    List,
}

impl Kind {
    /// All of them; those that read come last.
    pub const ALL: [Self; 6] = [Self::Create, Self::Send, Self::Sign, Self::Decline, Self::Get, Self::List];

    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Send => "send",
            Self::Sign => "sign",
            Self::Decline => "decline",
            Self::Get => "get",
            Self::List => "list",
        }
    }

    /// Whether each call uses up an envelope.
    pub fn uses_up(self) -> bool {
        matches!(self, Self::Send | Self::Sign | Self::Decline)
    }

    /// Whether it leaves everything as it is.
    pub fn reads(self) -> bool {
        matches!(self, Self::Get | Self::List)
    }

    /// Which envelopes its script is about.
    fn about(self) -> About {
        if self.reads() { About::Any } else { About::Each }
    }
}

/// Who may act on copies of a sample.
struct Signer {
    account: AccountId,
    recipient: RecipientId,
    credential: Credential,
}

/// How copies differ from their sample.
pub struct Change {
    /// In that table, or wherever there is that column.
    pub table: Option<&'static str>,
    /// The column.
    pub column: &'static str,
    /// What is there instead.
    pub sql: String,
}

/// What is known of one kind of call.
pub struct Sample {
    kind: Kind,
    /// What pgbench runs.
    pub script: String,
    signer: Option<Signer>,
    sign: SignRequest,
}

impl Sample {
    /// The call on what was stocked.
    pub fn call(&self, opening: &Opening, numbers: std::ops::Range<u64>) -> Result<Call> {
        let ids = numbers.map(scripts::id);
        let stock = || {
            let named = ids.map(|id| self.credential(EnvelopeId::from_uuid(id?), &opening.keyring));
            Ok::<_, anyhow::Error>(Stock::new(named.collect::<Result<_>>()?))
        };
        Ok(match self.kind {
            Kind::Create => Call::Create(Box::new(opening.request(false))),
            Kind::Send => Call::Send(stock()?),
            Kind::Sign => Call::Sign(stock()?, self.sign.clone()),
            Kind::Decline => Call::Decline(stock()?),
            Kind::Get => Call::Get(stock()?.into_names()),
            Kind::List => Call::List,
        })
    }

    /// What a call on a copy is made with: the first signer's token, or the id.
    fn credential(&self, envelope: EnvelopeId, keyring: &Keyring) -> Result<String> {
        match (&self.signer, self.kind) {
            (Some(it), Kind::Sign | Kind::Decline) => keyring
                .signing_token(it.account, envelope, it.recipient, &it.credential)
                .context("a credential of another key"),
            _ => Ok(envelope.to_string()),
        }
    }

    /// Fills a database with copies of the envelope as it was before the call, under those numbers, which are `number` in what
    /// is changed about them.
    pub async fn stock(&self, database: &Database, numbers: std::ops::Range<u64>, changes: &[Change]) -> Result<()> {
        for (table, key) in TABLES {
            let columns = columns(database, table).await?;
            let copied = columns.iter().map(|column| {
                let changed = |it: &&Change| it.column == column && it.table.is_none_or(|of| of == table);
                match changes.iter().find(changed) {
                    _ if column == key => scripts::numbered("number::text"),
                    Some(change) => change.sql.clone(),
                    None => column.clone(),
                }
            });
            let copied: Vec<String> = copied.collect();
            let sql = format!(
                "INSERT INTO {table} ({}) SELECT {} FROM sample.{}_{table}, generate_series({}, {}) AS number",
                columns.join(", "),
                copied.join(", "),
                self.kind.name(),
                numbers.start,
                numbers.end - 1
            );
            database.execute(&sql, &[]).await.with_context(|| format!("copies in {table}"))?;
        }
        Ok(())
    }
}

/// Those that Postgres does not make by itself.
async fn columns(database: &Database, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT column_name::text FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position";
    let rows = database.query(sql, &[&table]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?)
}

/// Makes a call of each kind on the service behind the tap.
pub async fn take(
    opening: &Opening,
    tap: &Tap,
    caller: &mut Caller,
    database: &Database,
) -> Result<BTreeMap<Kind, Sample>> {
    database.batch_execute("CREATE SCHEMA sample").await?;
    let mut samples = BTreeMap::new();
    for kind in Kind::ALL {
        samples.insert(kind, one(kind, opening, tap, caller, database).await.with_context(|| kind.name())?);
    }
    Ok(samples)
}

async fn one(kind: Kind, opening: &Opening, tap: &Tap, caller: &mut Caller, database: &Database) -> Result<Sample> {
    let is_sent = matches!(kind, Kind::Sign | Kind::Decline);
    let mut envelopes = Vec::new();
    for _ in 0..=WARM {
        let created = caller.sender.create_envelope(opening.request(is_sent)).await?.into_inner();
        envelopes.push(created.envelope.context("no envelope")?);
    }
    let last = envelopes.last().context("none")?;
    let id: EnvelopeId = last.id.parse()?;
    for (table, key) in TABLES {
        let name = kind.name();
        let sql = format!("CREATE TABLE sample.{name}_{table} AS SELECT * FROM {table} WHERE {key} = '{}'", id.uuid());
        database.batch_execute(&sql).await?;
    }
    let mut sample = Sample { kind, script: String::new(), signer: None, sign: seen(last) };
    let mut names = Vec::new();
    for envelope in &envelopes {
        let id: EnvelopeId = envelope.id.parse()?;
        if is_sent {
            sample.signer = Some(signer(opening.account, id, database).await?);
        }
        names.push((sample.credential(id, &opening.keyring)?, seen(envelope)));
    }
    let flights = heard(kind, names, opening, tap, caller, id.uuid()).await?;
    let of = if kind == Kind::Create { created(&flights)? } else { id.uuid() };
    sample.script = scripts::script(&flights, of, kind.about())?;
    Ok(sample)
}

/// A signature of what an envelope holds.
fn seen(envelope: &Envelope) -> SignRequest {
    let documents = envelope.documents.iter();
    let seen = documents.map(|it| SeenDocument { document_id: it.id.clone(), sha256: it.sha256.clone() });
    let (seen_documents, seen_revision) = (seen.collect(), envelope.revision);
    SignRequest { consent: true, seen_documents, seen_revision, ..SignRequest::default() }
}

/// What the last of the calls said, each of which is made with an id or a token.
async fn heard(
    kind: Kind,
    names: Vec<(String, SignRequest)>,
    opening: &Opening,
    tap: &Tap,
    caller: &mut Caller,
    last: Uuid,
) -> Result<Vec<Flight>> {
    let count = names.len();
    for (number, (name, sign)) in (1..).zip(names) {
        if number == count {
            // What goes on beside calls is over by then, or comes later.
            tokio::time::sleep(REST).await;
            tap.clear();
        }
        let call = match kind {
            Kind::Create => Call::Create(Box::new(opening.request(false))),
            Kind::Send => Call::Send(Stock::new(vec![name])),
            Kind::Sign => Call::Sign(Stock::new(vec![name]), sign),
            Kind::Decline => Call::Decline(Stock::new(vec![name])),
            Kind::Get => Call::Get(Stock::new(vec![name]).into_names()),
            Kind::List => Call::List,
        };
        call.once(caller).await?;
    }
    match kind {
        // Its id is new, and a list is of no envelope: nobody else is speaking now.
        Kind::Create => tap.heard(opening.request(false).subject.as_bytes()),
        Kind::List => tap.heard(opening.account.uuid().as_bytes()),
        _ => tap.heard(last.as_bytes()),
    }
}

/// The id of the envelope that was made: the second parameter of the statement that makes it.
fn created(flights: &[Flight]) -> Result<Uuid> {
    let makes = flights.iter().flatten().find(|spoken| spoken.sql.contains("INSERT INTO envelope"));
    let value = makes.and_then(|spoken| spoken.values.get(1)?.as_deref()).context("nothing was made")?;
    Ok(Uuid::from_slice(value)?)
}

async fn signer(account: AccountId, envelope: EnvelopeId, database: &Database) -> Result<Signer> {
    let sql = "SELECT id, token_generation, token_salt, token_hash FROM recipient WHERE envelope_id = $1 ORDER BY position LIMIT 1";
    let row = database.query_one(sql, &[&envelope.uuid()]).await?;
    let generation: i32 = row.try_get(1)?;
    let fixed = |column: usize| row.try_get::<_, Vec<u8>>(column);
    let wrong = |_| anyhow::anyhow!("a credential of another size");
    Ok(Signer {
        account,
        recipient: RecipientId::from_uuid(row.try_get(0)?),
        credential: Credential {
            generation: generation.cast_unsigned(),
            salt: fixed(2)?.try_into().map_err(wrong)?,
            hash: fixed(3)?.try_into().map_err(wrong)?,
        },
    })
}

/// The keys of the service that is measured.
pub fn keyring(master: &secrecy::SecretString) -> Result<Keyring> {
    Ok(Keyring::new(&Key::master(master)?.into()))
}
