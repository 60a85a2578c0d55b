//! Round trips to the database, counted from outside: they decide how fast the service is.
//!
//! A proxy between the service and Postgres counts how often the service speaks again after having been answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use countersign::v1::Routing;
use countersign_chassis::clock::Clock;
use countersign_envelope::credential::Keyring;
use countersign_envelope::domain::command::{By, Command};
use countersign_envelope::domain::decide::Verdict;
use countersign_envelope::domain::envelope::{Cause, Envelope};
use countersign_envelope::domain::event::Event;
use countersign_envelope::domain::id::EnvelopeId;
use countersign_envelope::domain::record::{Recorded, seal};
use countersign_envelope::execute::{Ask, Executor, Fresh, new_id};
use countersign_envelope::store::{NewEnvelope, Scope, Store};
use countersign_test_support::Service;
use countersign_test_support::client::request;
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

/// A store behind the counter: nothing else speaks on its connection.
async fn counted(service: &Service) -> (Store, Counter) {
    let postgres = countersign_test_support::database::postgres().await;
    let counter = Counter::default();
    let near = counter.listen(format!("127.0.0.1:{}", postgres.port())).await;
    let mut config = service.config.database.clone();
    config.database_url = service.database.url.replace(&format!("127.0.0.1:{}", postgres.port()), &near).into();
    config.database_pool_max = 1;
    (Store::open(&config, Clock::database()).await.unwrap(), counter)
}

/// A copy of an envelope under a new id, with its first event.
fn copy(envelope: &Envelope) -> (Envelope, Vec<Recorded>) {
    let mut copy = envelope.clone();
    let now = copy.last_event_at;
    copy.id = EnvelopeId::from_uuid(new_id(now));
    (copy.sequence, copy.revision, copy.chain) = (0, 0, [0; 32]);
    let recorded = seal(&mut copy, &[Event::Created], &By::system(), now, &mut Fresh(now));
    (copy, recorded)
}

/// The first rule of performance: a create is one flight, a read is one, an act is two, a look at the feed is one.
#[tokio::test(flavor = "multi_thread")]
async fn hot_paths_keep_their_round_trips() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let sent = sender.create(request(2, Routing::Parallel, true)).await.unwrap();
    let (store, counter) = counted(&service).await;
    let scope = Scope::any_mode(sender.account.parse().unwrap());
    let id = sent.id.parse().unwrap();
    let envelope = store.envelope(scope, id).await.unwrap().unwrap();
    let keyring = Keyring::new(&service.config.keys.ring().unwrap());
    let executor = Executor::new(store.clone(), Arc::new(keyring));

    let read = || async { drop(store.envelope(scope, id).await.unwrap()) };
    assert_eq!(counter.fewest(read).await, 1, "a read is one flight");
    let create = || async {
        let (copy, recorded) = copy(&envelope);
        store
            .create(NewEnvelope { envelope: copy.clone(), events: recorded, movement: None, kept: None })
            .await
            .unwrap();
    };
    assert_eq!(counter.fewest(create).await, 1, "a create is one flight");
    let act = || async {
        let (copy, recorded) = copy(&envelope);
        store
            .create(NewEnvelope { envelope: copy.clone(), events: recorded, movement: None, kept: None })
            .await
            .unwrap();
        let command = Command::Void { cause: Cause::Sender, reason: None };
        let ask = Ask { scope, id: copy.id, by: By::system(), command, expected: None, billing: None };
        let outcome = executor.execute(ask, |_| true).await.unwrap().unwrap();
        assert_eq!(outcome.answer, Verdict::Done);
    };
    assert_eq!(counter.fewest(act).await, 1 + 2, "an act is two flights");
    let heads = || async {
        store.heads().await.unwrap();
    };
    assert_eq!(counter.fewest(heads).await, 1);
}
