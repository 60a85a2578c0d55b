//! Certificates that say where to ask whether they were revoked, and who answers: `openssl ocsp` and `openssl ca`.
//!
//! It must never be made of our own code: what it answers has to be what others answer.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use super::pki::{Pki, Sealer, openssl};
use countersign_paper::Identity;

/// Lists that hold for a day, and what is asked for of a few certificates.
const EXTENSIONS: &str = "
[asked_of_root]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
authorityInfoAccess=OCSP;URI:URL/ocsp/root
crlDistributionPoints=URI:URL/crl/root
[asked]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,nonRepudiation
extendedKeyUsage=emailProtection
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
authorityInfoAccess=OCSP;URI:URL/ocsp/issuer
crlDistributionPoints=URI:URL/crl/issuer
[asked_tsa]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=critical,timeStamping
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
authorityInfoAccess=OCSP;URI:URL/ocsp/issuer
crlDistributionPoints=URI:URL/crl/issuer
[responder]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=OCSPSigning
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
noCheck=ignored
[asked_responder]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=OCSPSigning
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
crlDistributionPoints=URI:URL/crl/issuer
[lists]
database=NAME.index
certificate=NAME.pem
private_key=NAME.key
default_md=sha256
default_crl_days=1
crl_extensions=plain
[plain]
authorityKeyIdentifier=keyid
[partial]
issuingDistributionPoint=critical,@partial_point
[partial_point]
onlysomereasons=keyCompromise
[delta]
2.5.29.27=critical,DER:020101
[of_cas]
issuingDistributionPoint=critical,@of_cas_point
[of_cas_point]
onlyCA=TRUE
[elsewhere]
issuingDistributionPoint=critical,@elsewhere_point
[elsewhere_point]
fullname=URI:http://localhost/another
[here]
issuingDistributionPoint=critical,@here_point
[here_point]
fullname=URI:URL/crl/issuer
onlyuser=TRUE
";

/// Who issued what.
const ISSUED: [(&str, &str, Option<&str>); 10] = [
    ("root", "ca", None),
    ("issuer", "asked_of_root", Some("root")),
    ("p256", "asked", Some("issuer")),
    ("other", "asked", Some("issuer")),
    ("tsa", "asked_tsa", Some("issuer")),
    ("tsa-next", "asked_tsa", Some("issuer")),
    ("root-ocsp", "responder", Some("root")),
    ("issuer-ocsp", "responder", Some("issuer")),
    ("issuer-asked", "asked_responder", Some("issuer")),
    ("stranger", "responder", None),
];

/// The certificates and those who answer for them.
pub struct Revocable {
    pub pki: Pki,
    extensions: String,
    revoked: Mutex<BTreeSet<String>>,
}

impl Revocable {
    /// With answers at that address: `/ocsp/<issuer>` and `/crl/<issuer>`.
    pub fn at(url: &str) -> Self {
        let extensions = EXTENSIONS.replace("URL", url);
        let pki = Pki::empty(&extensions);
        for (name, section, issuer) in ISSUED {
            pki.certificate(name, section, issuer, "EC");
        }
        let revocable = Self { pki, extensions, revoked: Mutex::default() };
        revocable.write_indexes();
        revocable
    }

    pub fn path(&self) -> &Path {
        self.pki.path()
    }

    /// Who seals with all certificates up to the root.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        ["p256", "issuer", "root"].map(|name| self.pki.der(name)).to_vec()
    }

    /// Who seals.
    pub fn sealer(&self) -> Sealer {
        Sealer { identity: Identity::new(&self.chain()).unwrap(), ..self.pki.sealer("p256") }
    }

    /// Takes a certificate back, or that back.
    pub fn revoke(&self, name: &str, is_revoked: bool) {
        let mut revoked = self.revoked.lock().unwrap();
        if is_revoked {
            revoked.insert(name.to_owned())
        } else {
            revoked.remove(name)
        };
        drop(revoked);
        self.write_indexes();
    }

    /// Gives the timestamping authority another key, and takes its certificate back.
    pub fn renew_authority(&self) {
        for kind in ["pem", "key"] {
            // The names of the two are exchanged.
            let [now, next, aside] =
                ["tsa", "tsa-next", "tsa-aside"].map(|name| self.path().join(format!("{name}.{kind}")));
            std::fs::rename(&now, &aside).unwrap();
            std::fs::rename(&next, &now).unwrap();
            std::fs::rename(&aside, &next).unwrap();
        }
        self.revoke("tsa-next", true);
    }

    /// What each issuer knows of what it issued, as `openssl ca` keeps it.
    fn write_indexes(&self) {
        let revoked = self.revoked.lock().unwrap();
        for issuer in ["root", "issuer", "stranger"] {
            let of_it = ISSUED.iter().filter(|(_, _, of)| *of == Some(issuer));
            let line = |(name, ..): &(&str, &str, Option<&str>)| {
                let serial = openssl(self.path(), &["x509", "-noout", "-serial", "-in", &format!("{name}.pem")]);
                let serial = String::from_utf8(serial).unwrap();
                let serial = serial.trim().strip_prefix("serial=").unwrap();
                let (mark, at) = if revoked.contains(*name) { ("R", "260101000000Z") } else { ("V", "") };
                format!("{mark}\t360101000000Z\t{at}\t{serial}\tunknown\t/CN={name}\n")
            };
            let lines: String = of_it.map(line).collect();
            let part = tempfile::NamedTempFile::new_in(self.path()).unwrap();
            std::fs::write(part.path(), lines).unwrap();
            part.persist(self.path().join(format!("{issuer}.index"))).unwrap();
        }
    }

    /// What the responder with that certificate answers for that issuer.
    pub fn answer(&self, issuer: &str, responder: &str, request: &[u8], more: &[&str]) -> Vec<u8> {
        let here = tempfile::tempdir_in(self.path()).unwrap();
        let [query, reply] = ["query", "reply"].map(|name| here.path().join(name).to_str().unwrap().to_owned());
        std::fs::write(&query, request).unwrap();
        let (index, ca) = (format!("{issuer}.index"), format!("{issuer}.pem"));
        let (signer, key) = (format!("{responder}.pem"), format!("{responder}.key"));
        let base = ["ocsp", "-index", &index, "-CA", &ca, "-rsigner", &signer, "-rkey", &key];
        openssl(self.path(), &[&base[..], &["-reqin", &query, "-respout", &reply], more].concat());
        std::fs::read(reply).unwrap()
    }

    /// An answer that holds for a day.
    pub fn right_answer(&self, issuer: &str, request: &[u8]) -> Vec<u8> {
        self.answer(issuer, &format!("{issuer}-ocsp"), request, &["-ndays", "1"])
    }

    /// The list of that issuer.
    pub fn list(&self, issuer: &str, more: &[&str]) -> Vec<u8> {
        let here = tempfile::tempdir_in(self.path()).unwrap();
        let [config, pem] = ["config", "pem"].map(|name| here.path().join(name).to_str().unwrap().to_owned());
        std::fs::write(&config, self.extensions.replace("NAME", issuer)).unwrap();
        let base = ["ca", "-gencrl", "-config", &config, "-name", "lists", "-out", &pem];
        openssl(self.path(), &[&base[..], more].concat());
        openssl(self.path(), &["crl", "-in", &pem, "-outform", "DER"])
    }
}
