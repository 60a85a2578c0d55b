//! What is believed of a token.

use chrono::TimeDelta;
use countersign_chassis::clock::Clock;
use countersign_envelope::oidc::{Oidc, OidcConfig};
use serde_json::{Value, json};

use crate::issuer::Issuer;
use crate::signer::{Signer, encode, rsa_pem, sign_by_secret};
use crate::{ACCOUNT, AUDIENCE, START, claims, config, refused, start, verifier, verifier_by, verify};

const EACH: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

fn signers() -> [Signer; 4] {
    [Signer::rsa("r"), Signer::p256("p"), Signer::p384("q"), Signer::ed25519("e")]
}

fn for_algorithm<'a>(signers: &'a [Signer; 4], algorithm: &str) -> &'a Signer {
    &signers[match algorithm {
        "ES256" => 1,
        "ES384" => 2,
        "EdDSA" => 3,
        _ => 0,
    }]
}

/// An issuer with one key, who verifies its tokens, and the claims of a good one.
async fn stage() -> (Issuer, Signer, Oidc, Value) {
    let signer = Signer::ed25519("one");
    let issuer = Issuer::start(vec![signer.jwk()]).await;
    let (oidc, _) = verifier(&issuer);
    let claims = claims(&issuer);
    (issuer, signer, oidc, claims)
}

/// `claims` with one changed, or without it.
fn with(claims: &Value, name: &str, value: Option<Value>) -> Value {
    let mut claims = claims.clone();
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    claims
}

#[tokio::test]
async fn a_good_token_of_each_algorithm_is_believed() {
    let signers = signers();
    let issuer = Issuer::start(signers.iter().map(Signer::jwk).collect()).await;
    let (oidc, _) = verifier(&issuer);
    for algorithm in EACH {
        let signer = for_algorithm(&signers, algorithm);
        let token = signer.sign_as(&json!({"alg": algorithm, "kid": signer.id}), &claims(&issuer));
        let identity = verify(&oidc, &token).await.unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        assert_eq!(identity.account.to_string(), ACCOUNT);
        assert!(!identity.livemode, "test mode unless said otherwise");
        assert_eq!(identity.scopes.into_iter().collect::<Vec<_>>(), ["envelopes.read", "envelopes.write"]);
        assert_eq!(identity.expires_at, start() + TimeDelta::seconds(300 + 30), "with the leeway");
    }
    assert_eq!((issuer.described(), issuer.asked()), (1, 1));
}

#[tokio::test]
async fn an_algorithm_has_to_fit_its_key() {
    let signers = signers();
    let issuer = Issuer::start(signers.iter().map(Signer::jwk).collect()).await;
    let (oidc, _) = verifier(&issuer);
    for algorithm in EACH {
        for signer in &signers {
            if std::ptr::eq(signer, for_algorithm(&signers, algorithm)) {
                continue;
            }
            let token = signer.sign_as(&json!({"alg": algorithm, "kid": signer.id}), &claims(&issuer));
            assert_eq!(refused(&oidc, &token).await, "The token's algorithm does not fit its key.");
        }
    }
    // The issuer may mean a key for one algorithm alone.
    issuer.publish(vec![signers[0].jwk_with(&json!({"kid": "r", "alg": "PS256"}))]);
    let (oidc, _) = verifier(&issuer);
    let sign = |algorithm| signers[0].sign_as(&json!({"alg": algorithm, "kid": "r"}), &claims(&issuer));
    assert!(verify(&oidc, &sign("PS256")).await.is_ok());
    assert_eq!(refused(&oidc, &sign("RS256")).await, "The token's algorithm does not fit its key.");
    // Said to be by the one padding, signed by the other.
    let token = sign("RS256");
    let (_, signature) = token.rsplit_once('.').unwrap();
    let message = sign("PS256");
    let (message, _) = message.rsplit_once('.').unwrap();
    assert_eq!(refused(&oidc, &format!("{message}.{signature}")).await, "The token's signature is wrong.");
}

#[tokio::test]
async fn public_keys_are_not_shared_secrets_and_none_is_no_signature() {
    let signer = Signer::rsa("r");
    let secret = encode("c2VjcmV0");
    let symmetric = json!({"kty": "oct", "kid": "s", "k": secret, "alg": "HS256"});
    let issuer = Issuer::start(vec![signer.jwk(), symmetric]).await;
    let (oidc, _) = verifier(&issuer);
    let (claims, pem, jwk) = (claims(&issuer), rsa_pem(), signer.jwk().to_string());
    for (kid, secret) in
        [("r", pem.as_bytes()), ("r", pem.trim().as_bytes()), ("r", jwk.as_bytes()), ("s", b"c2VjcmV0")]
    {
        for algorithm in ["HS256", "HS384", "HS512"] {
            let token = sign_by_secret(secret, &json!({"alg": algorithm, "kid": kid}), &claims);
            assert_eq!(refused(&oidc, &token).await, "The token's algorithm is not allowed.");
        }
        // The header says RSA, the signature is none.
        let token = sign_by_secret(secret, &json!({"alg": "RS256", "kid": "r"}), &claims);
        assert_eq!(refused(&oidc, &token).await, "The token's signature is wrong.");
    }
    for algorithm in ["none", "None", "NONE", "nOnE", "", "ES512", "ES256K", "rs256", "RSA-OAEP"] {
        let header = encode(json!({"alg": algorithm, "kid": "r"}).to_string());
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{}.{signature}", encode(claims.to_string()));
            assert_eq!(refused(&oidc, &token).await, "The token's algorithm is not allowed.");
        }
    }
    let unsigned = signer.sign(&claims);
    let (message, _) = unsigned.rsplit_once('.').unwrap();
    assert_eq!(refused(&oidc, &format!("{message}.")).await, "The token's signature is wrong.");
}

#[tokio::test]
async fn keys_that_a_token_brings_along_are_not_looked_at() {
    let (issuer, signer, oidc, claims) = stage().await;
    let mallory = Signer::ed25519("one");
    let elsewhere = Issuer::start(vec![mallory.jwk()]).await;
    let jku = format!("{}/jwks", elsewhere.url);
    for brought in [json!({"jwk": mallory.jwk()}), json!({"jku": jku}), json!({"x5u": jku}), json!({"x5c": ["AAAA"]})] {
        let mut header = json!({"alg": "EdDSA", "kid": "one"});
        header.as_object_mut().unwrap().extend(brought.as_object().unwrap().clone());
        assert_eq!(refused(&oidc, &mallory.sign_as(&header, &claims)).await, "The token's signature is wrong.");
        assert!(verify(&oidc, &signer.sign_as(&header, &claims)).await.is_ok());
    }
    assert_eq!((issuer.asked(), elsewhere.asked()), (1, 0));
}

#[tokio::test]
async fn the_header_is_as_it_has_to_be() {
    let (_issuer, signer, oidc, claims) = stage().await;
    let header = |name: &str, value: Value| with(&json!({"alg": "EdDSA", "kid": "one"}), name, Some(value));
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"] {
        assert!(verify(&oidc, &signer.sign_as(&header("typ", json!(typ)), &claims)).await.is_ok(), "{typ}");
    }
    for typ in [json!("logout+jwt"), json!("dpop+jwt"), json!(""), json!("é+jwt-application"), json!(1), Value::Null] {
        let reason = refused(&oidc, &signer.sign_as(&header("typ", typ), &claims)).await;
        assert_eq!(reason, "The token is not of the type JWT or at+jwt.");
    }
    for crit in [json!(["exp"]), json!([]), Value::Null] {
        let reason = refused(&oidc, &signer.sign_as(&header("crit", crit), &claims)).await;
        assert_eq!(reason, "The token asks for an extension that is not known here.");
    }
    assert_eq!(refused(&oidc, &signer.sign_as(&header("kid", json!(1)), &claims)).await, "The token is not a JWT.");
    assert_eq!(
        refused(&oidc, &signer.sign_as(&header("alg", json!(["EdDSA"])), &claims)).await,
        "The token's algorithm is not allowed."
    );
    let good = signer.sign(&claims);
    for bad in [format!("{good}.x"), format!("x.{good}"), format!("{good}.x.y"), "..".into(), good.replace('.', "")] {
        assert_eq!(refused(&oidc, &bad).await, "The token is not a JWT.");
    }
    let long = signer.sign(&with(&claims, "padding", Some(json!("x".repeat(6_200)))));
    assert!(long.len() > 8 * 1024);
    assert_eq!(refused(&oidc, &long).await, "The token is longer than 8192 octets.");
}

#[tokio::test]
async fn claims_are_as_they_have_to_be() {
    let (issuer, signer, oidc, claims) = stage().await;
    let (issued, audience) = ("The token is of another issuer.", "The token is for another audience.");
    let subject = "The token needs a subject of 1 to 255 characters.";
    let account = "The token's account is not the id of an account.";
    let cases: [(&str, Option<Value>, &str); 31] = [
        ("iss", None, issued),
        ("iss", Some(json!("mallory")), issued),
        ("iss", Some(json!(format!("{}/", issuer.url))), issued),
        ("iss", Some(json!([issuer.url])), issued),
        ("aud", None, audience),
        ("aud", Some(json!("mallory")), audience),
        ("aud", Some(json!(format!("{AUDIENCE}/"))), audience),
        ("aud", Some(json!([])), audience),
        ("aud", Some(json!(["mallory", 1])), audience),
        ("exp", None, "The token has no expiry."),
        ("exp", Some(json!("2030")), "The token's expiry is not a time."),
        ("exp", Some(json!(1e300)), "The token's expiry is not a time."),
        ("exp", Some(json!(START - 30)), "The token has expired."),
        ("exp", Some(json!(-1)), "The token has expired."),
        ("nbf", Some(json!(START + 31)), "The token is not valid yet."),
        ("nbf", Some(json!("soon")), "The token's beginning is not a time."),
        ("sub", None, subject),
        ("sub", Some(json!("")), subject),
        ("sub", Some(json!(7)), subject),
        ("sub", Some(json!("é".repeat(256))), subject),
        ("countersign_account", None, "The token names no account."),
        ("countersign_account", Some(json!("mallory")), account),
        ("countersign_account", Some(json!("")), account),
        ("countersign_account", Some(json!(ACCOUNT.replace("acc_", "env_"))), account),
        ("countersign_account", Some(json!([ACCOUNT])), account),
        ("countersign_account", Some(json!("acc_ééééééééééééé")), account),
        ("countersign_livemode", Some(json!("true")), "The token's mode is neither true nor false."),
        ("countersign_livemode", Some(Value::Null), "The token's mode is neither true nor false."),
        ("scope", Some(json!(["a"])), "The token's scopes cannot be read."),
        ("scope", Some(Value::Null), "The token's scopes cannot be read."),
        ("nbf", Some(Value::Null), "The token's beginning is not a time."),
    ];
    for (name, value, reason) in cases {
        let token = signer.sign(&with(&claims, name, value.clone()));
        assert_eq!(refused(&oidc, &token).await, reason, "{name}: {value:?}");
    }
    for (name, value) in [
        ("aud", json!(["other", AUDIENCE])),
        ("exp", json!(START - 29)),
        ("exp", json!(1.9e9)),
        ("nbf", json!(START + 30)),
        ("sub", json!("é".repeat(255))),
        ("iat", json!(START + 10_000)),
    ] {
        let token = signer.sign(&with(&claims, name, Some(value.clone())));
        assert!(verify(&oidc, &token).await.is_ok(), "{name}: {value:?}");
    }
}

#[tokio::test]
async fn a_token_ends_by_the_clock_of_the_service() {
    let signer = Signer::ed25519("one");
    let issuer = Issuer::start(vec![signer.jwk()]).await;
    let (oidc, clock) = verifier(&issuer);
    let token = signer.sign(&claims(&issuer));
    clock.advance(TimeDelta::seconds(329));
    assert!(verify(&oidc, &token).await.is_ok());
    clock.advance(TimeDelta::seconds(1));
    assert_eq!(refused(&oidc, &token).await, "The token has expired.");
}

#[tokio::test]
async fn modes_scopes_and_pseudonyms_come_from_the_claims() {
    let (issuer, signer, oidc, claims) = stage().await;
    let identity = async |name: &str, value: Option<Value>| {
        verify(&oidc, &signer.sign(&with(&claims, name, value))).await.unwrap_or_else(|error| panic!("{error}"))
    };
    assert!(identity("countersign_livemode", Some(json!(true))).await.livemode);
    assert!(!identity("countersign_livemode", Some(json!(false))).await.livemode);
    assert!(identity("scope", None).await.scopes.is_empty());
    assert!(identity("scope", Some(json!("  "))).await.scopes.is_empty());
    assert_eq!(identity("scope", Some(json!(" b a  b "))).await.scopes.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(identity("scp", Some(json!(["x"]))).await.scopes.len(), 2, "`scope` goes before `scp`");
    let bare = with(&claims, "scope", None);
    for scp in [json!("a b"), json!(["b", "a"])] {
        let found = verify(&oidc, &signer.sign(&with(&bare, "scp", Some(scp)))).await.ok().unwrap();
        assert_eq!(found.scopes.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
    let one = identity("countersign_livemode", Some(json!(true))).await.key;
    assert_eq!(one, identity("scope", None).await.key, "the same for the same subject");
    let uuid = one.uuid();
    assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
    assert_ne!(one, identity("sub", Some(json!("mallory"))).await.key);
    let named = OidcConfig {
        oidc_account_claim: "https://example.com/account".into(),
        oidc_mode_claim: "live".into(),
        ..config(&issuer)
    };
    let (oidc, _) = verifier_by(&named);
    let mut claims = with(&claims, "live", Some(json!(true)));
    assert_eq!(refused(&oidc, &signer.sign(&claims)).await, "The token names no account.");
    claims["https://example.com/account"] = json!(ACCOUNT);
    assert!(verify(&oidc, &signer.sign(&claims)).await.ok().unwrap().livemode);
}

#[test]
fn settings_are_complete_and_safe_or_refused() {
    countersign_chassis::grpc::install_tls_provider();
    let new = |change: fn(&mut OidcConfig)| {
        let mut config = OidcConfig {
            oidc_issuer: Some("https://id.example.com".into()),
            oidc_audience: Some(AUDIENCE.into()),
            ..OidcConfig::default()
        };
        change(&mut config);
        Oidc::new(&config, Clock::manual(start()))
    };
    assert!(new(|_| {}).unwrap().is_some());
    assert!(new(|config| config.oidc_issuer = None).unwrap().is_none());
    assert!(new(|config| config.oidc_issuer = Some(String::new())).unwrap().is_none());
    assert!(Oidc::new(&OidcConfig::default(), Clock::manual(start())).unwrap().is_none());
    for audience in [None, Some("")] {
        let mut config = OidcConfig { oidc_issuer: Some("https://id.example.com".into()), ..OidcConfig::default() };
        config.oidc_audience = audience.map(str::to_owned);
        let error = Oidc::new(&config, Clock::manual(start())).err().unwrap();
        assert!(error.to_string().contains("COUNTERSIGN_OIDC_AUDIENCE is needed"), "{error}");
    }
    for good in ["http://localhost:1", "http://127.9.9.9", "http://[::1]:8080/realm", "https://id.example.com/tenant/"]
    {
        let config = OidcConfig {
            oidc_issuer: Some(good.into()),
            oidc_audience: Some(AUDIENCE.into()),
            ..OidcConfig::default()
        };
        assert!(Oidc::new(&config, Clock::manual(start())).unwrap().is_some(), "{good}");
    }
    for bad in [
        "x",
        "http://id.example.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "ftp://localhost",
        "https://u:p@id.example.com",
        "https://id.example.com#x",
        "https://id.example.com?x=1",
    ] {
        let issuer =
            OidcConfig { oidc_issuer: Some(bad.into()), oidc_audience: Some(AUDIENCE.into()), ..OidcConfig::default() };
        assert!(Oidc::new(&issuer, Clock::manual(start())).is_err(), "{bad}");
    }
    assert!(new(|config| config.oidc_jwks_url = Some("http://id.example.com/jwks".into())).is_err());
    assert!(new(|config| config.oidc_jwks_url = Some("http://127.0.0.1/jwks".into())).is_ok());
    assert!(new(|config| config.oidc_account_claim = String::new()).is_err());
    assert!(new(|config| config.oidc_mode_claim = config.oidc_account_claim.clone()).is_err());
    assert!(new(|config| config.oidc_audience = Some("x".repeat(3_000))).is_err());
}
