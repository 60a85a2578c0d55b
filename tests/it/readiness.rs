//! What both services say of themselves while their Postgres is away: that they live, and that calls should go elsewhere.

use std::time::{Duration, Instant};

use countersign::v1::Routing;
use countersign_chassis::clock::Clock;
use countersign_chassis::health::{HealthConfig, check};
use countersign_postgres::{Options, Postgres};
use countersign_test_support::client::request;
use countersign_test_support::notifier::{self, register};
use countersign_test_support::{Database, Notifier, Service};
use tonic::{Code, Status};

/// How long they may take to notice and to say so: an answer stands for ten seconds at least.
const NOTICED: Duration = Duration::from_secs(60);

/// Whether a service says that it serves; by the empty name, whether it lives.
async fn serves(address: &str, service: &str) -> bool {
    let (url, service) = (format!("http://{address}"), service.to_owned());
    match check(&HealthConfig { url, service, timeout_ms: 5_000, ca: None, server_name: None }).await {
        Ok(()) => true,
        Err(refused) => {
            assert_eq!(format!("{refused:#}"), "NOT_SERVING", "health is always told");
            false
        }
    }
}

/// Both services on a Postgres that nobody else has.
struct Stand {
    postgres: Postgres,
    service: Service,
    notifier: Notifier,
}

impl Stand {
    async fn start() -> Self {
        let postgres = Postgres::start(Options::throwaway()).await.unwrap();
        for name in ["envelope", "notifier"] {
            postgres.create_database(name).await.unwrap();
        }
        let [ours, theirs] = ["envelope", "notifier"].map(|name| Database::at(&postgres, name.to_owned()));
        countersign_envelope::serve::migrate(&ours.config()).await.unwrap();
        countersign_notifier::serve::migrate(&theirs.config()).await.unwrap();
        let service = Service::start_on(ours, Clock::database(), tempfile::tempdir().unwrap()).await;
        let mails = tempfile::tempdir().unwrap();
        let config = notifier::config(&theirs, &service.address, &mails);
        let notifier = Notifier::start_with(theirs, mails, config).await;
        Self { postgres, service, notifier }
    }

    /// Waits until both say so of their readiness. They live all the while.
    async fn until(&self, ready: bool) {
        let began = Instant::now();
        for (address, name) in [
            (&self.service.address, "countersign.v1.EnvelopeService"),
            (&self.service.address, "countersign.v1.SignerService"),
            (&self.notifier.address, "countersign.v1.WebhookService"),
        ] {
            while serves(address, name).await != ready {
                assert!(began.elapsed() < NOTICED, "{name} is never {ready}");
                assert!(serves(address, "").await, "{name} lives");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(serves(address, "").await, "{name} lives");
        }
    }
}

/// Makes a call until it is answered: connections that broke are found out by calls that are told to come again.
async fn insist<T>(call: impl AsyncFn() -> Result<T, Status>) -> T {
    let began = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{refused:?}"),
        }
        assert!(began.elapsed() < NOTICED, "it is never answered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A database that dies takes readiness with it and not liveness; with it both come back, and so do calls.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_database_and_liveness_does_not() {
    let mut stand = Stand::start().await;
    stand.until(true).await;
    let sender = stand.service.account(false).await;
    // This Postgres does not wait for the disk.
    stand.service.database.connect().await.batch_execute("CHECKPOINT").await.unwrap();
    stand.postgres.kill_hard().await.unwrap();
    stand.until(false).await;
    stand.postgres.restart().await.unwrap();
    stand.until(true).await;
    insist(async || sender.create(request(1, Routing::Parallel, true)).await).await;
    insist(async || register(&stand.notifier.channel, &sender, "http://127.0.0.1:9/hook").await).await;
    stand.notifier.stop().await;
    stand.service.stop().await;
    stand.postgres.stop().await.unwrap();
}
