//! Keys made for the test and tokens signed by them. Signs by `ring`, which is not what verifies.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

/// The one RSA key of the tests: they are slow to make.
static RSA: LazyLock<RsaPrivateKey> = LazyLock::new(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).unwrap());

enum Private {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key of an issuer.
pub struct Signer {
    pub id: String,
    private: Private,
    /// The public key but for `kid`.
    public: Value,
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub fn rsa(id: &str) -> Self {
        let der = RSA.to_pkcs1_der().unwrap();
        let private = Private::Rsa(RsaKeyPair::from_der(der.as_bytes()).unwrap());
        let public = json!({"kty": "RSA", "n": encode(RSA.n().to_bytes_be()), "e": encode(RSA.e().to_bytes_be())});
        Self { id: id.into(), private, public }
    }

    pub fn p256(id: &str) -> Self {
        Self::ec(id, &ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }

    pub fn p384(id: &str) -> Self {
        Self::ec(id, &ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")
    }

    fn ec(id: &str, algorithm: &'static ring::signature::EcdsaSigningAlgorithm, curve: &str) -> Self {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
        let public = json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)});
        Self { id: id.into(), private: Private::Ec(pair), public }
    }

    pub fn ed25519(id: &str) -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())});
        Self { id: id.into(), private: Private::Ed(pair), public }
    }

    /// As the issuer publishes it.
    pub fn jwk(&self) -> Value {
        self.jwk_with(&json!({ "kid": self.id, "use": "sig" }))
    }

    /// As the issuer publishes it, with these members besides the key itself.
    pub fn jwk_with(&self, members: &Value) -> Value {
        let mut jwk = self.public.clone();
        jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        jwk
    }

    /// The algorithm that fits it best.
    pub fn algorithm(&self) -> &'static str {
        match (&self.private, self.public["crv"].as_str()) {
            (Private::Rsa(_), _) => "RS256",
            (Private::Ec(_), Some("P-256")) => "ES256",
            (Private::Ec(_), _) => "ES384",
            (Private::Ed(_), _) => "EdDSA",
        }
    }

    fn signature(&self, message: &[u8], algorithm: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Private::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Private::Rsa(pair) => {
                let padding: &'static dyn RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token with that header.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let algorithm = header["alg"].as_str().unwrap_or_default();
        let signature = self.signature(message.as_bytes(), algorithm);
        format!("{message}.{}", encode(signature))
    }

    /// A token as an issuer makes it.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": self.algorithm(), "typ": "at+jwt", "kid": self.id}), claims)
    }
}

/// The public RSA key as text, as it lies about in files.
pub fn rsa_pem() -> String {
    RSA.to_public_key().to_public_key_pem(LineEnding::LF).unwrap()
}

/// A token under a shared secret.
pub fn sign_by_secret(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    format!("{message}.{}", encode(ring::hmac::sign(&key, message.as_bytes())))
}
