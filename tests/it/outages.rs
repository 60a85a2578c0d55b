//! A day without the store, one without the timestamping authority, and a moment without the database as a service starts: states,
//! stream and reminders go on, and what was owed meanwhile is there once when it is over.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::EventType::{self, *};
use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{
    CreateEnvelopeRequest, DocumentVersion, Envelope, EnvelopeStatus, Event, ReminderPolicy, Routing, SealLevel,
    WatchStart, WatchStatusChangesRequest,
};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::Config;
use countersign_envelope::seal::{SealConfig, TsaPolicy};
use countersign_test_support::certificates::{self, Use, write};
use countersign_test_support::client::{pdf, request};
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Service, Story};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;

use crate::authority::{Answer, Authority};
use crate::downloads::stores::Away;
use crate::downloads::{hash, of, whole};
use crate::keeping::let_loops_run;
use crate::pki::Pki;
use crate::steps::{ahead, epoch, until, until_status};

/// How long an outage lasts.
const HOURS: i64 = 24;
/// When somebody is reminded who owes an act.
const REMINDED_HOURS: i64 = 6;
/// For how long a job is claimed. No pause between tries is as long, so a job that is due in that time is under way.
const CLAIM_SECONDS: i64 = 120;
/// The longest pause between tries.
const PAUSE: TimeDelta = TimeDelta::seconds(300);

/// What everybody does in the outage, and what is owed for it.
const SIGNED: [EventType; 8] = [
    EnvelopeCreated,
    EnvelopeSent,
    RecipientReleased,
    RecipientSigned,
    RecipientReleased,
    RecipientSigned,
    EnvelopeAllActed,
    EnvelopeCompleted,
];
const REFUSED: [EventType; 6] =
    [EnvelopeCreated, EnvelopeSent, RecipientReleased, RecipientDeclined, EnvelopeDeclined, EnvelopeArtifactReady];
const IDLE: [EventType; 4] = [EnvelopeCreated, EnvelopeSent, RecipientReleased, RecipientReminderDue];

/// A stream that is open all along, and what it has told.
struct Listener {
    told: Arc<Mutex<Vec<Event>>>,
    listening: JoinHandle<()>,
}

impl Listener {
    async fn of(caller: &Caller) -> Self {
        let request = WatchStatusChangesRequest { start: WatchStart::Oldest.into(), ..Default::default() };
        let mut stream = caller.envelopes().watch_status_changes(request).await.unwrap().into_inner();
        let told = Arc::<Mutex<Vec<Event>>>::default();
        let listening = tokio::spawn({
            let told = Arc::clone(&told);
            async move {
                while let Some(Ok(message)) = stream.next().await {
                    if let Some(Item::Event(event)) = message.item {
                        told.lock().unwrap().push(event);
                    }
                }
            }
        });
        Self { told, listening }
    }

    fn told(&self, id: &str) -> Vec<Event> {
        self.told.lock().unwrap().iter().filter(|event| event.envelope_id == id).cloned().collect()
    }

    /// Waits until it has told so much of an envelope, and asserts that it has told that.
    async fn assert_told(&self, envelope: &Envelope, kinds: &[EventType]) {
        for _ in 0..400 {
            if self.told(&envelope.id).len() >= kinds.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told: Vec<_> = self.told(&envelope.id).iter().map(Event::r#type).collect();
        assert_eq!(told, kinds);
        assert!(!self.listening.is_finished(), "the stream goes on");
    }
}

/// An envelope that is signed in the outage, one that is refused in it, and one whose signer has to be reminded.
struct Scene {
    service: Service,
    sender: Caller,
    signed: Story,
    refused: Story,
    idle: Story,
    listener: Listener,
}

impl Scene {
    async fn on(service: Service) -> Self {
        let sender = service.account(false).await;
        let listener = Listener::of(&sender).await;
        // The deadline passes while the documents are waited for.
        let expires_at = Some(ahead(&service, TimeDelta::hours(HOURS / 2)));
        let signed = CreateEnvelopeRequest { expires_at, ..request(2, Routing::Sequential, true) };
        let after = |hours: i64| Some(prost_types::Duration { seconds: hours * 3_600, nanos: 0 });
        let (first_after, every) = (after(REMINDED_HOURS), after(7 * 24));
        let reminder_policy = Some(ReminderPolicy { first_after, every, ..ReminderPolicy::default() });
        let idle = CreateEnvelopeRequest { reminder_policy, ..request(1, Routing::Parallel, true) };
        let (signed, refused) = (sender.story_of(signed).await, sender.story(1, Routing::Parallel).await);
        let idle = sender.story_of(idle).await;
        Self { service, sender, signed, refused, idle, listener }
    }

    /// What people do, and a day in which the documents of it cannot be made.
    async fn pass_the_outage(&self) {
        self.signed.signer(0).sign(&self.signed.envelope).await.unwrap();
        let now = self.signed.now().await;
        self.sender.signer_of(&now.id, &now.recipients[1].id).await.unwrap().sign(&now).await.unwrap();
        self.refused.signer(0).decline("Not these terms").await.unwrap();
        self.until_failed().await;
        for _ in 0..HOURS {
            self.service.clock.advance(TimeDelta::hours(1));
            self.until_failed().await;
        }
        let tries = self.service.database.number("SELECT min(attempts)::bigint FROM artifact_job").await;
        assert!(tries >= HOURS, "both are tried again and again: {tries}");
        let sealing = self.signed.now().await;
        assert_eq!((sealing.status(), sealing.all_acted_at.is_some()), (EnvelopeStatus::PartiallySigned, true));
        let refused = self.refused.now().await;
        assert_eq!((refused.status(), refused.documents[0].artifacts.len()), (EnvelopeStatus::Declined, 0));
        until(&self.sender, &self.idle.envelope.id, "the reminder", |it| it.recipients[0].reminders == 1).await;
        self.listener.assert_told(&self.signed.envelope, &SIGNED[..7]).await;
        self.listener.assert_told(&self.refused.envelope, &REFUSED[..5]).await;
        self.listener.assert_told(&self.idle.envelope, &IDLE).await;
    }

    /// Waits until each job has been tried in vain at the time that it is.
    async fn until_failed(&self) {
        let now = self.service.clock.now().timestamp();
        let under_way = format!("due_at <= to_timestamp({now}) OR due_at = to_timestamp({})", now + CLAIM_SECONDS);
        self.until_counted(&format!("artifact_job WHERE {under_way}"), 0).await;
    }

    /// Waits until there are so many rows.
    async fn until_counted(&self, of: &str, rows: i64) {
        let query = format!("SELECT count(*) FROM {of}");
        for _ in 0..1_500 {
            if self.service.database.number(&query).await == rows {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never {rows} of {of}");
    }

    /// Asserts that everything is there and has happened once, and that nothing comes after it or is left over.
    async fn assert_done_once(&self, level: SealLevel) {
        let signed = until_status(&self.sender, &self.signed.envelope.id, EnvelopeStatus::Completed).await;
        let refused = self.refused.until_artifact().await;
        let mut stored = BTreeSet::from([hash(&pdf())]);
        for (envelope, version) in [(&signed, DocumentVersion::Signed), (&refused, DocumentVersion::Declined)] {
            let made = &envelope.documents[0].artifacts;
            let kinds: Vec<_> = made.iter().map(|artifact| (artifact.version(), artifact.seal_level())).collect();
            assert_eq!(kinds, [version, DocumentVersion::Certificate].map(|version| (version, level)));
            stored.extend(made.iter().map(|artifact| artifact.sha256.clone()));
            whole(&self.sender, of(envelope, version)).await.unwrap();
        }
        assert_eq!(stored.len(), 5);
        // And a day later: nothing that was left over of the outage has done more.
        for ahead in [TimeDelta::zero(), TimeDelta::days(1)] {
            self.service.clock.advance(ahead);
            let_loops_run().await;
            until_stored(&self.service, &stored).await;
            for (story, kinds) in [(&self.signed, &SIGNED[..]), (&self.refused, &REFUSED[..]), (&self.idle, &IDLE[..])]
            {
                self.listener.assert_told(&story.envelope, kinds).await;
                let history = self.sender.history(&story.envelope.id).await.unwrap();
                let happened: Vec<_> = history.into_iter().map(|entry| entry.event.unwrap()).collect();
                assert_eq!(self.listener.told(&story.envelope.id), happened, "each once, in order");
            }
        }
        for (rows, count) in [("artifact", 4), ("artifact_job", 0), ("outbox", 0)] {
            self.until_counted(rows, count).await;
        }
    }
}

/// The hashes of all documents in the store, and the names of whatever else lies there.
fn stored(service: &Service) -> BTreeSet<String> {
    let name = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let folders = std::fs::read_dir(service.documents.path()).unwrap().map(Result::unwrap);
    let files = folders.flat_map(|folder| {
        let files = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        files.map(move |file| format!("{}{}", name(&folder), name(&file))).collect::<Vec<_>>()
    });
    files.collect()
}

/// Waits until the loop of removals has left nothing but that.
async fn until_stored(service: &Service, expected: &BTreeSet<String>) {
    for _ in 0..400 {
        if stored(service) == *expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(stored(service), *expected);
}

/// D10: a store that is away for a day.
#[tokio::test(flavor = "multi_thread")]
async fn d10_a_day_without_the_store_delays_documents_and_nothing_else() {
    let scene = Scene::on(Service::start_at(epoch()).await).await;
    let away = Away::of(&scene.service);
    scene.pass_the_outage().await;
    away.end();
    scene.service.clock.advance(PAUSE);
    scene.assert_done_once(SealLevel::None).await;
}

/// What seals with a certificate that is valid on any day, and asks for timestamps that it has to have.
fn sealing(folder: &TempDir, authority: &Authority) -> SealConfig {
    let issuer = certificates::Authority::new("seals");
    let issued = issuer.issue(Use::Client, &[]);
    let key = write(folder.path(), "seal.pem", &[issued.key, issued.cert, issuer.pem].concat());
    SealConfig {
        seal_pkcs12: Some(key),
        seal_tsa_urls: vec![authority.url.parse().unwrap()],
        seal_tsa_policy: TsaPolicy::Fail,
        seal_trust: Some(Pki::get().path().join("root.pem")),
        ..SealConfig::default()
    }
}

/// The time that the authority tells.
fn authority_time() -> DateTime<Utc> {
    DateTime::from_timestamp(Pki::clock_unix_s().try_into().unwrap(), 0).unwrap()
}

/// D10: an authority that is down for a day and then answers once: what is sealed by that answer is made in vain, and removed.
#[tokio::test(flavor = "multi_thread")]
async fn d10_a_day_without_the_authority_delays_documents_and_nothing_else() {
    let (authority, keys) = (Authority::start(Answer::Failing).await, tempfile::tempdir().unwrap());
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let config = Config { seal: sealing(&keys, &authority), ..config(&database, &documents) };
    // An answer has to be of about the service's time, so the day ends when it is now.
    let before = PAUSE * 2 - TimeDelta::seconds(40);
    let clock = Clock::manual(authority_time() - TimeDelta::hours(HOURS) - before);
    let scene = Scene::on(Service::start_with(database, clock, documents, config).await).await;
    let set = |at: DateTime<Utc>| scene.service.clock.advance(at - scene.service.clock.now());
    scene.pass_the_outage().await;
    set(authority_time() - before);

    authority.tell(Answer::RightOnce);
    set(authority_time() - before + PAUSE);
    scene.until_failed().await;
    scene.until_counted("blob_removal", 1).await;
    until_stored(&scene.service, &BTreeSet::from([hash(&pdf())])).await;

    authority.tell(Answer::Right);
    set(authority_time() - before + PAUSE * 2);
    scene.assert_done_once(SealLevel::Timestamped).await;
}

/// Who waits for the view of all roles.
const WAITING_FOR_ROLES: &str =
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'pg_catalog.pg_roles'::regclass";

/// A database that answers the first question of a service that starts, and not its second for a while: it waits, and does not end.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_waits_for_whatever_it_asks() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut keeper = database.connect().await;
    keeper.batch_execute("SET allow_system_table_mods = on").await.unwrap();
    let lock = keeper.transaction().await.unwrap();
    // Only this locks the view alone: without what lies under it nobody could log in.
    lock.batch_execute("ALTER VIEW pg_catalog.pg_roles SET (security_barrier = false)").await.unwrap();
    let service = Service::start_on(database.clone(), Clock::database(), documents).await;
    // It asks, and is refused after the time that any statement waits for a lock.
    for waiters in [1, 0] {
        let begun = Instant::now();
        while database.number(WAITING_FOR_ROLES).await != waiters {
            assert!(begun.elapsed() < Duration::from_secs(20), "it never asks, or asks for ever");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    lock.rollback().await.unwrap();
    let sender = service.account(false).await;
    assert_eq!(sender.story(1, Routing::Parallel).await.envelope.status(), EnvelopeStatus::Sent);
}
