//! Says of any PDF by whom it was signed, whether each signature holds, and what was done to the file after it.
//!
//! It must never trust where a signature says that it is: what is not covered by a range from the first to the last byte,
//! around nothing but its own digits, is not signed.

pub(crate) mod algorithm;
pub(crate) mod chain;
mod changes;
pub(crate) mod cms;
mod declared;
pub(crate) mod ess;
pub(crate) mod oid;
mod range;
pub(crate) mod token;

use std::cell::OnceCell;
use std::collections::HashMap;

use der::Encode;
use lopdf::{Dictionary, Document, LoadOptions};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;

pub use chain::{Roots, Trust};
pub use changes::Later;
pub use token::TokenFault;

use crate::alike::read_alike;
use crate::inspect::Unreadable;
use crate::limits::Limits;
use crate::pages::follow;
use crate::seal::earlier;
use cms::{Hash, SignedContent};
use range::Signed;
use token::Token;

/// Signatures that are looked at; whoever made more is told of these.
const SIGNATURES_MAX: usize = 32;
/// Characters of a name that are reported.
const NAME_CHARS_MAX: usize = 300;

/// What is wrong with a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Fault {
    /// It does not say rightly which bytes it signs.
    #[error("its byte range is not the file up to it and behind it")]
    Range,
    /// It is of a kind that is not known here.
    #[error("its kind is not supported")]
    UnknownKind,
    /// It cannot be read.
    #[error("it is unreadable")]
    UnreadableSignature,
    /// It brings no certificate of its signer.
    #[error("it brings no certificate of its signer")]
    NoCertificate,
    /// It is not bound to its content or its certificate as it has to be.
    #[error("it is not bound to its content or its certificate")]
    NotBound,
    /// It uses a hash that is too weak.
    #[error("it uses an algorithm that is too weak or unknown")]
    WeakAlgorithm,
    /// The key of the certificate did not make it.
    #[error("the certificate's key did not make it")]
    WrongSignature,
    /// The bytes are not those that were signed.
    #[error("the signed bytes were changed")]
    ContentChanged,
    /// It is a document timestamp that does not hold.
    #[error("the document timestamp does not hold")]
    Timestamp,
}

/// What a signature is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// An approval.
    Approval,
    /// A certification that allows changes of that level (1: none, 2: forms and signatures, 3: comments too).
    Certification(i64),
    /// A timestamp of the whole file.
    DocumentTimestamp,
}

/// A certificate as it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// Whose it is, as RFC 4514 writes it.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The SHA-256 of its DER.
    pub sha256: [u8; 32],
    /// Valid from, in seconds since 1970.
    pub not_before_unix_s: u64,
    /// Valid until, in seconds since 1970.
    pub not_after_unix_s: u64,
}

/// A timestamp of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestampFacts {
    /// When, in seconds since 1970.
    pub at_unix_s: u64,
    /// What is wrong with it, if anything.
    pub fault: Option<TokenFault>,
    /// By whom.
    pub authority: CertificateFacts,
    /// Where the authority's certificate leads.
    pub trust: Trust,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureFacts {
    /// The name of its field.
    pub field: String,
    /// What it is there for.
    pub role: Role,
    /// How many bytes of the file it is about, from the first on.
    pub signed_bytes: usize,
    /// Whether those are all.
    pub covers_whole_file: bool,
    /// What came behind them. What stands behind a signature that does not hold is nothing that is known.
    pub later: Later,
    /// What is wrong with it, if anything.
    pub fault: Option<Fault>,
    /// Whose certificate it names.
    pub signer: Option<CertificateFacts>,
    /// Where that leads.
    pub trust: Trust,
    /// Its timestamp.
    pub timestamp: Option<TimestampFacts>,
}

impl SignatureFacts {
    /// Whether it holds, what the file shows is what was signed, and nothing came behind it that it forbids.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let allowed = match self.role {
            Role::Certification(earlier::NO_CHANGES) => Later::ValidationData,
            _ => Later::FurtherSignatures,
        };
        self.fault.is_none() && self.later <= allowed
    }
}

/// What there is to say of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Its signatures in the order in which they were made.
    pub signatures: Vec<SignatureFacts>,
}

/// Looks at all signatures of a file, by `roots` and at that time.
///
/// # Errors
///
/// [`Unreadable`] if it is no PDF, is encrypted, or cannot be read within `limits`.
pub fn verify(bytes: &[u8], limits: &Limits, roots: &Roots, now_unix_s: u64) -> Result<Verification, Unreadable> {
    let document = load(bytes, limits, false)?;
    let judge = Judge { bytes, limits, document: &document, roots, now_unix_s, read_alike: OnceCell::new() };
    let signed = earlier::fields(&document).into_iter().filter_map(|field| Some((field.name, field.value?)));
    let mut signatures: Vec<SignatureFacts> = signed
        .take(SIGNATURES_MAX)
        .map(|(name, value)| judge.signature(name.chars().take(NAME_CHARS_MAX).collect(), value))
        .collect();
    signatures.sort_by_key(|facts| facts.signed_bytes);
    // Reading the file as it was signed takes as long as reading the file: it is done once for each, and only where it counts.
    let mut later = HashMap::new();
    for facts in signatures.iter_mut().filter(|facts| facts.fault.is_none()) {
        let end = facts.signed_bytes;
        facts.later = *later.entry(end).or_insert_with(|| judge.later(end));
    }
    Ok(Verification { sha256: Sha256::digest(bytes).into(), signatures })
}

/// `strict` leaves nothing out that cannot be read.
fn load(bytes: &[u8], limits: &Limits, strict: bool) -> Result<Document, Unreadable> {
    let limits = limits.under_ceiling();
    if bytes.is_empty() {
        return Err(Unreadable::Empty);
    }
    if bytes.len() > limits.bytes_max {
        return Err(Unreadable::TooLarge { actual_bytes: bytes.len(), max_bytes: limits.bytes_max });
    }
    if crate::inspect::header_offset(bytes).is_none() {
        return Err(Unreadable::NotPdf);
    }
    let max_decompressed_size = Some(limits.stream_bytes_max);
    let options = LoadOptions { max_decompressed_size, strict, ..LoadOptions::default() };
    let document = Document::load_mem_with_options(bytes, options).map_err(Unreadable::broken)?;
    if document.was_encrypted() || document.trailer.has(b"Encrypt") {
        return Err(Unreadable::Encrypted);
    }
    if document.objects.len() > limits.objects_max {
        return Err(Unreadable::TooManyObjects { actual: document.objects.len(), max: limits.objects_max });
    }
    Ok(document)
}

struct Judge<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    document: &'a Document,
    roots: &'a Roots,
    now_unix_s: u64,
    /// The document if every reader finds the same, once that matters.
    read_alike: OnceCell<Option<Document>>,
}

impl Judge<'_> {
    fn signature(&self, field: String, value: &Dictionary) -> SignatureFacts {
        let name = |key: &[u8]| follow(self.document, value.get(key).ok()).and_then(|name| name.as_name().ok());
        let sub_filter = name(b"SubFilter").unwrap_or_default();
        let is_timestamp = sub_filter == b"ETSI.RFC3161";
        let role = match earlier::allowed_by(self.document, value) {
            _ if is_timestamp => Role::DocumentTimestamp,
            Some(level) => Role::Certification(level),
            None => Role::Approval,
        };
        let mut facts = SignatureFacts {
            field,
            role,
            signed_bytes: 0,
            covers_whole_file: false,
            later: Later::Changes,
            fault: None,
            signer: None,
            trust: Trust::UnknownIssuer,
            timestamp: None,
        };
        let Some(signed) = range::read(self.bytes, self.document, value) else {
            facts.fault = Some(Fault::Range);
            return facts;
        };
        facts.signed_bytes = signed.end;
        facts.covers_whole_file = signed.end == self.bytes.len();
        facts.fault = match sub_filter {
            b"ETSI.RFC3161" => self.document_timestamp(&signed, &mut facts).err(),
            b"ETSI.CAdES.detached" => self.cms(&signed, &mut facts, true).err(),
            b"adbe.pkcs7.detached" => self.cms(&signed, &mut facts, false).err(),
            _ => Some(Fault::UnknownKind),
        };
        facts
    }

    fn cms(&self, signed: &Signed<'_>, facts: &mut SignatureFacts, has_to_name: bool) -> Result<(), Fault> {
        let content = SignedContent::open(&signed.contents)?;
        facts.signer = facts_of(content.signer());
        facts.timestamp = content.timestamp().and_then(|token| self.timestamp(&token, content.signature()));
        let proven = facts.timestamp.as_ref().filter(|stamp| stamp.fault.is_none() && stamp.trust == Trust::Trusted);
        let at_unix_s = proven.map_or(self.now_unix_s, |stamp| stamp.at_unix_s);
        facts.trust = match chain::is_for_documents(content.signer()) {
            true => chain::judge(content.signer(), content.certificates(), self.roots, at_unix_s),
            false => Trust::NotForThis,
        };
        let is_named = content.names_certificate() || !has_to_name;
        if content.content_type() != oid::DATA || content.own_content().is_some() || !is_named {
            return Err(Fault::NotBound);
        }
        content.check(|hash| hash.of(&signed.parts))
    }

    fn timestamp(&self, token: &[u8], signature: &[u8]) -> Option<TimestampFacts> {
        let token = Token::open(token).ok()?;
        Some(TimestampFacts {
            at_unix_s: token.at_unix_s(),
            fault: token.check(|hash: Hash| hash.of(&[signature])).err(),
            authority: facts_of(token.authority())?,
            trust: chain::judge(token.authority(), token.certificates(), self.roots, token.at_unix_s()),
        })
    }

    fn document_timestamp(&self, signed: &Signed<'_>, facts: &mut SignatureFacts) -> Result<(), Fault> {
        let token = Token::open(&signed.contents).map_err(|_| Fault::UnreadableSignature)?;
        facts.signer = facts_of(token.authority());
        facts.trust = chain::judge(token.authority(), token.certificates(), self.roots, token.at_unix_s());
        token.check(|hash| hash.of(&signed.parts)).map_err(|fault| match fault {
            TokenFault::Imprint => Fault::ContentChanged,
            _ => Fault::Timestamp,
        })
    }

    /// What came behind the first `end` bytes.
    fn later(&self, end: usize) -> Later {
        let (signed, more) = self.bytes.split_at(end);
        if more.iter().all(u8::is_ascii_whitespace) {
            return Later::Nothing;
        }
        // Where other readers could find something else, nobody can say what was changed.
        let read = |file| load(file, self.limits, true).ok().filter(|document| read_alike(file, document));
        match (read(signed), self.read_alike.get_or_init(|| read(self.bytes))) {
            (Some(signed), Some(now)) => changes::between(&signed, end, now),
            _ => Later::Changes,
        }
    }
}

fn facts_of(certificate: &Certificate) -> Option<CertificateFacts> {
    let own = &certificate.tbs_certificate;
    let text = |name: String| name.chars().take(NAME_CHARS_MAX).collect::<String>();
    Some(CertificateFacts {
        subject: text(own.subject.to_string()),
        issuer: text(own.issuer.to_string()),
        sha256: Sha256::digest(certificate.to_der().ok()?).into(),
        not_before_unix_s: own.validity.not_before.to_unix_duration().as_secs(),
        not_after_unix_s: own.validity.not_after.to_unix_duration().as_secs(),
    })
}
