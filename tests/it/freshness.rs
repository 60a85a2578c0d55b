//! How fresh the sender's look at an envelope is: as it stands, as this process last saw it, or at least of a revision.

use std::time::{Duration, Instant};

use countersign::v1::{Envelope, EnvelopeStatus, Freshness, GetEnvelopeRequest, Routing};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::Config;
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::{Code, Status};

/// What the tests allow for a busy machine.
const SLACK: Duration = Duration::from_millis(500);

/// The envelope, and how old the answer is said to be.
async fn look(
    caller: &Caller,
    id: &str,
    freshness: Freshness,
    min_revision: u64,
) -> Result<(Envelope, Duration), Status> {
    let request = GetEnvelopeRequest { envelope_id: id.into(), freshness: freshness.into(), min_revision };
    let answer = caller.envelopes().get_envelope(request).await?.into_inner();
    Ok((answer.envelope.unwrap(), answer.age.expect("an age").try_into().unwrap()))
}

/// A second process of the same service: its own memory, the same database and documents.
async fn second(service: &Service) -> Service {
    let config = Config { documents: service.config.documents.clone(), ..service.config.clone() };
    Service::start_with(service.database.clone(), Clock::database(), tempfile::tempdir().unwrap(), config).await
}

/// S2.24, T-64: a remembered answer says how old it is, is never older than configured, and knows what this process did.
#[tokio::test(flavor = "multi_thread")]
async fn t64_a_cached_answer_says_its_age_and_knows_our_own_changes() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(3, Routing::Parallel).await;
    let id = story.envelope.id.as_str();
    let most = Duration::from_millis(service.config.cache_ms);
    let (live, age) = look(&sender, id, Freshness::Live, 0).await.unwrap();
    assert_eq!((live.revision, age), (story.envelope.revision, Duration::ZERO));
    look(&sender, id, Freshness::Cached, 0).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let (cached, age) = look(&sender, id, Freshness::Cached, 0).await.unwrap();
    assert_eq!(cached, live);
    assert!(Duration::from_millis(30) <= age && age <= most, "{age:?}");
    // Each of our own changes is seen at once.
    for index in 0..3 {
        story.signer(index).sign(&story.envelope).await.unwrap();
        let (cached, age) = look(&sender, id, Freshness::Cached, 0).await.unwrap();
        assert!(cached.recipients[index].signed_at.is_some() && age <= most, "{index}: {age:?}");
    }
    // However long one looks, no answer is too old, and what was done is in it at last.
    let (began, mut last) = (Instant::now(), cached.revision);
    while began.elapsed() < most + SLACK {
        let (cached, age) = look(&sender, id, Freshness::Cached, 0).await.unwrap();
        assert!(age <= most + SLACK, "{age:?}");
        assert!(cached.revision >= last, "it never goes back");
        last = cached.revision;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let done = story.until(EnvelopeStatus::Completed).await;
    assert_eq!(look(&sender, id, Freshness::Cached, done.revision).await.unwrap().0, done);
    let request = GetEnvelopeRequest { envelope_id: id.into(), freshness: 9, min_revision: 0 };
    assert_eq!(sender.envelopes().get_envelope(request).await.unwrap_err().fields(), ["freshness"]);
    let stranger = service.account(false).await;
    assert_eq!(look(&stranger, id, Freshness::Cached, 0).await.unwrap_err().reason(), "NOT_FOUND");
}

/// T-64: what another process did is seen live at once, and remembered no longer than configured.
#[tokio::test(flavor = "multi_thread")]
async fn t64_a_change_by_another_process_becomes_visible() {
    let service = Service::start().await;
    let second = second(&service).await;
    let here = service.account(false).await;
    let there = Caller { channel: second.channel.clone(), ..here.clone() };
    let story = here.story(3, Routing::Parallel).await;
    let id = story.envelope.id.as_str();
    let most = Duration::from_millis(service.config.cache_ms);
    let (first, _) = look(&there, id, Freshness::Cached, 0).await.unwrap();
    story.signer(0).sign(&story.envelope).await.unwrap();
    let (old, age) = look(&there, id, Freshness::Cached, 0).await.unwrap();
    assert!(old.revision == first.revision || age.is_zero(), "remembered, or read anew");
    let (live, _) = look(&there, id, Freshness::Live, 0).await.unwrap();
    assert_eq!(live.revision, first.revision + 1);
    // A revision that is asked for is never too old.
    story.signer(1).sign(&story.envelope).await.unwrap();
    let (asked, _) = look(&there, id, Freshness::Cached, live.revision + 1).await.unwrap();
    assert_eq!(asked.revision, live.revision + 1);
    let (_, age) = look(&there, id, Freshness::Cached, live.revision).await.unwrap();
    assert!(age <= most);
    // By itself it becomes visible in time.
    here.void(id, "").await.unwrap();
    let began = Instant::now();
    loop {
        let (cached, age) = look(&there, id, Freshness::Cached, 0).await.unwrap();
        assert!(age <= most + SLACK, "{age:?}");
        if cached.status() == EnvelopeStatus::Voided {
            break;
        }
        assert!(began.elapsed() < most + SLACK, "still {:?} after {:?}", cached.status(), began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// T-64: what this process last saw, it saw with a live look too: a later answer never goes back behind an earlier one.
#[tokio::test(flavor = "multi_thread")]
async fn t64_a_cached_answer_is_never_older_than_a_live_one_before_it() {
    let service = Service::start().await;
    let second = second(&service).await;
    let here = service.account(false).await;
    let there = Caller { channel: second.channel.clone(), ..here.clone() };
    let story = here.story(2, Routing::Parallel).await;
    let id = story.envelope.id.as_str();
    look(&there, id, Freshness::Cached, 0).await.unwrap();
    story.signer(0).sign(&story.envelope).await.unwrap();
    let (live, _) = look(&there, id, Freshness::Live, 0).await.unwrap();
    let (cached, _) = look(&there, id, Freshness::Cached, 0).await.unwrap();
    assert_eq!((live.revision, cached.revision), (story.envelope.revision + 1, story.envelope.revision + 1));
}

/// A revision that does not come is waited for, but not for long; one that comes meanwhile is answered with.
#[tokio::test(flavor = "multi_thread")]
async fn t64_a_revision_is_waited_for_but_not_for_long() {
    let service = Service::start().await;
    let second = second(&service).await;
    let here = service.account(false).await;
    let there = Caller { channel: second.channel.clone(), ..here.clone() };
    let story = here.story(2, Routing::Parallel).await;
    let (id, revision) = (story.envelope.id.clone(), story.envelope.revision);
    for freshness in [Freshness::Live, Freshness::Cached] {
        let began = Instant::now();
        let status = look(&there, &id, freshness, revision + 1).await.unwrap_err();
        let waited = began.elapsed();
        assert_eq!((status.code(), status.reason()), (Code::FailedPrecondition, "REVISION_NOT_REACHED".into()));
        assert_eq!((status.fact("revision"), status.fact("http_status")), (revision.to_string(), "409".into()));
        assert!(Duration::from_millis(1_900) <= waited && waited <= Duration::from_secs(4), "{waited:?}");
    }
    let asked = tokio::spawn(async move { look(&there, &id, Freshness::Cached, revision + 1).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    let (envelope, _) = asked.await.unwrap().unwrap();
    assert_eq!((envelope.revision, envelope.status()), (revision + 1, EnvelopeStatus::PartiallySigned));
}
