//! An OpenID Connect issuer on this machine and the tokens that it signs. Never reaches beyond this machine.

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_envelope::oidc::OidcConfig;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// For whom its tokens are.
pub const AUDIENCE: &str = "https://countersign.example.com";
/// The name of its key.
const KEY: &str = "key-of-2026";

/// The issuer.
pub struct Issuer {
    pub url: String,
    pair: EcdsaKeyPair,
    up: Option<oneshot::Sender<()>>,
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pair() -> EcdsaKeyPair {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap()
}

impl Issuer {
    /// One that answers.
    pub async fn start() -> Self {
        let mut issuer = Self::start_down().await;
        issuer.come_up();
        issuer
    }

    /// One that hangs up on everybody until it comes up.
    pub async fn start_down() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (pair, (up, is_up)) = (pair(), oneshot::channel());
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let key = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y), "kid": KEY, "use": "sig"});
        let keys = json!({ "keys": [key] }).to_string();
        let description = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let app = Router::new().fallback(async move |uri: Uri| answer(&uri, description, keys));
        tokio::spawn(serve(listener, app, is_up));
        Self { url, pair, up: Some(up) }
    }

    pub fn come_up(&mut self) {
        self.up.take().unwrap().send(()).unwrap();
    }

    /// An impostor who calls itself by the same name, with keys of its own.
    pub fn impostor(&self) -> Self {
        Self { url: self.url.clone(), pair: pair(), up: None }
    }

    /// Settings that believe it.
    pub fn config(&self) -> OidcConfig {
        let (oidc_issuer, oidc_audience) = (Some(self.url.clone()), Some(AUDIENCE.into()));
        OidcConfig { oidc_issuer, oidc_audience, ..OidcConfig::default() }
    }

    /// A token as it makes them.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": "ES256", "typ": "at+jwt", "kid": KEY}), claims)
    }

    /// A token with that header.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encode(signature))
    }
}

fn answer(uri: &Uri, description: String, keys: String) -> Response {
    match uri.path() {
        "/.well-known/openid-configuration" => description.into_response(),
        "/keys" => keys.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn serve(listener: TcpListener, app: Router, mut is_up: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            told = &mut is_up => break told.unwrap_or_default(),
            accepted = listener.accept() => drop(accepted),
        }
    }
    axum::serve(listener, app).await.unwrap();
}
