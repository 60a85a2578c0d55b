//! Seals hold in the eyes of others: pyHanko, pdfsig, qpdf and openssl.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{
    AlreadySigned, BaseDigest, Identity, Level, Limits, Mark, MarkContent, Note, Policy, Prepared, Refusal, Roots,
    SealError, SealKind, SealOptions, StampOptions, Unsealed, ingest, refuse, render_page, samples, seal, stamp,
    verify,
};
use lopdf::{Document, Object, Stream, dictionary};
use odd::pki::{Pki, Sealer};
use odd::tools::{self, Picture};
use odd::{Odd, Packing, judges};
use sha2::{Digest, Sha256};

const SEALED_AT_UNIX_S: u64 = 1_795_283_618;

fn options() -> SealOptions {
    SealOptions {
        sealed_at_unix_s: SEALED_AT_UNIX_S,
        name: Some("Prüfstelle (\\Nord)".into()),
        reason: Some("Sealed 契約".into()),
        ..SealOptions::default()
    }
}

fn timestamped() -> SealOptions {
    SealOptions { timestamped: true, ..options() }
}

fn preserved() -> SealOptions {
    SealOptions { already_signed: AlreadySigned::Preserve, ..options() }
}

fn sealed(sealer: &Sealer, base: &[u8], options: &SealOptions) -> Vec<u8> {
    sealer.finish(seal(base, &sealer.identity, options).unwrap()).whole(base)
}

fn stamped(base: &[u8]) -> Vec<u8> {
    let content = MarkContent::Signature { name: "Ada Lovelace".into() };
    let mark = Mark { page: 1, x_pct: 10.0, y_pct: 10.0, width_pct: 30.0, height_pct: 10.0, content };
    stamp(base, &[mark], &StampOptions::default()).unwrap()
}

/// Papers of every make, by what is odd about them.
fn papers() -> Vec<(String, Vec<u8>)> {
    let mut papers = vec![("many pages".to_owned(), odd::many_pages(137)), ("hybrid".to_owned(), odd::hybrid())];
    for packing in [Packing::Table, Packing::XrefStream, Packing::ObjectStreams] {
        for rotate in [0, 90] {
            let odd = Odd { packing, rotate, crop: Some([40, 60, 340, 260]), ..Odd::plain() };
            papers.push((format!("{packing:?} turned by {rotate}"), odd.pdf()));
            papers.push((format!("{packing:?} turned by {rotate}, stamped"), stamped(&odd.pdf())));
        }
    }
    let sample = samples::services_agreement().unwrap().bytes;
    papers.push(("refused".into(), refuse(&sample, &Refusal::default()).unwrap()));
    papers.push(("behind junk".into(), [&b"junk\n"[..], &Odd::plain().pdf()].concat()));
    papers.push(("no line end".into(), Odd::plain().pdf().trim_ascii_end().to_vec()));
    papers.push(("sample".into(), sample));
    papers.push(("decrypted".into(), decrypted()));
    // What LibreOffice made of a DOCX, as the service has it made.
    let converted = include_bytes!("../../../tests/it/corpus/pdf/converted-from-docx.pdf");
    papers.push(("converted".into(), converted.to_vec()));
    papers.push(("converted, stamped".into(), stamped(converted)));
    papers
}

/// What is kept of a paper that came encrypted and opens without a password.
fn decrypted() -> Vec<u8> {
    let encrypted = include_bytes!("../../../tests/it/corpus/pdf/encrypted-aes-256.pdf");
    let found = ingest(encrypted, &Limits::default(), &Policy::default()).unwrap();
    assert!(found.notes.contains(&Note::Decrypted), "{:?}", found.notes);
    found.base.unwrap()
}

#[test]
fn seals_of_every_make_hold_in_independent_programs() {
    if !judges::can_make_keys() {
        return;
    }
    let mut files = Vec::new();
    for key in ["rsa", "p256"] {
        let sealer = Pki::get().sealer(key);
        for (name, paper) in papers() {
            let done = sealer.finish(seal(&paper, &sealer.identity, &options()).unwrap());
            let file = done.whole(&paper);
            let is_rewritten = ["hybrid", "behind junk"].contains(&name.as_str());
            assert_eq!(done.base_bytes, if is_rewritten { 0 } else { paper.len() }, "{name}");
            assert!(is_rewritten || file.starts_with(&paper), "{name}: the base is not the beginning");
            assert_eq!(done.sha256, <[u8; 32]>::from(Sha256::digest(&file)), "{name}");
            assert_eq!((done.size_bytes(), done.level), (file.len(), Level::Basic), "{name}");
            files.push((format!("{name} by {key}"), file));
        }
    }
    let bytes: Vec<Vec<u8>> = files.iter().map(|(_, file)| file.clone()).collect();
    for ((name, _), said) in files.iter().zip(judges::pyhanko(&bytes).into_iter().flatten()) {
        assert_eq!(said, ["valid trusted ENTIRE_FILE NONE unstamped"], "{name}");
    }
    for (name, file) in &files {
        if let Some(said) = judges::pdfsig(file) {
            for line in ["Signature is Valid.", "Certificate is Trusted.", "Total document signed"] {
                assert!(said.contains(line), "{name}: {said}");
            }
            assert!(said.contains("Signing Time: Nov 21 2026") && said.contains("ETSI.CAdES.detached"), "{said}");
        }
        assert_eq!(judges::qpdf(file).unwrap_or_default(), "", "{name}");
        assert!(judges::mutool(file).unwrap_or(true), "{name}");
    }
}

#[test]
fn the_signature_is_a_baseline_one_that_openssl_verifies() {
    if !judges::can_make_keys() {
        return;
    }
    for key in ["rsa", "p256"] {
        let file = sealed(&Pki::get().sealer(key), &Odd::plain().pdf(), &options());
        let printed = judges::openssl_cms(&file);
        let signed = printed.split("signedAttrs:").nth(1).unwrap().split("signatureAlgorithm:").next().unwrap();
        let attributes: Vec<&str> = signed.lines().filter(|line| line.trim_start().starts_with("object:")).collect();
        assert_eq!(attributes.len(), 3, "{signed}");
        for name in ["contentType", "messageDigest", "id-smime-aa-signingCertificateV2"] {
            assert!(signed.contains(name), "{signed}");
        }
        assert!(!signed.contains("signingTime"));
        let text = String::from_utf8_lossy(&file);
        assert!(text.contains("/M(D:20261121175338Z)") && text.contains("/SubFilter/ETSI.CAdES.detached"));
    }
}

#[test]
fn a_timestamp_is_found_good_by_others() {
    if !judges::can_make_keys() {
        return;
    }
    let mut files = Vec::new();
    for key in ["rsa", "p256"] {
        let sealer = Pki::get().sealer(key);
        for (name, paper) in papers() {
            let done = sealer.finish_stamped(seal(&paper, &sealer.identity, &timestamped()).unwrap());
            assert_eq!(done.level, Level::Timestamped, "{name}");
            files.push((format!("{name} by {key}"), done.whole(&paper)));
        }
    }
    let bytes: Vec<Vec<u8>> = files.iter().map(|(_, file)| file.clone()).collect();
    for ((name, _), said) in files.iter().zip(judges::pyhanko(&bytes).into_iter().flatten()) {
        assert_eq!(said, ["valid trusted ENTIRE_FILE NONE stamped"], "{name}");
    }
}

#[test]
fn an_earlier_signature_stays_valid_below_the_seal() {
    if !judges::can_make_keys() {
        return;
    }
    let (first, second) = (Pki::get().sealer("p256"), Pki::get().sealer("rsa"));
    let mut files = Vec::new();
    for (_, paper) in papers().into_iter().filter(|(name, _)| name.contains("turned by 90") || name == "sample") {
        for kind in [SealKind::Approval, SealKind::Certification] {
            let once = sealed(&first, &paper, &SealOptions { kind, ..options() });
            assert_eq!(seal(&once, &second.identity, &options()).unwrap_err(), SealError::AlreadySigned);
            let twice = sealed(&second, &once, &preserved());
            assert!(twice.starts_with(&once));
            files.push(twice);
        }
    }
    for said in judges::pyhanko(&files).into_iter().flatten() {
        let expected =
            ["valid trusted ENTIRE_REVISION FORM_FILLING unstamped", "valid trusted ENTIRE_FILE NONE unstamped"];
        assert_eq!(said, expected);
    }
}

#[test]
fn earlier_signatures_are_taken_out_only_where_that_is_asked_for() {
    if !judges::can_make_keys() {
        return;
    }
    let sealer = Pki::get().sealer("p256");
    let once = sealed(&sealer, &Odd::plain().pdf(), &SealOptions { kind: SealKind::Certification, ..options() });
    let flatten = SealOptions { already_signed: AlreadySigned::Flatten, ..options() };
    let flat = sealer.finish(seal(&once, &sealer.identity, &flatten).unwrap());
    assert_eq!(flat.base_bytes, 0);
    let flat = flat.whole(&once);
    assert_eq!(judges::qpdf(&flat).unwrap_or_default(), "");
    assert!(!flat.windows(6).any(|window| window == b"DocMDP"));
    for said in judges::pyhanko(&[flat]).into_iter().flatten() {
        assert_eq!(said, ["valid trusted ENTIRE_FILE NONE unstamped"]);
    }
    let certify = SealOptions { kind: SealKind::Certification, ..preserved() };
    assert_eq!(seal(&once, &sealer.identity, &certify).unwrap_err(), SealError::AlreadySigned);
    let closed = String::from_utf8_lossy(&once).replace("TransformParams/P 2/", "TransformParams/P 1/");
    let mut forbids = once.clone();
    if closed.len() == once.len() {
        forbids = closed.into_bytes();
    } else {
        let at = forbids.windows(4).rposition(|window| window == b"/P 2").unwrap();
        forbids[at + 3] = b'1';
    }
    assert_eq!(seal(&forbids, &sealer.identity, &preserved()).unwrap_err(), SealError::NoChangesAllowed);
}

/// A paper that somebody signed, with a field to be filled in and a layer to be switched.
fn signed_with_open_parts() -> Vec<u8> {
    let mut document = Document::load_mem(&Odd::plain().pdf()).unwrap();
    let rectangle = || [10, 10, 90, 30].map(Object::from).to_vec();
    let look = dictionary! { "BBox" => [0, 0, 80, 20].map(Object::from).to_vec() };
    let look = document.add_object(Stream::new(look, b"0 g 0 0 80 20 re f".to_vec()));
    let value = dictionary! {
        "Type" => "Sig", "ByteRange" => [0, 1, 2, 3].map(Object::from).to_vec(), "Contents" => Object::string_literal("x"),
    };
    let value = document.add_object(value);
    let signature =
        document.add_object(dictionary! { "FT" => "Sig", "T" => Object::string_literal("a"), "V" => value });
    let price = document.add_object(dictionary! {
        "FT" => "Tx", "T" => Object::string_literal("Price"), "Subtype" => "Widget", "Rect" => rectangle(),
        "AP" => dictionary! { "N" => look },
    });
    let layer = document.add_object(dictionary! { "Type" => "OCG", "Name" => Object::string_literal("Terms") });
    let layers = dictionary! { "OCGs" => vec![layer.into()], "D" => dictionary! { "Order" => vec![layer.into()] } };
    let catalog = document.catalog_mut().unwrap();
    catalog.set("AcroForm", dictionary! { "Fields" => vec![signature.into(), price.into()] });
    catalog.set("OCProperties", layers);
    let page = document.page_iter().next().unwrap();
    document.get_dictionary_mut(page).unwrap().set("Annots", vec![price.into()]);
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    file
}

#[test]
fn what_an_earlier_signature_kept_from_being_changed_is_fixed_when_it_is_taken_out() {
    if !judges::can_make_keys() {
        return;
    }
    let (base, sealer) = (signed_with_open_parts(), Pki::get().sealer("p256"));
    let found = ingest(&base, &Limits::default(), &Policy::default()).unwrap();
    assert_eq!((found.base, found.is_signed, found.has_form, found.has_layers), (None, true, true, true));
    let flatten = SealOptions { already_signed: AlreadySigned::Flatten, ..options() };
    let flat = sealer.finish(seal(&base, &sealer.identity, &flatten).unwrap()).whole(&base);
    let document = Document::load_mem(&flat).unwrap();
    let fields =
        document.catalog().unwrap().get(b"AcroForm").and_then(Object::as_dict).unwrap().get(b"Fields").unwrap();
    assert_eq!(fields.as_array().unwrap().len(), 1, "only the seal is left");
    let layers = document.catalog().unwrap().get(b"OCProperties").and_then(Object::as_dict).unwrap();
    let layers = layers.get(b"D").and_then(Object::as_dict).unwrap();
    assert!(layers.has(b"Locked") && !layers.has(b"Order"));
    if tools::available("pdftoppm", "poppler-utils") {
        let picture = |file: &[u8]| Picture::of(file, (400.0, 300.0));
        assert!(picture(&flat).difference(&picture(&base), 128) < 0.001, "it looks as it did");
        assert!(picture(&flat).bounds_darker_than(40).is_some(), "the field is there");
    }
}

#[test]
fn a_signature_that_is_not_the_certificates_is_not_given_out() {
    if !judges::can_make_keys() {
        return;
    }
    let (right, wrong) = (Pki::get().sealer("p256"), Pki::get().sealer("stranger"));
    let unsealed = || seal(&Odd::plain().pdf(), &right.identity, &timestamped()).unwrap();
    let foreign = wrong.sign(unsealed().to_be_signed());
    assert!(matches!(unsealed().finish(&foreign, None), Err(SealError::DoesNotHold(_))));
    let another = right.sign(b"something else");
    assert!(matches!(unsealed().finish(&another, None), Err(SealError::DoesNotHold(_))));
    let signature = right.sign(unsealed().to_be_signed());
    let request = Unsealed::timestamp_request(&another, 7).unwrap();
    let token = request.token(&Pki::get().timestamp(&request.der), Pki::clock_unix_s(), None).unwrap();
    assert!(matches!(unsealed().finish(&signature, Some(&token)), Err(SealError::DoesNotHold(_))));
    assert!(unsealed().finish(&signature, None).is_ok());
}

/// What somebody signed who may sign, but not timestamps.
#[test]
fn only_an_authority_for_timestamps_gives_one() {
    if !judges::can_make_keys() {
        return;
    }
    let (folder, sealer) = (tempfile::tempdir().unwrap(), Pki::get().sealer("p256"));
    let unsealed = || seal(&Odd::plain().pdf(), &sealer.identity, &timestamped()).unwrap();
    let signature = sealer.sign(unsealed().to_be_signed());
    let request = Unsealed::timestamp_request(&signature, 9).unwrap();
    let token = request.token(&Pki::get().timestamp(&request.der), Pki::clock_unix_s(), None).unwrap();
    std::fs::write(folder.path().join("token"), &token).unwrap();
    let path = |name: &str| Pki::get().path().join(name).to_str().unwrap().to_owned();
    let (pem, key) = (path("rsa.pem"), path("rsa.key"));
    let verify = ["cms", "-verify", "-noverify", "-inform", "DER", "-in", "token", "-out", "info"];
    odd::pki::openssl(folder.path(), &verify);
    let kind = ["-econtent_type", "1.2.840.113549.1.9.16.1.4", "-nodetach", "-binary", "-md", "sha256"];
    let sign = ["cms", "-sign", "-in", "info", "-outform", "DER", "-out", "forged", "-signer", &pem, "-inkey", &key];
    odd::pki::openssl(folder.path(), &[&sign[..], &kind].concat());
    let forged = std::fs::read(folder.path().join("forged")).unwrap();
    let refused = unsealed().finish(&signature, Some(&forged)).unwrap_err();
    assert!(refused.to_string().contains("not one for timestamps"), "{refused}");
    assert!(unsealed().finish(&signature, Some(&token)).is_ok());
}

#[test]
fn what_does_not_fit_its_room_is_refused() {
    if !judges::can_make_keys() {
        return;
    }
    let sealer = Pki::get().sealer("p256");
    // A sequence of so many zeros; none fits where no room was asked for.
    let large = [&[0x30, 0x82, 0x50, 0x00][..], &[0x05, 0x00].repeat(0x2800)].concat();
    for options in [timestamped(), options()] {
        let unsealed = seal(&Odd::plain().pdf(), &sealer.identity, &options).unwrap();
        let signature = sealer.sign(unsealed.to_be_signed());
        let refused = unsealed.finish(&signature, Some(&large)).unwrap_err();
        let SealError::TooLarge { actual_bytes, max_bytes } = refused else { panic!("{refused}") };
        assert!(actual_bytes > max_bytes && (max_bytes > 16_384) == options.timestamped, "{refused}");
    }
}

/// A seal has room for its certificates however long they are, for a timestamp beside them, and for no more.
#[test]
fn there_is_room_for_long_certificates() {
    if !judges::can_make_keys() {
        return;
    }
    let names: Vec<String> = (0..1_000).map(|number| format!("DNS:{number}.sealers.example")).collect();
    let section = format!("[long]\nkeyUsage=critical,digitalSignature\nsubjectAltName={}\n", names.join(","));
    let pki = Pki::empty(&section);
    pki.certificate("stranger", "long", None, "RSA");
    let (sealer, base) = (pki.sealer("stranger"), Odd::plain().pdf());
    let done = sealer.finish(seal(&base, &sealer.identity, &options()).unwrap());
    assert!(done.delta.len() > 2 * 20_000, "{}", done.delta.len());
    let text = String::from_utf8_lossy(&done.delta);
    let digits = text.split_once("/Contents<").unwrap().1.split_once('>').unwrap().0;
    let length = usize::from_str_radix(&digits[4..8], 16).unwrap();
    assert_eq!((&digits[..4], digits.len()), ("3082", 2 * (length + 4)), "the CMS and nothing behind it");
    let stamped = sealer.finish_stamped(seal(&base, &sealer.identity, &timestamped()).unwrap());
    assert_eq!(stamped.level, Level::Timestamped);
    for file in [done.whole(&base), stamped.whole(&base)] {
        let found = verify(&file, &Limits::default(), &Roots::default(), SEALED_AT_UNIX_S).unwrap();
        assert!(found.signatures[0].is_intact() && found.signatures[0].covers_whole_file, "{found:?}");
        assert!(judges::mutool(&file).unwrap_or(true));
    }
}

#[test]
fn only_keys_that_are_strong_enough_are_taken() {
    if !judges::can_make_keys() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (kind, option) in [("RSA", "rsa_keygen_bits:1024"), ("EC", "ec_paramgen_curve:P-384")] {
        let key = ["genpkey", "-algorithm", kind, "-pkeyopt", option, "-out", "key"];
        odd::pki::openssl(folder.path(), &key);
        let der = ["req", "-x509", "-key", "key", "-subj", "/CN=weak", "-outform", "DER"];
        let der = odd::pki::openssl(folder.path(), &der);
        assert!(Identity::new(&[der]).unwrap_err().to_string().contains("must be RSA of 2,048"));
    }
    assert!(Identity::new(&[]).is_err() && Identity::new(&[vec![1, 2, 3]]).is_err());
}

#[test]
fn the_same_paper_at_the_same_time_asks_for_the_same_signature() {
    if !judges::can_make_keys() {
        return;
    }
    let sealer = Pki::get().sealer("rsa");
    let base = Odd::plain().pdf();
    let [first, second] = [0, 1].map(|_| sealed(&sealer, &base, &options()));
    assert!(first == second, "RSA signatures have no chance in them");
    let prepared = Prepared::new(&base).unwrap().unwrap();
    for _ in 0..2 {
        let done = sealer.finish(prepared.seal(&sealer.identity, &options()).unwrap());
        assert!(done.whole(&base) == first && done.base_bytes == base.len(), "nothing of the base was needed");
    }
    assert_eq!(prepared.digest().sha256(), <[u8; 32]>::from(Sha256::digest(&base)));
    let refused = Prepared::new(&first).unwrap().unwrap().seal(&sealer.identity, &options()).unwrap_err();
    assert_eq!(refused, SealError::AlreadySigned);
    assert!(Prepared::new(&odd::hybrid()).unwrap().is_none(), "it has to be written anew");
    let kept = BaseDigest::from_bytes(&BaseDigest::of(&base).to_bytes()).unwrap();
    assert_eq!(kept.sha256(), <[u8; 32]>::from(Sha256::digest(&base)));
}

/// Pages and the catalog behind references to references: unusual, and no reason to fail.
#[test]
fn what_stands_behind_two_references_is_sealed() {
    if !judges::can_make_keys() {
        return;
    }
    let mut document = Document::load_mem(&Odd::plain().pdf()).unwrap();
    let page = document.page_iter().next().unwrap();
    let root = document.trailer.get(b"Root").unwrap().as_reference().unwrap();
    let detour = document.add_object(Object::Reference(page));
    let catalog = document.add_object(Object::Reference(root));
    let tree = document.catalog().unwrap().get(b"Pages").unwrap().as_reference().unwrap();
    document.get_dictionary_mut(tree).unwrap().set("Kids", vec![detour.into()]);
    document.trailer.set("Root", catalog);
    let mut base = Vec::new();
    document.save_to(&mut base).unwrap();
    // Not all readers follow such references, so that such a paper is not kept as it is.
    let found = ingest(&base, &Limits::default(), &Policy::default()).unwrap();
    assert_eq!(found.notes, [Note::TableRepaired]);
    let mended = found.base.unwrap();
    assert!(render_page(&mended, 1, 100, &Limits::default()).unwrap().is_some());
    let sealer = Pki::get().sealer("p256");
    let files = [&base, &stamped(&base), &mended].map(|base| sealed(&sealer, base, &options()));
    for said in judges::pyhanko(&files).into_iter().flatten() {
        assert_eq!(said, ["valid trusted ENTIRE_FILE NONE unstamped"]);
    }
}
