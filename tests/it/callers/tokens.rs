//! S1.39: callers with a token of an OpenID Connect issuer, at the real service over the wire.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use countersign::v1::{
    AccountSettings, ActorType, CreateAccountRequest, CreateEnvelopeRequest, EnvelopeStatus, GetCallerIdentityRequest,
    GetCallerIdentityResponse, Limits, Routing, Scope, SendEnvelopeRequest, UpdateAccountSettingsRequest,
};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::Config;
use countersign_test_support::client::request;
use countersign_test_support::notifier::register;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Errors as _, Notifier, Service};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::issuer::{AUDIENCE, Issuer, encode};
use super::{assert_denied, assert_nobody};

/// An account that there is not.
const ABSENT: &str = "acc_01h455vb4pex5vsknk084sn02q";
const SUBJECT: &str = "billing-service";

/// A service that believes an issuer, and an account.
struct Stand {
    service: Service,
    issuer: Issuer,
    account: String,
}

impl Stand {
    async fn start() -> Self {
        Self::start_by(Issuer::start().await, Clock::database()).await
    }

    async fn start_by(issuer: Issuer, clock: Clock) -> Self {
        let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
        let config = Config { oidc: issuer.config(), ..config(&database, &documents) };
        let service = Service::start_with(database, clock, documents, config).await;
        let account = account(&service).await;
        Self { service, issuer, account }
    }

    /// What a token of the account says, in test mode.
    fn claims(&self, subject: &str) -> Value {
        let now = self.service.clock.now().timestamp();
        json!({
            "iss": self.issuer.url,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": now,
            "exp": now + 300,
            "countersign_account": self.account,
            "scope": "envelopes.read envelopes.write",
        })
    }

    /// Who comes with a token. The account that they name besides it is never theirs.
    fn bearer(&self, token: &str) -> Caller {
        Caller { account: ABSENT.into(), token: token.into(), channel: self.service.channel.clone() }
    }

    fn caller(&self, claims: &Value) -> Caller {
        self.bearer(&self.issuer.sign(claims))
    }

    fn subject(&self, subject: &str) -> Caller {
        self.caller(&self.claims(subject))
    }

    /// An API key of the account.
    async fn key(&self, livemode: bool) -> Caller {
        self.service.key_of(&self.service.operator(&self.account), livemode).await
    }
}

/// An account that the operator makes.
async fn account(service: &Service) -> String {
    let request = CreateAccountRequest { name: "Tests Ltd".into(), ..Default::default() };
    // The operator names an account in each call; for one that makes them it does not matter which.
    service.operator(ABSENT).accounts().create_account(request).await.unwrap().into_inner().account.unwrap().id
}

/// The claims but for one.
fn but(claims: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims.clone();
    claims[name] = value.into();
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}

async fn identity(caller: &Caller) -> Result<GetCallerIdentityResponse, Status> {
    Ok(caller.accounts().get_caller_identity(GetCallerIdentityRequest {}).await?.into_inner())
}

async fn draft(caller: &Caller) -> String {
    caller.create(request(1, Routing::Parallel, false)).await.unwrap().id
}

/// S1.39, S1.26: a token acts for its account as far as its scopes go, and the history names who it was.
#[tokio::test(flavor = "multi_thread")]
async fn s1_39_a_token_acts_as_far_as_its_scopes_go() {
    let stand = Stand::start().await;
    let caller = stand.subject(SUBJECT);
    let draft = caller.create(request(1, Routing::Parallel, false)).await.unwrap();
    assert_eq!(draft.status(), EnvelopeStatus::Draft);
    assert_eq!(caller.get(&draft.id).await.unwrap().id, draft.id);
    assert_eq!(stand.key(false).await.get(&draft.id).await.unwrap().id, draft.id, "it is the account's");
    let send = SendEnvelopeRequest { envelope_id: draft.id.clone(), ..Default::default() };
    for refused in [
        caller.envelopes().send_envelope(send.clone()).await.map(drop),
        caller.create(request(1, Routing::Parallel, true)).await.map(drop),
        caller.void(&draft.id, "").await.map(drop),
    ] {
        let status = refused.unwrap_err();
        assert_denied("without the scope", &status);
        assert_eq!(status.fact("scope"), "envelopes.send");
    }
    let status = stand.caller(&without(&stand.claims(SUBJECT), "scope")).get(&draft.id).await.unwrap_err();
    assert_eq!((status.code(), status.fact("scope")), (Code::PermissionDenied, "envelopes.read".into()));
    assert_eq!(caller.get(&draft.id).await.unwrap().status(), EnvelopeStatus::Draft, "nothing happened");
    // Another day, with more scopes: still the same caller.
    let sender = stand.caller(&but(&stand.claims(SUBJECT), "scope", "envelopes.send"));
    let sent = sender.envelopes().send_envelope(send).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!(sent.status(), EnvelopeStatus::Sent);
    let key = identity(&caller).await.unwrap().key_id;
    let history = caller.history(&draft.id).await.unwrap();
    assert!(history.len() >= 2);
    let by_sender = history.iter().filter_map(|entry| entry.event.as_ref()?.actor.as_ref());
    let by_sender: Vec<_> = by_sender.filter(|actor| actor.r#type() == ActorType::Sender).collect();
    assert!(by_sender.len() >= 2 && by_sender.iter().all(|actor| actor.id == key), "{by_sender:?} by {key}");
    let text = format!("{history:?}");
    assert!(!text.contains(SUBJECT), "the subject is told nowhere");
}

/// S1.39, T-58: whose token it is, under a name that is always the same and does not say who they are.
#[tokio::test(flavor = "multi_thread")]
async fn s1_39_a_subject_is_known_by_one_pseudonym() {
    let stand = Stand::start().await;
    let claims = stand.claims(SUBJECT);
    let first = identity(&stand.caller(&claims)).await.unwrap();
    assert_eq!(
        (first.account_id.as_str(), first.livemode),
        (stand.account.as_str(), false),
        "test mode unless claimed"
    );
    assert_eq!(first.scopes, [Scope::EnvelopesRead as i32, Scope::EnvelopesWrite as i32]);
    assert!(first.key_id.starts_with("key_") && !first.key_id.contains(SUBJECT), "{}", first.key_id);
    let more = but(&claims, "scope", "openid webhooks.write no.such envelopes.read webhooks.write");
    let again = identity(&stand.caller(&but(&more, "countersign_livemode", true))).await.unwrap();
    assert_eq!(again.key_id, first.key_id, "the same subject");
    assert!(again.livemode);
    assert_eq!(
        again.scopes,
        [Scope::EnvelopesRead as i32, Scope::WebhooksWrite as i32],
        "what is not known is nothing"
    );
    let none = identity(&stand.caller(&without(&claims, "scope"))).await.unwrap();
    assert!(none.scopes.is_empty());
    for other in ["Billing-Service", "billing-service ", "mallory"] {
        assert_ne!(identity(&stand.subject(other)).await.unwrap().key_id, first.key_id, "{other}");
    }
    assert_ne!(identity(&stand.key(false).await).await.unwrap().key_id, first.key_id);
}

/// S1.39, T-55: modes and accounts are as far apart for tokens as for API keys.
#[tokio::test(flavor = "multi_thread")]
async fn s1_39_a_token_sees_one_mode_of_one_account() {
    let stand = Stand::start().await;
    let claims = stand.claims(SUBJECT);
    let test = stand.caller(&but(&claims, "countersign_livemode", false));
    let live = stand.caller(&but(&claims, "countersign_livemode", true));
    let foreign = stand.caller(&but(&claims, "countersign_account", account(&stand.service).await));
    let (test_key, live_key) = (stand.key(false).await, stand.key(true).await);
    let (in_test, in_live) = (draft(&test).await, draft(&live).await);
    for (what, caller, sees, sees_not) in [
        ("a test token", &test, Some(&in_test), &in_live),
        ("a live token", &live, Some(&in_live), &in_test),
        ("a test key", &test_key, Some(&in_test), &in_live),
        ("a live key", &live_key, Some(&in_live), &in_test),
        ("another account's token", &foreign, None, &in_test),
    ] {
        let status = caller.get(sees_not).await.expect_err(what);
        assert_eq!((status.code(), status.reason().as_str()), (Code::NotFound, "NOT_FOUND"), "{what}");
        if let Some(seen) = sees {
            let seen = caller.get(seen).await.expect(what);
            assert_eq!(seen.livemode, what.contains("live"), "{what}");
        }
    }
}

/// What is wrong with tokens, and such tokens.
fn bad_tokens(stand: &Stand) -> Vec<(&'static str, String)> {
    let (issuer, claims, now) = (&stand.issuer, stand.claims(SUBJECT), stand.service.clock.now().timestamp());
    let changed = |name: &str, value: Value| issuer.sign(&but(&claims, name, value));
    let good = issuer.sign(&claims);
    let parts: Vec<_> = good.split('.').collect();
    let none = encode(r#"{"alg":"none"}"#);
    let other = encode(but(&claims, "scope", "envelopes.send").to_string());
    let first = if parts[2].starts_with('A') { "B" } else { "A" };
    vec![
        ("of an unknown account", changed("countersign_account", ABSENT.into())),
        ("of what is no account", changed("countersign_account", "key_01h455vb4pex5vsknk084sn02q".into())),
        ("of a list of accounts", changed("countersign_account", json!([stand.account]))),
        ("of no account", issuer.sign(&without(&claims, "countersign_account"))),
        ("of no subject", issuer.sign(&without(&claims, "sub"))),
        ("expired", changed("exp", (now - 31).into())),
        ("without an end", issuer.sign(&without(&claims, "exp"))),
        ("not yet valid", changed("nbf", (now + 120).into())),
        ("for another audience", changed("aud", "https://other.example.com".into())),
        ("for no audience", issuer.sign(&without(&claims, "aud"))),
        ("of another issuer", changed("iss", "https://issuer.example.com".into())),
        ("of an unreadable mode", changed("countersign_livemode", "true".into())),
        ("of an impostor", issuer.impostor().sign(&claims)),
        ("of an unknown key", issuer.sign_as(&json!({"alg": "ES256", "kid": "another"}), &claims)),
        ("with other claims", format!("{}.{other}.{}", parts[0], parts[2])),
        ("with another signature", format!("{}.{}.{first}{}", parts[0], parts[1], &parts[2][1..])),
        ("with no signature", format!("{}.{}.", parts[0], parts[1])),
        ("cut short", good[..good.len() - 2].to_owned()),
        ("of alg none", format!("{none}.{}.", parts[1])),
        ("of alg none, and signed", format!("{none}.{}.{}", parts[1], parts[2])),
        ("of a shared secret", issuer.sign_as(&json!({"alg": "HS256", "kid": "key-of-2026"}), &claims)),
        ("of four parts", format!("{good}.{}", parts[2])),
        ("too long", changed("filler", "filler".repeat(1_500).into())),
        ("of dots", "..".into()),
        ("of nothing much", "a.b.c".into()),
        ("of garbage", format!("{}.{}.{}", encode([0xff; 40]), encode("[]"), encode([0; 64]))),
        ("like an API key", "cs_test_3yZe7dnotakey".into()),
        ("like a live API key with dots", "cs_live_3yZe7d.notakey.atall".into()),
        ("like a service token", "0123456789abcdef0123456789abcdef".into()),
    ]
}

/// S1.39, T-58: what is not believed is nobody's, whatever is wrong with it, and no part of it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn s1_39_a_bad_token_is_nobodys_and_is_not_quoted() {
    let stand = Stand::start().await;
    let caller = stand.subject(SUBJECT);
    let draft = draft(&caller).await;
    for (what, token) in bad_tokens(&stand) {
        let bad = stand.bearer(&token);
        let read = bad.get(&draft).await.expect_err(what);
        let written = bad.create(request(1, Routing::Parallel, false)).await.expect_err(what);
        for status in [read, written, identity(&bad).await.expect_err(what)] {
            assert_nobody(what, &status);
            let said = format!("{} {}", status.message(), String::from_utf8_lossy(status.details()));
            let parts = token.split('.').filter(|part| part.len() > 3);
            let secrets = [SUBJECT, ABSENT, &stand.account, AUDIENCE, &stand.issuer.url, "other.example.com"];
            for secret in parts.chain(secrets) {
                assert!(!said.contains(secret), "{what}: {said} quotes {secret}");
            }
        }
    }
    caller.get(&draft).await.expect("the good one goes on");
}

/// S1.39: while the issuer is out of reach nothing is known of its tokens; all else goes on. Its tokens end by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn s1_39_an_issuer_out_of_reach_is_waited_for() {
    let clock = Clock::manual(chrono::Utc::now());
    let mut stand = Stand::start_by(Issuer::start_down().await, clock.clone()).await;
    let (key, caller) = (stand.key(false).await, stand.subject(SUBJECT));
    let draft = draft(&key).await;
    for _ in 0..2 {
        let status = caller.get(&draft).await.unwrap_err();
        assert_eq!((status.code(), status.reason().as_str()), (Code::Unavailable, "UNAVAILABLE"));
        let retry = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("when to try again");
        assert!(retry > Duration::ZERO);
        key.get(&draft).await.expect("API keys go on");
    }
    let other = stand.caller(&but(&stand.claims(SUBJECT), "iss", "https://issuer.example.com"));
    assert_nobody("of another issuer", &other.get(&draft).await.unwrap_err());
    stand.issuer.come_up();
    clock.advance(TimeDelta::seconds(30));
    caller.get(&draft).await.expect("it is back");
    clock.advance(TimeDelta::seconds(299));
    caller.get(&draft).await.expect("clocks may differ by half a minute");
    clock.advance(TimeDelta::seconds(1));
    assert_nobody("expired", &caller.get(&draft).await.unwrap_err());
    key.get(&draft).await.expect("API keys go on");
}

/// Creates a draft by an idempotency key; returns its id and whether that was a replay.
async fn once(caller: &Caller, subject: &str) -> Result<(String, bool), Status> {
    let (subject, idempotency_key) = (subject.to_owned(), "decline-envelope-api-create-1".to_owned());
    let new = CreateEnvelopeRequest { subject, idempotency_key, ..request(1, Routing::Parallel, false) };
    let answer = caller.envelopes().create_envelope(new).await?;
    let replayed = answer.metadata().get("idempotency-replayed").is_some_and(|value| value == "true");
    Ok((answer.into_inner().envelope.unwrap().id, replayed))
}

/// S1.27, S1.39, C-30, T-56: idempotency keys belong to the account and mode, whoever acts for them.
#[tokio::test(flavor = "multi_thread")]
async fn c30_idempotency_keys_hold_for_tokens() {
    let stand = Stand::start().await;
    let claims = stand.claims(SUBJECT);
    let caller = stand.caller(&claims);
    let (id, replayed) = once(&caller, "Agreement").await.unwrap();
    assert!(!replayed);
    for (what, again) in [
        ("the same token", caller.clone()),
        ("a newer token", stand.caller(&but(&claims, "jti", "another"))),
        ("another subject", stand.subject("mallory")),
        ("an API key", stand.key(false).await),
    ] {
        assert_eq!(once(&again, "Agreement").await.unwrap(), (id.clone(), true), "{what}");
    }
    let status = once(&caller, "Another agreement").await.unwrap_err();
    assert_eq!((status.code(), status.reason().as_str()), (Code::AlreadyExists, "IDEMPOTENCY_MISMATCH"));
    for (what, claims) in [
        ("the other mode", but(&claims, "countersign_livemode", true)),
        ("another account", but(&claims, "countersign_account", account(&stand.service).await)),
    ] {
        let (other, replayed) = once(&stand.caller(&claims), "Agreement").await.expect(what);
        assert!(other != id && !replayed, "{what}");
    }
}

/// Lets the account's callers make one call a second.
async fn slow_down(stand: &Stand) {
    let limits = Limits { key_calls_per_second: 1, key_calls_burst: 1, ..Limits::default() };
    let settings = Some(AccountSettings { limits: Some(limits), ..AccountSettings::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["limits".into()] });
    let request = UpdateAccountSettingsRequest { settings, update_mask, ..Default::default() };
    stand.service.operator(&stand.account).accounts().update_account_settings(request).await.unwrap();
}

/// S1.39, T-71: a subject has a rate of its own, and a refused call takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn t71_rates_hold_for_tokens() {
    let stand = Stand::start().await;
    let (key, claims) = (stand.key(false).await, stand.claims(SUBJECT));
    let caller = stand.caller(&claims);
    slow_down(&stand).await;
    // A token more does not help: it is the subject who is counted.
    let another = stand.caller(&but(&claims, "jti", "another"));
    let callers = [&caller, &another, &caller, &another, &caller, &another];
    let started = Instant::now();
    let answers = join_all(callers.map(identity)).await;
    let took = started.elapsed();
    let (passed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(passed.len() == 1 || took >= Duration::from_secs(1), "{} within {took:?}", passed.len());
    assert!(!refused.is_empty());
    for status in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!((status.code(), status.reason().as_str()), (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED"));
        assert_eq!((status.fact("limit"), status.fact("allowed")), ("key_calls_per_second".into(), "1".into()));
        assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "{status:?}");
    }
    identity(&stand.subject("mallory")).await.expect("another subject");
    identity(&key).await.expect("an API key");
    let mut made = Vec::new();
    for _ in 0..100 {
        match once(&caller, "Agreement").await {
            Ok(answer) => made.push(answer),
            Err(status) => assert_eq!(status.reason(), "RATE_LIMIT_EXCEEDED"),
        }
        if made.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let [(first, replayed), (second, again)] = &made[..] else { panic!("{made:?}") };
    assert_eq!(first, second);
    assert!(!replayed && *again, "refused calls had not used the key");
}

/// S1.39: the notifier knows tokens as the envelope service does.
#[tokio::test(flavor = "multi_thread")]
async fn s1_39_webhooks_are_registered_with_a_token() {
    let stand = Stand::start().await;
    let notifier = Notifier::start(&stand.service).await;
    let claims = stand.claims(SUBJECT);
    let url = "http://127.0.0.1:9/hook";
    let may = stand.caller(&but(&claims, "scope", "webhooks.write"));
    register(&notifier.channel, &may, url).await.expect("with the scope");
    let status = register(&notifier.channel, &stand.caller(&claims), url).await.unwrap_err();
    assert_denied("without the scope", &status);
    let expired = stand.caller(&but(&claims, "exp", stand.service.clock.now().timestamp() - 31));
    assert_nobody("expired", &register(&notifier.channel, &expired, url).await.unwrap_err());
}
