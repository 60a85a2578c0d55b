//! Each place on the way of what the services do by themselves.

use std::sync::Arc;
use std::time::Duration;

use countersign::v1::document_source::Source;
use countersign::v1::{
    CreateEnvelopeRequest, DeleteEnvelopeContentRequest, DocumentSource, Envelope, EnvelopeStatus, Routing,
};
use countersign_test_support::client::{is_passing, pdf, request, signature};
use countersign_test_support::stack::{Stack, Ways};
use countersign_test_support::{Caller, Database, notifier};
use tonic::Status;

use super::{Arms, died};

/// On the way of what is done without a call.
pub const PLACES: &[&str] = &[
    "sequence.locked",
    "sequence.sent",
    "sequence.committed",
    "settle.raising",
    "ingest.claimed",
    "ingest.stored",
    "artifact.claimed",
    "artifact.storing",
    "artifact.stored",
    "removal.condemned",
    "removal.removed",
    "feed.planned",
    "advance.kept",
    "advance.committed",
    "webhook.claimed",
    "webhook.answered",
    "webhook.settled",
    "mail.claimed",
    "mail.sent",
];

/// Webhooks that may be on their way when their sender dies: as many as a process posts at a time.
const UNDER_WAY_MAX: usize = 64;
/// How long everything may take after a crash.
const REST_MAX: Duration = Duration::from_secs(60);

/// Makes a call until it is answered, starting whoever has died meanwhile.
async fn insist<T>(stack: &mut Stack, mut call: impl AsyncFnMut(Caller) -> Result<T, Status>) -> T {
    for _ in 0..400 {
        let caller = stack.caller(&stack.test, 0);
        match call(caller).await {
            Ok(answer) => return answer,
            Err(status) if is_passing(&status) => {}
            Err(status) => panic!("{status:?}"),
        }
        revive(stack).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it is never answered");
}

/// Starts whoever has died, of nothing but what they were armed with.
async fn revive(stack: &mut Stack) {
    for place in stack.envelopes.iter_mut().chain(&mut stack.notifiers) {
        if !place.is_running() {
            died(place.process.as_mut().unwrap()).await;
        }
    }
    stack.start().await;
}

/// Where a document can be fetched.
async fn fetched() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/nda.pdf", listener.local_addr().unwrap());
    let bytes = Arc::new(pdf());
    let router = axum::Router::new().fallback(move || {
        let bytes = Arc::clone(&bytes);
        async move { bytes.to_vec() }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Everything that the services do by themselves, once: reads a document that is fetched, makes those of an end and of a
/// refusal, removes bytes, tells of all of it.
async fn story(stack: &mut Stack, name: &str, url: &str) {
    let form = |key: &str| CreateEnvelopeRequest {
        idempotency_key: format!("{name} {key}"),
        ..request(1, Routing::Parallel, true)
    };
    let source = Some(Source::Url(url.to_owned()));
    let documents = vec![DocumentSource { name: "nda.pdf".into(), source, ..Default::default() }];
    let fetched = CreateEnvelopeRequest { documents, ..form("fetched") };
    let fetched = insist(stack, async |it| it.create(fetched.clone()).await).await;
    let signed = insist(stack, async |it| it.create(form("signed")).await).await;
    let refused = insist(stack, async |it| it.create(form("refused")).await).await;
    for (envelope, signs) in [(&signed, true), (&refused, false)] {
        act(stack, envelope, signs, name).await;
    }
    let sent = until(stack, &fetched.id, |now| now.sent_at.is_some()).await;
    act(stack, &sent, true, name).await;
    until(stack, &refused.id, |now| now.documents.iter().all(|document| !document.artifacts.is_empty())).await;
    let envelope_id = refused.id;
    let (idempotency_key, reason) = (format!("{name} erase"), "Case 12".to_owned());
    let erase = DeleteEnvelopeContentRequest { envelope_id, idempotency_key, reason, if_revision: 0 };
    insist(stack, async |it| it.envelopes().delete_envelope_content(erase.clone()).await).await;
}

async fn act(stack: &mut Stack, envelope: &Envelope, signs: bool, name: &str) {
    let (id, recipient) = (envelope.id.clone(), envelope.recipients[0].id.clone());
    let idempotency_key = format!("{name} {id}");
    let sign = countersign::v1::SignRequest { idempotency_key: idempotency_key.clone(), ..signature(envelope) };
    let decline = countersign::v1::DeclineRequest { idempotency_key, ..Default::default() };
    let signer = insist(stack, async |it| it.signer_of(&id, &recipient).await).await;
    insist(stack, async |it| {
        let signer = it.with_token(&signer.token);
        if signs {
            signer.signer().sign(sign.clone()).await.map(drop)
        } else {
            signer.signer().decline(decline.clone()).await.map(drop)
        }
    })
    .await;
}

async fn until(stack: &mut Stack, id: &str, is: impl Fn(&Envelope) -> bool) -> Envelope {
    for _ in 0..1600 {
        let now = insist(stack, async |it| it.get(id).await).await;
        if is(&now) {
            return now;
        }
        revive(stack).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("waited in vain for {id}");
}

/// One of each service, which these arms may strike; they strike nowhere yet.
async fn under(arms: &Arms) -> Stack {
    arms.set("");
    let databases = (Database::envelope().await, notifier::database().await);
    let (ours, theirs) = (databases.0.url.clone(), databases.1.url.clone());
    let ways = Ways { database: &ours, notices: &theirs, envelope: &str::to_owned };
    Stack::new(databases, &ways, (1, 1), &[("COUNTERSIGN_FAILPOINTS", &arms.file())]).await
}

/// D3, T-72: wherever a loop of either service dies, everything is done once in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d3_a_loop_that_dies_anywhere_does_everything_once() {
    let (arms, url) = (Arms::new(), fetched().await);
    let mut stack = under(&arms).await;
    let mut again = 0;
    for place in PLACES {
        arms.set(place);
        story(&mut stack, place, &url).await;
        for look in 0..400 {
            if !arms.are_set() {
                break;
            }
            // It is come by at the start, unless somebody is writing just then.
            if *place == "settle.raising" && look % 80 == 0 {
                stack.envelopes[0].kill().await;
                stack.envelopes[0].start().await;
            }
            stack.remove_soon().await;
            revive(&mut stack).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(!arms.are_set(), "{place} is not come by");
        tokio::time::sleep(Duration::from_millis(50)).await;
        revive(&mut stack).await;
        let rest = stack.settle(REST_MAX).await;
        let told_again = stack.assert_sound(place).await;
        eprintln!("{place}: at rest after {rest:.1?}, {} webhooks told again so far", told_again);
        assert!(told_again - again <= UNDER_WAY_MAX, "{place}: {} told again", told_again - again);
        again = told_again;
    }
}

/// What panics while documents are made is a try that failed: the next comes soon, and does not wait for the claim to run out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_panic_while_documents_are_made_is_a_try_that_failed() {
    let arms = Arms::new();
    let mut stack = under(&arms).await;
    for place in ["artifact.claimed", "artifact.storing", "artifact.stored"] {
        let new = CreateEnvelopeRequest { idempotency_key: place.to_owned(), ..request(1, Routing::Parallel, true) };
        let sent = insist(&mut stack, async |it| it.create(new.clone()).await).await;
        arms.set(&format!("{place}=panic"));
        act(&mut stack, &sent, true, place).await;
        until(&mut stack, &sent.id, |now| now.status() == EnvelopeStatus::Completed).await;
        assert!(!arms.are_set(), "{place} is not come by");
    }
    stack.settle(REST_MAX).await;
    stack.assert_sound("panics").await;
}
