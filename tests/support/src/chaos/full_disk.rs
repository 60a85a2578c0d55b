//! There is no room left under Postgres while there is load: on the disk of the tables, upon which Postgres refuses what needs
//! more of it, or also for its journal, upon which it ends and has to be started again.

use std::time::{Duration, Instant};

use countersign::v1::{
    CreateEnvelopeRequest, DocumentSource, Envelope, EnvelopeStatus, ListEnvelopesRequest, Routing, VoidEnvelopeRequest,
};
use countersign_postgres::{Durability, Options, Postgres};
use futures_util::future::join_all;
use tokio_postgres::NoTls;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::load::{Doors, Load, Promise, upload};
use super::{PROCESSES, REST_MAX, WORKERS, database, kept};
use crate::binary::Process;
use crate::client::request;
use crate::small_disk::SmallDisk;
use crate::stack::{Place, Stack, Ways};
use crate::{Caller, Errors as _};

/// What has no room any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Tables,
    Journal,
}

/// How long there is load before.
const LOAD: Duration = Duration::from_secs(3);
/// Envelopes that wait for somebody to void them, and drafts that are made at a time.
const SENT: usize = 20;
const DRAFTS: usize = 10;
/// A read is answered within that time.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Refusals that prove something, and how long they may take: pages that were begun still have room.
const REFUSED_MIN: usize = 30;
const REFUSED_WITHIN: Duration = Duration::from_secs(90);
/// How soon changes go on when there is room.
const GO_ON_MAX: Duration = Duration::from_secs(10);
/// How long Postgres has to be away before it counts as ended.
const AWAY: Duration = Duration::from_secs(2);

/// Plays it, and panics unless everything holds. Where no disk can be mounted it says so.
pub async fn fill_up(full: Full, seed: u64) {
    let megabytes = if full == Full::Tables { 64 } else { 384 };
    let Some(disk) = SmallDisk::mount(megabytes) else { return };
    let mut postgres = started(full, &disk).await;
    let databases = (database(&postgres, "envelopes").await, database(&postgres, "notices").await);
    let (ours, theirs) = (databases.0.url.clone(), databases.1.url.clone());
    let ways = Ways { database: &ours, notices: &theirs, envelope: &str::to_owned };
    let mut stack = Stack::new(databases, &ways, PROCESSES, &[]).await;
    let doors = Doors::new(&stack).await;
    let mut asker = Asker::new(stack.caller(&stack.test, 0)).await;
    let load = Load::start(&doors, WORKERS, seed, None);
    tokio::time::sleep(LOAD).await;
    disk.fill();
    if full == Full::Journal {
        use_up_journal(&postgres).await;
    }
    let refused = asker.ask_while(full).await;
    disk.make_room();
    if full == Full::Journal {
        postgres.restart().await.expect("Postgres has room to recover");
    }
    let soon = asker.goes_on().await;
    let mut promises = load.stop().await;
    promises.extend(asker.promises(full).await);
    went_on_by_themselves(full, &mut stack);
    let rest = stack.settle(REST_MAX).await;
    kept(&stack, &doors, &promises, seed).await;
    stack.settle(REST_MAX).await;
    stack.assert_sound(&format!("{full:?} had no room")).await;
    eprintln!(
        "{full:?} full: {refused} refusals, a change {soon:.1?} after there was room, {} envelopes, at rest after {rest:.1?}",
        promises.len()
    );
    postgres.stop().await.expect("it ends");
}

async fn started(full: Full, disk: &SmallDisk) -> Postgres {
    let options = Options { durability: Durability::Durable, ..Options::throwaway() };
    if full == Full::Tables {
        let postgres = Postgres::start(options).await.expect("Postgres");
        disk.take_tables_of(&postgres).await;
        return postgres;
    }
    let settings = ["max_wal_size=64MB", "min_wal_size=32MB"].map(str::to_owned).to_vec();
    Postgres::start(Options { folder: Some(disk.path().join("postgres")), settings, ..options })
        .await
        .expect("Postgres")
}

/// Has the server begin one file of its journal after the other, until it ends for want of room.
async fn use_up_journal(postgres: &Postgres) {
    let (url, began) = (postgres.superuser_url("postgres"), Instant::now());
    let mut answered = Instant::now();
    while answered.elapsed() < AWAY {
        assert!(began.elapsed() < REFUSED_WITHIN, "there is always room for the journal");
        if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
            answered = Instant::now();
            tokio::spawn(connection);
            // A file in which nothing was written is not left.
            let next = "SELECT pg_logical_emit_message(false, 'full', 'disk'); SELECT pg_switch_wal()";
            let _ = client.batch_execute(next).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// All have lived through it, and none took it for a defect of its own.
fn went_on_by_themselves(full: Full, stack: &mut Stack) {
    for place in stack.envelopes.iter_mut().chain(&mut stack.notifiers) {
        assert!(place.is_running(), "{} has ended", place.address);
    }
    let processes = stack.envelopes.iter().chain(&stack.notifiers).filter_map(|place: &Place| place.process.as_ref());
    let said: Vec<String> = processes.flat_map(Process::said).collect();
    let defects: Vec<_> = said.iter().filter(|line| line.contains("refused a statement of ours")).collect();
    assert!(defects.is_empty(), "{defects:#?}");
    if full == Full::Tables {
        assert!(said.iter().any(|line| line.contains("No space left on device")), "the cause is in the log");
    }
}

/// Somebody who asks once, and looks closely at what they are told.
struct Asker {
    sender: Caller,
    documents: Vec<DocumentSource>,
    /// To be voided, each under a key of its own.
    sent: Vec<Envelope>,
    /// By the numbers of their keys, as far as they were acknowledged.
    drafts: Vec<Option<Envelope>>,
}

impl Asker {
    async fn new(sender: Caller) -> Self {
        let documents = vec![upload(&sender).await];
        let form = CreateEnvelopeRequest { documents: documents.clone(), ..request(1, Routing::Parallel, true) };
        let sent = join_all((0..SENT).map(|_| sender.create(form.clone()))).await;
        let sent = sent.into_iter().map(|made| made.expect("sent")).collect();
        Self { sender, documents, sent, drafts: Vec::new() }
    }

    async fn draft(&self, number: usize) -> Result<Envelope, Status> {
        let form = CreateEnvelopeRequest {
            idempotency_key: format!("asked {number}"),
            documents: self.documents.clone(),
            ..request(1, Routing::Parallel, false)
        };
        self.sender.create(form).await
    }

    async fn void(&self, number: usize) -> Result<(), Status> {
        let request = VoidEnvelopeRequest {
            envelope_id: self.sent[number].id.clone(),
            idempotency_key: format!("voided {number}"),
            ..VoidEnvelopeRequest::default()
        };
        self.sender.envelopes().void_envelope(request).await.map(drop)
    }

    /// The same, and whether it was refused: then with nothing of it done, which is to be seen as long as there are reads.
    async fn is_void_refused(&self, number: usize, full: Full) -> bool {
        let now = async || answered(async || self.sender.get(&self.sent[number].id).await).await;
        let before = if full == Full::Tables { Some(now().await) } else { None };
        let Err(status) = self.void(number).await else { return false };
        comes_again(&status);
        if let Some(before) = before {
            assert_eq!(now().await, before, "half of it was done");
            let list = async || self.sender.envelopes().list_envelopes(ListEnvelopesRequest::default()).await;
            answered(list).await;
        }
        true
    }

    /// Asks until it was refused often enough.
    async fn ask_while(&mut self, full: Full) -> usize {
        let (mut refused, began) = (0, Instant::now());
        while refused < REFUSED_MIN {
            assert!(began.elapsed() < REFUSED_WITHIN, "{refused} refusals alone");
            let voids = join_all((0..SENT).map(|number| self.is_void_refused(number, full))).await;
            let drafts = self.drafts.len()..self.drafts.len() + DRAFTS;
            let drafts = join_all(drafts.map(|number| self.draft(number))).await;
            for status in drafts.iter().filter_map(|made| made.as_ref().err()) {
                comes_again(status);
                refused += 1;
            }
            refused += voids.into_iter().filter(|is_refused| *is_refused).count();
            self.drafts.extend(drafts.into_iter().map(Result::ok));
        }
        refused
    }

    /// How long it takes until there is a change again.
    async fn goes_on(&mut self) -> Duration {
        let began = Instant::now();
        loop {
            let made = self.draft(self.drafts.len()).await;
            let is_made = made.is_ok();
            if let Err(status) = &made {
                comes_again(status);
            }
            // Who is not answered knows nothing, and asks under another key.
            self.drafts.push(made.ok());
            assert!(began.elapsed() < GO_ON_MAX, "no change {GO_ON_MAX:?} after there was room");
            if is_made {
                return began.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What has to be there in the end.
    async fn promises(&self, full: Full) -> Vec<Promise> {
        let mut promises = Vec::new();
        for (number, made) in self.sent.iter().enumerate() {
            self.void(number).await.unwrap_or_else(|status| panic!("{}: {status:?}", made.id));
            promises.push(Promise::in_test(&made.id, EnvelopeStatus::Voided));
        }
        for (number, made) in self.drafts.iter().enumerate() {
            let id = match made {
                Some(made) => made.id.clone(),
                // Refused for want of room, it was not made. When Postgres ends nobody knows.
                None if full == Full::Tables => continue,
                None => self.draft(number).await.unwrap_or_else(|status| panic!("{number}: {status:?}")).id,
            };
            promises.push(Promise::in_test(&id, EnvelopeStatus::Draft));
        }
        promises
    }
}

/// What a read says. Reads go on, though one may find its connection lost to what had no room.
async fn answered<T>(read: impl AsyncFn() -> Result<T, Status>) -> T {
    let began = Instant::now();
    loop {
        match read().await {
            Ok(answer) => return answer,
            Err(status) => comes_again(&status),
        }
        assert!(began.elapsed() < READ_WITHIN, "reads do not go on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// It is no fault of the caller's and none of ours, and they are told when to come again.
fn comes_again(status: &Status) {
    assert_eq!(status.reason(), "UNAVAILABLE", "{status:?}");
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "{status:?}");
}
