//! Which keys count, where they come from, and how often the issuer is asked.

use std::time::Duration;

use axum::http::StatusCode;
use chrono::TimeDelta;
use countersign_envelope::oidc::{OidcConfig, Rejected};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::issuer::{Answer, Issuer};
use crate::signer::{Signer, encode};
use crate::{claims, config, refused, verifier, verifier_by, verify};

const UNKNOWN: &str = "The token's key is not one of the issuer's.";

/// Claims that outlast each test.
fn lasting(issuer: &Issuer) -> Value {
    let mut claims = claims(issuer);
    claims["exp"] = json!(crate::START + 10 * 86_400);
    claims
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_in_a_while() {
    let (one, other) = (Signer::ed25519("one"), Signer::ed25519("other"));
    let issuer = Issuer::start(vec![one.jwk()]).await;
    let (oidc, clock) = verifier(&issuer);
    let claims = lasting(&issuer);
    assert!(verify(&oidc, &one.sign(&claims)).await.is_ok());
    // Just asked: not again, whatever comes.
    for garbage in 0..20 {
        let token = Signer::ed25519(&format!("garbage-{garbage}")).sign(&claims);
        assert_eq!(refused(&oidc, &token).await, UNKNOWN);
    }
    assert_eq!(issuer.asked(), 1);
    clock.advance(TimeDelta::seconds(29));
    assert_eq!(refused(&oidc, &other.sign(&claims)).await, UNKNOWN);
    assert_eq!(issuer.asked(), 1);
    // Later once, at the same time too.
    clock.advance(TimeDelta::seconds(1));
    let token = other.sign(&claims);
    let answers = join_all((0..20).map(|_| verify(&oidc, &token))).await;
    assert!(answers.iter().all(|answer| *answer == Err(Rejected::Invalid(UNKNOWN))));
    assert_eq!(issuer.asked(), 2);
    // Rotated: the new key is picked up, the old one goes.
    issuer.publish(vec![other.jwk()]);
    clock.advance(TimeDelta::seconds(30));
    assert!(verify(&oidc, &token).await.is_ok());
    assert_eq!(refused(&oidc, &one.sign(&claims)).await, UNKNOWN);
    assert_eq!(issuer.asked(), 3);
    // Tokens of others never make us ask.
    clock.advance(TimeDelta::seconds(30));
    let mut foreign = claims.clone();
    foreign["iss"] = json!("https://id.example.org");
    assert_eq!(refused(&oidc, &one.sign(&foreign)).await, "The token is of another issuer.");
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn a_key_that_was_withdrawn_ends_within_ten_minutes() {
    let (one, other) = (Signer::ed25519("one"), Signer::ed25519("other"));
    let issuer = Issuer::start(vec![one.jwk()]).await;
    let (oidc, clock) = verifier(&issuer);
    let token = one.sign(&lasting(&issuer));
    assert!(verify(&oidc, &token).await.is_ok());
    issuer.publish(vec![other.jwk()]);
    clock.advance(TimeDelta::seconds(599));
    assert!(verify(&oidc, &token).await.is_ok());
    assert_eq!(issuer.asked(), 1);
    clock.advance(TimeDelta::seconds(1));
    assert_eq!(refused(&oidc, &token).await, UNKNOWN);
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn without_the_issuer_old_keys_go_on_for_a_day() {
    let one = Signer::ed25519("one");
    let issuer = Issuer::start(vec![one.jwk()]).await;
    let (oidc, clock) = verifier(&issuer);
    let token = one.sign(&lasting(&issuer));
    assert!(verify(&oidc, &token).await.is_ok());
    issuer.tell(Answer::Status(StatusCode::SERVICE_UNAVAILABLE));
    clock.advance(TimeDelta::minutes(10));
    for _ in 0..5 {
        assert!(verify(&oidc, &token).await.is_ok());
    }
    assert_eq!(issuer.asked(), 2, "asked in vain, and not again at once");
    clock.advance(TimeDelta::hours(24) - TimeDelta::minutes(10) - TimeDelta::seconds(1));
    assert!(verify(&oidc, &token).await.is_ok());
    clock.advance(TimeDelta::seconds(1));
    assert_eq!(verify(&oidc, &token).await, Err(Rejected::Unavailable));
    issuer.publish(vec![one.jwk()]);
    assert_eq!(verify(&oidc, &token).await, Err(Rejected::Unavailable), "asked less than 30 s ago");
    clock.advance(TimeDelta::seconds(30));
    assert!(verify(&oidc, &token).await.is_ok());
    // A clock that is set back neither keeps keys for longer nor keeps us from asking.
    issuer.publish(vec![]);
    clock.advance(-TimeDelta::hours(48));
    assert_eq!(refused(&oidc, &token).await, UNKNOWN);
}

#[tokio::test]
async fn first_use_by_many_asks_once_even_if_the_first_gives_up() {
    let one = Signer::ed25519("one");
    let issuer = Issuer::start(vec![one.jwk()]).await;
    issuer.delay(Duration::from_millis(100));
    let (oidc, _) = verifier(&issuer);
    let token = one.sign(&claims(&issuer));
    let gives_up = tokio::time::timeout(Duration::from_millis(30), verify(&oidc, &token)).await;
    assert!(gives_up.is_err());
    let answers = join_all((0..50).map(|_| verify(&oidc, &token))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((issuer.described(), issuer.asked()), (1, 1));
}

#[tokio::test]
async fn old_keys_are_used_while_one_caller_waits_for_new_ones() {
    let one = Signer::ed25519("one");
    let issuer = Issuer::start(vec![one.jwk()]).await;
    let (oidc, clock) = verifier(&issuer);
    let token = one.sign(&lasting(&issuer));
    assert!(verify(&oidc, &token).await.is_ok());
    clock.advance(TimeDelta::minutes(11));
    issuer.delay(Duration::from_secs(2));
    let (waiting, went_on) = tokio::join!(verify(&oidc, &token), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        tokio::time::timeout(Duration::from_millis(500), verify(&oidc, &token)).await
    });
    assert!(waiting.is_ok() && went_on.unwrap().is_ok());
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn answers_that_are_not_a_fitting_set_are_refused() {
    let one = Signer::ed25519("one");
    let keys = |count: usize| vec![one.jwk_with(&json!({"kid": "other"})); count];
    let large = |size: usize| {
        let mut set = json!({"keys": [one.jwk()], "padding": ""});
        set["padding"] = json!("x".repeat(size - set.to_string().len()));
        set.to_string().into_bytes()
    };
    for bad in [
        Answer::Raw(large(256 * 1024 + 1)),
        Answer::Raw(large(4 * 1024 * 1024)),
        Answer::Raw(b"{".to_vec()),
        Answer::Raw(b"[]".to_vec()),
        Answer::Raw(br#"{"keys": {}}"#.to_vec()),
        Answer::Redirect(StatusCode::FOUND),
        Answer::Redirect(StatusCode::PERMANENT_REDIRECT),
        Answer::Status(StatusCode::NO_CONTENT),
        Answer::Keys([vec![one.jwk()], keys(100)].concat()),
    ] {
        let issuer = Issuer::start(Vec::new()).await;
        issuer.tell(bad);
        let (oidc, _) = verifier(&issuer);
        assert_eq!(verify(&oidc, &one.sign(&claims(&issuer))).await, Err(Rejected::Unavailable));
        assert_eq!(issuer.asked(), 1);
    }
    for good in [Answer::Raw(large(256 * 1024)), Answer::Keys([vec![one.jwk()], keys(99)].concat())] {
        let issuer = Issuer::start(Vec::new()).await;
        issuer.tell(good);
        let (oidc, _) = verifier(&issuer);
        assert!(verify(&oidc, &one.sign(&claims(&issuer))).await.is_ok());
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let one = Signer::ed25519("one");
    let issuer = Issuer::start(vec![one.jwk()]).await;
    issuer.delay(Duration::from_secs(60));
    let (oidc, _) = verifier(&issuer);
    let token = one.sign(&claims(&issuer));
    let answer = tokio::time::timeout(Duration::from_secs(9), verify(&oidc, &token)).await.unwrap();
    assert_eq!(answer, Err(Rejected::Unavailable));
}

#[tokio::test]
async fn the_description_has_to_be_the_issuers_own() {
    let one = Signer::ed25519("one");
    for described in [
        json!({}),
        json!({"issuer": "https://id.example.com", "jwks_uri": "SELF/jwks"}),
        json!({"issuer": "SELF/", "jwks_uri": "SELF/jwks"}),
        json!({"issuer": "SELF"}),
        json!({"issuer": "SELF", "jwks_uri": "http://192.0.2.1/jwks"}),
        json!({"issuer": "SELF", "jwks_uri": "file:///etc/passwd"}),
    ] {
        let issuer = Issuer::start(vec![one.jwk()]).await;
        issuer.describe(described.to_string().replace("SELF", &issuer.url).parse().unwrap());
        let (oidc, _) = verifier(&issuer);
        assert_eq!(verify(&oidc, &one.sign(&claims(&issuer))).await, Err(Rejected::Unavailable), "{described}");
        assert_eq!(issuer.asked(), 0);
    }
    // An issuer without discovery, or with a slash at its end.
    let issuer = Issuer::start(vec![one.jwk()]).await;
    let slashed = format!("{}/", issuer.url);
    let mut claims = claims(&issuer);
    claims["iss"] = json!(slashed);
    issuer.describe(json!({"issuer": slashed, "jwks_uri": format!("{}/jwks", issuer.url)}));
    let (oidc, _) = verifier_by(&OidcConfig { oidc_issuer: Some(slashed.clone()), ..config(&issuer) });
    assert!(verify(&oidc, &one.sign(&claims)).await.is_ok());
    let direct = Some(format!("{}/jwks", issuer.url));
    let set = OidcConfig { oidc_issuer: Some(slashed), oidc_jwks_url: direct, ..config(&issuer) };
    let (oidc, _) = verifier_by(&set);
    assert!(verify(&oidc, &one.sign(&claims)).await.is_ok());
    assert_eq!((issuer.described(), issuer.asked()), (1, 2));
}

#[tokio::test]
async fn keys_for_other_ends_and_broken_ones_are_passed_over() {
    let (one, rsa, ec) = (Signer::ed25519("one"), Signer::rsa("one"), Signer::p256("one"));
    let short = rsa.jwk()["n"].as_str().unwrap()[..340].to_owned();
    let infinity = encode([0; 32]);
    let cases = [
        (&one, json!({"use": "enc"})),
        (&one, json!({"use": null})),
        (&one, json!({"key_ops": ["sign"]})),
        (&one, json!({"key_ops": "verify"})),
        (&one, json!({"alg": "ES256"})),
        (&one, json!({"alg": "HS256"})),
        (&one, json!({"kid": 1})),
        (&one, json!({"crv": "X25519"})),
        (&one, json!({"x": ""})),
        (&one, json!({"x": encode([1; 31])})),
        (&one, json!({"x": encode([1; 33])})),
        (&one, json!({"kty": "EC"})),
        (&rsa, json!({"e": "AQ"})),
        (&rsa, json!({"e": "AAAB"})),
        (&rsa, json!({"e": "BA"})),
        (&rsa, json!({"e": ""})),
        (&rsa, json!({"e": "AQAAAAAB"})),
        (&rsa, json!({"n": ""})),
        (&rsa, json!({"n": short})),
        (&rsa, json!({"n": encode([0xff; 513])})),
        (&ec, json!({"crv": "P-384"})),
        (&ec, json!({"crv": "P-521"})),
        (&ec, json!({"x": encode([1; 31])})),
    ];
    for (signer, wrong) in cases {
        let mut members = json!({"kid": "one"});
        members.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let issuer = Issuer::start(vec![signer.jwk_with(&members), json!(null), json!({"kty": "new"})]).await;
        let (oidc, _) = verifier(&issuer);
        let reason = refused(&oidc, &signer.sign(&claims(&issuer))).await;
        let known = [UNKNOWN, "The token's algorithm does not fit its key."];
        assert!(known.contains(&reason), "{wrong}: {reason}");
    }
    // A point that is not on the curve.
    let issuer = Issuer::start(vec![ec.jwk_with(&json!({"kid": "one", "x": infinity, "y": infinity}))]).await;
    let (oidc, _) = verifier(&issuer);
    assert_eq!(refused(&oidc, &ec.sign(&claims(&issuer))).await, "The token's signature is wrong.");
    let issuer = Issuer::start(vec![one.jwk_with(&json!({"kid": "one", "key_ops": ["verify"]}))]).await;
    let (oidc, _) = verifier(&issuer);
    assert!(verify(&oidc, &one.sign(&claims(&issuer))).await.is_ok());
}

#[tokio::test]
async fn a_token_that_names_no_key_needs_the_only_one_that_fits() {
    let (one, other, ec) = (Signer::ed25519("one"), Signer::ed25519("other"), Signer::p256("ec"));
    let nameless =
        |signer: &Signer, issuer: &Issuer| signer.sign_as(&json!({"alg": signer.algorithm()}), &claims(issuer));
    let issuer = Issuer::start(vec![one.jwk(), ec.jwk()]).await;
    let (oidc, _) = verifier(&issuer);
    assert!(verify(&oidc, &nameless(&one, &issuer)).await.is_ok());
    assert!(verify(&oidc, &nameless(&ec, &issuer)).await.is_ok());
    assert_eq!(refused(&oidc, &nameless(&other, &issuer)).await, "The token's signature is wrong.");
    assert_eq!(refused(&oidc, &nameless(&Signer::p384("x"), &issuer)).await, UNKNOWN);
    issuer.publish(vec![one.jwk(), other.jwk(), ec.jwk()]);
    let (oidc, _) = verifier(&issuer);
    let reason = refused(&oidc, &nameless(&one, &issuer)).await;
    assert_eq!(reason, "The token does not say which of the issuer's keys signed it.");
    // Named alike, told apart by their kind alone.
    issuer.publish(vec![one.jwk(), ec.jwk_with(&json!({"kid": "one"}))]);
    let (oidc, _) = verifier(&issuer);
    assert!(verify(&oidc, &one.sign(&claims(&issuer))).await.is_ok());
}
