//! Where secrets and personal data must not be: after every kind of secret has been issued, everything that the services
//! keep, say and write is searched for any piece of them.

mod life;
mod loud;
mod search;

use std::io::Write;
use std::sync::{Arc, Mutex};

use chrono::Utc;
use countersign_test_support::{Notifier, Receiver, Service};
use prost::Message as _;
use tracing::dispatcher::{Dispatch, set_default};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;

use self::life::Life;
use self::search::{Pieces, dump};

/// Everything that our crates say, at the lowest level.
const OURS: &str = "countersign=trace,countersign_envelope=trace,countersign_notifier=trace,countersign_chassis=trace,\
                    countersign_paper=trace,countersign_postgres=trace";

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes down every event and, when they begin and end, every span with its fields.
    fn dispatch(&self) -> Dispatch {
        let log = self.clone();
        let lines = layer().with_ansi(false).with_span_events(FmtSpan::FULL).with_writer(move || log.clone());
        tracing_subscriber::registry().with(EnvFilter::new(OURS)).with(lines).into()
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

/// Runs a test on threads of its own, all of which say what they do to that log alone.
fn overheard<T>(log: &Log, test: impl Future<Output = T>) -> T {
    let dispatch = log.dispatch();
    let _here = set_default(&dispatch);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().on_thread_start(move || std::mem::forget(set_default(&dispatch)));
    runtime.build().unwrap().block_on(test)
}

/// All that is left of a life, by where it is found.
struct Left {
    life: Life,
    found: Vec<(String, Vec<u8>)>,
    mails: Vec<(String, String)>,
}

impl Left {
    fn in_places(&self, places: &[&str]) -> impl Iterator<Item = &(String, Vec<u8>)> {
        let places: Vec<_> = places.iter().map(|place| (*place).to_owned()).collect();
        self.found.iter().filter(move |(name, _)| places.iter().any(|place| name.starts_with(place)))
    }
}

async fn live() -> Left {
    let service = Service::start_at(Utc::now()).await;
    let notifier = Notifier::start(&service).await;
    let receiver = Receiver::start(|_| axum::http::StatusCode::OK).await;
    let life = Life::lead(&service, &notifier, &receiver).await;
    let mut found = Vec::new();
    for event in life.events(&service).await {
        found.push((format!("stream {:?}", event.r#type()), event.encode_to_vec()));
    }
    life.until_told(&notifier, &receiver).await;
    for received in receiver.received() {
        let headers: Vec<_> = received.headers.iter().flat_map(|(_, value)| value.as_bytes().to_vec()).collect();
        found.push((format!("webhook {}", received.json()["type"]), [headers, received.body].concat()));
    }
    found.extend(dump("envelope", &service.database).await);
    found.extend(dump("notifier", &notifier.database).await);
    // Soft line ends of quoted-printable would hide a piece.
    let unfolded = |(name, text): (String, String)| (name, text.replace("=\r\n", "").replace("=\n", ""));
    let mails = notifier.mails().into_iter().map(unfolded).collect();
    notifier.stop().await;
    service.stop().await;
    Left { life, found, mails }
}

fn lived() -> Left {
    let log = Log::default();
    let mut left = overheard(&log, live());
    left.found.push(("logs".to_owned(), log.bytes()));
    left
}

/// The search finds what is there.
fn is_thorough(left: &Left) {
    let (_, logs) = left.in_places(&["logs"]).next().unwrap();
    let logs = String::from_utf8_lossy(logs);
    for said in ["EnvelopeService/CreateEnvelope", "SignerService/Sign", "countersign_chassis", "request_id=", "close"]
    {
        assert!(logs.contains(said), "the log says nothing of {said}");
    }
    for table in ["envelope.recipient", "envelope.idempotency.reply", "envelope.api_key.hash", "notifier.delivery.body"]
    {
        assert!(left.in_places(&[table]).any(|(_, bytes)| !bytes.is_empty()), "{table} was not looked at");
    }
    let name = &left.life.personal[0];
    let kept = left.in_places(&["envelope.recipient.name"]).next().unwrap();
    assert!(search::holds(&kept.1, name), "the name is where it is kept");
    let hash = left.in_places(&["envelope.api_key.hash"]).next().unwrap();
    let mut known = Pieces::default();
    known.add_bytes("a hash", &hash.1[hash.1.len() - 32..]);
    assert!(known.first_in(&hash.1).is_some(), "bytes are searched as bytes");
    assert!(left.life.secrets.len() >= 20, "{} secrets", left.life.secrets.len());
    assert!(left.found.iter().filter(|(name, _)| name.starts_with("webhook")).count() >= 20);
}

/// S1.47, T-58, S4.16: no piece of a secret is in a database, a log, a span, an event, a webhook, a kept reply or a mail, but
/// for the link in its own invitation or reminder. Nor does anything personal leave for logs, events and webhooks.
#[test]
fn t58_secrets_and_personal_data_are_where_they_belong_alone() {
    let left = lived();
    is_thorough(&left);
    let mut pieces = Pieces::default();
    for (name, secret) in &left.life.secrets {
        pieces.add(name, secret);
    }
    for (place, bytes) in &left.found {
        let piece = pieces.first_in(bytes);
        assert!(piece.is_none(), "{place} holds a piece of {}", piece.unwrap_or_default());
    }
    let mut invitations = 0;
    for (name, text) in &left.mails {
        let mut text = text.clone();
        if name.ends_with(".invitation.eml") || name.ends_with(".reminder.eml") {
            invitations += 1;
            let recipient = name.split('.').nth(1).unwrap();
            for (_, token) in left.life.links.iter().filter(|(whose, _)| whose == recipient) {
                text = text.replace(token.as_str(), "");
            }
        }
        let piece = pieces.first_in(text.as_bytes());
        assert!(piece.is_none(), "{name} holds a piece of {}", piece.unwrap_or_default());
    }
    assert!(invitations >= 5, "{invitations} invitations among {} mails", left.mails.len());
    for (place, bytes) in left.in_places(&["logs", "stream", "webhook", "notifier."]) {
        for personal in &left.life.personal {
            assert!(!search::holds(bytes, personal), "{place} holds {personal}");
        }
    }
}

/// C-26, D10, T-57: once the contents of all envelopes of a life are deleted, nothing of what was personal about them is left in
/// any table of any database; their histories still verify. The account itself and its users are not contents of envelopes.
#[tokio::test(flavor = "multi_thread")]
async fn d10_after_an_erasure_nothing_personal_is_left() {
    let service = Service::start_at(Utc::now()).await;
    let notifier = Notifier::start(&service).await;
    let receiver = Receiver::start(|_| axum::http::StatusCode::OK).await;
    let life = Life::lead(&service, &notifier, &receiver).await;
    life.until_told(&notifier, &receiver).await;
    let unrelated = ["envelope.account.", "envelope.account_user."];
    let holds = |found: &[(String, Vec<u8>)]| {
        let related = found.iter().filter(|(place, _)| !unrelated.iter().any(|it| place.starts_with(it)));
        let of = |(place, bytes): &(String, Vec<u8>)| {
            life.personal.iter().find(|it| search::holds(bytes, it)).map(|it| format!("{place} holds {it}"))
        };
        related.filter_map(of).collect::<Vec<_>>()
    };
    let before = holds(&dump("envelope", &service.database).await);
    for place in
        ["recipient.name", "recipient.email", "recipient.decline_reason", "recipient.decline_note", "envelope.terms"]
    {
        assert!(
            before.iter().any(|it| it.starts_with(&format!("envelope.{place}"))),
            "{place} was not looked at: {before:?}"
        );
    }
    for place in ["envelope.void_reason", "event_particulars.content", "idempotency.reply"] {
        assert!(
            before.iter().any(|it| it.starts_with(&format!("envelope.{place}"))),
            "{place} was not looked at: {before:?}"
        );
    }
    life.erase(&service).await;
    let after = holds(&dump("envelope", &service.database).await);
    assert_eq!(after, [""; 0]);
    assert_eq!(holds(&dump("notifier", &notifier.database).await), [""; 0]);
    notifier.stop().await;
    service.stop().await;
}
