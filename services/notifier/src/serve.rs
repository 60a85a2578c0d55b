//! Puts the service together and runs it: the gRPC server, the feed and the loops that deliver.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use countersign_chassis::clock::Clock;
use countersign_chassis::config::DatabaseConfig;
use countersign_chassis::database::Pulse;
use countersign_chassis::guard::Guard;
use countersign_chassis::ticker::Progress;
use countersign_chassis::{database, grpc, ticker};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::envelopes::Envelopes;
use crate::feed::{AT_ONCE, Feed};
use crate::lease::Leases;
use crate::mail::sink::Mails;
use crate::mail::{self, Mailer};
use crate::measure;
use crate::rotation::{self, Rotation};
use crate::rpc::{Handler, Parts, SERVICES};
use crate::sink::Sink;
use crate::store::{MIGRATIONS, Store};
use crate::webhook::Webhooks;
use crate::webhook::courier::{Bounds, Courier};
use crate::webhook::deliver::Deliverer;
use crate::webhook::headers::Seal;
use crate::webhook::signature::Secrets;

/// How often replies are looked for whose time is over, and how many go at a time.
const FORGET: Duration = Duration::from_secs(60);
const FORGOTTEN_MAX: i64 = 1_000;
/// How often endpoints are looked for that were disabled.
const NOTICE: Duration = Duration::from_secs(1);
/// How often it is looked what waits.
const MEASURE: Duration = Duration::from_secs(10);
/// How long deliveries and their attempts are kept.
const DELIVERIES_KEPT: TimeDelta = TimeDelta::days(30);

/// Brings the database up to date.
pub async fn migrate(config: &DatabaseConfig) -> anyhow::Result<()> {
    database::migrate(config, MIGRATIONS).await
}

/// The parts of the notifier, for `serve` and for tests that tick them by hand.
pub struct Notifier {
    /// Its database.
    pub store: Store,
    /// The consumer of the stream.
    pub feed: Feed,
    /// What of the stream is this process's to follow.
    pub leases: Leases,
    /// The posting of webhooks.
    pub deliverer: Deliverer,
    /// The sending of mails.
    pub mailer: Mailer,
    /// What a changed master key leaves to be done.
    pub rotation: Rotation,
    handler: Handler,
    /// Notified when there are new deliveries, and new mails.
    wake: (Arc<Notify>, Arc<Notify>),
}

impl Notifier {
    /// As the settings say.
    pub async fn new(config: &Config, clock: Clock, stop: CancellationToken) -> anyhow::Result<Self> {
        grpc::install_tls_provider();
        let store = Store::new(database::pool(&config.database).await?, clock);
        let envelopes = Envelopes::new(config)?;
        let master = config.keys.ring()?;
        master.tell();
        let secrets = Arc::new(Secrets::new(&master));
        let seal = Arc::new(Seal::new(&master)?);
        let guard = Guard::new(config.webhook_allow_private, config.webhook_ports.clone(), config.webhook_deny.clone());
        let courier = Arc::new(Courier::new(guard.clone(), Arc::clone(&seal), Bounds::default())?);
        let wake: Arc<Notify> = Arc::default();
        let deliverer = Deliverer::new(store.clone(), Arc::clone(&secrets), Arc::clone(&courier), Arc::clone(&wake));
        let mailer = Mailer::new(config, store.clone(), envelopes.clone(), &master)?;
        let challenge = config.webhook_challenge;
        let webhooks = Webhooks {
            store: store.clone(),
            envelopes: envelopes.clone(),
            guard: guard.clone(),
            challenge,
            newest_key: secrets.newest(),
            wake: Arc::clone(&wake),
        };
        let rotation = Rotation::new(store.clone(), Arc::clone(&secrets), Arc::clone(&seal));
        let mails = Mails { store: store.clone(), wake: Arc::default() };
        let deliveries = Arc::clone(&wake);
        let wake = (wake, Arc::clone(&mails.wake));
        let sinks: [Box<dyn Sink>; 2] = [Box::new(webhooks), Box::new(mails)];
        let feed = Feed {
            store: store.clone(),
            envelopes: envelopes.clone(),
            sinks: Arc::new(sinks),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        };
        let leases = Leases::new(feed.clone(), TimeDelta::seconds(config.lease_seconds.into()), stop);
        let parts =
            Parts { store: store.clone(), envelopes, secrets, seal, guard, courier, challenge, wake: deliveries };
        let handler = Handler::new(parts, &master);
        store.learn_time().await?;
        Ok(Self { store, feed, leases, deliverer, mailer, rotation, handler, wake })
    }
}

/// Looks at the start and now and then what a changed master key leaves to be done, and what waits.
fn look_after(
    config: &Config,
    loops: &mut tokio::task::JoinSet<()>,
    (store, rotation): (Store, Rotation),
    stop: CancellationToken,
) {
    loops.spawn(ticker::run("rotation", rotation::INTERVAL, Arc::default(), stop.clone(), move || {
        let rotation = rotation.clone();
        async move { rotation.tick().await }
    }));
    measure_by(config, loops, store, stop);
}

/// Looks at what waits, again and again, if anybody is told of it.
fn measure_by(config: &Config, loops: &mut tokio::task::JoinSet<()>, store: Store, stop: CancellationToken) {
    if !config.telemetry.is_measured() {
        return;
    }
    measure::declare(store.clock());
    loops.spawn(ticker::run("measure", MEASURE, Arc::default(), stop, move || {
        let store = store.clone();
        async move { measure::look(&store).await }
    }));
}

/// Serves on `listener` until `stop`, by `clock`.
pub async fn serve(config: Config, clock: Clock, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    if config.migrate {
        migrate(&config.database).await?;
    }
    let Notifier { store, feed: _, leases, deliverer, mailer, rotation, handler, wake: (deliveries, mails) } =
        Notifier::new(&config, clock, stop.clone()).await?;
    let poll = Duration::from_millis(config.delivery_poll_ms);
    let mut loops = tokio::task::JoinSet::new();
    loops.spawn({
        let (stop, leases) = (stop.clone(), leases.clone());
        ticker::run("leases", leases.interval(), Arc::new(Notify::new()), stop, move || {
            let leases = leases.clone();
            async move { leases.tick().await }
        })
    });
    loops.spawn({
        let deliverer = deliverer.clone();
        ticker::run("deliver", poll, deliveries, stop.clone(), move || {
            let deliverer = deliverer.clone();
            async move { deliverer.tick().await }
        })
    });
    for _ in 0..mail::LANES {
        let mailer = mailer.clone();
        loops.spawn(ticker::run("mail", poll, Arc::clone(&mails), stop.clone(), move || {
            let mailer = mailer.clone();
            async move { mailer.tick().await }
        }));
    }
    look_after(&config, &mut loops, (store.clone(), rotation), stop.clone());
    let notices = mailer.clone();
    loops.spawn(ticker::run("notice", NOTICE, Arc::new(Notify::new()), stop.clone(), move || {
        let mailer = notices.clone();
        async move { mailer.notice().await }
    }));
    loops.spawn(ticker::run("forget mails", FORGET, Arc::new(Notify::new()), stop.clone(), move || {
        let mailer = mailer.clone();
        async move { mailer.forget().await }
    }));
    loops.spawn(ticker::run("forget", FORGET, Arc::new(Notify::new()), stop.clone(), move || {
        let store = store.clone();
        async move {
            let now = store.clock().now();
            let replies = store.forget_replies(now, FORGOTTEN_MAX).await?;
            let deliveries = store.forget_deliveries(now - DELIVERIES_KEPT, FORGOTTEN_MAX).await?;
            Ok(if replies == 0 && deliveries == 0 { Progress::Idle } else { Progress::Busy })
        }
    }));
    let broken = async {
        while let Some(ended) = loops.join_next().await {
            ended.context("a loop broke")?;
        }
        // All have ended in good order: open calls are still answered, and the server says when it is over.
        std::future::pending().await
    };
    let able = Pulse::new(&config.database).await?.beats();
    let served = tokio::select! {
        served = grpc::serve(listener, handler.routes(), &SERVICES, able, None, &config.listen, stop.clone()) => served,
        broken = broken => broken,
    };
    stop.cancel();
    // What is being posted is finished and written down.
    let finished = async {
        while loops.join_next().await.is_some() {}
        deliverer.finished().await;
        leases.leave().await;
    };
    let _ = tokio::time::timeout(config.listen.drain(), finished).await;
    served
}
