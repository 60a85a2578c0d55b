//! The key of the seals: where it is, and how it is asked to sign.
//!
//! It must never leave here, nor be shown.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use countersign_paper::{Algorithm, Identity};

/// A key that may be anywhere: in this process, in a module (PKCS#11), in a key service.
#[tonic::async_trait]
pub trait SealKey: Send + Sync {
    /// Its certificates in DER, its own first.
    fn chain(&self) -> &[Vec<u8>];

    /// How it signs; the same as its certificate says.
    fn algorithm(&self) -> Algorithm;

    /// Signs a message of some hundred bytes, which it hashes by itself: PKCS#1 v1.5 with SHA-256, or ECDSA with SHA-256 in DER.
    /// May be asked again for the same message.
    async fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>>;
}

/// A key that was read from a file.
pub struct FileKey {
    chain: Vec<Vec<u8>>,
    pair: Pair,
    random: SystemRandom,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl FileKey {
    /// From a key in PKCS#8 and its certificates, its own first.
    pub(super) fn new(pkcs8: &[u8], chain: Vec<Vec<u8>>) -> Result<Self, String> {
        let identity = Identity::new(&chain).map_err(|why| why.to_string())?;
        let random = SystemRandom::new();
        let pair = match identity.algorithm() {
            Algorithm::RsaSha256 => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::Rsa),
            Algorithm::P256Sha256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map(Pair::P256),
        };
        let pair = pair.map_err(|_| "the key is not one of the kind that its certificate says".to_owned())?;
        Ok(Self { chain, pair, random })
    }
}

#[tonic::async_trait]
impl SealKey for FileKey {
    fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::RsaSha256,
            Pair::P256(_) => Algorithm::P256Sha256,
        }
    }

    async fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let failed = |_| anyhow::anyhow!("signing failed");
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Pair::P256(pair) => Ok(pair.sign(&self.random, message).map_err(failed)?.as_ref().to_vec()),
        }
    }
}
