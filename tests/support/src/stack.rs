//! Both services as processes on databases that they share with nobody else, to be killed, stopped and started again at the
//! same addresses; and what must be true of them when they have come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use countersign_chassis::clock::Clock;
use countersign_envelope::domain::id::EventId;
use countersign_postgres::ports::steady_port;
use tempfile::TempDir;
use tokio_postgres::Client;
use tonic::transport::{Channel, Endpoint};

use crate::binary::Process;
use crate::notifier::{mails, register};
use crate::service::SERVICE_TOKEN;
use crate::{Caller, Database, Receiver, Service, check};

/// Looks whether all are at rest between two times that claims are let run out.
const LOOKS_BETWEEN: u32 = 200;
/// Lets claims run out at once.
const OURS_LET_GO: &str = "
    UPDATE artifact_job SET due_at = now() WHERE due_at > now();
    UPDATE ingest_job SET due_at = now() WHERE due_at > now();
    UPDATE blob_removal SET due_at = now() WHERE removed_at IS NULL AND due_at > now()";
/// Makes due what is to be removed once nobody can be reading it any more. What somebody has claimed, for two minutes, is left
/// to whom it is.
const REMOVALS_DUE: &str =
    "UPDATE blob_removal SET due_at = now() WHERE removed_at IS NULL AND due_at > now() + interval '3 minutes'";
const THEIRS_LET_GO: &str = "
    UPDATE endpoint SET resting_until = NULL;
    UPDATE delivery SET next_at = now(), lease_until = NULL WHERE state = 1 AND next_at > now();
    UPDATE mail SET next_at = now(), lease_until = NULL WHERE state = 1 AND (next_at > now() OR lease_until > now())";

/// A process at an address of its own, whether it runs or not.
pub struct Place {
    name: &'static str,
    settings: Vec<(String, String)>,
    pub address: String,
    pub process: Option<Process>,
}

impl Place {
    /// `{address}` in a setting is its own.
    fn new(name: &'static str, settings: &[(&str, &str)]) -> Self {
        let address = format!("127.0.0.1:{}", steady_port().unwrap());
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), value.replace("{address}", &address));
        let mut settings: Vec<_> = settings.iter().map(own).collect();
        settings.push(("COUNTERSIGN_LISTEN".to_owned(), address.clone()));
        settings.push(("COUNTERSIGN_DATABASE_POOL_MAX".to_owned(), "8".to_owned()));
        Self { name, settings, address, process: None }
    }

    /// Starts it if it does not run. Panics if it has ended and nobody had ended it.
    pub async fn start(&mut self) {
        if self.is_running() {
            return;
        }
        self.assert_ended_by_us();
        let settings: Vec<_> = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.process = Some(Process::start(self.name, &settings).await);
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Whatever runs it would start it again, and nobody would hear of it.
    fn assert_ended_by_us(&mut self) {
        let Some(process) = &mut self.process else { return };
        let Ok(Some(status)) = process.child.try_wait() else { return };
        // Whoever is armed ends where it was told to.
        let is_armed = self.settings.iter().any(|(key, _)| key == "COUNTERSIGN_FAILPOINTS");
        assert!(is_armed, "{} has ended by itself, {status}: {:#?}", self.name, process.said());
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.assert_ended_by_us();
        // Who has died of what it was armed with is no process any more.
        let is_running = self.is_running();
        if let Some(process) = self.process.take().filter(|_| is_running) {
            process.kill().await;
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref()?.child.id()?.try_into().ok()
    }

    #[must_use]
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }
}

/// All of it.
pub struct Stack {
    pub envelopes: Vec<Place>,
    pub notifiers: Vec<Place>,
    pub database: Database,
    pub notices: Database,
    pub receiver: Receiver,
    /// Accounts in test mode, whose links their senders can have, and in live mode.
    pub test: Caller,
    pub live: Caller,
    pub mails: TempDir,
    _documents: TempDir,
}

/// How both reach what they need: the databases, and the envelope service as the notifier sees it.
pub struct Ways<'a> {
    pub database: &'a str,
    pub notices: &'a str,
    /// Where notifiers find the envelope service that is there.
    pub envelope: &'a (dyn Fn(&str) -> String + Sync),
}

impl Stack {
    /// On two migrated databases, by those ways; with so many of each, none of which runs yet but to make the accounts.
    pub async fn new(
        (database, notices): (Database, Database),
        ways: &Ways<'_>,
        (envelopes, notifiers): (usize, usize),
        more: &[(&str, &str)],
    ) -> Self {
        let (documents, folder, master) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), "5c".repeat(32));
        let seed = Service::start_on(database.clone(), Clock::database(), tempfile::tempdir().unwrap()).await;
        let (test, live) = (seed.account(false).await, seed.account(true).await);
        seed.stop().await;
        let mut settings = vec![
            ("COUNTERSIGN_DATABASE_URL", ways.database),
            ("COUNTERSIGN_MASTER_KEY", &master),
            ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
            ("COUNTERSIGN_UNSEALED", "true"),
            ("COUNTERSIGN_DOCUMENTS", documents.path().to_str().unwrap()),
            ("COUNTERSIGN_FETCH_ALLOW_PRIVATE", "true"),
            ("COUNTERSIGN_SWEEP_MS", "100"),
        ];
        settings.extend(more);
        let envelopes: Vec<_> = (0..envelopes).map(|_| Place::new("countersign-envelope", &settings)).collect();
        let url = format!("http://{}", (ways.envelope)(&envelopes[0].address));
        let mut settings = vec![
            ("COUNTERSIGN_DATABASE_URL", ways.notices),
            ("COUNTERSIGN_MASTER_KEY", &master),
            ("COUNTERSIGN_ENVELOPE_URL", &url),
            ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
            ("COUNTERSIGN_WEBHOOK_ALLOW_PRIVATE", "true"),
            ("COUNTERSIGN_WEBHOOK_CHALLENGE", "false"),
            ("COUNTERSIGN_MAIL_FOLDER", folder.path().to_str().unwrap()),
            ("COUNTERSIGN_DELIVERY_POLL_MS", "100"),
            ("COUNTERSIGN_LEASE_SECONDS", "3"),
        ];
        settings.extend(more);
        let notifiers = (0..notifiers).map(|_| Place::new("countersign-notifier", &settings)).collect();
        let receiver = Receiver::start(|_| StatusCode::OK).await;
        let (mails, _documents) = (folder, documents);
        let mut stack = Self { envelopes, notifiers, database, notices, receiver, test, live, mails, _documents };
        stack.start().await;
        for account in [&stack.test, &stack.live] {
            let sender = stack.caller(account, 0);
            stack.register(&sender).await;
        }
        stack
    }

    async fn register(&self, sender: &Caller) {
        let channel = self.notifiers[0].channel();
        for _ in 0..100 {
            match register(&channel, sender, &self.receiver.url).await {
                Ok(_) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("no endpoint could be registered");
    }

    /// Starts all that do not run. What nobody alive can have claimed is let go before.
    pub async fn start(&mut self) {
        if !self.envelopes.iter_mut().any(Place::is_running) {
            self.database.connect().await.batch_execute(OURS_LET_GO).await.unwrap();
        }
        if !self.notifiers.iter_mut().any(Place::is_running) {
            self.notices.connect().await.batch_execute(THEIRS_LET_GO).await.unwrap();
        }
        for place in self.envelopes.iter_mut().chain(&mut self.notifiers) {
            place.start().await;
        }
    }

    /// Somebody of that account, at one of the envelope services.
    #[must_use]
    pub fn caller(&self, account: &Caller, place: usize) -> Caller {
        let channel = self.envelopes[place % self.envelopes.len()].channel();
        Caller { channel, ..account.clone() }
    }

    /// What nobody needs any more is removed now and not in a while.
    pub async fn remove_soon(&self) {
        self.database.connect().await.batch_execute(REMOVALS_DUE).await.unwrap();
    }

    /// Starts whoever has died, lets the claims of the dead run out at once, and waits until nothing is under way. Says how
    /// long that took.
    pub async fn settle(&mut self, most: Duration) -> Duration {
        let began = Instant::now();
        let (ours, theirs) = (self.database.connect().await, self.notices.connect().await);
        for look in 0_u32.. {
            self.start().await;
            ours.batch_execute(REMOVALS_DUE).await.unwrap();
            // Now and then: who lives needs time for what they have claimed.
            if look % LOOKS_BETWEEN == LOOKS_BETWEEN / 2 {
                ours.batch_execute(OURS_LET_GO).await.unwrap();
                theirs.batch_execute(THEIRS_LET_GO).await.unwrap();
            }
            let left = left(&ours, &theirs).await;
            if left.iter().all(|(_, count)| *count == 0) {
                break;
            }
            assert!(began.elapsed() < most, "under way after {most:?}: {left:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    }

    /// Asserts that all is well and that each event was told once, or again in the same bytes; says how many were told again.
    pub async fn assert_sound(&self, after: &str) -> usize {
        let found = check::envelope(&self.database).await;
        assert!(found.is_empty(), "after {after}: {found:#?}");
        let found = check::notifier(&self.notices).await;
        assert!(found.is_empty(), "after {after}: {found:#?}");
        let rows = self.database.connect().await.query("SELECT id FROM event", &[]).await.unwrap();
        let happened: BTreeSet<_> = rows.iter().map(|row| EventId::from_uuid(row.get(0)).to_string()).collect();
        let mut told: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let received = self.receiver.received();
        for one in &received {
            told.entry(one.header("webhook-id").to_owned()).or_default().insert(one.body.clone());
        }
        let heard: BTreeSet<_> = told.keys().cloned().collect();
        assert_eq!(heard.symmetric_difference(&happened).count(), 0, "after {after}: what happened is what was told");
        let changed = told.values().filter(|bodies| bodies.len() > 1).count();
        assert_eq!(changed, 0, "after {after}: told differently twice");
        let lost = "SELECT count(*) FROM delivery WHERE state <> 2";
        assert_eq!(
            self.notices.number(lost).await,
            0,
            "after {after}: a webhook that was taken and is not known as taken"
        );
        let sent = "SELECT count(*) FROM mail WHERE state = 2 AND NOT livemode";
        let sent = usize::try_from(self.notices.number(sent).await).unwrap();
        assert!(mails(&self.mails).len() >= sent, "after {after}: a mail is lost");
        received.len() - told.len()
    }
}

/// What is still under way: first what makes more, so that nothing comes to be behind the look.
async fn left(ours: &Client, theirs: &Client) -> Vec<(&'static str, i64)> {
    let (mut left, mut events) = (Vec::new(), 0);
    let looks = [
        ("readings", ours, "SELECT count(*) FROM ingest_job"),
        ("artefacts", ours, "SELECT count(*) FROM artifact_job"),
        ("removals", ours, "SELECT count(*) FROM blob_removal WHERE removed_at IS NULL"),
        ("events without a place", ours, "SELECT count(*) FROM outbox"),
        ("events", ours, "SELECT count(*) FROM event"),
        ("events that nobody has heard of", theirs, "SELECT count(*) FROM delivery"),
        ("webhooks", theirs, "SELECT count(*) FROM delivery WHERE state = 1"),
        ("mails", theirs, "SELECT count(*) FROM mail WHERE state IN (1, 5)"),
    ];
    for (what, client, query) in looks {
        let count: i64 = client.query_one(query, &[]).await.expect(query).get(0);
        match what {
            "events" => events = count,
            "events that nobody has heard of" => left.push((what, events - count)),
            _ => left.push((what, count)),
        }
    }
    left
}
