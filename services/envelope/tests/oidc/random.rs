//! Whatever comes in: never a panic, and never believed without a signature.

use std::sync::LazyLock;

use countersign_envelope::oidc::{Oidc, Rejected};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::issuer::Issuer;
use crate::signer::{Signer, encode};
use crate::{claims, verifier, verify};

struct Stage {
    runtime: Runtime,
    issuer: Issuer,
    signer: Signer,
    oidc: Oidc,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let signer = Signer::ed25519("e");
    let keys = vec![signer.jwk(), Signer::rsa("r").jwk(), Signer::p256("p").jwk(), Signer::p384("q").jwk()];
    let issuer = runtime.block_on(Issuer::start(keys));
    let (oidc, _) = verifier(&issuer);
    Stage { runtime, issuer, signer, oidc }
});

fn answer(token: &str) -> Result<(), Rejected> {
    STAGE.runtime.block_on(verify(&STAGE.oidc, token)).map(drop)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z]{1,4}", inner), 0..4)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

const HEADERS: [&str; 6] = ["alg", "kid", "typ", "crit", "jwk", "b64"];
const CLAIMS: [&str; 10] =
    ["iss", "aud", "exp", "nbf", "iat", "sub", "countersign_account", "countersign_livemode", "scope", "scp"];

proptest! {
    #[test]
    fn random_text_is_no_token(text in any::<String>()) {
        prop_assert!(matches!(answer(&text), Err(Rejected::Invalid(_))));
    }

    #[test]
    fn three_random_parts_are_no_token(parts in vec(vec(any::<u8>(), 0..200), 3), text in "[a-zA-Z0-9_=.-]{0,60}") {
        let token = parts.iter().map(encode).collect::<Vec<_>>().join(".");
        prop_assert!(matches!(answer(&token), Err(Rejected::Invalid(_))));
        prop_assert!(matches!(answer(&text), Err(Rejected::Invalid(_))));
    }

    #[test]
    fn good_claims_under_a_random_signature_are_not_believed(
        name in prop::sample::select(vec!["RS256", "PS512", "ES256", "ES384", "EdDSA", "HS256", "none"]),
        kid in prop::sample::select(vec!["e", "r", "p", "q", "x"]),
        signature in prop_oneof![
            vec(any::<u8>(), 0..300), vec(any::<u8>(), 64), vec(any::<u8>(), 96), vec(any::<u8>(), 256),
            Just(vec![0; 64]), Just(vec![0; 96]), Just(vec![0; 256]),
        ],
    ) {
        let header = encode(json!({"alg": name, "kid": kid}).to_string());
        let token = format!("{header}.{}.{}", encode(claims(&STAGE.issuer).to_string()), encode(signature));
        prop_assert!(matches!(answer(&token), Err(Rejected::Invalid(_))));
    }

    #[test]
    fn no_header_or_claim_makes_it_panic(
        header in (prop::sample::select(HEADERS.to_vec()), any_json()),
        claim in (prop::sample::select(CLAIMS.to_vec()), any_json()),
    ) {
        let mut headers = json!({"alg": "EdDSA", "kid": "e"});
        let mut claims = claims(&STAGE.issuer);
        claims[claim.0] = claim.1;
        prop_assert_ne!(answer(&STAGE.signer.sign_as(&headers, &claims)), Err(Rejected::Unavailable));
        headers[header.0] = header.1;
        prop_assert_ne!(answer(&STAGE.signer.sign_as(&headers, &claims)), Err(Rejected::Unavailable));
    }

    #[test]
    fn a_changed_token_is_not_believed(at in any::<prop::sample::Index>(), to in "[a-zA-Z0-9_.-]") {
        let good = STAGE.signer.sign(&claims(&STAGE.issuer));
        let at = at.index(good.len());
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        prop_assert_eq!(answer(&changed).is_ok(), changed == good);
    }
}
