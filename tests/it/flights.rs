//! Round trips to the database, counted from outside: they decide how fast the service is.
//!
//! A proxy between the service and Postgres counts how often the service speaks again after having been answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use countersign::v1::Routing;
use countersign_chassis::clock::Clock;
use countersign_test_support::client::request;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Counts flights on all connections through it.
#[derive(Clone, Default)]
struct Counter {
    flights: Arc<AtomicU32>,
}

impl Counter {
    /// Listens and forwards to `target`; returns its own address.
    async fn listen(&self, target: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let counter = self.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&target).await.unwrap();
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                counter.clone().forward(near, far);
            }
        });
        address
    }

    fn forward(self, near: TcpStream, far: TcpStream) {
        let (mut from_near, mut to_near) = near.into_split();
        let (mut from_far, mut to_far) = far.into_split();
        let answered = Arc::new(AtomicBool::new(true));
        let spoken = Arc::clone(&answered);
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from_near.read(&mut buffer).await {
                if spoken.swap(false, Ordering::SeqCst) {
                    self.flights.fetch_add(1, Ordering::SeqCst);
                }
                if to_far.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from_far.read(&mut buffer).await {
                answered.store(true, Ordering::SeqCst);
                if to_near.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        });
    }

    /// The fewest flights of several runs: a slow moment may cut one flight in two, nothing makes two of them one.
    async fn fewest<F: Future<Output = ()>>(&self, mut run: impl FnMut() -> F) -> u32 {
        let mut fewest = u32::MAX;
        for _ in 0..30 {
            self.flights.store(0, Ordering::SeqCst);
            run().await;
            fewest = fewest.min(self.flights.load(Ordering::SeqCst));
        }
        fewest
    }
}

/// A service whose loops stay quiet, behind the counter, with warm statements.
async fn counted() -> (Service, Caller, Counter) {
    let database = Database::envelope().await;
    let postgres = countersign_test_support::database::postgres().await;
    let counter = Counter::default();
    let near = counter.listen(format!("127.0.0.1:{}", postgres.port())).await;
    let documents = tempfile::tempdir().unwrap();
    let mut config = config(&database, &documents);
    config.database.database_url = database.url.replace(&format!("127.0.0.1:{}", postgres.port()), &near).into();
    config.database.database_pool_max = 1;
    (config.feed_poll_ms, config.sweep_ms) = (10_000, 60_000);
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    (service, sender, counter)
}

/// The first rule of performance: a create is one flight, a read is one, an act is two.
#[tokio::test(flavor = "multi_thread")]
async fn hot_paths_keep_their_round_trips() {
    let (service, sender, counter) = counted().await;
    let create = || async { drop(sender.create(request(2, Routing::Parallel, false)).await.unwrap()) };
    // The sequencer is woken by a create: it takes flights of its own on the same connection.
    create().await;
    let envelope = sender.create(request(2, Routing::Parallel, true)).await.unwrap();
    let get = || async { drop(sender.get(&envelope.id).await.unwrap()) };
    assert_eq!(counter.fewest(get).await, 1, "GetEnvelope is one flight");

    let sequencer = 3; // look, lock, move
    let created = counter.fewest(create).await;
    assert!(created <= 1 + sequencer, "CreateEnvelope is one flight: {created}");
    let mut drafts = Vec::new();
    for _ in 0..30 {
        drafts.push(sender.create(request(2, Routing::Parallel, true)).await.unwrap().id);
    }
    let mut drafts = drafts.into_iter();
    let void = || {
        let (id, sender) = (drafts.next().unwrap(), sender.clone());
        async move { drop(sender.void(&id, "").await.unwrap()) }
    };
    let voided = counter.fewest(void).await;
    assert!((2..=2 + sequencer).contains(&voided), "an act is two flights: {voided}");
    drop(service);
}
