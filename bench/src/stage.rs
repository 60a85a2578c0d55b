//! What is measured: a Postgres that cares for every commit, the service in this process, and envelopes to read.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign::v1::document_source::Source;
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{
    CreateEnvelopeRequest, DocumentSource, FieldType, NewField, NewRecipient, Placement, Routing,
    UploadDocumentRequest, UploadInfo,
};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::{DatabaseConfig, KeyConfig, ListenConfig, TelemetryConfig};
use countersign_envelope::config::{Config, IngestConfig};
use countersign_envelope::domain::id::EnvelopeId;
use countersign_envelope::identity::Identities;
use countersign_envelope::oidc::OidcConfig;
use countersign_envelope::seal::SealConfig;
use countersign_envelope::serve::{create_account, migrate, serve};
use countersign_postgres::{Durability, Options, Postgres};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::load::{Bearer, Call, Client, Measured, drive};
use crate::scripts::{self, Row};

/// The service's database.
const SERVICE: &str = "service";
/// The database with the same schema that only pgbench writes to: the service's loops leave it alone.
const LIMIT: &str = "pgbench";
/// More than the default, so that all that is written stays cached.
const SHARED_BUFFERS_MB: u32 = 1024;
/// How long the sequencer may take to catch up between measurements.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// The rest after that.
const REST: Duration = Duration::from_millis(300);

/// Everything that runs.
pub struct Stage {
    postgres: Postgres,
    database: tokio_postgres::Client,
    clients: Vec<Client>,
    upload_id: String,
    sample: uuid::Uuid,
    hot: Arc<[String]>,
    stop: CancellationToken,
    running: JoinHandle<Result<()>>,
    _documents: TempDir,
}

impl Stage {
    /// Starts it all; the service on its own runtime.
    pub async fn start(pool: u32, connections: u32, runtime: &Handle) -> Result<Self> {
        let options =
            Options { durability: Durability::Durable, shared_buffers_mb: SHARED_BUFFERS_MB, ..Options::throwaway() };
        let postgres = Postgres::start(options).await?;
        for name in [SERVICE, LIMIT] {
            postgres.create_database(name).await?;
            migrate(&database(&postgres, name, pool)).await?;
        }
        let documents = tempfile::tempdir()?;
        let config = config(&postgres, pool, &documents);
        let account = create_account(&config.database, &config.keys, "Bench Ltd", true).await?;
        // What is measured is the service, not the rate that an account usually has.
        let rates = r#"UPDATE account SET settings = jsonb_set(settings, '{limits}', settings -> 'limits'
            || '{"key_calls_per_second": 10000, "key_calls_burst": 20000}')"#;
        connect(&postgres.superuser_url(SERVICE)).await?.batch_execute(rates).await?;
        let listener = TcpListener::bind(config.listen.listen).await?;
        let address = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        // The listener belongs to the runtime that made it.
        let listener = listener.into_std()?;
        let served = stop.clone();
        let running = runtime
            .spawn(async move { serve(config, Clock::database(), TcpListener::from_std(listener)?, served).await });
        let bearer = Bearer(format!("Bearer {}", account.api_key).parse()?);
        let mut clients = Vec::new();
        for _ in 0..connections {
            let channel = Endpoint::from_shared(address.clone())?.tcp_nodelay(true).connect().await?;
            clients.push(EnvelopeServiceClient::with_interceptor(channel, bearer.clone()));
        }
        let mut client = clients.first().context("no connection")?.clone();
        let upload_id = upload(&mut client).await?;
        let created = client.create_envelope(request(&upload_id)).await?.into_inner();
        let sample: EnvelopeId = created.envelope.context("no envelope")?.id.parse()?;
        let database = connect(&postgres.superuser_url(SERVICE)).await?;
        let hot = copy(&database, sample.uuid()).await?;
        let sample = sample.uuid();
        Ok(Self { postgres, database, clients, upload_id, sample, hot, stop, running, _documents: documents })
    }

    /// Ends it all in good order.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.running.await??;
        self.postgres.stop().await
    }

    /// The request of the benchmark: two recipients, four fields, not sent.
    pub fn request(&self) -> CreateEnvelopeRequest {
        request(&self.upload_id)
    }

    /// The envelopes to read.
    pub fn hot(&self) -> Arc<[String]> {
        Arc::clone(&self.hot)
    }

    /// The process of Postgres.
    pub fn postgres_pid(&self) -> i32 {
        self.postgres.pid()
    }

    /// The service's database.
    pub fn url(&self) -> String {
        self.postgres.url(SERVICE)
    }

    /// pgbench's database.
    pub fn limit_url(&self) -> String {
        self.postgres.url(LIMIT)
    }

    /// Calls the service.
    pub async fn drive(&self, call: &Call, callers: u32, length: Duration) -> Result<Measured> {
        drive(&self.clients, call, callers, length).await
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

    /// The values of an envelope that the service made.
    pub async fn sample_row(&self) -> Result<Row> {
        let mut values = Vec::new();
        for (table, columns) in scripts::PARAMETERS {
            let list: Vec<String> = columns
                .iter()
                .map(|(name, _)| match table {
                    "envelope" => format!("{name}::text"),
                    "event" => format!("array_agg({name} ORDER BY sequence)::text"),
                    _ => format!("array_agg({name} ORDER BY position)::text"),
                })
                .collect();
            let sql = format!("SELECT {} FROM {table} WHERE {} = $1", list.join(", "), scripts::key_of(table));
            let row = self.database.query_one(&sql, &[&self.sample]).await?;
            for index in 0..columns.len() {
                values.push(row.try_get(index)?);
            }
        }
        let account = values.first().cloned().flatten().context("no account")?;
        Ok(Row { account, values })
    }
}

/// Copies an envelope under ids that pgbench can count through.
async fn copy(database: &tokio_postgres::Client, sample: uuid::Uuid) -> Result<Arc<[String]>> {
    let numbers = scripts::hot();
    for table in ["envelope", "recipient", "document", "field"] {
        let columns = "SELECT column_name::text FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position";
        let rows = database.query(columns, &[&table]).await?;
        let columns = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        let key = scripts::key_of(table);
        let copied: Vec<String> = columns
            .iter()
            .map(|column| if column == key { scripts::numbered("number::text") } else { column.clone() })
            .collect();
        let sql = format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {table}, generate_series({}, {}) AS number WHERE {key} = $1",
            columns.join(", "),
            copied.join(", "),
            numbers.start,
            numbers.end - 1
        );
        database.execute(&sql, &[&sample]).await.with_context(|| format!("copies in {table}"))?;
    }
    database.batch_execute("VACUUM (ANALYZE)").await?;
    numbers.map(|number| Ok(EnvelopeId::from_uuid(scripts::hot_id(number)?).to_string())).collect()
}

async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn database(postgres: &Postgres, name: &str, pool: u32) -> DatabaseConfig {
    DatabaseConfig { database_url: postgres.url(name).into(), database_pool_max: pool, database_wait_ms: 2_000 }
}

/// The defaults of a deployment.
fn config(postgres: &Postgres, pool: u32, documents: &TempDir) -> Config {
    Config {
        listen: ListenConfig { drain_ms: 5_000, help_url: String::new(), ..ListenConfig::default() },
        database: database(postgres, SERVICE, pool),
        keys: KeyConfig { master_key: "5c".repeat(32).into() },
        telemetry: TelemetryConfig { log: crate::LOG.into(), log_json: false, otlp_endpoint: None },
        migrate: false,
        documents: documents.path().to_owned().into(),
        document_keys: None,
        ingest: IngestConfig::default(),
        paper_worker: None,
        paper_workers: None,
        signing_url: "https://sign.example.com/s".into(),
        service_token: Some("bench-service-token-0123456789abcdef".into()),
        service_identities: Identities::default(),
        operator_key: None,
        oidc: OidcConfig::default(),
        // What is measured comes before the end.
        seal: SealConfig { unsealed: true, ..SealConfig::default() },
        trusted_peers: Vec::new(),
        cache_ms: 2_000,
        heartbeat_seconds: 5,
        stream_stall_seconds: 30,
        feed_retention_days: 30,
        feed_poll_ms: 40,
        sweep_ms: 500,
        upload_days: 7,
    }
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
