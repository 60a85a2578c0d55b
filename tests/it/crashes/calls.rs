//! Each call that changes something × each place on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_test_support::binary::Process;
use countersign_test_support::client::is_passing;
use countersign_test_support::service::{OPERATOR_KEY, SERVICE_TOKEN};
use countersign_test_support::{Caller, Errors as _, Service};
use futures_util::StreamExt as _;
use tokio_postgres::Client;
use tonic::Status;
use tonic::transport::Endpoint;

use super::{Arms, assert_sound, died};
use crate::once::SECRETS;
use crate::once::calls::every_call;
use crate::once::scene::Scene;
use crate::once::wire::{Call, Key, Reply, keyed_messages, method_of};

/// On the way of a call, from its request to its answer.
pub const PLACES: &[&str] = &[
    "bytes.stored",
    "create.writing",
    "create.sent",
    "create.committed",
    "change.locked",
    "change.writing",
    "change.sent",
    "change.committed",
    "write.claimed",
    "write.keeping",
    "write.sent",
    "write.committed",
    "endpoint.changed",
    "endpoint.sent",
    "endpoint.committed",
    "call.answering",
];

/// Behind these everything has been done.
fn is_done(place: &str) -> bool {
    place.ends_with(".committed") || place == "call.answering"
}

/// Scenes that are played at the same time.
const LANES: usize = 4;
/// How long a call is repeated until it is answered.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What a call adds to: rows, by table. What the loops add is not counted.
const COUNTS: [(&str, &str); 11] = [
    ("accounts", "account"),
    ("users", "account_user"),
    ("keys", "api_key"),
    ("documents", "document"),
    ("envelopes", "envelope"),
    ("events", "event WHERE kind NOT IN (6, 12, 16)"),
    ("fields", "field"),
    ("entries", "ledger_entry"),
    ("recipients", "recipient"),
    ("uploads", "upload"),
    ("replies", "idempotency"),
];
const COUNTS_OF_NOTIFIER: [(&str, &str); 3] =
    [("endpoints", "endpoint"), ("tests", "delivery WHERE envelope_id IS NULL"), ("replies to owners", "idempotency")];

type Counts = BTreeMap<&'static str, i64>;

/// The scene with both services as processes beside those of the scene, which do what the loops do.
struct Stage {
    scene: Scene,
    /// Each look at them over a connection of its own would take more time than all calls do.
    ours: Client,
    theirs: Client,
    arms: Arms,
    processes: BTreeMap<&'static str, Process>,
}

const ENVELOPE: &str = "countersign-envelope";
const NOTIFIER: &str = "countersign-notifier";

impl Stage {
    async fn set() -> Self {
        // By the clock that the processes have.
        let scene = Scene::of(Service::start().await).await;
        let (ours, theirs) = (scene.service.database.connect().await, scene.notifier.database.connect().await);
        let mut stage = Self { scene, ours, theirs, arms: Arms::new(), processes: BTreeMap::new() };
        stage.arms.set("");
        stage.start(ENVELOPE).await;
        stage.start(NOTIFIER).await;
        stage
    }

    async fn start(&mut self, name: &'static str) {
        let (scene, file, master) = (&self.scene, self.arms.file(), "5c".repeat(32));
        let documents = scene.service.documents.path();
        let process = if name == ENVELOPE {
            let more = [
                ("COUNTERSIGN_FAILPOINTS", file.as_str()),
                ("COUNTERSIGN_OPERATOR_KEY", OPERATOR_KEY),
                ("COUNTERSIGN_SWEEP_MS", "60000"),
            ];
            Process::beside(&scene.service, documents, &more).await
        } else {
            let settings = [
                ("COUNTERSIGN_FAILPOINTS", file.as_str()),
                ("COUNTERSIGN_DATABASE_URL", scene.notifier.database.url.as_str()),
                ("COUNTERSIGN_MASTER_KEY", &master),
                ("COUNTERSIGN_ENVELOPE_URL", &format!("http://{}", scene.service.address)),
                ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
                ("COUNTERSIGN_WEBHOOK_ALLOW_PRIVATE", "true"),
                ("COUNTERSIGN_WEBHOOK_CHALLENGE", "false"),
                ("COUNTERSIGN_MAIL_FOLDER", scene.notifier.mails.path().to_str().unwrap()),
                ("COUNTERSIGN_DELIVERY_POLL_MS", "60000"),
                ("COUNTERSIGN_LEASE_SECONDS", "3"),
            ];
            Process::start(NOTIFIER, &settings).await
        };
        self.processes.insert(name, process);
    }

    /// The call, to the process.
    fn there(&self, call: &Call) -> Call {
        let process = &self.processes[serving(call)];
        let channel = Endpoint::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy();
        call.by(&Caller { channel, ..call.caller.clone() })
    }

    async fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for (database, tables) in [(&self.ours, &COUNTS[..]), (&self.theirs, &COUNTS_OF_NOTIFIER[..])] {
            let of = |(_, table): &(&str, &str)| format!("(SELECT count(*) FROM {table})");
            let query = format!("SELECT {}", tables.iter().map(of).collect::<Vec<_>>().join(", "));
            let row = database.query_one(&query, &[]).await.unwrap();
            counts.extend(tables.iter().enumerate().map(|(index, (name, _))| (*name, row.get::<_, i64>(index))));
        }
        counts
    }

    /// Sends a call again until it is answered. What the dead held ends when the database sees that they are gone.
    async fn insist(&self, call: &Call, key: &str) -> Result<Reply, Status> {
        let began = tokio::time::Instant::now();
        loop {
            // An endpoint may be asked once in a while.
            let asked = "UPDATE endpoint SET challenged_at = NULL";
            self.theirs.batch_execute(asked).await.unwrap();
            match self.there(call).send(Key::Field(key)).await {
                Err(status) if is_passing(&status) && began.elapsed() < ANSWER_MAX => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                answered => return answered,
            }
        }
    }

    /// Brings things to where they would be: what the calls' scene has done by hand is undone, and what is waited for is there.
    async fn end(mut self, after: &str) {
        for (_, process) in std::mem::take(&mut self.processes) {
            process.kill().await;
        }
        let by_hand = "UPDATE delivery SET state = 1 WHERE state = 3 AND tries = 0";
        self.theirs.batch_execute(by_hand).await.unwrap();
        let waiting = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM artifact_job)";
        for _ in 0..400 {
            if self.scene.service.database.number(waiting).await == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let theirs = self.scene.notifier.database.clone();
        self.scene.notifier.stop().await;
        let (ours, _documents) = self.scene.service.stop().await;
        assert_sound(&ours, &theirs, after).await;
    }
}

fn serving(call: &Call) -> &'static str {
    if method_of(call.message).0.contains("WebhookService") { NOTIFIER } else { ENVELOPE }
}

fn added(before: &Counts, after: &Counts) -> Counts {
    after.iter().map(|(name, count)| (*name, count - before[name])).collect()
}

/// Plays all calls, each past that place, and says which reached it, and what each has added.
async fn play(place: &'static str) -> (BTreeSet<&'static str>, BTreeMap<&'static str, Counts>) {
    let mut stage = Stage::set().await;
    let calls = every_call(&stage.scene).await;
    // Invitations may be sent again after an hour, and recipients reminded.
    let earlier = "UPDATE recipient SET invited_at = invited_at - interval '2 hours'";
    stage.ours.batch_execute(earlier).await.unwrap();
    let (mut reached, mut effects) = (BTreeSet::new(), BTreeMap::new());
    for (number, call) in calls.iter().enumerate() {
        let (name, key) = (call.message, format!("the {number}th key"));
        let before = stage.counts().await;
        // Before it is asked whether it knows the secret, it is noted that it is.
        let second = name == "VerifyWebhookEndpointRequest" && place.starts_with("endpoint.");
        stage.arms.set(&if second { format!("{place}:2") } else { place.to_owned() });
        let mut first = stage.there(call).send(Key::Field(&key)).await;
        if place.is_empty() || stage.arms.are_set() {
            stage.arms.set("");
            assert!(first.is_ok(), "{name} does not come by {place}, and is refused: {first:?}");
        } else {
            first.expect_err("nobody has heard of it");
            reached.insert(name);
            let mut process = stage.processes.remove(serving(call)).unwrap();
            died(&mut process).await;
            stage.start(serving(call)).await;
            first = stage.insist(call, &key).await;
        }
        let again = stage.insist(call, &key).await;
        let what = format!("{name} at {place}");
        answered_once(&what, reached.contains(name) && is_done(place), &first, &again);
        effects.insert(name, added(&before, &stage.counts().await));
    }
    stage.end(place).await;
    (reached, effects)
}

/// The answer to a call that had been sent before, and the answer to a third.
fn answered_once(what: &str, is_done: bool, first: &Result<Reply, Status>, again: &Result<Reply, Status>) {
    let is_secret = SECRETS.iter().any(|secret| what.starts_with(secret));
    if is_secret {
        let shown = |answer: &Result<Reply, Status>| {
            answer.as_ref().is_err_and(|status| status.reason() == "SECRET_SHOWN_ONCE")
        };
        assert!(shown(again), "{what}: {again:?}");
        assert!(if is_done { shown(first) } else { first.is_ok() || shown(first) }, "{what}: {first:?}");
        return;
    }
    let first = first.as_ref().unwrap_or_else(|status| panic!("{what}: {status:?}"));
    let again = again.as_ref().unwrap_or_else(|status| panic!("{what} again: {status:?}"));
    assert!(again.replayed && again.bytes == first.bytes, "{what}: two answers to one request");
    assert!(first.replayed || !is_done, "{what}: it had been done, and was done again");
}

/// D2, T-72: whichever call dies wherever on its way, the next process answers it as if nothing had been, and it has one effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d2_a_call_that_dies_anywhere_has_one_effect() {
    let all: BTreeSet<String> = keyed_messages();
    let (_, whole) = play("").await;
    assert_eq!(whole.keys().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), all);
    let plays = PLACES.iter().map(|place| async move { (*place, tokio::spawn(play(place)).await.unwrap()) });
    let mut plays = futures_util::stream::iter(plays).buffer_unordered(LANES);
    let mut committed = BTreeSet::new();
    let mut crashes = 0;
    while let Some((place, (reached, effects))) = plays.next().await {
        assert!(!reached.is_empty(), "{place}: no call comes by");
        crashes += reached.len();
        for (name, effect) in effects {
            assert_eq!(effect, whole[name], "{name} at {place}: another effect than without a crash");
        }
        let names = reached.into_iter().map(str::to_owned);
        match place {
            "call.answering" => assert_eq!(names.collect::<BTreeSet<_>>(), all, "each is answered"),
            place if place.ends_with(".committed") => committed.extend(names),
            _ => {}
        }
    }
    assert_eq!(committed, all, "a call whose change comes by no place");
    eprintln!("{crashes} crashes in {} places", PLACES.len());
}
