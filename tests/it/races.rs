//! What happens at once: one winner, and the losers are told who.
//!
//! 500 rounds of each pair. Without the row lock in `store/envelope.rs` these fail.

use std::sync::Arc;

use countersign::v1::{Envelope, EnvelopeStatus, EventType, RecipientStatus, Routing};
use countersign_test_support::{Errors as _, Service, Story};
use futures_util::future::join_all;
use tonic::Status;

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
