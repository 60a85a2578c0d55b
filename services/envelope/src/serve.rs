//! Puts the service together and runs it: the gRPC server and the loops beside it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use countersign_chassis::clock::Clock;
use countersign_chassis::config::{DatabaseConfig, KeyConfig};
use countersign_chassis::database::Pulse;
use countersign_chassis::once::Onces;
use countersign_chassis::ticker::Progress;
use countersign_chassis::{database, grpc, ticker};
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::artifact::{Artifacts, Press};
use crate::blobs::{Blobs, DocumentKeys};
use crate::cache::Cache;
use crate::config::Config;
use crate::credential::Keyring;
use crate::domain::account::Permissions;
use crate::domain::id::{AccountId, LedgerId};
use crate::execute::{Executor, account, api_key, new_id};
use crate::ingest::pdf::PdfReader;
use crate::ingest::{Intake, Reader};
use crate::oidc::Oidc;
use crate::pictures::Pictures;
use crate::rpc::{Accounts, Authenticator, Context, SERVICES, Seats, routes};
use crate::seal::Sealer;
use crate::store::{BEAT, MIGRATIONS, Store};
use crate::sweep::Sweeper;
use crate::tail::Tail;
use crate::worker::Workers;
use crate::{keep, measure, removal, trim};

/// How often replies are looked for whose time is over, and how many go at a time.
const FORGET: Duration = Duration::from_secs(60);
const FORGOTTEN_MAX: i64 = 1_000;
/// Bundles that are put into one PDF at a time.
const COMBINED_AT_ONCE: usize = 1;
/// Heartbeats, and looks at the feed, that may pass without a look that succeeded before streams end.
const UNSEEN_MAX: u32 = 3;
/// Purged envelopes that are read at a time.
const PURGED_MAX: i64 = 1_000;
/// How often the document store is looked through for what nobody needs.
const ORPHANS: Duration = Duration::from_secs(6 * 60 * 60);
/// How often the feed is looked at for what is too old to be kept.
const TRIM: Duration = Duration::from_secs(60);
/// How often it is looked what waits …
const MEASURE: Duration = Duration::from_secs(10);
/// … and how many envelopes are open, which takes longer where there are many.
const COUNT: Duration = Duration::from_secs(60);

/// Brings the database up to date.
pub async fn migrate(config: &DatabaseConfig) -> anyhow::Result<()> {
    database::migrate(config, MIGRATIONS).await
}

/// A new account.
pub struct NewAccount {
    /// Its id.
    pub id: AccountId,
    /// Its first API key, shown this once.
    pub api_key: String,
}

/// Makes an account with one API key.
pub async fn create_account(
    database: &DatabaseConfig,
    keys: &KeyConfig,
    name: &str,
    livemode: bool,
) -> anyhow::Result<NewAccount> {
    let keyring = Keyring::new(&keys.ring()?);
    let store = Store::open(database, Clock::database()).await?;
    store.heads().await.context("the database is not ready: run `migrate`")?;
    let now = store.clock().now();
    let account = account(name.to_owned(), now);
    let (id, secret) = (account.id, keyring.new_api_key(account.id, livemode));
    let key = api_key(String::new(), livemode, Permissions::all(), now);
    store.create_account(account, LedgerId::from_uuid(new_id(now)), Some((key, secret.hash)), None).await?;
    Ok(NewAccount { id, api_key: secret.text })
}

/// Makes another feed of a database that was restored from a backup, before anybody serves it: positions of the feed will be
/// given again, to other events. Says which feed it is now.
pub async fn new_incarnation(database: &DatabaseConfig) -> anyhow::Result<Uuid> {
    let store = Store::open(database, Clock::database()).await?;
    store.heads().await.context("the database is not ready: run `migrate`")?;
    Ok(store.renew_incarnation().await?)
}

/// Prints what `purge-again` reads, page by page.
pub async fn list_purged(database: &DatabaseConfig, mut print: impl FnMut(String)) -> anyhow::Result<()> {
    let store = Store::open(database, Clock::database()).await?;
    let mut before = None;
    loop {
        let page = store.purged(before, PURGED_MAX).await.context("the database is not ready: run `migrate`")?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some((last.at, last.envelope));
        page.into_iter().for_each(|it| print(format!("{} {} {}", it.account, it.envelope, it.at.to_rfc3339())));
    }
}

/// Purges the envelopes of a list once more; says how many are purged now, and of which others why not.
pub async fn purge_again(
    database: &DatabaseConfig,
    keys: &KeyConfig,
    list: &Path,
) -> anyhow::Result<(usize, Vec<String>)> {
    let store = Store::open(database, Clock::database()).await?;
    let executor = Executor::new(store, Arc::new(Keyring::new(&keys.ring()?)));
    let file = tokio::fs::File::open(list).await.with_context(|| format!("the list {}", list.display()))?;
    let mut lines = tokio::io::BufReader::new(file).lines();
    let (mut done, mut left) = (0, Vec::new());
    while let Some(line) = lines.next_line().await? {
        let mut ids = line.split_whitespace();
        let (account, envelope) = (ids.next().map(str::parse), ids.next().map(str::parse));
        let (Some(Ok(account)), Some(Ok(envelope))) = (account, envelope) else {
            anyhow::bail!("the list must begin each line with the ids of an account and an envelope");
        };
        match keep::purge_again(&executor, account, envelope).await? {
            None => done += 1,
            Some(why) => left.push(format!("{envelope}: {why}")),
        }
    }
    Ok((done, left))
}

/// Serves on `listener` until `stop`, by `clock`.
pub async fn serve(config: Config, clock: Clock, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    if config.migrate {
        migrate(&config.database).await?;
    }
    let master = config.keys.ring()?;
    master.tell();
    let keyring = Arc::new(Keyring::new(&master));
    let mut store = Store::open(&config.database, clock).await?;
    if let Some(replica) = config.replica() {
        store = store.with_replica(&replica, Duration::from_millis(config.cache_ms)).await?;
    }
    store.learn_time().await?;
    if database::patiently(|| store.sees_all_rows()).await? {
        tracing::warn!("the database's user is not held back by row-level security: use one that is no superuser");
    }
    let workers = Workers::new(config.paper_worker.clone(), config.paper_workers)?;
    let (heartbeat, poll) = (Duration::from_secs(config.heartbeat_seconds), Duration::from_millis(config.feed_poll_ms));
    let tail = Arc::new(Tail::new(UNSEEN_MAX * (heartbeat + poll)));
    grpc::install_tls_provider();
    let (sealer, recognised) = config.seal.open(store.clock()).await?;
    if sealer.is_none() {
        tracing::warn!("documents are not sealed: nobody can tell later whether they were changed");
    }
    let keys = config.document_keys.as_ref().map(DocumentKeys::parse).transpose()?;
    let blobs = Blobs::open(&config.documents, keys)?;
    let oidc = Oidc::new(&config.oidc, store.clock().clone())?;
    let accounts = Accounts::new(store.clone());
    let authenticator = Authenticator::new(store.clone(), accounts.clone(), Arc::clone(&keyring), oidc, &config);
    let executor = Executor::new(store.clone(), Arc::clone(&keyring));
    let reader = reader(&config, (&executor, &blobs, &accounts), workers.clone())?;
    let calls = store.calls();
    let context = Context {
        store: store.clone(),
        executor: executor.clone(),
        cache: Cache::new(Duration::from_millis(config.cache_ms)),
        trusted_peers: config.trusted_peers.clone(),
        blobs: blobs.clone(),
        recognised: Arc::new(recognised),
        pictures: Pictures::new(blobs.clone(), workers.clone()),
        workers,
        pdfs: reader.pdfs.clone(),
        can_convert: reader.converter.is_some(),
        fetcher: Arc::clone(&reader.fetcher),
        authenticator: Arc::new(authenticator),
        accounts,
        onces: Onces::new(&master),
        keyring,
        tail: Arc::clone(&tail),
        seats: Seats::default(),
        downloads: Seats::default(),
        uploads: Seats::default(),
        combining: Arc::new(Semaphore::new(COMBINED_AT_ONCE)),
        signing_url: config.signing_url.clone(),
        heartbeat,
        stall: Duration::from_secs(config.stream_stall_seconds),
        stop: stop.clone(),
    };
    let able = Pulse::new(&config.database).await?.beats();
    let loops = loops(&config, executor, blobs, Intake::new(reader), sealer, tail, stop.clone());
    let server = grpc::serve(listener, routes(context), &SERVICES, able, Some(calls), &config.listen, stop.clone());
    let ended = tokio::select! {
        ended = server => ended,
        ended = loops => ended,
    };
    stop.cancel();
    ended
}

/// What documents are read with.
fn reader(
    config: &Config,
    (executor, blobs, accounts): (&Executor, &Blobs, &Accounts),
    workers: Workers,
) -> anyhow::Result<Reader> {
    let converter = config.ingest.converter()?;
    if converter.is_none() {
        tracing::info!("no LibreOffice was found: DOCX are refused");
    }
    Ok(Reader {
        executor: executor.clone(),
        blobs: blobs.clone(),
        accounts: accounts.clone(),
        pdfs: PdfReader::new(workers, config.ingest.policy()),
        converter,
        fetcher: Arc::new(config.ingest.fetcher()?),
    })
}

/// All loops, each in a task of its own. Ends only if one of them breaks.
async fn loops(
    config: &Config,
    executor: Executor,
    blobs: Blobs,
    intake: Intake,
    sealer: Option<Sealer>,
    tail: Arc<Tail>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let store = executor.store().clone();
    let sweep = Duration::from_millis(config.sweep_ms);
    let never = Arc::new(Notify::new());
    let mut tasks = tokio::task::JoinSet::new();
    feed_loops(&mut tasks, config, &store, tail, &stop);
    tasks.spawn({
        let (sweeper, stop) = (Arc::new(Sweeper::new(executor.clone())), stop.clone());
        ticker::run("sweep", sweep, Arc::clone(&never), stop, move || {
            let sweeper = Arc::clone(&sweeper);
            async move { sweeper.tick().await }
        })
    });
    tasks.spawn({
        let (intake, hint, stop) = (Arc::new(intake), store.readings_due(), stop.clone());
        ticker::run("ingest", sweep, hint, stop, move || {
            let intake = Arc::clone(&intake);
            async move { intake.tick().await }
        })
    });
    tasks.spawn({
        let press = Press { executor: executor.clone(), blobs: blobs.clone(), sealer };
        let (artifacts, hint, stop) = (Arc::new(Artifacts::new(press)), store.artifacts_due(), stop.clone());
        ticker::run("artifact", sweep, hint, stop, move || {
            let artifacts = Arc::clone(&artifacts);
            async move { artifacts.tick().await }
        })
    });
    if config.telemetry.is_measured() {
        measuring_loops(&mut tasks, &store, &stop);
    }
    if store.has_replica() {
        replica_loops(&mut tasks, config, &store, &stop);
    }
    keeping_loops(&mut tasks, config, &executor, &blobs, &stop);
    tasks.spawn({
        let stop = stop.clone();
        ticker::run("forget", FORGET, Arc::clone(&never), stop, move || {
            let store = store.clone();
            async move {
                let forgotten = store.forget_replies(store.clock().now(), FORGOTTEN_MAX).await?;
                Ok(if forgotten == 0 { Progress::Idle } else { Progress::Busy })
            }
        })
    });
    while let Some(ended) = tasks.join_next().await {
        ended.context("a loop broke")?;
    }
    // All loops have ended in good order; the server says when it is over.
    std::future::pending().await
}

/// What looks at the database for what is not seen by whoever serves calls.
fn measuring_loops(tasks: &mut tokio::task::JoinSet<()>, store: &Store, stop: &CancellationToken) {
    measure::declare();
    tasks.spawn({
        let store = store.clone();
        ticker::run("measure", MEASURE, Arc::default(), stop.clone(), move || {
            let store = store.clone();
            async move { measure::look(&store).await }
        })
    });
    tasks.spawn({
        let store = store.clone();
        ticker::run("count", COUNT, Arc::default(), stop.clone(), move || {
            let store = store.clone();
            async move { measure::count(&store).await }
        })
    });
}

/// What says the time for the replica to repeat, and looks how long that takes.
fn replica_loops(tasks: &mut tokio::task::JoinSet<()>, config: &Config, store: &Store, stop: &CancellationToken) {
    tasks.spawn({
        let store = store.clone();
        ticker::run("beat", BEAT, Arc::default(), stop.clone(), move || {
            let store = store.clone();
            async move {
                match store.beat().await {
                    // A database that is busy is asked again soon: that is when a replica is wanted most.
                    Err(error) if error.is_transient() => {
                        tracing::warn!(error = error.to_string(), "the time was not said")
                    }
                    said => said?,
                }
                Ok(Progress::Idle)
            }
        })
    });
    if config.telemetry.is_measured() {
        measure::declare_replica();
        let store = store.clone();
        tasks.spawn(ticker::run("replica", MEASURE, Arc::default(), stop.clone(), move || {
            let store = store.clone();
            async move { measure::look_at_replica(&store).await }
        }));
    }
}

/// What keeps nothing for too long: of rows, of bytes, and of bytes that were left over.
fn keeping_loops(
    tasks: &mut tokio::task::JoinSet<()>,
    config: &Config,
    executor: &Executor,
    blobs: &Blobs,
    stop: &CancellationToken,
) {
    let (sweep, never) = (Duration::from_millis(config.sweep_ms), Arc::new(Notify::new()));
    tasks.spawn({
        let (executor, never, stop) = (executor.clone(), Arc::clone(&never), stop.clone());
        let upload_lifetime = TimeDelta::days(config.upload_days);
        ticker::run("keep", sweep, never, stop, move || {
            let executor = executor.clone();
            async move { keep::tick(&executor, upload_lifetime).await }
        })
    });
    tasks.spawn({
        let (store, blobs) = (executor.store().clone(), blobs.clone());
        ticker::run("removal", sweep, Arc::clone(&never), stop.clone(), move || {
            let (store, blobs) = (store.clone(), blobs.clone());
            async move { removal::tick(&store, &blobs).await }
        })
    });
    tasks.spawn({
        let (store, blobs) = (executor.store().clone(), blobs.clone());
        ticker::run("orphans", ORPHANS, never, stop.clone(), move || {
            let (store, blobs) = (store.clone(), blobs.clone());
            async move { removal::look_for_orphans(&store, &blobs).await }
        })
    });
}

/// The loops of the feed: what gives events their positions, what tells the streams of them, and what forgets them.
fn feed_loops(
    tasks: &mut tokio::task::JoinSet<()>,
    config: &Config,
    store: &Store,
    tail: Arc<Tail>,
    stop: &CancellationToken,
) {
    let poll = Duration::from_millis(config.feed_poll_ms);
    let (committed, sequenced, never) = (store.committed(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    // Streams are served until the end of the drain, so what feeds them goes on until the process ends.
    let streaming = CancellationToken::new();
    tasks.spawn({
        let (store, sequenced) = (store.clone(), Arc::clone(&sequenced));
        ticker::run("sequencer", poll, committed, streaming.clone(), move || {
            let (store, sequenced) = (store.clone(), Arc::clone(&sequenced));
            async move {
                let moved = store.sequence().await?;
                if moved > 0 {
                    sequenced.notify_one();
                }
                Ok(if moved > 0 { Progress::Busy } else { Progress::Idle })
            }
        })
    });
    tasks.spawn({
        let store = store.clone();
        ticker::run("tail", poll, sequenced, streaming.clone(), move || {
            let (store, tail) = (store.clone(), Arc::clone(&tail));
            async move { tail.tick(&store).await }
        })
    });
    tasks.spawn({
        let (store, stop) = (store.clone(), stop.clone());
        let retention = TimeDelta::days(config.feed_retention_days);
        ticker::run("trim", TRIM, never, stop, move || {
            let store = store.clone();
            async move { trim::tick(&store, retention).await }
        })
    });
}
