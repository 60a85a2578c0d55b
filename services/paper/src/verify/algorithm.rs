//! Checks one signature with one public key.
//!
//! It must never take what is too weak today: no SHA-1, no RSA below 2,048 bits.

use der::asn1::ObjectIdentifier;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::cms::Hash;
use super::oid;

/// Whether `key` made `signature` of `message`. `hash` is what the algorithm leaves open.
pub(crate) fn holds(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    hash: Option<Hash>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Some(bytes) = key.subject_public_key.as_bytes() else { return false };
    candidates(key, algorithm.oid, hash)
        .iter()
        .any(|algorithm| UnparsedPublicKey::new(*algorithm, bytes).verify(message, signature).is_ok())
}

type Candidates = Vec<&'static dyn VerificationAlgorithm>;

fn candidates(key: &SubjectPublicKeyInfoOwned, algorithm: ObjectIdentifier, hash: Option<Hash>) -> Candidates {
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as().ok());
    match (key.algorithm.oid, algorithm) {
        (oid::RSA, oid::RSA) => match hash {
            Some(Hash::Sha256) => vec![&signature::RSA_PKCS1_2048_8192_SHA256],
            Some(Hash::Sha384) => vec![&signature::RSA_PKCS1_2048_8192_SHA384],
            Some(Hash::Sha512) => vec![&signature::RSA_PKCS1_2048_8192_SHA512],
            None => vec![],
        },
        (oid::RSA, oid::RSA_SHA256) => vec![&signature::RSA_PKCS1_2048_8192_SHA256],
        (oid::RSA, oid::RSA_SHA384) => vec![&signature::RSA_PKCS1_2048_8192_SHA384],
        (oid::RSA, oid::RSA_SHA512) => vec![&signature::RSA_PKCS1_2048_8192_SHA512],
        // Which hash it is stands in parameters; one that is not meant cannot hold.
        (oid::RSA | oid::RSA_PSS, oid::RSA_PSS) => vec![
            &signature::RSA_PSS_2048_8192_SHA256,
            &signature::RSA_PSS_2048_8192_SHA384,
            &signature::RSA_PSS_2048_8192_SHA512,
        ],
        (oid::EC, oid::ECDSA_SHA256) if curve == Some(oid::P256) => vec![&signature::ECDSA_P256_SHA256_ASN1],
        (oid::EC, oid::ECDSA_SHA384) if curve == Some(oid::P256) => vec![&signature::ECDSA_P256_SHA384_ASN1],
        (oid::EC, oid::ECDSA_SHA256) if curve == Some(oid::P384) => vec![&signature::ECDSA_P384_SHA256_ASN1],
        (oid::EC, oid::ECDSA_SHA384) if curve == Some(oid::P384) => vec![&signature::ECDSA_P384_SHA384_ASN1],
        (oid::ED25519, oid::ED25519) => vec![&signature::ED25519],
        _ => vec![],
    }
}
