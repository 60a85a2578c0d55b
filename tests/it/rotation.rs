//! Master keys are changed with nothing lost: what was made under the former one goes on while that is in the ring, what is new
//! is made under the new one, and without the former one what is left of it is refused like anything else that is not known.

use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign::v1::{
    CreateEnvelopeRequest, CreateUserTokenRequest, DeclineByUserRequest, Envelope, ListEventsRequest,
    ListStatusChangesRequest, RotateWebhookSecretRequest, Routing,
};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::KeyConfig;
use countersign_test_support::client::request;
use countersign_test_support::notifier::{authorised, database, register};
use countersign_test_support::receiver::Received;
use countersign_test_support::{Caller, Database, Errors as _, Notifier, Receiver, Service, Story};
use ring::hmac;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::webhooks::until;

/// The key of tests, and the one that comes after it.
const OLD: &str = "5c";
const NEW: &str = "b2";

/// The first makes what is new.
fn keys(bytes: &[&str]) -> KeyConfig {
    let mut keys = bytes.iter().map(|byte| byte.repeat(32).into());
    KeyConfig { master_key: keys.next().unwrap(), master_key_former: keys.collect() }
}

/// An envelope service on that database with those keys.
async fn service(database: Database, documents: TempDir, bytes: &[&str]) -> Service {
    let mut config = countersign_test_support::service::config(&database, &documents);
    config.keys = keys(bytes);
    Service::start_with(database, Clock::database(), documents, config).await
}

/// Both services, which come and go on databases that stay.
struct Stage {
    service: Service,
    notifier: Notifier,
    notices: Database,
}

impl Stage {
    async fn start(database: Database, documents: TempDir, notices: Database, bytes: &[&str]) -> Self {
        let (service, mails) = (service(database, documents, bytes).await, tempfile::tempdir().unwrap());
        let mut config = countersign_test_support::notifier::config(&notices, &service.address, &mails);
        config.keys = keys(bytes);
        // Nobody waits for the leases of who has left.
        config.lease_seconds = 3;
        let notifier = Notifier::start_with(notices.clone(), mails, config).await;
        Self { service, notifier, notices }
    }

    /// The same with other keys.
    async fn again(self, bytes: &[&str]) -> Self {
        self.notifier.stop().await;
        let (database, documents) = self.service.stop().await;
        Self::start(database, documents, self.notices, bytes).await
    }

    /// Where the notifier stands in the feed, as the envelope service has told it.
    async fn places(&self) -> Vec<String> {
        let rows = self.notices.connect().await.query("SELECT resume_token FROM feed_partition", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Until it is told of each place by other tokens than these, which takes half a minute where nothing happens.
    async fn until_moved(&self, before: &[String]) {
        for _ in 0..120 {
            if !self.places().await.iter().any(|place| before.contains(place)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("the notifier keeps tokens of the former key");
    }

    /// Somebody, at the service as it runs now.
    fn caller(&self, caller: &Caller) -> Caller {
        Caller { channel: self.service.channel.clone(), ..caller.clone() }
    }
}

fn is_signed(one: &Received, secret: &str) -> bool {
    let secret = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let (id, at) = (one.header("webhook-id"), one.header("webhook-timestamp"));
    let signed = [format!("{id}.{at}.").as_bytes(), &one.body].concat();
    let sign = STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &signed));
    one.header("webhook-signature").split(' ').any(|one| one == format!("v1,{sign}"))
}

/// What is posted of a new envelope.
async fn told(receiver: &Receiver, sender: &Caller) -> Vec<Received> {
    let story = sender.story(1, Routing::Parallel).await;
    let of_it = |one: &Received| one.json()["data"]["envelopeId"] == story.envelope.id.as_str();
    let all = || Some(receiver.received().into_iter().filter(of_it).collect::<Vec<_>>()).filter(|all| all.len() >= 3);
    until("a new envelope's events", all).await
}

async fn once(sender: &Caller, key: &str, subject: &str) -> Result<Envelope, Status> {
    let request = CreateEnvelopeRequest {
        idempotency_key: key.to_owned(),
        subject: subject.to_owned(),
        ..request(1, Routing::Parallel, true)
    };
    sender.create(request).await
}

/// What somebody keeps of ours.
struct Kept {
    sender: Caller,
    story: Story,
    user: String,
    page: String,
    resume: String,
    /// Made with an idempotency key.
    repeated: Envelope,
    key: &'static str,
}

impl Kept {
    async fn of(sender: &Caller, key: &'static str) -> Self {
        let story = sender.story(2, Routing::Parallel).await;
        let user = CreateUserTokenRequest { email: "signer1@example.com".into(), ..Default::default() };
        let user = sender.accounts().create_user_token(user).await.unwrap().into_inner().user_token;
        let events = ListEventsRequest { envelope_id: story.envelope.id.clone(), page_size: 1, ..Default::default() };
        let page = sender.envelopes().list_events(events).await.unwrap().into_inner().next_page_token;
        let changes = sender.envelopes().list_status_changes(ListStatusChangesRequest::default()).await;
        let resume = changes.unwrap().into_inner().resume_token;
        let repeated = once(sender, key, "Agreement").await.unwrap();
        Self { sender: sender.clone(), story, user, page, resume, repeated, key }
    }

    fn at(&self, stage: &Stage) -> (Caller, Caller) {
        (stage.caller(&self.sender), stage.caller(self.story.signer(0)))
    }

    async fn page(&self, sender: &Caller) -> Result<usize, Status> {
        let envelope_id = self.story.envelope.id.clone();
        let request = ListEventsRequest { envelope_id, page_size: 1, page_token: self.page.clone() };
        Ok(sender.envelopes().list_events(request).await?.into_inner().entries.len())
    }

    async fn resume(&self, sender: &Caller) -> Result<usize, Status> {
        let request = ListStatusChangesRequest { resume_token: self.resume.clone(), ..Default::default() };
        Ok(sender.envelopes().list_status_changes(request).await?.into_inner().events.len())
    }

    async fn decline(&self, sender: &Caller) -> Result<(), Status> {
        let (user_token, signing_token) = (self.user.clone(), self.story.signer(1).token.clone());
        let request = DeclineByUserRequest { user_token, signing_token, reason: "no".into(), ..Default::default() };
        sender.signer().decline_by_user(request).await.map(drop)
    }

    /// All of it is what it was.
    async fn assert_whole(&self, stage: &Stage) {
        let (sender, signer) = self.at(stage);
        let envelope = &self.story.envelope;
        assert_eq!(sender.get(&envelope.id).await.unwrap().id, envelope.id, "the API key");
        let link = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
        assert_eq!(link.token, signer.token, "the same link is told again");
        assert_eq!(signer.session().await.unwrap().envelope_id, envelope.id, "the link");
        assert_eq!(self.page(&sender).await.unwrap(), 1, "the page token");
        self.resume(&sender).await.expect("the resume token");
        assert_eq!(once(&sender, self.key, "Agreement").await.unwrap().id, self.repeated.id, "the repeat");
        let other = once(&sender, self.key, "Another").await.unwrap_err();
        assert_eq!(other.reason(), "IDEMPOTENCY_MISMATCH", "a former key's request is still compared");
        self.decline(&sender).await.expect("the user's token");
    }

    /// None of it is known any more, and none of it breaks anything: `sender` has a key that is known.
    async fn assert_unknown(&self, stage: &Stage, sender: &Caller) {
        let (former, signer) = self.at(stage);
        let refused = former.get(&self.story.envelope.id).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason().as_str()), (Code::Unauthenticated, "AUTHENTICATION_REQUIRED"));
        assert_eq!(signer.session().await.unwrap_err().code(), Code::NotFound);
        assert_eq!(self.decline(sender).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(self.page(sender).await.unwrap_err().fields(), ["page_token"]);
        assert_eq!(self.resume(sender).await.unwrap_err().fields(), ["resume_token"]);
        let again = once(sender, self.key, "Agreement").await.unwrap();
        assert_ne!(again.id, self.repeated.id, "the repeat is not recognised");
        // No link is told that nobody would take.
        let link = sender.signer_of(&self.repeated.id, &self.repeated.recipients[0].id).await.unwrap_err();
        assert_eq!(link.code(), Code::Unavailable);
    }
}

/// Both services with the former key alone, and what somebody keeps of them.
async fn before() -> (Stage, Caller, Kept) {
    let first = Service::start().await;
    let sender = first.account(false).await;
    let (envelopes, documents) = first.stop().await;
    let stage = Stage::start(envelopes, documents, database().await, &[OLD]).await;
    let sender = stage.caller(&sender);
    let kept = Kept::of(&sender, "before").await;
    (stage, sender, kept)
}

/// Nothing that anybody keeps is lost, by either service; the former key goes when it is no more needed.
#[tokio::test(flavor = "multi_thread")]
async fn master_keys_are_changed_without_loss() {
    let (stage, sender, kept) = before().await;
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let (endpoint_id, secret) = register(&stage.notifier.channel, &sender, &receiver.url).await.unwrap();
    assert!(told(&receiver, &sender).await.iter().all(|one| is_signed(one, &secret)));

    // The new key is known to all before it makes anything.
    let stage = stage.again(&[OLD, NEW]).await;
    assert!(told(&receiver, &stage.caller(&sender)).await.iter().all(|one| is_signed(one, &secret)));
    let places = stage.places().await;
    let stage = stage.again(&[NEW, OLD]).await;
    kept.assert_whole(&stage).await;
    let sender = stage.caller(&sender);
    assert!(told(&receiver, &sender).await.iter().all(|one| is_signed(one, &secret)), "as its owner was told");
    let request = authorised(&sender, RotateWebhookSecretRequest { endpoint_id, ..Default::default() });
    let mut endpoints = WebhookServiceClient::new(stage.notifier.channel.clone());
    let rotated = endpoints.rotate_webhook_secret(request).await.unwrap().into_inner().secret;
    let overlap = told(&receiver, &sender).await;
    assert!(overlap.iter().all(|one| is_signed(one, &secret) && is_signed(one, &rotated)));
    let sender = stage.service.key_of(&sender, false).await;
    let newer = Kept::of(&sender, "after").await;

    stage.until_moved(&places).await;
    let stage = stage.again(&[NEW]).await;
    let sender = stage.caller(&sender);
    kept.assert_unknown(&stage, &sender).await;
    newer.assert_whole(&stage).await;
    let after = told(&receiver, &sender).await;
    assert!(after.iter().all(|one| is_signed(one, &rotated) && !is_signed(one, &secret)));
    stage.notifier.stop().await;
    stage.service.stop().await;
}

/// A change that is taken back loses nothing either, of what was made before it or meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_master_keys_is_taken_back_without_loss() {
    let (stage, sender, before) = before().await;
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let (_, secret) = register(&stage.notifier.channel, &sender, &receiver.url).await.unwrap();

    let stage = stage.again(&[NEW, OLD]).await;
    let sender = stage.service.key_of(&stage.caller(&sender), false).await;
    let meanwhile = Kept::of(&sender, "meanwhile").await;
    let second = Receiver::start(|_| StatusCode::OK).await;
    let (_, newer) = register(&stage.notifier.channel, &sender, &second.url).await.unwrap();
    assert!(told(&receiver, &sender).await.iter().all(|one| is_signed(one, &secret)));

    let stage = stage.again(&[OLD, NEW]).await;
    before.assert_whole(&stage).await;
    meanwhile.assert_whole(&stage).await;
    let sender = stage.caller(&sender);
    Kept::of(&sender, "after").await.assert_whole(&stage).await;
    for (receiver, secret) in [(&receiver, &secret), (&second, &newer)] {
        assert!(told(receiver, &sender).await.iter().all(|one| is_signed(one, secret)), "as its owner was told");
    }
    stage.notifier.stop().await;
    stage.service.stop().await;
}

/// While it is rolled out, some replicas have the new key first and some the former one: each knows what the other has made, and
/// a request that comes to both is made once.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_the_keys_in_another_order_agree() {
    let before = service(Database::envelope().await, tempfile::tempdir().unwrap(), &[OLD, NEW]).await;
    let after = service(before.database.clone(), tempfile::tempdir().unwrap(), &[NEW, OLD]).await;
    let old = before.account(false).await;
    let new = after.key_of(&old, false).await;
    let here = |caller: &Caller, service: &Service| Caller { channel: service.channel.clone(), ..caller.clone() };
    for (maker, other) in [(&before, &after), (&after, &before)] {
        for caller in [&old, &new] {
            let story = here(caller, maker).story(1, Routing::Parallel).await;
            assert!(here(story.signer(0), other).session().await.is_ok());
        }
    }
    let (one, two) = (here(&old, &before), here(&old, &after));
    for number in 0..20 {
        let key = format!("key {number}");
        let answers = tokio::join!(once(&one, &key, "Agreement"), once(&two, &key, "Agreement"));
        let mut made: Vec<_> = [answers.0, answers.1].into_iter().filter_map(Result::ok).map(|it| it.id).collect();
        // Who comes while the other is at it is told so, and comes again.
        tokio::time::sleep(Duration::from_millis(20)).await;
        for caller in [&one, &two] {
            made.push(once(caller, &key, "Agreement").await.unwrap().id);
        }
        made.dedup();
        assert_eq!(made.len(), 1, "{key}: made once");
    }
    after.stop().await;
    before.stop().await;
}

/// A former key that is none ends both services, and what an operator runs, with the name of the setting and not of the secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_former_key_is_named() {
    for (program, arguments) in [
        ("countersign-envelope", &["create-account", "--name", "Tests"][..]),
        ("countersign-envelope", &["serve", "--documents", "/nowhere"]),
        ("countersign-notifier", &["serve", "--envelope-url", "http://127.0.0.1:9"]),
    ] {
        let mut command = std::process::Command::new(countersign_test_support::binary::path(program).await);
        command
            .args(arguments)
            .env("COUNTERSIGN_DATABASE_URL", "postgres://127.0.0.1:9/nowhere")
            .env("COUNTERSIGN_SERVICE_TOKEN", "0123456789abcdef0123456789abcdef")
            .env("COUNTERSIGN_MASTER_KEY", OLD.repeat(32))
            .env("COUNTERSIGN_MASTER_KEY_FORMER", format!("{},b2b2 is no key", NEW.repeat(32)));
        let ended = command.output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{program} {arguments:?}: {said}");
        assert!(said.contains("--master-key-former (COUNTERSIGN_MASTER_KEY_FORMER): must be 64"), "{said}");
        assert!(!said.contains("b2b2"), "no secret is quoted: {said}");
    }
}
