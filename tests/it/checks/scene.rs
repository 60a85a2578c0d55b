//! Something of everything, at rest: what the checks look at.

use std::time::Duration;

use countersign::v1::{
    CreateEnvelopeRequest, DeleteEnvelopeContentRequest, DiscardEnvelopeRequest, EnvelopeStatus,
    ReplaceEnvelopeRequest, Routing,
};
use countersign_test_support::client::request;
use countersign_test_support::notifier::register;
use countersign_test_support::{Caller, Database, Notifier, Receiver, Service};

/// Both services, and two accounts.
pub struct Scene {
    pub service: Service,
    pub notifier: Notifier,
    pub test: Caller,
    pub live: Caller,
    _receivers: [Receiver; 2],
}

impl Scene {
    /// Envelopes in every state, at rest: all that follows from them has been done.
    pub async fn set() -> Self {
        let service = Service::start().await;
        let notifier = Notifier::start(&service).await;
        let (test, live) = (service.account(false).await, service.account(true).await);
        let answer = |_| axum::http::StatusCode::OK;
        let receivers = [Receiver::start(answer).await, Receiver::start(answer).await];
        for receiver in &receivers {
            register(&notifier.channel, &test, &receiver.url).await.unwrap();
        }
        let scene = Self { service, notifier, test, live, _receivers: receivers };
        scene.play().await;
        scene.settle().await;
        scene
    }

    async fn play(&self) {
        let (test, live) = (&self.test, &self.live);
        let signed = test.story(2, Routing::Parallel).await;
        for index in 0..2 {
            signed.signer(index).sign(&signed.now().await).await.unwrap();
        }
        signed.until(EnvelopeStatus::Completed).await;
        let declined = test.story(2, Routing::Sequential).await;
        declined.signer(0).decline("no").await.unwrap();
        declined.until_artifact().await;
        let ended = test.story(1, Routing::Parallel).await;
        test.void(&ended.envelope.id, "wrong").await.unwrap();
        let envelope_id = ended.envelope.id;
        let replace = ReplaceEnvelopeRequest { envelope_id, ..ReplaceEnvelopeRequest::default() };
        test.envelopes().replace_envelope(replace).await.unwrap();
        self.purged("nothing of it may stay").await;
        let form = |send| CreateEnvelopeRequest { reminder_policy: None, ..request(2, Routing::Parallel, send) };
        for (number, send) in [true, false].into_iter().enumerate() {
            let idempotency_key = format!("the {number}th");
            test.create(CreateEnvelopeRequest { idempotency_key, ..form(send) }).await.unwrap();
        }
        let discarded = test.create(form(false)).await.unwrap();
        let discard = DiscardEnvelopeRequest { envelope_id: discarded.id, ..DiscardEnvelopeRequest::default() };
        test.envelopes().discard_envelope(discard).await.unwrap();
        live.create(form(true)).await.unwrap();
        let refunded = live.create(form(true)).await.unwrap();
        live.void(&refunded.id, "wrong").await.unwrap();
    }

    async fn purged(&self, why: &str) {
        let story = self.test.story(1, Routing::Parallel).await;
        let envelope_id = story.envelope.id.clone();
        self.test.void(&envelope_id, why).await.unwrap();
        let reason = "Case 12".to_owned();
        let erase = DeleteEnvelopeContentRequest { envelope_id, reason, ..DeleteEnvelopeContentRequest::default() };
        self.test.envelopes().delete_envelope_content(erase).await.unwrap();
    }

    /// Waits until nothing is under way.
    async fn settle(&self) {
        let ours = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM artifact_job)";
        let theirs =
            "SELECT (SELECT count(*) FROM delivery WHERE state = 1) + (SELECT count(*) FROM mail WHERE state = 1)";
        let told = async || {
            let events =
                "SELECT 2 * count(*) FROM event e JOIN envelope v ON v.id = e.envelope_id WHERE NOT v.livemode";
            let deliveries = self.notifier.database.number("SELECT count(*) FROM delivery").await;
            deliveries >= self.service.database.number(events).await
        };
        for _ in 0..600 {
            let idle =
                self.service.database.number(ours).await == 0 && self.notifier.database.number(theirs).await == 0;
            if idle && told().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("something stays under way");
    }

    /// Stops everybody.
    pub async fn rest(self) -> (Database, Database) {
        let theirs = self.notifier.database.clone();
        self.notifier.stop().await;
        (self.service.stop().await.0, theirs)
    }
}
