//! Seals a paper: one PAdES signature over everything that it says, as the last part of one incremental update.
//!
//! It must never hold a private key, and never give back a seal that it has not checked itself.

mod base;
mod dictionary;
pub(crate) mod earlier;
mod field;
mod identity;
mod prepared;
mod store;
mod timestamp;
mod unsealed;

use lopdf::Document;

pub use base::BaseDigest;
pub use identity::{Algorithm, BadChain, Identity};
pub use prepared::Prepared;
pub use timestamp::TimestampRequest;
pub use unsealed::{Level, Sealed, Unsealed};

use crate::apply::StampError;
use crate::complete::{self, Completion};
use crate::delta::{self, BaseEnd, Update};
use crate::ingest;
use crate::inspect::{self, Opened, Unreadable};
use crate::limits::Limits;
use crate::pages::Page;
use crate::revocation::Validation;

/// What happens to a paper that somebody else signed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlreadySigned {
    /// It is not sealed.
    #[default]
    Refuse,
    /// The seal is put behind the earlier signatures, which stay as good as they were; nothing else may change.
    Preserve,
    /// The earlier signatures are taken out; what they looked like stays on the pages, and so does what fields looked like
    /// and what layers showed.
    Flatten,
}

/// What a seal says of what may follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SealKind {
    /// An approval: readers judge for themselves what comes after it.
    #[default]
    Approval,
    /// A certification that allows further signatures and filled forms, nothing else. Only for papers without signatures.
    Certification,
}

/// How a paper is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SealOptions {
    /// The time that the seal claims, in seconds since 1970. A timestamp proves one, this does not.
    pub sealed_at_unix_s: u64,
    /// Who seals, for people.
    pub name: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
    /// What may follow the seal.
    pub kind: SealKind,
    /// Whether a timestamp of the signature may go in: room is left for one of 16 KiB, and none otherwise.
    pub timestamped: bool,
    /// What happens to earlier signatures.
    pub already_signed: AlreadySigned,
    /// What shows later that the certificates were good. It goes into the same update, below the seal.
    pub validation: Validation,
}

/// Why a paper could not be sealed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The bytes are no paper; those that [`ingest()`](crate::ingest()) kept or made are.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Its pages could not be drawn on.
    #[error(transparent)]
    Stamp(#[from] StampError),
    /// Somebody signed it before, and the options say that such papers are refused.
    #[error("the document is already signed")]
    AlreadySigned,
    /// Somebody signed it before, the signature shall stay, and yet its pages were to be changed.
    #[error("the document is already signed: what is drawn on it would void the earlier signature")]
    WouldVoidEarlier,
    /// Somebody certified it and allowed no change at all.
    #[error("the document is certified in a way that allows no further signature")]
    NoChangesAllowed,
    /// Somebody signed it before in a file that can only be sealed by writing it anew, which would void the signature.
    #[error(
        "the document is already signed, and its file has to be written anew, which would void the earlier signature"
    )]
    CannotPreserve,
    /// The signature with its certificates and its timestamp does not fit the room that was left for it.
    #[error("the signature has {actual_bytes} bytes, {max_bytes} were reserved")]
    TooLarge {
        /// What it has.
        actual_bytes: usize,
        /// What was reserved.
        max_bytes: usize,
    },
    /// The finished seal does not hold. The key and the certificate may not belong together.
    #[error("the finished seal does not hold: {0}")]
    DoesNotHold(String),
    /// The update could not be made or written.
    #[error("the seal could not be made: {0}")]
    Compose(String),
}

impl SealError {
    fn compose(detail: impl ToString) -> Self {
        Self::Compose(detail.to_string())
    }
}

/// Everything but the signature for a paper as it is: what is to be signed, and where the signature will go.
///
/// # Errors
///
/// [`SealError`] if the paper is unreadable, or is signed already and the options do not allow that.
pub fn seal(bytes: &[u8], identity: &Identity, options: &SealOptions) -> Result<Unsealed, SealError> {
    let as_it_is = |base: &[u8]| {
        let opened = inspect::open_to_continue(base)?;
        let update = Update::of(&opened.document);
        Ok((opened, update))
    };
    composed(bytes, as_it_is, identity, options)
}

/// Everything but the signature for what is made of a paper, or of the paper without its signatures if they are to go.
fn composed(
    bytes: &[u8],
    compose: impl Fn(&[u8]) -> Result<(Opened, Update), SealError>,
    identity: &Identity,
    options: &SealOptions,
) -> Result<Unsealed, SealError> {
    let (opened, update) = compose(bytes)?;
    if options.already_signed == AlreadySigned::Flatten && earlier::standing(&opened.document).is_signed {
        drop(opened);
        let flat = flattened(bytes)?;
        let (opened, update) = compose(&flat)?;
        return Ok(prepare(&flat, opened, update, identity, options)?.behind(flat));
    }
    prepare(bytes, opened, update, identity, options)
}

/// The paper written anew without its signatures, and without all that they alone kept from being changed or switched.
fn flattened(base: &[u8]) -> Result<Vec<u8>, SealError> {
    let Opened { mut document, pages } = inspect::open(base, &Limits::CEILING)?;
    let mut update = Update::of(&document);
    earlier::take_out(&document, &mut update);
    update.apply_to(&mut document);
    ingest::settle(&mut document, &pages, &mut Vec::new())?;
    let update = Update::of(&document);
    Ok(continuable(base, document, update)?.0)
}

/// Everything but the signature for a paper with an update: what is drawn and what is sealed become one update.
fn prepare(
    base: &[u8],
    opened: Opened,
    update: Update,
    identity: &Identity,
    options: &SealOptions,
) -> Result<Unsealed, SealError> {
    let Opened { document, pages } = opened;
    let earlier = earlier::standing(&document);
    let is_rewritten = !delta::can_be_continued(base, &document);
    if earlier.is_signed {
        match options.already_signed {
            AlreadySigned::Refuse | AlreadySigned::Flatten => return Err(SealError::AlreadySigned),
            AlreadySigned::Preserve if earlier.allows_nothing => return Err(SealError::NoChangesAllowed),
            AlreadySigned::Preserve if !update.is_empty() => return Err(SealError::WouldVoidEarlier),
            AlreadySigned::Preserve if is_rewritten => return Err(SealError::CannotPreserve),
            AlreadySigned::Preserve => {}
        }
    }
    if earlier.is_signed && options.kind == SealKind::Certification {
        return Err(SealError::AlreadySigned);
    }
    if is_rewritten {
        return rewritten(base, document, update, identity, options);
    }
    let digest = BaseDigest::of(base);
    continued(digest, &document, update, &pages, identity, options)
}

/// The same for a paper at its end: what is drawn on it and the seal are one update.
///
/// # Errors
///
/// As [`seal`], and if the paper cannot be drawn on.
pub fn seal_complete(
    bytes: &[u8],
    completion: &Completion,
    identity: &Identity,
    options: &SealOptions,
) -> Result<Unsealed, SealError> {
    composed(bytes, |base| Ok(complete::composed(base, completion)?), identity, options)
}

/// The same on a base whose digest is known, and which can be continued.
pub(crate) fn continued(
    digest: BaseDigest,
    document: &Document,
    mut update: Update,
    pages: &[Page],
    identity: &Identity,
    options: &SealOptions,
) -> Result<Unsealed, SealError> {
    let signature = update.reserve();
    let page = pages.first().ok_or(Unreadable::NoPages)?;
    field::add(document, &mut update, page.id, signature, options.kind)?;
    let stored = store::add(document, &mut update, &options.validation)?;
    let mut dictionary = dictionary::write(options, identity.cms_bytes_max())?;
    update.set_verbatim(signature, std::mem::take(&mut dictionary.bytes), dictionary.at(0).contents);
    let end = BaseEnd { base_bytes: digest.base_bytes(), ends_line: digest.ends_line() };
    let written = delta::append(end, document, update).map_err(SealError::compose)?;
    let start = written.starts.get(&signature).ok_or_else(|| SealError::compose("the signature was not written"))?;
    let gap = dictionary.at(start + delta::header_bytes(signature));
    let places = stored.places(&written.starts, &written.bytes);
    Unsealed::new(digest, written.bytes, gap, identity, places)
}

/// The paper written anew with the update, and the seal as an update of that: other readers would have to repair the base.
fn rewritten(
    base: &[u8],
    document: Document,
    update: Update,
    identity: &Identity,
    options: &SealOptions,
) -> Result<Unsealed, SealError> {
    let (whole, Opened { document, pages }) = continuable(base, document, update)?;
    let (digest, update) = (BaseDigest::of(&whole), Update::of(&document));
    let unsealed = continued(digest, &document, update, &pages, identity, options)?;
    Ok(unsealed.behind(whole))
}

/// The paper written anew with the update, so that others can take an update of it for what it is.
fn continuable(base: &[u8], document: Document, update: Update) -> Result<(Vec<u8>, Opened), SealError> {
    let whole = delta::rewrite(base, document, update).map_err(SealError::compose)?;
    let opened = inspect::open(&whole, &Limits::CEILING)?;
    if !delta::can_be_continued(&whole, &opened.document) {
        return Err(SealError::compose("the document cannot be written so that it can be continued"));
    }
    Ok((whole, opened))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lopdf::{Dictionary, Stream};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

    use super::*;
    use crate::{Roots, samples, verify};

    struct Sealer {
        identity: Identity,
        key: EcdsaKeyPair,
    }

    impl Sealer {
        fn new() -> Self {
            let pair = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::default();
            let identity = Identity::new(&[params.self_signed(&pair).unwrap().der().to_vec()]).unwrap();
            let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
            let key = EcdsaKeyPair::from_pkcs8(algorithm, &pair.serialize_der(), &SystemRandom::new()).unwrap();
            Self { identity, key }
        }

        fn finish(&self, unsealed: Unsealed) -> Sealed {
            let signature = self.key.sign(&SystemRandom::new(), unsealed.to_be_signed()).unwrap();
            unsealed.finish(signature.as_ref(), None).unwrap()
        }
    }

    /// What the drawing rooms hand over: a paper, and an update of one of its pages.
    fn drawn(base: &[u8]) -> (Opened, Update) {
        let opened = inspect::open(base, &Limits::CEILING).unwrap();
        let mut update = Update::of(&opened.document);
        let content = update.add(Stream::new(Dictionary::new(), b"q 0 0 9 9 re f Q".to_vec()));
        update.edit(&opened.document, opened.pages[0].id, |page| page.set("Contents", content));
        (opened, update)
    }

    fn prepared(base: &[u8], sealer: &Sealer, options: &SealOptions) -> Result<Unsealed, SealError> {
        composed(base, |base| Ok(drawn(base)), &sealer.identity, options)
    }

    #[test]
    fn what_is_drawn_and_the_seal_are_one_update() {
        let (sealer, base) = (Sealer::new(), samples::nda().unwrap().bytes);
        let done = sealer.finish(prepared(&base, &sealer, &SealOptions::default()).unwrap());
        assert_eq!(done.base_bytes, base.len());
        let file = done.whole(&base);
        let ends = |file: &[u8]| file.windows(5).filter(|window| *window == b"%%EOF").count();
        assert_eq!(ends(&file), ends(&base) + 1);
        let found = verify(&file, &Limits::default(), &Roots::default(), 0).unwrap();
        assert!(found.signatures.len() == 1 && found.signatures[0].is_intact());
        let document = Document::load_mem(&file).unwrap();
        let page = *document.get_pages().get(&1).unwrap();
        assert_eq!(document.get_page_content_with_limit(page, 100).unwrap().trim_ascii(), b"q 0 0 9 9 re f Q");
    }

    #[test]
    fn nothing_is_drawn_on_what_has_to_stay_as_it_was_signed() {
        let (sealer, base) = (Sealer::new(), samples::nda().unwrap().bytes);
        let options = |already_signed| SealOptions { already_signed, ..SealOptions::default() };
        let once = sealer.finish(seal(&base, &sealer.identity, &options(AlreadySigned::Refuse)).unwrap()).whole(&base);
        let refused = |already_signed| prepared(&once, &sealer, &options(already_signed)).unwrap_err();
        assert_eq!(refused(AlreadySigned::Preserve), SealError::WouldVoidEarlier);
        assert_eq!(refused(AlreadySigned::Refuse), SealError::AlreadySigned);
        let flat = sealer.finish(prepared(&once, &sealer, &options(AlreadySigned::Flatten)).unwrap());
        assert_eq!(flat.base_bytes, 0);
        let found = verify(&flat.delta, &Limits::default(), &Roots::default(), 0).unwrap();
        assert!(found.signatures.len() == 1 && found.signatures[0].is_intact());
        let behind_junk = [&b"junk\n"[..], &once].concat();
        let refused = seal(&behind_junk, &sealer.identity, &options(AlreadySigned::Preserve)).unwrap_err();
        assert_eq!(refused, SealError::CannotPreserve);
    }
}
