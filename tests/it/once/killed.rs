//! A process that is killed after it has committed and before anybody has heard of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use countersign::v1::{CreateEnvelopeRequest, EventType, Routing};
use countersign_test_support::binary::Process;
use countersign_test_support::client::{request, signature};
use countersign_test_support::service::SERVICE_TOKEN;
use countersign_test_support::{Caller, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Channel, Endpoint};

use super::wire::{Call, Key, call};
use crate::ledger::audit::audit;
use crate::ledger::upload;

/// kill -9s of the envelope service.
const KILLS: usize = 20;

fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// A way to the service on which its answers can be lost.
struct Way {
    address: String,
    lost: Arc<AtomicBool>,
}

impl Way {
    async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (target, lost) = (target.to_owned(), Arc::<AtomicBool>::default());
        let losing = Arc::clone(&lost);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                forward(near, far, Arc::clone(&losing));
            }
        });
        Self { address, lost }
    }

    fn lose_answers(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }
}

fn forward(near: TcpStream, far: TcpStream, lost: Arc<AtomicBool>) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
    tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_far.read(&mut buffer).await {
            if !lost.load(Ordering::SeqCst) && to_near.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    });
}

/// What is cut short: the call, its envelope (none: it makes one of that name), and the event that tells of it.
struct Cut {
    call: Call,
    envelope: Result<String, String>,
    event: EventType,
}

/// The calls take turns.
async fn cut(number: usize, seed: &Service, sender: &Caller, form: &CreateEnvelopeRequest) -> Cut {
    let form = |send| CreateEnvelopeRequest { send, external_reference: format!("order {number}"), ..form.clone() };
    let of = |call, envelope: &str, event| Cut { call, envelope: Ok(envelope.to_owned()), event };
    if number.is_multiple_of(5) {
        let call = call!(sender, CreateEnvelopeRequest form(true));
        return Cut { call, envelope: Err(format!("order {number}")), event: EventType::EnvelopeSent };
    }
    if number % 5 == 1 {
        let draft = sender.create(form(false)).await.unwrap();
        let call = call!(sender, SendEnvelopeRequest { envelope_id: draft.id.clone(), ..Default::default() });
        return of(call, &draft.id, EventType::EnvelopeSent);
    }
    let envelope = sender.create(form(true)).await.unwrap();
    let (id, envelope_id) = (envelope.id.as_str(), envelope.id.clone());
    let signer = seed.notifier(&sender.account).signer_of(id, &envelope.recipients[0].id).await.unwrap();
    match number % 5 {
        2 => of(call!(signer, SignRequest signature(&envelope)), id, EventType::RecipientSigned),
        3 => of(call!(signer, DeclineRequest::default()), id, EventType::EnvelopeDeclined),
        _ => {
            of(call!(sender, VoidEnvelopeRequest { envelope_id, ..Default::default() }), id, EventType::EnvelopeVoided)
        }
    }
}

/// How often it has happened.
async fn effects(cut: &Cut, seed: &Service, sender: &Caller) -> usize {
    let id = match &cut.envelope {
        Ok(id) => id.clone(),
        Err(name) => {
            let sql = seed.database.connect().await;
            let made = "SELECT id FROM envelope WHERE external_reference = $1";
            let rows = sql.query(made, &[name]).await.unwrap();
            return rows.len();
        }
    };
    let history = sender.history(&id).await.unwrap();
    history.iter().filter(|entry| entry.event.as_ref().unwrap().r#type() == cut.event).count()
}

/// D2, T-72: the answer is lost with the process that had committed. The same request with the same key, to the next process,
/// is answered with the reply that was kept, and nothing happens twice.
#[tokio::test(flavor = "multi_thread")]
async fn d2_what_was_committed_before_a_kill_is_answered_and_not_made_again() {
    let seed = Service::start().await;
    let sender = seed.account(true).await;
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", seed.database.url.as_str()),
        ("COUNTERSIGN_MASTER_KEY", &"5c".repeat(32)),
        ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
        ("COUNTERSIGN_DOCUMENTS", seed.documents.path().to_str().unwrap()),
        ("COUNTERSIGN_UNSEALED", "true"),
    ];
    let form = CreateEnvelopeRequest { documents: vec![upload(&sender).await], ..request(2, Routing::Parallel, false) };
    let sql = seed.database.connect().await;
    let mut process = Process::start("countersign-envelope", &settings).await;
    for number in 0..KILLS {
        let cut = cut(number, &seed, &sender, &form).await;
        assert_eq!(effects(&cut, &seed, &sender).await, 0);
        let way = Way::to(&process.address).await;
        let there = Caller { channel: channel(&way.address), ..sender.clone() };
        // The connection stands before anything is lost on it.
        there.get("env_0").await.unwrap_err();
        way.lose_answers();
        let key = format!("order-{number}");
        let unheard = tokio::spawn({
            let (call, key) =
                (cut.call.by(&Caller { channel: there.channel.clone(), ..cut.call.caller.clone() }), key.clone());
            async move { call.send(Key::Field(&key)).await }
        });
        let kept = "SELECT reply FROM idempotency ORDER BY used_at DESC";
        let began = Instant::now();
        let mut rows = Vec::new();
        while rows.len() <= number {
            assert!(!unheard.is_finished() && began.elapsed() < Duration::from_secs(20), "it did not commit");
            tokio::time::sleep(Duration::from_millis(2)).await;
            rows = sql.query(kept, &[]).await.unwrap();
        }
        process.kill().await;
        unheard.await.unwrap().expect_err("nobody has heard of it");
        process = Process::start("countersign-envelope", &settings).await;
        let retry = cut.call.by(&Caller { channel: channel(&process.address), ..cut.call.caller.clone() });
        let reply = retry.send(Key::Field(&key)).await.unwrap_or_else(|status| panic!("round {number}: {status:?}"));
        assert!(reply.replayed, "round {number}");
        assert_eq!(reply.bytes, rows[0].get::<_, Vec<u8>>(0), "what was kept is what is answered");
        assert_eq!(effects(&cut, &seed, &sender).await, 1, "round {number}");
    }
    audit(&seed.database).await;
    process.kill().await;
    seed.stop().await;
}
