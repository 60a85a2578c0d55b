//! What happens at once: one winner, and the losers are told who.
//!
//! 500 rounds of each pair, 1,000 of five at once. Without the row lock in `store/envelope.rs` these fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::document_source::Source;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{
    DeclineRecipientRequest, DocumentSource, Envelope, EnvelopeStatus, EventType, Quorum, Recipient, RecipientStatus,
    Routing, UploadDocumentRequest, UploadInfo,
};
use countersign_chassis::clock::Clock;
use countersign_chassis::wire::timestamp;
use countersign_test_support::client::{pdf, request};
use countersign_test_support::{Caller, Database, Errors as _, Service, Story};
use futures_util::future::join_all;
use rand::seq::SliceRandom as _;
use tokio::sync::Barrier;
use tonic::Status;
use tonic::transport::Endpoint;

const ROUNDS: usize = 500;
/// Rounds that run at a time.
const WIDTH: usize = 8;

/// Plays rounds of a race on fresh envelopes and checks what must hold after each.
async fn rounds<F, Fut>(signers: usize, play: F)
where
    F: Fn(Arc<Story>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<Result<(), Status>>> + Send,
{
    let service = Service::start().await;
    let sender = service.account(false).await;
    let play = Arc::new(play);
    let lane = |_| {
        let (sender, play) = (sender.clone(), Arc::clone(&play));
        tokio::spawn(async move {
            for _ in 0..ROUNDS / WIDTH + 1 {
                let story = Arc::new(sender.story(signers, Routing::Parallel).await);
                let outcomes = play(Arc::clone(&story)).await;
                check(&story, &outcomes).await;
            }
        })
    };
    for lane in join_all((0..WIDTH).map(lane)).await {
        lane.unwrap();
    }
    let stuck = "SELECT count(*) FROM envelope e WHERE e.all_acted_at IS NULL AND NOT EXISTS \
                 (SELECT FROM recipient r WHERE r.envelope_id = e.id AND r.status <> 3)";
    assert_eq!(service.database.number(stuck).await, 0, "fully signed envelopes left open");
    service.stop().await;
}

async fn check(story: &Story, outcomes: &[Result<(), Status>]) {
    let now = story.now().await;
    let history = story.sender.history(&now.id).await.unwrap();
    let count = |kinds: &[EventType]| {
        history.iter().filter(|entry| kinds.contains(&entry.event.as_ref().unwrap().r#type())).count()
    };
    let ends = [
        EventType::EnvelopeAllActed,
        EventType::EnvelopeDeclined,
        EventType::EnvelopeVoided,
        EventType::EnvelopeExpired,
    ];
    assert_eq!(count(&ends), 1, "one ending: {history:?}");
    assert!(count(&[EventType::RecipientDeclined]) <= 1);
    let sequences = history.iter().map(|entry| entry.event.as_ref().unwrap().sequence);
    assert!(sequences.eq(1..=history.len() as u64), "a gap in the history");
    for outcome in outcomes {
        let Err(status) = outcome else { continue };
        assert_eq!(status.reason(), "INVALID_STATE_TRANSITION", "{status:?}");
        let winner = status.fact("current_state");
        let sealing = now.all_acted_at.is_some();
        assert!(winner == name(&now) || sealing && winner == "PARTIALLY_SIGNED", "{winner} is not {}", name(&now));
    }
}

fn name(envelope: &Envelope) -> &'static str {
    envelope.status().as_str_name().trim_start_matches("ENVELOPE_STATUS_")
}

fn won(outcomes: &[Result<(), Status>]) -> usize {
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

/// T-2: counting before the lock gives two last signers or none.
#[tokio::test(flavor = "multi_thread")]
async fn t2_two_last_signers_complete_once() {
    rounds(2, |story| async move {
        let (first, second) = (story.signer(0), story.signer(1));
        let (first, second) = tokio::join!(first.sign(&story.envelope), second.sign(&story.envelope));
        let outcomes = vec![first, second];
        assert_eq!(won(&outcomes), 2, "both may sign: {outcomes:?}");
        assert!(story.now().await.all_acted_at.is_some());
        outcomes
    })
    .await;
}

/// T-1: the loser's own row is not written either.
#[tokio::test(flavor = "multi_thread")]
async fn t1_sign_against_decline_has_one_winner() {
    rounds(2, |story| async move {
        story.signer(0).sign(&story.envelope).await.unwrap();
        let (signer, outcome) = (story.signer(1), story.signer(1));
        let decline = async { outcome.decline("no").await.map(drop) };
        let (sign, decline) = tokio::join!(signer.sign(&story.envelope), decline);
        let signed = sign.is_ok();
        assert_ne!(signed, decline.is_ok(), "{sign:?} {decline:?}");
        let now = story.now().await;
        let expected = if signed { RecipientStatus::Signed } else { RecipientStatus::Declined };
        assert_eq!(now.recipients[1].status(), expected);
        // The same person lost against themselves: told that they have acted, or how it ended.
        let lost = if signed { decline } else { sign };
        if let Err(status) = &lost
            && status.reason() == "ALREADY_ACTED"
        {
            assert!(signed);
            return vec![];
        }
        vec![lost]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_decline_against_void_has_one_winner() {
    rounds(2, |story| async move {
        let void = async { story.sender.void(&story.envelope.id, "").await.map(drop) };
        let decline = async { story.signer(1).decline("no").await.map(drop) };
        let (void, decline) = tokio::join!(void, decline);
        let outcomes = vec![void, decline];
        assert_eq!(won(&outcomes), 1, "{outcomes:?}");
        outcomes
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t5_decline_against_decline_has_one_cause() {
    rounds(3, |story| async move {
        let decline = |index: usize| {
            let signer = story.signer(index).clone();
            async move { signer.decline(&format!("reason {index}")).await.map(drop) }
        };
        let (first, second) = tokio::join!(decline(0), decline(1));
        let outcomes = vec![first, second];
        assert_eq!(won(&outcomes), 1, "{outcomes:?}");
        let now = story.now().await;
        assert_eq!(now.status(), EnvelopeStatus::Declined);
        assert_eq!(now.recipients.iter().filter(|recipient| recipient.decline.is_some()).count(), 1);
        outcomes
    })
    .await;
}

/// Envelopes of a batch of five-way rounds, which have the same deadline.
const BATCH: usize = 25;
/// Five-way rounds.
const FIVE_ROUNDS: usize = 1_000;
/// About how long a batch takes, for the first.
const FIRST_LASTED: Duration = Duration::from_millis(300);

/// One of the five calls at an envelope of three signers of whom one is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Racer {
    LastSign,
    Decline,
    SecondDecline,
    Void,
    Expire,
}

/// An envelope of a five-way round.
struct Round {
    sender: Caller,
    envelope: Envelope,
    signers: Vec<Caller>,
}

impl Round {
    async fn begin(sender: &Caller, upload_id: &str, deadline: DateTime<Utc>) -> Self {
        let mut new = request(3, Routing::Groups, true);
        new.recipients.iter_mut().for_each(|recipient| recipient.group = 1);
        new.quorums = vec![Quorum { group: 1, needed: 1 }];
        new.documents = vec![DocumentSource {
            name: String::new(),
            source: Some(Source::UploadId(upload_id.into())),
            ..Default::default()
        }];
        new.expires_at = Some(timestamp(deadline));
        let envelope = sender.create(new).await.unwrap();
        let signers = envelope.recipients.iter().map(|recipient| sender.signer_of(&envelope.id, &recipient.id));
        let signers = join_all(signers).await.into_iter().map(Result::unwrap).collect();
        Self { sender: sender.clone(), envelope, signers }
    }

    async fn run(&self, racer: Racer) -> Result<(), Status> {
        match racer {
            Racer::LastSign => self.signers[0].sign(&self.envelope).await,
            Racer::Decline => self.signers[1].decline("no").await.map(drop),
            Racer::SecondDecline => {
                let decline = DeclineRecipientRequest {
                    envelope_id: self.envelope.id.clone(),
                    recipient_id: self.envelope.recipients[2].id.clone(),
                    ..DeclineRecipientRequest::default()
                };
                self.sender.envelopes().decline_recipient(decline).await.map(drop)
            }
            Racer::Void => self.sender.void(&self.envelope.id, "").await.map(drop),
            Racer::Expire => unreachable!("the clock does it for the whole batch"),
        }
    }

    /// Who won, if everything else is as it must be then.
    async fn judge(&self, outcomes: &[(Racer, Result<(), Status>)]) -> Racer {
        use RecipientStatus as R;
        let now = self.sender.get(&self.envelope.id).await.unwrap();
        let won: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(racer, _)| *racer).collect();
        assert!(won.len() <= 1, "{outcomes:?}");
        let winner = won.first().copied().unwrap_or(Racer::Expire);
        let (states, people): (&[&str], [R; 3]) = match winner {
            Racer::LastSign => (&["PARTIALLY_SIGNED", "COMPLETED"], [R::Signed, R::NotNeeded, R::NotNeeded]),
            Racer::Decline => (&["DECLINED"], [R::ReleasedByDecline, R::Declined, R::ReleasedByDecline]),
            Racer::SecondDecline => (&["DECLINED"], [R::ReleasedByDecline, R::ReleasedByDecline, R::Declined]),
            Racer::Void => (&["VOIDED"], [R::ReleasedByVoid; 3]),
            Racer::Expire => (&["EXPIRED"], [R::ReleasedByExpiry; 3]),
        };
        assert!(states.contains(&name(&now)), "{winner:?} won, but it is {}", name(&now));
        assert!(now.recipients.iter().map(Recipient::status).eq(people), "{winner:?} won: {:?}", now.recipients);
        assert_eq!(now.completed_at.is_some() || now.all_acted_at.is_some(), winner == Racer::LastSign);
        let at = |time: Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
        let facts = [at(now.all_acted_at), at(now.declined_at), at(now.voided_at), at(now.expired_at)];
        assert_eq!(facts.iter().flatten().count(), 1, "{now:?}");
        let in_time = facts.iter().flatten().all(|fact| Some(*fact) < at(now.expires_at));
        assert_eq!(in_time, winner != Racer::Expire, "the deadline decides: {now:?}");
        for (racer, outcome) in outcomes {
            let Err(status) = outcome else { continue };
            // Who was not needed any more is told so until the signed documents are there.
            let not_needed = winner == Racer::LastSign && status.reason() == "NOT_NEEDED";
            assert!(status.reason() == "INVALID_STATE_TRANSITION" || not_needed, "{racer:?}: {status:?}");
            assert!(states.contains(&status.fact("current_state").as_str()), "{winner:?} won, {racer:?}: {status:?}");
            assert_eq!(status.fact("allowed_transitions"), "", "{status:?}");
        }
        let history = self.sender.history(&now.id).await.unwrap();
        let events: Vec<_> = history.into_iter().map(|entry| entry.event.unwrap()).collect();
        assert!(events.iter().map(|event| event.sequence).eq(1..=events.len() as u64), "a gap in the history");
        let ends = [
            EventType::EnvelopeAllActed,
            EventType::EnvelopeDeclined,
            EventType::EnvelopeVoided,
            EventType::EnvelopeExpired,
        ];
        assert_eq!(events.iter().filter(|event| ends.contains(&event.r#type())).count(), 1, "one ending: {events:?}");
        winner
    }
}

/// Plays a batch: the calls of all rounds are released together, and the clock passes the deadline at any time while they are under
/// way, by how long the last batch took.
async fn batch(service: &Service, rounds: Vec<Round>, lasted: &mut Duration) -> Vec<Racer> {
    let rounds: Vec<_> = rounds.into_iter().map(Arc::new).collect();
    let mut racers: Vec<_> = (0..rounds.len())
        .flat_map(|at| [Racer::LastSign, Racer::Decline, Racer::SecondDecline, Racer::Void].map(|racer| (at, racer)))
        .collect();
    racers.shuffle(&mut rand::rng());
    let barrier = Arc::new(Barrier::new(racers.len() + 1));
    let calls = racers.into_iter().map(|(at, racer)| {
        let (round, barrier) = (Arc::clone(&rounds[at]), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            (at, racer, round.run(racer).await)
        })
    });
    let calls: Vec<_> = calls.collect();
    barrier.wait().await;
    let began = Instant::now();
    tokio::time::sleep(rand::random_range(Duration::ZERO..=*lasted)).await;
    service.clock.advance(TimeDelta::hours(1));
    let mut outcomes: Vec<Vec<_>> = (0..rounds.len()).map(|_| Vec::new()).collect();
    for call in join_all(calls).await {
        let (at, racer, outcome) = call.unwrap();
        outcomes[at].push((racer, outcome));
    }
    *lasted = began.elapsed();
    let judged = rounds.iter().zip(&outcomes).map(|(round, outcomes)| round.judge(outcomes));
    join_all(judged).await
}

/// D1, T-1 to T-5, S3.27: the last signature, two refusals, the sender and the deadline at once. One wins, whoever it is;
/// the others hear which end it was, and nothing is left over.
#[tokio::test(flavor = "multi_thread")]
async fn d1_five_at_once_have_one_winner() {
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = countersign_test_support::service::config_for_bursts(4 * BATCH, &database, &documents);
    config.sweep_ms = 10;
    let service = Service::start_with(database, Clock::manual(start), documents, config).await;
    let sender = service.account(false).await;
    let channel = || Endpoint::from_shared(format!("http://{}", service.address)).unwrap().connect_lazy();
    let senders: Vec<_> = (0..WIDTH).map(|_| Caller { channel: channel(), ..sender.clone() }).collect();
    let upload_id = upload(&sender).await;
    let (mut wins, mut in_midst, mut lasted) = (BTreeMap::<Racer, usize>::new(), 0, FIRST_LASTED);
    for _ in 0..FIVE_ROUNDS / BATCH {
        let deadline = service.clock.now() + TimeDelta::hours(1);
        let rounds = (0..BATCH).map(|index| Round::begin(&senders[index % WIDTH], &upload_id, deadline));
        let winners = batch(&service, join_all(rounds).await, &mut lasted).await;
        let late = winners.iter().filter(|winner| **winner == Racer::Expire).count();
        in_midst += usize::from(0 < late && late < winners.len());
        for winner in winners {
            *wins.entry(winner).or_default() += 1;
        }
    }
    eprintln!("{wins:?}, the deadline came in the midst of {in_midst} batches");
    assert_eq!(wins.values().sum::<usize>(), FIVE_ROUNDS);
    assert!(wins.len() == 5 && wins.values().all(|wins| *wins >= FIVE_ROUNDS / 100), "somebody hardly won: {wins:?}");
    assert!(in_midst >= 3, "the deadline came before or after all others, but in {in_midst} batches");
    nothing_pending(&service).await;
    service.stop().await;
}

async fn upload(sender: &Caller) -> String {
    let info = UploadInfo { name: "nda.pdf".into(), sha256: String::new(), ..Default::default() };
    let parts = [Part::Info(info), Part::Chunk(pdf().into())].map(|part| UploadDocumentRequest { part: Some(part) });
    sender.envelopes().upload_document(tokio_stream::iter(parts)).await.unwrap().into_inner().upload_id
}

/// Waits until the artefacts are made and the feed holds every event once.
async fn nothing_pending(service: &Service) {
    let pending = "SELECT (SELECT count(*) FROM artifact_job) + (SELECT count(*) FROM outbox) \
                   + (SELECT count(*) FROM envelope WHERE status < 5)";
    let began = Instant::now();
    while service.database.number(pending).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "still pending");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let missing = "SELECT count(*) FROM event FULL JOIN feed USING (envelope_id, sequence) \
                   WHERE feed.position IS NULL OR event.id IS NULL";
    assert_eq!(service.database.number(missing).await, 0, "events that the feed has not, or the other way round");
    let events = service.database.number("SELECT count(*) FROM event").await;
    assert_eq!(service.database.number("SELECT count(*) FROM feed").await, events, "events that the feed has twice");
    // kinds: completed, declined, voided, expired
    let ends = "SELECT count(*) FROM envelope e WHERE 1 <> (SELECT count(*) FROM event WHERE event.envelope_id = e.id \
                AND kind IN (6, 8, 10, 11))";
    assert_eq!(service.database.number(ends).await, 0, "envelopes without one terminal event");
    let open = "SELECT count(*) FROM recipient WHERE status IN (1, 2)";
    assert_eq!(service.database.number(open).await, 0, "recipients stuck open");
    let artifacts = "SELECT count(*) FROM envelope e WHERE (status IN (5, 6)) <> EXISTS \
                     (SELECT FROM artifact a WHERE a.envelope_id = e.id)";
    assert_eq!(service.database.number(artifacts).await, 0, "artefacts that are missing, or too many");
}

/// T-4: the time that counts is that at the lock, not that at which the call or its transaction began.
#[tokio::test(flavor = "multi_thread")]
async fn t4_an_act_that_waited_past_the_deadline_is_refused() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = countersign_test_support::service::config(&database, &documents);
    config.sweep_ms = 60_000;
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let story = service.account(false).await.story(2, Routing::Parallel).await;
    // The sweeper's first look is over.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (sql, watch) = (service.database.connect().await, service.database.connect().await);
    let shorten = "UPDATE envelope SET expires_at = clock_timestamp() + interval '1 second'";
    assert_eq!(sql.execute(shorten, &[]).await.unwrap(), 1);
    sql.batch_execute("BEGIN; SELECT FROM envelope FOR UPDATE").await.unwrap();
    let (signer, envelope) = (story.signer(0).clone(), story.envelope.clone());
    let sign = tokio::spawn(async move { signer.sign(&envelope).await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                 AND xact_start < (SELECT expires_at FROM envelope)";
    while watch.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!sign.is_finished(), "it did not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let passed = "SELECT clock_timestamp() > expires_at FROM envelope";
    assert!(!watch.query_one(passed, &[]).await.unwrap().get::<_, bool>(0), "it began in time");
    while !watch.query_one(passed, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!sign.is_finished());
    sql.batch_execute("COMMIT").await.unwrap();
    let late = sign.await.unwrap().unwrap_err();
    assert_eq!((late.reason().as_str(), late.fact("current_state").as_str()), ("INVALID_STATE_TRANSITION", "EXPIRED"));
    let now = story.now().await;
    assert_eq!(
        (now.status(), now.recipients[0].status()),
        (EnvelopeStatus::Expired, RecipientStatus::ReleasedByExpiry)
    );
    assert!(now.recipients[0].signed_at.is_none() && now.first_signed_at.is_none());
    service.stop().await;
}
