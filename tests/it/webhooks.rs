//! Webhooks and mails of the real notifier, checked by programs that are not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::http::StatusCode;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign::v1::{
    DeleteWebhookEndpointRequest, EnvelopeStatus, ListWebhookEndpointsRequest, RotateWebhookSecretRequest, Routing,
};
use countersign_test_support::notifier::{authorised, register};
use countersign_test_support::outside::{absent, python_module};
use countersign_test_support::receiver::Received;
use countersign_test_support::{Errors as _, Notifier, Receiver, Service};
use tonic::Code;

/// Waits for something, and says what it waited for if it never comes.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited for {what}");
}

/// A story with a refusal, told to an endpoint; returns what came and the secret.
async fn told() -> (Vec<Received>, String) {
    let service = Service::start().await;
    let notifier = Notifier::start(&service).await;
    let sender = service.account(false).await;
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let (_, secret) = register(&notifier.channel, &sender, &receiver.url).await.unwrap();
    let story = sender.story(3, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.signer(1).decline("Terms not acceptable").await.unwrap();
    let last = "envelope.artifact_ready";
    until(last, || receiver.received().iter().find(|one| one.json()["type"] == last).cloned()).await;
    let received = receiver.received();
    let history = sender.history(&story.envelope.id).await.unwrap();
    let told: Vec<_> = received.iter().map(|one| one.header("webhook-id").to_owned()).collect();
    let happened: Vec<_> = history.into_iter().map(|entry| entry.event.unwrap().id).collect();
    assert_eq!(told, happened, "every event, once, in order (T-30)");
    (received, secret)
}

/// Verifies with a secret what is to be accepted and what is to be refused.
const PYTHON: &str = "
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
for cases in json.load(sys.stdin):
    webhook = Webhook(cases['secret'])
    for case in cases['good']:
        webhook.verify(case['body'], case['headers'])
    for case in cases['bad']:
        try:
            webhook.verify(case['body'], case['headers'])
        except WebhookVerificationError:
            continue
        raise SystemExit('what is not signed so was accepted')
";
/// The same.
const NODE: &str = "
const { Webhook } = require('standardwebhooks');
for (const cases of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {
  const webhook = new Webhook(cases.secret);
  for (const one of cases.good) webhook.verify(one.body, one.headers);
  for (const one of cases.bad) {
    let accepted = true;
    try { webhook.verify(one.body, one.headers); } catch { accepted = false; }
    if (accepted) throw new Error('what is not signed so was accepted');
  }
}
";

fn case(one: &Received, body: String) -> serde_json::Value {
    serde_json::json!({
        "headers": {
            "webhook-id": one.header("webhook-id"),
            "webhook-timestamp": one.header("webhook-timestamp"),
            "webhook-signature": one.header("webhook-signature"),
        },
        "body": body,
    })
}

fn body(one: &Received) -> String {
    String::from_utf8(one.body.clone()).unwrap()
}

/// What the published libraries make of it: for each secret what is good and what is bad.
fn published(cases: &[serde_json::Value]) {
    let cases = serde_json::json!(cases).to_string();
    if python_module("standardwebhooks", "pip install standardwebhooks") {
        run("python3", &["-c", PYTHON], &cases);
    }
    let found = Command::new("node").args(["-e", "require('standardwebhooks')"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        run("node", &["-e", NODE], &cases);
    } else {
        absent("Node's standardwebhooks", "npm install -g standardwebhooks, and set NODE_PATH to `npm root -g`");
    }
}

/// S1.33, T-33: before a rotation, while both secrets live, and after: whoever has the right secret verifies everything.
#[tokio::test(flavor = "multi_thread")]
async fn t33_published_verifiers_accept_every_delivery_across_a_rotation() {
    let service = Service::start().await;
    let notifier = Notifier::start(&service).await;
    let sender = service.account(false).await;
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let (endpoint_id, old) = register(&notifier.channel, &sender, &receiver.url).await.unwrap();
    let mut parts: Vec<Vec<Received>> = Vec::new();
    let story = async |seen: usize| {
        sender.story(1, Routing::Parallel).await;
        until("three events", || (receiver.received().len() == seen + 3).then_some(())).await;
        receiver.received().split_off(seen)
    };
    parts.push(story(0).await);
    let rotate = RotateWebhookSecretRequest { endpoint_id, ..Default::default() };
    let mut client = WebhookServiceClient::new(notifier.channel.clone());
    let new = client.rotate_webhook_secret(authorised(&sender, rotate)).await.unwrap().into_inner().secret;
    parts.push(story(3).await);
    let over = "UPDATE endpoint SET previous_until = now()";
    notifier.database.connect().await.execute(over, &[]).await.unwrap();
    parts.push(story(6).await);
    let cases = |parts: &[&Vec<Received>]| -> Vec<serde_json::Value> {
        parts.iter().copied().flatten().map(|one| case(one, body(one))).collect()
    };
    published(&[
        serde_json::json!({ "secret": old, "good": cases(&[&parts[0], &parts[1]]), "bad": cases(&[&parts[2]]) }),
        serde_json::json!({ "secret": new, "good": cases(&[&parts[1], &parts[2]]), "bad": cases(&[&parts[0]]) }),
    ]);
    notifier.stop().await;
}

/// S1.33, S1.34, S1.52, T-33: the published verifiers of Python and Node accept every delivery and refuse a changed one.
#[tokio::test(flavor = "multi_thread")]
async fn s1_33_published_verifiers_accept_every_delivery() {
    let (received, secret) = told().await;
    let good: Vec<_> = received.iter().map(|one| case(one, body(one))).collect();
    let bad: Vec<_> = received.iter().map(|one| case(one, body(one).replace("envelope", "Envelope"))).collect();
    published(&[serde_json::json!({ "secret": secret, "good": good, "bad": bad })]);
    // Countersign-Signature, by the recipe that is documented.
    if python_module("hmac", "python3") {
        let recipe = "
import base64, hashlib, hmac, sys
secret, header = sys.argv[1:3]
body = sys.stdin.buffer.read()
parts = dict(part.split('=', 1) for part in header.split(','))
key = base64.b64decode(secret.removeprefix('whsec_'))
expected = hmac.new(key, parts['t'].encode() + b'.' + body, hashlib.sha256).hexdigest()
sys.exit(0 if hmac.compare_digest(expected, parts['v1']) else 1)
";
        let one = &received[0];
        run("python3", &["-c", recipe, &secret, one.header("countersign-signature")], &body(one));
    }
}

fn run(program: &str, arguments: &[&str], input: &str) {
    use std::io::Write as _;
    let mut child = Command::new(program);
    let mut child = child.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// T-31, S1.17: bodies show the state as it was, and hold no personal data.
#[tokio::test(flavor = "multi_thread")]
async fn t31_bodies_are_frozen_and_hold_nothing_personal() {
    let (received, secret) = told().await;
    let types: Vec<_> = received.iter().map(|one| one.json()["type"].as_str().unwrap().to_owned()).collect();
    assert!(types.contains(&"envelope.declined".to_owned()));
    let state = |index: usize| received[index].json()["data"]["state"]["status"].as_str().unwrap().to_owned();
    assert_eq!(state(0), "ENVELOPE_STATUS_DRAFT", "as it was right after that event");
    assert_eq!(state(received.len() - 1), "ENVELOPE_STATUS_DECLINED");
    for one in &received {
        let text = String::from_utf8(one.body.clone()).unwrap();
        for personal in ["example.com", "Signer", "Terms", "cst_", "cs_test_", &secret] {
            assert!(!text.contains(personal), "{personal} in {text}");
        }
        assert_eq!(one.json()["data"]["id"], one.header("webhook-id"));
    }
}

/// S2.10, S3.50, S3.51, T-18: who hears what by mail.
#[tokio::test(flavor = "multi_thread")]
async fn s3_50_those_who_must_know_get_mails() {
    let service = Service::start().await;
    let notifier = Notifier::start(&service).await;
    let sender = service.account(false).await;
    let envelope =
        sender.create(countersign_test_support::client::request(3, Routing::Sequential, true)).await.unwrap();
    let mails_of = |kind: &str| {
        let suffix = format!(".{kind}.eml");
        let mails = notifier.mails().into_iter().filter(|(name, _)| name.ends_with(&suffix));
        mails.map(|(name, text)| (name.split('.').nth(1).unwrap().to_owned(), text)).collect::<BTreeMap<_, _>>()
    };
    let ids: Vec<_> = envelope.recipients.iter().map(|recipient| recipient.id.clone()).collect();
    let invitation = until("the first invitation", || mails_of("invitation").get(&ids[0]).cloned()).await;
    let unfolded = invitation.replace("=\r\n", "").replace("=\n", "");
    let (_, link) = unfolded.split_once("https://sign.example.com/s#").expect("the link");
    let token: String = link.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let signer = sender.with_token(&token);
    signer.sign(&envelope).await.expect("the link of the mail signs");
    until("the second invitation", || mails_of("invitation").get(&ids[1]).cloned()).await;
    let second = sender.signer_of(&envelope.id, &ids[1]).await.unwrap();
    second.decline("no").await.unwrap();
    // The first signed and hears of it; the second refused and knows; the third had never been invited.
    until("the mail that it fell through", || mails_of("fell_through").get(&ids[0]).cloned()).await;
    let settled = "SELECT count(*) FROM mail WHERE state = 1";
    for _ in 0..100 {
        if notifier.database.number(settled).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(mails_of("fell_through").keys().collect::<Vec<_>>(), [&ids[0]]);
    assert_eq!(mails_of("invitation").len(), 2);

    let done = sender.story(1, Routing::Parallel).await;
    done.signer(0).sign(&done.envelope).await.unwrap();
    done.until(EnvelopeStatus::Completed).await;
    let completed = until("the completed copy", || mails_of("completed").into_values().next()).await;
    assert!(
        completed.contains("application/pdf") && completed.contains("nda-signed.pdf"),
        "S3.17: the document is attached"
    );
    notifier.stop().await;
}

/// T-32, T-55: endpoints belong to their account and mode.
#[tokio::test(flavor = "multi_thread")]
async fn t32_endpoints_belong_to_their_account_and_mode() {
    let service = Service::start().await;
    let notifier = Notifier::start(&service).await;
    let (owner, stranger) = (service.account(false).await, service.account(false).await);
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let (id, secret) = register(&notifier.channel, &owner, &receiver.url).await.unwrap();
    assert!(id.starts_with("whe_") && secret.starts_with("whsec_"));
    let mut client = WebhookServiceClient::new(notifier.channel.clone());
    let mut list = async |caller: &_| {
        let request = authorised(caller, ListWebhookEndpointsRequest::default());
        client.list_webhook_endpoints(request).await.unwrap().into_inner().endpoints.len()
    };
    assert_eq!((list(&owner).await, list(&stranger).await), (1, 0));
    let delete = |caller: &_, id: &str| {
        let request =
            authorised(caller, DeleteWebhookEndpointRequest { endpoint_id: id.to_owned(), ..Default::default() });
        let mut client = WebhookServiceClient::new(notifier.channel.clone());
        async move { client.delete_webhook_endpoint(request).await.map(drop) }
    };
    assert_eq!(delete(&stranger, &id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(delete(&owner, "whe_01h455vb4pex5vsknk084sn02q").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(delete(&owner, "x").await.unwrap_err().fields(), ["endpoint_id"]);
    for url in ["", "x", "ftp://example.com", "http://u:p@example.com/"] {
        let status = register(&notifier.channel, &owner, url).await.unwrap_err();
        assert_eq!((status.reason().as_str(), status.fields()), ("INVALID_FIELD", vec!["url".to_owned()]), "{url}");
    }
    let unknown = register(&notifier.channel, &owner.with_token("cs_test_1"), &receiver.url).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
    delete(&owner, &id).await.unwrap();
    owner.story(1, Routing::Parallel).await;
    // Thirty at once: exactly twenty find a place.
    let channel = &notifier.channel;
    let at_once = (0..30).map(|_| register(channel, &owner, &receiver.url));
    let registered = futures_util::future::join_all(at_once).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(registered, 20);
    let full = register(&notifier.channel, &owner, &receiver.url).await.unwrap_err();
    assert_eq!((full.reason().as_str(), full.fact("allowed").as_str()), ("OUT_OF_SCOPE_V1", "20"));
}

/// A receiver that fails at first gets the same bytes again under the same id; one that is gone is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn t29_a_failed_delivery_comes_again_with_the_same_bytes() {
    let service = Service::start().await;
    let notifier = Notifier::start(&service).await;
    let sender = service.account(false).await;
    let failing = Receiver::start(|number| if number < 2 { StatusCode::BAD_GATEWAY } else { StatusCode::OK }).await;
    let gone = Receiver::start(|_| StatusCode::GONE).await;
    register(&notifier.channel, &sender, &failing.url).await.unwrap();
    register(&notifier.channel, &sender, &gone.url).await.unwrap();
    let client = notifier.database.connect().await;
    // It need not hear that the other one is switched off.
    client.execute("UPDATE endpoint SET types = '{1, 2, 3}' WHERE url = $1", &[&failing.url]).await.unwrap();
    sender.story(1, Routing::Parallel).await;
    // The schedule's pauses pass at once.
    let pass = "UPDATE delivery SET next_at = next_at - interval '1 day' WHERE state = 1 AND attempts > 0 AND lease_until IS NULL";
    let over = "SELECT count(*) FROM delivery WHERE state = 4";
    let ids = || failing.received().iter().map(|one| one.header("webhook-id").to_owned()).collect::<BTreeSet<_>>();
    for _ in 0..200 {
        if ids().len() == 3 && notifier.database.number(over).await == 3 {
            break;
        }
        client.execute(pass, &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ids().len(), 3, "all three events");
    let mut bodies: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for one in failing.received() {
        bodies.entry(one.header("webhook-id").to_owned()).or_default().insert(one.body);
    }
    assert!(bodies.values().all(|bodies| bodies.len() == 1), "the body of an event never changes");
    assert_eq!(failing.received().len(), 5, "two failures, then each of three once");
    let order: Vec<_> = failing.received().iter().skip(2).map(|one| one.json()["data"]["sequence"].clone()).collect();
    assert_eq!(order, ["1", "2", "3"], "a later event waits for the earlier");
    assert_eq!(gone.received().len(), 1, "T-35: 410 ends it");
    assert_eq!(notifier.database.number(over).await, 3);
}
