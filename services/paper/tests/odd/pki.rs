//! Keys and certificates made by `openssl`: a root, an issuer below it, sealers below that, and a timestamping authority.
//!
//! It must never be made of our own code: what it issues has to be what others take.

#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use countersign_paper::{Algorithm, Identity, Sealed, Unsealed};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use tempfile::TempDir;

const EXTENSIONS: &str = "\
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[leaf]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,nonRepudiation
extendedKeyUsage=emailProtection,1.3.6.1.5.5.7.3.36
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
[server]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
[tsa]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=critical,timeStamping
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
[tsa_config]
serial=tsa.serial
crypto_device=builtin
signer_cert=tsa.pem
certs=issuer.pem
signer_key=tsa.key
signer_digest=sha256
default_policy=1.2.3.4.1
digests=sha256
accuracy=secs:1
ess_cert_id_alg=sha256
";

/// The folder with all of it.
pub struct Pki {
    folder: TempDir,
    extensions: String,
}

/// Runs `openssl` in a folder.
pub fn openssl(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Pki {
    /// One for the whole process.
    pub fn get() -> &'static Self {
        static PKI: OnceLock<Pki> = OnceLock::new();
        PKI.get_or_init(Self::make)
    }

    /// One without any certificate; what they may say besides the usual.
    pub fn empty(more_extensions: &str) -> Self {
        let extensions = format!("{EXTENSIONS}{more_extensions}");
        let pki = Self { folder: tempfile::tempdir().unwrap(), extensions };
        std::fs::write(pki.path().join("extensions"), &pki.extensions).unwrap();
        std::fs::write(pki.path().join("tsa.serial"), "01\n").unwrap();
        pki
    }

    fn make() -> Self {
        let pki = Self::empty("");
        pki.certificate("root", "ca", None, "EC");
        pki.certificate("issuer", "ca", Some("root"), "EC");
        pki.certificate("rsa", "leaf", Some("issuer"), "RSA");
        pki.certificate("p256", "leaf", Some("issuer"), "EC");
        pki.certificate("tsa", "tsa", Some("issuer"), "EC");
        pki.certificate("server", "server", Some("issuer"), "EC");
        pki.certificate("stranger", "leaf", None, "EC");
        pki
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn certificate(&self, name: &str, section: &str, issuer: Option<&str>, kind: &str) {
        let (key, request, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let option = if kind == "RSA" { "rsa_keygen_bits:2048" } else { "ec_paramgen_curve:P-256" };
        openssl(self.path(), &["genpkey", "-algorithm", kind, "-pkeyopt", option, "-out", &key]);
        let subject = format!("/O=Countersign tests/CN={name}");
        openssl(self.path(), &["req", "-new", "-key", &key, "-subj", &subject, "-out", &request]);
        let mut arguments = vec!["x509", "-req", "-in", &request, "-out", &pem, "-days", "30"];
        arguments.extend(["-extfile", "extensions", "-extensions", section]);
        let (issuer_pem, issuer_key) = issuer
            .map_or_else(|| (String::new(), key.clone()), |issuer| (format!("{issuer}.pem"), format!("{issuer}.key")));
        match issuer {
            Some(_) => arguments.extend(["-CA", &issuer_pem, "-CAkey", &issuer_key, "-CAcreateserial"]),
            None => arguments.extend(["-signkey", &issuer_key]),
        }
        openssl(self.path(), &arguments);
    }

    /// A certificate in DER.
    pub fn der(&self, name: &str) -> Vec<u8> {
        openssl(self.path(), &["x509", "-in", &format!("{name}.pem"), "-outform", "DER"])
    }

    /// Who seals with that key.
    pub fn sealer(&self, name: &str) -> Sealer {
        let chain = match name {
            "stranger" => vec![self.der(name)],
            _ => vec![self.der(name), self.der("issuer")],
        };
        let identity = Identity::new(&chain).unwrap();
        let pkcs8 =
            openssl(self.path(), &["pkcs8", "-topk8", "-nocrypt", "-in", &format!("{name}.key"), "-outform", "DER"]);
        Sealer { identity, pkcs8 }
    }

    /// The time that its authority tells.
    pub fn clock_unix_s() -> u64 {
        std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
    }

    /// What a timestamping authority answers to that request.
    pub fn timestamp(&self, request: &[u8]) -> Vec<u8> {
        let here = tempfile::tempdir_in(self.path()).unwrap();
        let query = here.path().join("query");
        std::fs::write(&query, request).unwrap();
        // A serial number of its own: tests run side by side.
        let config = self.extensions.replace("tsa.serial", here.path().join("serial").to_str().unwrap());
        let config_path = here.path().join("config");
        std::fs::write(&config_path, config).unwrap();
        let (query, config) = (query.to_str().unwrap(), config_path.to_str().unwrap());
        openssl(self.path(), &["ts", "-reply", "-queryfile", query, "-config", config, "-section", "tsa_config"])
    }
}

/// A key with its certificates.
pub struct Sealer {
    pub identity: Identity,
    pub pkcs8: Vec<u8>,
}

impl Sealer {
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self.identity.algorithm() {
            Algorithm::RsaSha256 => {
                let key = RsaKeyPair::from_pkcs8(&self.pkcs8).unwrap();
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Algorithm::P256Sha256 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.pkcs8, &random).unwrap();
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
        }
    }

    pub fn finish(&self, unsealed: Unsealed) -> Sealed {
        let signature = self.sign(unsealed.to_be_signed());
        unsealed.finish(&signature, None).unwrap()
    }

    /// With a timestamp.
    pub fn finish_stamped(&self, unsealed: Unsealed) -> Sealed {
        self.finish_stamped_by(Pki::get(), unsealed)
    }

    /// With a timestamp of that authority.
    pub fn finish_stamped_by(&self, pki: &Pki, unsealed: Unsealed) -> Sealed {
        let signature = self.sign(unsealed.to_be_signed());
        let request = Unsealed::timestamp_request(&signature, 0x8123_4567_89ab_cdef).unwrap();
        let token = request.token(&pki.timestamp(&request.der), Pki::clock_unix_s(), None).unwrap();
        unsealed.finish(&signature, Some(&token)).unwrap()
    }
}
