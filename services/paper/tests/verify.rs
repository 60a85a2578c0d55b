//! What was done to a sealed file is found: by our own check, and by other programs where they look at the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "verify/later.rs"]
mod later;
mod odd;

use countersign_paper::{
    AlreadySigned, Fault, Later, Limits, Mark, MarkContent, Role, Roots, SealKind, SealOptions, SignatureFacts,
    StampOptions, Trust, Unreadable, Verification, samples, seal, stamp, verify,
};
use lopdf::{Document, IncrementalDocument, Object, dictionary};
use odd::pki::Pki;
use odd::{Odd, Packing, judges};

const NOW_UNIX_S: u64 = 1_795_283_618;
const DAY_S: u64 = 86_400;

/// The time of the machine that made the certificates.
fn now_unix_s() -> u64 {
    let pki = Pki::get().sealer("rsa");
    pki.identity.validity_unix_s().0 + DAY_S
}

fn roots() -> Roots {
    Roots::new(&[Pki::get().der("root")])
}

fn check(file: &[u8]) -> Verification {
    verify(file, &Limits::default(), &roots(), now_unix_s()).unwrap()
}

fn only(file: &[u8]) -> SignatureFacts {
    let mut signatures = check(file).signatures;
    assert_eq!(signatures.len(), 1);
    signatures.remove(0)
}

fn sealed_by(key: &str, base: &[u8], options: &SealOptions) -> Vec<u8> {
    let sealer = Pki::get().sealer(key);
    sealer.finish(seal(base, &sealer.identity, options).unwrap()).whole(base)
}

fn options() -> SealOptions {
    SealOptions { sealed_at_unix_s: NOW_UNIX_S, ..SealOptions::default() }
}

fn preserve() -> SealOptions {
    SealOptions { already_signed: AlreadySigned::Preserve, ..options() }
}

fn sealed() -> Vec<u8> {
    sealed_by("p256", &samples::nda().unwrap().bytes, &options())
}

/// A later update of a file by another program.
fn updated(file: &[u8], change: impl FnOnce(&mut IncrementalDocument)) -> Vec<u8> {
    let previous = Document::load_mem(file).unwrap();
    let mut document = IncrementalDocument::create_from(file.to_vec(), previous);
    change(&mut document);
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

fn first_page(document: &IncrementalDocument) -> (u32, u16) {
    *document.get_prev_documents().get_pages().get(&1).unwrap()
}

#[test]
fn a_seal_is_found_whole_and_by_whom() {
    if !judges::can_make_keys() {
        return;
    }
    for (key, packing) in [("rsa", Packing::Table), ("p256", Packing::XrefStream), ("p256", Packing::ObjectStreams)] {
        let facts = only(&sealed_by(key, &Odd { packing, ..Odd::plain() }.pdf(), &options()));
        assert!(facts.is_intact() && facts.covers_whole_file, "{facts:?}");
        assert_eq!((facts.role, facts.later, facts.trust), (Role::Approval, Later::Nothing, Trust::Trusted));
        let signer = facts.signer.unwrap();
        assert_eq!(signer.subject, format!("CN={key},O=Countersign tests"));
        assert_eq!(signer.issuer, "CN=issuer,O=Countersign tests");
        assert_eq!(signer.sha256, Pki::get().sealer(key).identity.leaf_sha256());
    }
    let plain = check(&Odd::plain().pdf());
    assert!(plain.signatures.is_empty());
    let certified = sealed_by("rsa", &Odd::plain().pdf(), &SealOptions { kind: SealKind::Certification, ..options() });
    assert_eq!(only(&certified).role, Role::Certification(2));
}

#[test]
fn trust_is_a_matter_of_the_roots_and_the_time() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed();
    let trust = |roots: &Roots, at| verify(&file, &Limits::default(), roots, at).unwrap().signatures[0].trust;
    assert_eq!(trust(&roots(), now_unix_s()), Trust::Trusted);
    assert_eq!(trust(&Roots::default(), now_unix_s()), Trust::UnknownIssuer);
    assert_eq!(trust(&Roots::new(&[Pki::get().der("stranger")]), now_unix_s()), Trust::UnknownIssuer);
    assert_eq!(trust(&roots(), now_unix_s() + 365 * DAY_S), Trust::NotValidThen);
    assert_eq!(trust(&roots(), now_unix_s() - 365 * DAY_S), Trust::NotValidThen);
    // What was not made to issue is no issuer, whoever signed it.
    assert_eq!(only(&sealed_by("stranger", &Odd::plain().pdf(), &options())).trust, Trust::UnknownIssuer);
}

#[test]
fn a_timestamp_proves_a_time() {
    if !judges::can_make_keys() {
        return;
    }
    let sealer = Pki::get().sealer("p256");
    let base = Odd::plain().pdf();
    let timestamped = SealOptions { timestamped: true, ..options() };
    let file = sealer.finish_stamped(seal(&base, &sealer.identity, &timestamped).unwrap()).whole(&base);
    let stamp = only(&file).timestamp.unwrap();
    assert_eq!((stamp.fault, stamp.trust), (None, Trust::Trusted));
    assert!(stamp.at_unix_s.abs_diff(now_unix_s()) < 2 * DAY_S);
    assert!(stamp.authority.subject.starts_with("CN=tsa"));
    // It holds for as long as the timestamp does, whenever it is looked at.
    let late = verify(&file, &Limits::default(), &roots(), now_unix_s() + 3_650 * DAY_S).unwrap();
    assert_eq!(late.signatures[0].trust, Trust::Trusted);
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed();
    let [opens, closes, _] = judges::byte_range(&file);
    let mut flipped = Vec::new();
    // Within a stream of the base, within the signature's dictionary, within the signature, behind it.
    let stream = file.windows(6).position(|window| window == b"stream").unwrap() + 40;
    let date = file.windows(4).rposition(|window| window == b"(D:2").unwrap() + 3;
    for at in [stream, date, opens + 1_800, closes + 5] {
        let mut bytes = file.clone();
        bytes[at] = if bytes[at] == b'5' { b'6' } else { b'5' };
        match verify(&bytes, &Limits::default(), &roots(), now_unix_s()) {
            Ok(found) => {
                assert!(found.signatures.iter().all(|facts| !facts.is_intact()), "byte {at} of {}", file.len())
            }
            Err(_) => assert!(at != stream && at != date, "byte {at}"),
        }
        flipped.push(bytes);
    }
    assert!(
        judges::pdfsig_holds(&file).unwrap_or(true) && judges::mutool(&file).unwrap_or(true),
        "before that it holds"
    );
    assert!(flipped.iter().all(|file| !judges::mutool(file).unwrap_or(false)));
    for file in &flipped {
        let said = judges::pdfsig(file).unwrap_or_default();
        assert!(!said.contains("Signature is Valid."), "{said}");
    }
    for said in judges::pyhanko(&flipped).into_iter().flatten() {
        assert!(said.iter().all(|said| !said.starts_with("valid")), "{said:?}");
    }
}

#[test]
fn changes_by_later_updates_are_found() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed();
    let content = MarkContent::Text("1,000,000".into());
    let mark = Mark { page: 1, x_pct: 10.0, y_pct: 10.0, width_pct: 30.0, height_pct: 10.0, content };
    let stamped = stamp(&file, &[mark], &StampOptions::default()).unwrap();
    let noted = updated(&file, |document| {
        let note = document.new_document.add_object(dictionary! {
            "Type" => "Annot", "Subtype" => "FreeText", "Contents" => Object::string_literal("Paid"),
            "Rect" => vec![10.into(), 10.into(), 200.into(), 60.into()], "DA" => Object::string_literal("/F 12 Tf"),
        });
        let page = first_page(document);
        document.opt_clone_object_to_new_document(page).unwrap();
        let page = document.new_document.get_object_mut(page).unwrap().as_dict_mut().unwrap();
        let mut annotations = page.get(b"Annots").and_then(Object::as_array).cloned().unwrap_or_default();
        annotations.push(note.into());
        page.set("Annots", annotations);
    });
    let replaced = updated(&file, |document| {
        let page = first_page(document);
        let previous = document.get_prev_documents();
        let content = previous.get_page_contents(page)[0];
        let stream = lopdf::Stream::new(lopdf::Dictionary::new(), b"0 g 0 0 300 300 re f".to_vec());
        document.new_document.set_object(content, stream);
    });
    let scripted = updated(&file, |document| {
        let root = document.get_prev_documents().trailer.get(b"Root").and_then(Object::as_reference).unwrap();
        document.opt_clone_object_to_new_document(root).unwrap();
        let catalog = document.new_document.get_object_mut(root).unwrap().as_dict_mut().unwrap();
        catalog.set("OpenAction", dictionary! { "S" => "JavaScript", "JS" => Object::string_literal("1") });
    });
    let files = [stamped, noted, replaced, scripted];
    for (index, changed) in files.iter().enumerate() {
        let facts = only(changed);
        assert_eq!((facts.later, facts.fault), (Later::Changes, None), "file {index}");
        assert!(!facts.is_intact() && !facts.covers_whole_file && facts.signed_bytes == file.len(), "file {index}");
    }
    for said in judges::pyhanko(&files).into_iter().flatten() {
        assert!(said.iter().all(|said| !said.starts_with("valid")), "{said:?}");
    }
}

#[test]
fn further_signatures_and_validation_data_are_no_change() {
    if !judges::can_make_keys() {
        return;
    }
    let once = sealed();
    let twice = sealed_by("rsa", &once, &preserve());
    let found = check(&twice).signatures;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(SignatureFacts::is_intact));
    assert_eq!((found[0].later, found[0].signed_bytes), (Later::FurtherSignatures, once.len()));
    assert_eq!((found[1].later, found[1].covers_whole_file), (Later::Nothing, true));
    let blank = only(&[&once[..], b"\r\n \n"].concat());
    assert_eq!((blank.later, blank.covers_whole_file, blank.is_intact()), (Later::Nothing, false, true));
    let with_store = updated(&once, |document| {
        let root = document.get_prev_documents().trailer.get(b"Root").and_then(Object::as_reference).unwrap();
        let store = document.new_document.add_object(dictionary! { "Certs" => Object::Array(vec![]) });
        document.opt_clone_object_to_new_document(root).unwrap();
        document.new_document.get_object_mut(root).unwrap().as_dict_mut().unwrap().set("DSS", store);
    });
    let facts = only(&with_store);
    assert_eq!((facts.later, facts.is_intact()), (Later::ValidationData, true));
    // Nobody needs to know what came behind a signature that does not hold.
    let mut flipped = with_store;
    let at = flipped.windows(4).rposition(|window| window == b"(D:2").unwrap() + 3;
    flipped[at] = b'3';
    let facts = only(&flipped);
    assert_eq!((facts.later, facts.fault), (Later::Changes, Some(Fault::ContentChanged)));
}

/// What another program signs is judged as ours is, below the seal and above it.
#[test]
fn signatures_of_other_programs_are_judged_alike() {
    if !judges::can_make_keys() {
        return;
    }
    for kind in ["PADES", "ADOBE_PKCS7_DETACHED"] {
        for packing in [Packing::Table, Packing::ObjectStreams] {
            let base = Odd { packing, ..Odd::plain() }.pdf();
            let Some(theirs) = judges::signed_by_pyhanko(&base, "rsa", kind) else { return };
            let facts = only(&theirs);
            assert!(facts.is_intact() && facts.covers_whole_file && facts.trust == Trust::Trusted, "{facts:?}");
            let above = sealed_by("p256", &theirs, &preserve());
            let below = judges::signed_by_pyhanko(&sealed_by("p256", &base, &options()), "rsa", kind).unwrap();
            for file in [&above, &below] {
                let found = check(file).signatures;
                assert_eq!(found.len(), 2);
                assert!(found.iter().all(|facts| facts.is_intact() && facts.trust == Trust::Trusted), "{found:?}");
                assert_eq!((found[0].later, found[1].later), (Later::FurtherSignatures, Later::Nothing));
            }
            for said in judges::pyhanko(&[above, below]).into_iter().flatten() {
                assert!(said.len() == 2 && said.iter().all(|said| said.starts_with("valid trusted")), "{said:?}");
            }
        }
    }
}

/// An object that the signed revision names but lacks, and that comes later: nothing that was there changes.
#[test]
fn a_gap_that_is_filled_later_is_a_change() {
    if !judges::can_make_keys() {
        return;
    }
    let mut base = Document::load_mem(&Odd::plain().pdf()).unwrap();
    let page = *base.get_pages().get(&1).unwrap();
    let missing = (base.max_id + 40, 0);
    base.get_object_mut(page).unwrap().as_dict_mut().unwrap().set("Annots", vec![missing.into()]);
    base.max_id += 50;
    let mut bytes = Vec::new();
    base.save_to(&mut bytes).unwrap();
    let file = sealed_by("p256", &bytes, &options());
    assert!(only(&file).is_intact());
    let filled = updated(&file, |document| {
        let note =
            dictionary! { "Type" => "Annot", "Subtype" => "FreeText", "Contents" => Object::string_literal("x") };
        document.new_document.set_object(missing, note);
    });
    assert_eq!(only(&filled).later, Later::Changes);
}

/// A file that was made for it: what its page shows is also named as what may change.
#[test]
fn what_a_page_shows_is_never_harmless() {
    if !judges::can_make_keys() {
        return;
    }
    for disguise in ["Info", "Metadata", "DSS"] {
        let mut base = Document::load_mem(&Odd::plain().pdf()).unwrap();
        let page = *base.get_pages().get(&1).unwrap();
        let content = base.get_page_contents(page)[0];
        match disguise {
            "Info" => base.trailer.set("Info", content),
            "Metadata" => base.catalog_mut().unwrap().set("Metadata", content),
            _ => base.catalog_mut().unwrap().set("DSS", dictionary! { "Certs" => vec![content.into()] }),
        }
        let mut bytes = Vec::new();
        base.save_to(&mut bytes).unwrap();
        let file = sealed_by("p256", &bytes, &options());
        assert!(only(&file).is_intact());
        let replaced = updated(&file, |document| {
            let stream = lopdf::Stream::new(lopdf::Dictionary::new(), b"0 g 0 0 300 300 re f".to_vec());
            document.new_document.set_object(content, stream);
        });
        assert_eq!(only(&replaced).later, Later::Changes, "{disguise}");
    }
}

/// The known ways to make a file look signed that is not: no range, no signature, a wider gap, a moved end.
#[test]
fn forged_ranges_are_faults() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed();
    let [opens, closes, more] = judges::byte_range(&file);
    let numbers = |range: [usize; 3]| format!(" {:<10} {:<10} {:<10}", range[0], range[1], range[2]).into_bytes();
    let at = file.windows(11).rposition(|window| window == b"/ByteRange[").unwrap() + 12;
    let with = |range: [usize; 3]| {
        let mut bytes = file.clone();
        let text = numbers(range);
        bytes[at..at + text.len()].copy_from_slice(&text);
        bytes
    };
    assert!(only(&with([opens, closes, more])).is_intact());
    let ranges = [
        [0, closes, more],
        [opens, closes, 0],
        [opens - 40, closes, more],
        [opens, closes + 3, more - 3],
        [opens + 1, closes - 1, more + 1],
        [opens, closes, more + 1],
        [closes, opens, more],
        [opens, usize::MAX % 10_000_000_000, 9_999_999_999],
    ];
    for range in ranges {
        assert_eq!(only(&with(range)).fault, Some(Fault::Range), "{range:?}");
    }
    let mut without = file.clone();
    without[at - 12..at - 2].copy_from_slice(b"/ByteRangX");
    assert_eq!(only(&without).fault, Some(Fault::Range));
    let mut unknown = file.clone();
    let name = unknown.windows(20).rposition(|window| window == b"/ETSI.CAdES.detached").unwrap();
    unknown[name + 1] = b'X';
    assert_eq!(only(&unknown).fault, Some(Fault::UnknownKind));
}

/// The signature of one file in another, and a dictionary that borrows the digits of another signature.
#[test]
fn borrowed_signatures_do_not_hold() {
    if !judges::can_make_keys() {
        return;
    }
    let (one, other) = (sealed(), sealed_by("p256", &samples::services_agreement().unwrap().bytes, &options()));
    let [from, to, _] = judges::byte_range(&one);
    let [opens, closes, _] = judges::byte_range(&other);
    let mut moved = other.clone();
    moved[opens..closes].copy_from_slice(&one[from..to]);
    assert_eq!(only(&moved).fault, Some(Fault::ContentChanged));
    // Another paper in front, with the range of the old one: its digits are not where they were.
    let wrapped = updated(&one, |document| {
        let field = document.get_prev_documents().objects.iter().find_map(|(id, object)| {
            let is_signature = object.as_dict().is_ok_and(|entries| entries.has(b"ByteRange"));
            is_signature.then_some((*id, object.clone()))
        });
        let (id, mut forged) = field.unwrap();
        forged.as_dict_mut().unwrap().set("Contents", Object::String(vec![0x30, 0], lopdf::StringFormat::Hexadecimal));
        document.new_document.set_object(id, forged);
    });
    let facts = only(&wrapped);
    assert!(facts.fault == Some(Fault::Range) && !facts.is_intact(), "{facts:?}");
}

/// The certificate in a signature cannot be exchanged for another of the same key: the signature names it by its hash.
#[test]
fn the_certificate_of_a_signature_cannot_be_exchanged() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed();
    let certificate = Pki::get().der("p256");
    let digits: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
    let at = file.windows(digits.len()).position(|window| window == digits.as_bytes()).expect("the certificate");
    let mut exchanged = file.clone();
    // Within the signature of its issuer, of which the signature of the file says nothing.
    let last = at + digits.len() - 1;
    exchanged[last] = if exchanged[last] == b'0' { b'1' } else { b'0' };
    assert_eq!(only(&exchanged).fault, Some(Fault::NotBound));
    // Nothing is hidden in the room that was left for a timestamp.
    let roomy = SealOptions { timestamped: true, ..options() };
    let mut hidden = sealed_by("p256", &Odd::plain().pdf(), &roomy);
    assert!(only(&hidden).is_intact());
    let [_, closes, _] = judges::byte_range(&hidden);
    hidden[closes - 3] = b'7';
    assert_eq!(only(&hidden).fault, Some(Fault::UnreadableSignature));
}

/// What the pages show can be covered by what a field shows, and lost with an object that is gone.
#[test]
fn seen_fields_and_lost_objects_are_changes() {
    if !judges::can_make_keys() {
        return;
    }
    let once = sealed();
    let twice = sealed_by("rsa", &once, &preserve());
    let widget = |file: &[u8]| {
        let document = Document::load_mem(file).unwrap();
        let all = document.objects.iter().filter(|(_, object)| {
            object
                .as_dict()
                .is_ok_and(|entries| entries.get(b"FT").and_then(Object::as_name).is_ok_and(|ft| ft == b"Sig"))
        });
        *all.map(|(id, _)| id).max().unwrap()
    };
    let names: Vec<String> = check(&twice).signatures.into_iter().map(|facts| facts.field).collect();
    assert_eq!(names, ["Countersign seal", "Countersign seal 2"]);
    let with = |change: &dyn Fn(&mut lopdf::Dictionary)| {
        updated(&twice, |document| {
            let id = widget(&twice);
            document.opt_clone_object_to_new_document(id).unwrap();
            change(document.new_document.get_object_mut(id).unwrap().as_dict_mut().unwrap());
        })
    };
    let seen = with(&|field| field.set("Rect", vec![0.into(), 0.into(), 300.into(), 300.into()]));
    let acting = with(&|field| field.set("AA", dictionary! { "E" => dictionary! { "S" => "Launch" } }));
    for changed in [seen, acting] {
        let found = check(&changed).signatures;
        assert_eq!((found[0].later, found[1].later), (Later::Changes, Later::Changes));
    }
    let root = updated(&once, |document| {
        let same = document.get_prev_documents().catalog().unwrap().clone();
        let other = document.new_document.add_object(same);
        document.new_document.trailer.set("Root", other);
    });
    assert_eq!(only(&root).later, Later::Changes);
}

#[test]
fn what_is_no_pdf_is_refused() {
    let verify = |bytes: &[u8]| verify(bytes, &Limits::default(), &Roots::default(), NOW_UNIX_S);
    assert_eq!(verify(b""), Err(Unreadable::Empty));
    assert_eq!(verify(b"PK\x03\x04"), Err(Unreadable::NotPdf));
    let limits = Limits { bytes_max: 10, ..Limits::default() };
    let large = countersign_paper::verify(&Odd::plain().pdf(), &limits, &Roots::default(), NOW_UNIX_S);
    assert!(matches!(large, Err(Unreadable::TooLarge { max_bytes: 10, .. })));
}

/// Damaged seals: each is read or refused, none panics, and no damage to what is signed goes unseen.
#[test]
fn damaged_files_never_pass() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed_by("p256", &Odd::plain().pdf(), &options());
    let [opens, closes, more] = judges::byte_range(&file);
    let (roots, now_unix_s) = (roots(), now_unix_s());
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..400 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let at = (seed >> 20) as usize % (closes + more);
        let mut bytes = file.clone();
        bytes[at] ^= 1 << (seed % 8);
        if let Ok(found) = verify(&bytes, &Limits::default(), &roots, now_unix_s) {
            // The digits are not signed themselves: another test is about what may be exchanged there.
            let in_digits = (opens..closes).contains(&at);
            assert!(in_digits || found.signatures.iter().all(|facts| !facts.is_intact()), "byte {at}");
        }
    }
}
