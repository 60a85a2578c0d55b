//! What is measured: a Postgres that cares for every commit, the service in this process, and envelopes to work on.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign::v1::document_source::Source;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{
    CreateApiKeyRequest, CreateEnvelopeRequest, DocumentSource, FieldType, NewField, NewRecipient, Placement, Routing,
    UploadDocumentRequest, UploadInfo,
};
use countersign_envelope::config::Config;
use countersign_envelope::credential::Keyring;
use countersign_envelope::domain::id::AccountId;
use countersign_envelope::serve::{NewAccount, create_account, migrate};
use countersign_postgres::{Durability, Options, Postgres};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_postgres::NoTls;

use crate::Cli;
use crate::load::{Call, Caller, Client, Measured, drive};
use crate::running::Running;
use crate::sample::{self, Kind, Sample};
use crate::scripts::{FIRST, HOT};
use crate::settings;
use crate::tap::Tap;

/// The service's database.
const SERVICE: &str = "service";
/// Its copy, to which only pgbench writes: the service's loops leave it alone.
const LIMIT: &str = "pgbench";
/// More than the default, so that all that is written stays cached.
const SHARED_BUFFERS_MB: u32 = 1024;
/// How long the sequencer may take to catch up between measurements.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// The rest after that.
const REST: Duration = Duration::from_millis(300);
/// Numbers of a round's envelopes are far from those of the next.
const ROUND: u64 = 1_000_000;
/// Where envelopes lie that are there for their number alone.
const BULK: u64 = 500_000_000_000;
/// What is measured is the service, not the rates that accounts and people usually have …
pub const UNBOUND: &str = r#"
    UPDATE account SET settings = jsonb_set(settings, '{limits}', settings -> 'limits' || '{"key_calls_per_second": 1000000,
        "key_calls_burst": 1000000, "signer_calls_per_minute": 60000000, "signer_calls_burst": 1000000}')
"#;
/// … nor the making of documents afterwards.
const LATER: &str = r#"
    CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.due_at = NEW.due_at + interval '1 day'; RETURN NEW; END $$;
    CREATE TRIGGER later BEFORE INSERT ON artifact_job FOR EACH ROW EXECUTE FUNCTION later();
"#;

/// What calls are made with.
pub struct Opening {
    /// Whose envelopes.
    pub account: AccountId,
    /// That of the service.
    pub keyring: Keyring,
    upload_id: String,
}

impl Opening {
    /// The request of the benchmark: two recipients, four fields.
    pub fn request(&self, send: bool) -> CreateEnvelopeRequest {
        CreateEnvelopeRequest { send, ..request(&self.upload_id) }
    }
}

/// Everything that runs.
pub struct Stage {
    postgres: Postgres,
    database: tokio_postgres::Client,
    limit: tokio_postgres::Client,
    config: Config,
    account: NewAccount,
    callers: Vec<Caller>,
    opening: Opening,
    samples: BTreeMap<Kind, Sample>,
    rounds: Cell<u64>,
    running: Running,
    runtime: Handle,
    documents: TempDir,
}

impl Stage {
    /// Starts it all, with so many envelopes more than are needed. `copies` are names of databases for services of their own,
    /// with what the service's has, but without those.
    pub async fn start(cli: &Cli, copies: &[String], runtime: &Handle) -> Result<Self> {
        let options =
            Options { durability: Durability::Durable, shared_buffers_mb: SHARED_BUFFERS_MB, ..Options::throwaway() };
        let postgres = Postgres::start(options).await?;
        postgres.create_database(SERVICE).await?;
        let documents = tempfile::tempdir()?;
        let config = settings::envelope(settings::database(&postgres, SERVICE, cli.pool), documents.path());
        migrate(&config.database).await?;
        let account = create_account(&config.database, &config.keys, "Bench Ltd", false).await?;
        let (opening, samples) = samples(&postgres, &config, &account, runtime).await?;
        let hot = samples.get(&Kind::Get).context("no sample")?;
        fill(&postgres, hot, FIRST..FIRST + HOT).await?;
        for copy in copies {
            postgres.create_database_from_template(copy, SERVICE).await?;
        }
        fill(&postgres, hot, BULK..BULK + cli.envelopes).await?;
        postgres.create_database_from_template(LIMIT, SERVICE).await?;
        let running = Running::envelope(config.clone(), runtime).await?;
        let callers = running.callers(cli.connections, &account.api_key).await?;
        let database = connect(&postgres.superuser_url(SERVICE)).await?;
        let limit = connect(&postgres.superuser_url(LIMIT)).await?;
        let (rounds, runtime) = (Cell::new(1), runtime.clone());
        Ok(Self {
            postgres,
            database,
            limit,
            config,
            account,
            callers,
            opening,
            samples,
            rounds,
            running,
            runtime,
            documents,
        })
    }

    /// Ends it all in good order.
    pub async fn stop(self) -> Result<()> {
        self.running.stop().await?;
        self.postgres.stop().await
    }

    /// What is known of one kind of call.
    pub fn sample(&self, kind: Kind) -> Result<&Sample> {
        self.samples.get(&kind).context("no sample")
    }

    /// What a round of that kind works on, on the service's side or on the limit's: as many envelopes as it may use up.
    pub async fn stock(&self, kind: Kind, is_limit: bool, count: u64) -> Result<Range<u64>> {
        if kind.reads() {
            return Ok(FIRST..FIRST + HOT);
        }
        let numbers = self.numbers(count);
        if kind.uses_up() {
            let database = if is_limit { &self.limit } else { &self.database };
            self.sample(kind)?.stock(database, numbers.clone(), &[]).await?;
            database.batch_execute("ANALYZE envelope, recipient, document, field").await?;
        }
        Ok(numbers)
    }

    /// Calls of that kind on what was stocked.
    pub fn call(&self, kind: Kind, numbers: Range<u64>) -> Result<Call> {
        self.sample(kind)?.call(&self.opening, numbers)
    }

    /// Numbers that no round has yet.
    pub fn numbers(&self, count: u64) -> Range<u64> {
        let first = FIRST + ROUND * self.rounds.replace(self.rounds.get() + 1);
        first..first + count.min(ROUND)
    }

    /// The settings of the service.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The settings of a service on a copy of its database.
    pub fn config_of(&self, copy: &str) -> Config {
        let pool = self.config.database.database_pool_max;
        Config { database: settings::database(&self.postgres, copy, pool), ..self.config.clone() }
    }

    /// On what services run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The database server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The service's database.
    pub fn database(&self) -> &tokio_postgres::Client {
        &self.database
    }

    /// Where the bytes of documents lie.
    pub fn documents(&self) -> &Path {
        self.documents.path()
    }

    /// Where the service listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// The key of the sender.
    pub fn api_key(&self) -> &str {
        &self.account.api_key
    }

    /// What calls are made with.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// A sender.
    pub fn sender(&self) -> Result<&Caller> {
        self.callers.first().context("no connection")
    }

    /// All senders, each on its connection.
    pub fn callers(&self) -> &[Caller] {
        &self.callers
    }

    /// A sender on a connection and with a key of its own.
    pub async fn caller_with_a_new_key(&self) -> Result<Caller> {
        let made = self
            .sender()?
            .accounts()
            .create_api_key(CreateApiKeyRequest { name: "Watcher".into(), ..CreateApiKeyRequest::default() })
            .await?
            .into_inner();
        let callers = self.running.callers(1, &made.secret).await?;
        callers.into_iter().next().context("no connection")
    }

    /// The process of Postgres.
    pub fn postgres_pid(&self) -> i32 {
        self.postgres.pid()
    }

    /// pgbench's database.
    pub fn limit_url(&self) -> String {
        self.postgres.url(LIMIT)
    }

    /// Calls the service.
    pub async fn drive(&self, call: &Call, callers: u32, length: Duration) -> Result<Measured> {
        drive(&self.callers, call, callers, length).await
    }

    /// One text from a query.
    pub async fn text(&self, query: &str) -> Result<String> {
        Ok(self.database.query_one(query, &[]).await?.try_get(0)?)
    }

    /// Events that wait for the sequencer.
    pub async fn backlog(&self) -> Result<i64> {
        Ok(self.database.query_one("SELECT count(*) FROM outbox", &[]).await?.try_get(0)?)
    }

    /// Waits until nothing is left of what went before, so that nobody pays for another's writes.
    pub async fn settle(&self) -> Result<()> {
        let settled = async {
            while self.backlog().await? > 0 {
                tokio::time::sleep(REST).await;
            }
            self.database.batch_execute("CHECKPOINT").await?;
            tokio::time::sleep(REST).await;
            anyhow::Ok(())
        };
        tokio::time::timeout(SETTLE_MAX, settled).await.context("the sequencer does not catch up")?
    }

    /// What the report tells of the database.
    pub async fn settings(&self) -> Result<String> {
        self.text(
            "SELECT format('PostgreSQL %s, fsync %s, synchronous_commit %s, shared_buffers %s',
                current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'),
                current_setting('shared_buffers'))",
        )
        .await
    }
}

/// Fills the service's database with envelopes that are there to be read, or for their number alone. Nobody is connected to it
/// afterwards: a copy can be made only then.
async fn fill(postgres: &Postgres, sample: &Sample, numbers: Range<u64>) -> Result<()> {
    let database = connect(&postgres.superuser_url(SERVICE)).await?;
    for begin in numbers.clone().step_by(ROUND as usize) {
        sample.stock(&database, begin..(begin + ROUND).min(numbers.end), &[]).await?;
    }
    database.batch_execute("VACUUM (ANALYZE)").await?;
    drop(database);
    tokio::time::sleep(REST).await;
    Ok(())
}

/// Has a service that is there for that alone make a call of each kind.
async fn samples(
    postgres: &Postgres,
    config: &Config,
    account: &NewAccount,
    runtime: &Handle,
) -> Result<(Opening, BTreeMap<Kind, Sample>)> {
    let database = connect(&postgres.superuser_url(SERVICE)).await?;
    database.batch_execute(UNBOUND).await?;
    database.batch_execute(LATER).await?;
    let tap = Tap::default();
    let port = tap.listen(postgres.port()).await?;
    let tapped = postgres.url(SERVICE).replace(&format!(":{}/", postgres.port()), &format!(":{port}/"));
    let mut config = config.clone();
    config.database.database_url = tapped.into();
    let running = Running::envelope(config.clone(), runtime).await?;
    let mut callers = running.callers(1, &account.api_key).await?;
    let caller = callers.first_mut().context("no connection")?;
    let upload_id = upload(&mut caller.sender).await?;
    let opening = Opening { account: account.id, keyring: sample::keyring(&config.keys.master_key)?, upload_id };
    let samples = sample::take(&opening, &tap, caller, &database).await?;
    running.stop().await?;
    Ok((opening, samples))
}

/// A connection of the benchmark's own.
pub async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn upload(client: &mut Client) -> Result<String> {
    let sample = countersign_paper::samples::nda().context("sample document")?;
    let info = UploadInfo { name: sample.file_name.into(), ..UploadInfo::default() };
    let parts = [Part::Info(info), Part::Chunk(sample.bytes.clone().into())];
    let messages = parts.map(|part| UploadDocumentRequest { part: Some(part) });
    Ok(client.upload_document(tokio_stream::iter(messages)).await?.into_inner().upload_id)
}

fn request(upload_id: &str) -> CreateEnvelopeRequest {
    let recipient = |index: u32| NewRecipient {
        name: format!("Signer {index}"),
        email: format!("signer{index}@example.com"),
        ..NewRecipient::default()
    };
    let field = |index: u32| NewField {
        r#type: if index < 2 { FieldType::Signature } else { FieldType::Date }.into(),
        recipient_index: index % 2,
        document_index: 0,
        placement: Some(Placement {
            page: 1,
            x_percent: 10.0,
            y_percent: 10.0 + 8.0 * f64::from(index),
            width_percent: 30.0,
            height_percent: 6.0,
        }),
        required: true,
        ..NewField::default()
    };
    CreateEnvelopeRequest {
        subject: "Agreement".into(),
        documents: vec![DocumentSource {
            name: String::new(),
            source: Some(Source::UploadId(upload_id.into())),
            ..Default::default()
        }],
        recipients: (0..2).map(recipient).collect(),
        fields: (0..4).map(field).collect(),
        routing: Routing::Parallel.into(),
        ..CreateEnvelopeRequest::default()
    }
}
