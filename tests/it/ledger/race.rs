//! Money at once: the last credit, and envelopes that several people end at the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use countersign::v1::{
    ChargeAt, DeclineRecipientRequest, Envelope, EnvelopeStatus, LedgerEntryKind, Quorum, RefundCause, Routing,
};
use countersign_chassis::clock::Clock;
use countersign_test_support::service::config_for_bursts;
use countersign_test_support::{Caller, Database, Errors as _, Service};
use futures_util::future::join_all;
use rand::seq::SliceRandom as _;
use tokio::sync::Barrier;
use tonic::Status;

use super::audit::audit;
use super::till::{Till, billing, credits, euro, service, table};

/// Rounds for the last credit.
const LAST_CREDITS: usize = 50;
/// Envelopes of a batch of five-way rounds, which have the same deadline.
const BATCH: usize = 20;
/// Batches.
const BATCHES: usize = 8;

/// T-52: two sends for the last credit, one of a draft and one of a new envelope: one of them wins.
#[tokio::test(flavor = "multi_thread")]
async fn t52_the_last_credit_is_spent_once() {
    let service = service().await;
    let till = Till::open(&service).await;
    for _ in 0..5 {
        till.sent(1).await;
    }
    let mut drafts_won = 0;
    for round in 0..LAST_CREDITS {
        let (one, two) = (till.draft().await, till.draft().await);
        till.grant(credits(1)).await;
        let (first, second) = match round % 2 {
            0 => tokio::join!(till.send(&one.id), till.send(&two.id)),
            _ => tokio::join!(till.send(&one.id), till.live.create(till.form(1, true))),
        };
        let lost: Vec<_> = [&first, &second].into_iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(lost.len(), 1, "round {round}: {first:?} {second:?}");
        assert_eq!(lost[0].reason(), "INSUFFICIENT_CREDITS", "round {round}");
        drafts_won += usize::from(first.is_ok());
        assert_eq!(till.balance("CREDIT").await, 0, "round {round}");
        let now = till.live.get(&one.id).await.unwrap();
        assert_eq!((now.status() == EnvelopeStatus::Sent, now.charge.is_some()), (first.is_ok(), first.is_ok()));
    }
    assert!((1..LAST_CREDITS).contains(&drafts_won), "always the same one won");
    let charges = service.database.number("SELECT count(*) FROM ledger_entry WHERE kind = 2").await;
    assert_eq!(charges, 5 + i64::try_from(LAST_CREDITS).unwrap());
    audit(&service.database).await;
}

/// One of the calls that end an envelope; the clock is the fifth.
#[derive(Clone, Copy, Debug)]
enum Racer {
    Sign,
    Decline,
    SecondDecline,
    Void,
}

/// An envelope of which one signature is enough, and those who race for it.
struct Round {
    live: Caller,
    envelope: Envelope,
    signers: Vec<Caller>,
}

impl Round {
    async fn begin(till: &Till<'_>) -> Self {
        let mut form = till.form(4, true);
        form.routing = Routing::Groups.into();
        form.recipients.iter_mut().for_each(|recipient| recipient.group = 1);
        form.quorums = vec![Quorum { group: 1, needed: 2 }];
        let envelope = till.live.create(form).await.unwrap();
        let mut signers = Vec::new();
        for index in 0..4 {
            signers.push(till.signer(&envelope, index).await);
        }
        // Every other one has been signed by somebody when they race.
        if rand::random() {
            signers[3].sign(&envelope).await.unwrap();
        }
        Self { live: till.live.clone(), envelope, signers }
    }

    async fn run(&self, racer: Racer) -> Result<(), Status> {
        match racer {
            Racer::Sign => self.signers[0].sign(&self.envelope).await,
            Racer::Decline => self.signers[1].decline("no").await.map(drop),
            Racer::SecondDecline => {
                let decline = DeclineRecipientRequest {
                    envelope_id: self.envelope.id.clone(),
                    recipient_id: self.envelope.recipients[2].id.clone(),
                    ..DeclineRecipientRequest::default()
                };
                self.live.envelopes().decline_recipient(decline).await.map(drop)
            }
            Racer::Void => self.live.void(&self.envelope.id, "").await.map(drop),
        }
    }
}

/// Plays a batch: all calls at once, and the clock passes the deadline at any time while they are under way, by how long the last
/// batch took.
async fn batch(service: &Service, rounds: Vec<Round>, lasted: &mut Duration) {
    let rounds: Vec<_> = rounds.into_iter().map(Arc::new).collect();
    let racers = [Racer::Sign, Racer::Decline, Racer::SecondDecline, Racer::Void];
    let mut calls: Vec<_> = rounds.iter().flat_map(|round| racers.map(|racer| (Arc::clone(round), racer))).collect();
    calls.shuffle(&mut rand::rng());
    let barrier = Arc::new(Barrier::new(calls.len() + 1));
    let calls = calls.into_iter().map(|(round, racer)| {
        let barrier = Arc::clone(&barrier);
        tokio::spawn(async move {
            barrier.wait().await;
            round.run(racer).await
        })
    });
    let calls: Vec<_> = calls.collect();
    barrier.wait().await;
    let began = Instant::now();
    tokio::time::sleep(rand::random_range(Duration::ZERO..=*lasted)).await;
    service.clock.advance(TimeDelta::hours(1));
    for call in join_all(calls).await {
        if let Err(status) = call.unwrap() {
            let reason = status.reason();
            assert!(
                ["INVALID_STATE_TRANSITION", "NOT_NEEDED", "SIGNING_CLOSED"].contains(&reason.as_str()),
                "{status:?}"
            );
        }
    }
    *lasted = began.elapsed();
}

async fn settled(service: &Service) {
    let pending = "SELECT (SELECT count(*) FROM artifact_job) + (SELECT count(*) FROM envelope WHERE status < 5)";
    let began = Instant::now();
    while service.database.number(pending).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "still pending");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// D5, T-48, T-50: the last signature, two refusals, the sender and the deadline at once. However it ends, what comes back is
/// what the policy says for that end, once, and the ledger adds up.
#[tokio::test(flavor = "multi_thread")]
async fn d5_five_at_once_are_refunded_once() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = config_for_bursts(4 * BATCH, &database, &documents);
    config.sweep_ms = 10;
    let start = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let service = Service::start_with(database, Clock::manual(start), documents, config).await;
    let till = Till::open(&service).await;
    till.grant(euro(1_000_000)).await;
    // No two ends with the same refund.
    let rules = [
        (RefundCause::Declined, Some(0), 1_000),
        (RefundCause::Declined, None, 2_000),
        (RefundCause::Voided, Some(0), 3_000),
        (RefundCause::Voided, None, 4_000),
        (RefundCause::Expired, Some(0), 5_000),
        (RefundCause::Expired, None, 10_000),
    ];
    till.bill(billing(ChargeAt::Dispatch, euro(1_000), table(&rules, Some(600)))).await;
    // About as long as a batch takes, for the first.
    let mut lasted = Duration::from_millis(300);
    for _ in 0..BATCHES {
        let rounds = join_all((0..BATCH).map(|_| Round::begin(&till))).await;
        batch(&service, rounds, &mut lasted).await;
    }
    settled(&service).await;
    audit(&service.database).await;
    let mut came_back: BTreeMap<i64, usize> = BTreeMap::new();
    let entries = till.entries("", 200).await;
    for entry in entries.iter().filter(|entry| entry.kind() == LedgerEntryKind::Refund) {
        *came_back.entry(entry.amount.as_ref().unwrap().value).or_default() += 1;
    }
    let charges = entries.iter().filter(|entry| entry.kind() == LedgerEntryKind::Charge).count();
    assert_eq!(charges, BATCH * BATCHES);
    eprintln!("{came_back:?} of {charges}");
    assert!(came_back.len() >= 4, "somebody always won: {came_back:?}");
    service.stop().await;
}
