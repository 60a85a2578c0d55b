//! What is done with arbitrary bytes, and what has to hold whatever they are. `tests/fuzzed.rs` plays it with seeds alone.

use std::sync::LazyLock;

use countersign_paper::{
    AlreadySigned, Identity, Limits, Policy, Roots, SealOptions, SignatureFacts, Unsealed, inspect,
    markers as find_markers, samples, seal as prepare, verify,
};
use lopdf::{Document, Object, Stream, dictionary};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

/// A time at which the key's certificate is valid.
const NOW_UNIX_S: u64 = 1_800_000_000;

/// Bytes that somebody gives as a PDF: what is let in can be read again, sealed, and is found whole then.
pub fn ingest(bytes: &[u8]) {
    let limits = Limits::default();
    let _ = verify(bytes, &limits, &Roots::default(), NOW_UNIX_S);
    let Ok(ingested) = countersign_paper::ingest(bytes, &limits, &Policy::default()) else { return };
    let base = ingested.base.as_deref().unwrap_or(bytes);
    let pages = inspect(base, &limits).expect("what is let in can be read").pages.len();
    assert_eq!(pages, ingested.pages.len());
    let options = SealOptions { already_signed: AlreadySigned::Flatten, ..SealOptions::default() };
    let unsealed = prepare(base, &SEALER.identity, &options).expect("what is let in can be sealed");
    let signature = SEALER.sign(&unsealed);
    let sealed = unsealed.finish(&signature, None).expect("the seal holds").whole(base);
    let facts = last(&sealed).expect("a seal");
    assert!(facts.is_intact() && facts.covers_whole_file, "{facts:?}");
}

/// Bytes as the content of a page: whatever is written there, each marker has a place on it.
pub fn markers(bytes: &[u8]) {
    let Ok(found) = find_markers(&page_of(bytes), &Limits::default()) else { return };
    let places =
        found.markers.iter().map(|it| (it.page, it.place)).chain(found.faults.iter().map(|it| (it.page, it.place)));
    for (page, place) in places {
        let sides = [place.x_pct, place.y_pct, place.width_pct, place.height_pct];
        assert!(page == 1 && sides.iter().all(|side| side.is_finite()), "{page} {place:?}");
    }
}

/// Bytes where the signature belongs, as a timestamp in a seal, and as what a key is supposed to have signed: none is taken for a
/// seal that holds but the one that does.
pub fn seal(bytes: &[u8]) {
    let unsealed = || {
        let options = SealOptions { timestamped: true, ..SealOptions::default() };
        prepare(&BASE, &SEALER.identity, &options).expect("the sample can be sealed")
    };
    assert!(unsealed().finish(bytes, None).is_err(), "nobody signed it");
    let signature = SEALER.sign(&unsealed());
    let _ = unsealed().finish(&signature, Some(bytes));
    let mut forged = unsealed().finish(&signature, None).expect("the seal holds").whole(&BASE);
    let opens = forged.windows(10).rposition(|window| window == b"/Contents<").expect("a signature") + 10;
    let room = forged[opens..].iter().position(|byte| *byte == b'>').expect("its end");
    for (digits, byte) in forged[opens..opens + room].chunks_exact_mut(2).zip(bytes) {
        digits.copy_from_slice(format!("{byte:02x}").as_bytes());
    }
    if let Some(signer) = last(&forged).filter(SignatureFacts::is_intact).and_then(|facts| facts.signer) {
        assert_eq!(signer.sha256, SEALER.identity.leaf_sha256(), "another signature is taken for ours");
    }
}

struct Sealer {
    identity: Identity,
    key: EcdsaKeyPair,
}

static SEALER: LazyLock<Sealer> = LazyLock::new(|| {
    let pair = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).expect("a certificate");
    let identity = Identity::new(&[certificate.der().to_vec()]).expect("an identity");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pair.serialize_der(), &SystemRandom::new());
    Sealer { identity, key: key.expect("the same key") }
});

static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| samples::nda().expect("a sample").bytes);

impl Sealer {
    fn sign(&self, unsealed: &Unsealed) -> Vec<u8> {
        self.key.sign(&SystemRandom::new(), unsealed.to_be_signed()).expect("signed").as_ref().to_vec()
    }
}

/// What is found of the last signature in a file.
fn last(file: &[u8]) -> Option<SignatureFacts> {
    verify(file, &Limits::default(), &Roots::default(), NOW_UNIX_S).ok()?.signatures.pop()
}

/// A file of one page with that content.
fn page_of(content: &[u8]) -> Vec<u8> {
    let mut document = Document::with_version("1.7");
    let pages = document.new_object_id();
    let content = document.add_object(Stream::new(dictionary! {}, content.to_vec()));
    let font = dictionary! { "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica", "Encoding" => "WinAnsiEncoding" };
    let page = document.add_object(dictionary! {
        "Type" => "Page",
        "Parent" => pages,
        "MediaBox" => [0, 0, 612, 792].map(Object::Integer).to_vec(),
        "Resources" => dictionary! { "Font" => dictionary! { "F1" => font } },
        "Contents" => content,
    });
    let kids = dictionary! { "Type" => "Pages", "Kids" => vec![page.into()], "Count" => 1 };
    document.objects.insert(pages, kids.into());
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
    document.trailer.set("Root", catalog);
    let mut file = Vec::new();
    document.save_to(&mut file).expect("a file");
    file
}
