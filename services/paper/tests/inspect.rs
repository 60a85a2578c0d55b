//! Which uploads are accepted, and what is said about the others.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{Limits, Rotation, Unreadable, inspect, samples};
use lopdf::{Document, EncryptionState, EncryptionVersion, Object, Permissions, dictionary};
use odd::Odd;

fn refusal(bytes: &[u8]) -> Unreadable {
    inspect(bytes, &Limits::default()).unwrap_err()
}

fn changed(change: impl FnOnce(&mut Document)) -> Vec<u8> {
    let mut document = Document::load_mem(&Odd::plain().pdf()).unwrap();
    change(&mut document);
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    file
}

#[test]
fn pages_are_measured_as_displayed() {
    for odd in odd::matrix() {
        let inspection = inspect(&odd.pdf(), &Limits::default()).expect("readable");
        let [page] = inspection.pages[..] else { panic!("{odd:?}: {inspection:?}") };
        assert_eq!((page.width_pt, page.height_pt), odd.displayed_pt(), "{odd:?}");
        assert_eq!(i64::from(page.rotation.degrees()), odd.rotate.rem_euclid(360), "{odd:?}");
        assert!(!inspection.is_signed);
    }
}

#[test]
fn samples_are_readable_and_their_blocks_are_on_their_pages() {
    for sample in samples::all().unwrap() {
        let inspection = inspect(&sample.bytes, &Limits::default()).expect(sample.file_name);
        assert!(!sample.blocks.is_empty());
        for block in &sample.blocks {
            assert!(block.page >= 1 && block.page as usize <= inspection.pages.len());
            assert!(block.x_pct > 0.0 && block.x_pct + block.width_pct < 100.0, "{block:?}");
            assert!(block.y_pct > 0.0 && block.y_pct + block.height_pct < 100.0, "{block:?}");
            assert!(block.date.y_pct > 0.0 && block.date.y_pct + block.date.height_pct < 100.0, "{block:?}");
        }
    }
    assert_eq!(samples::all().unwrap(), samples::all().unwrap(), "samples are the same on every call");
}

#[test]
fn samples_have_the_pages_they_promise() {
    let pages = |bytes: &[u8]| inspect(bytes, &Limits::default()).unwrap().pages;
    assert_eq!(pages(&samples::nda().unwrap().bytes).len(), 2);
    assert_eq!(pages(&samples::services_agreement().unwrap().bytes).len(), 5);
    let scan = pages(&samples::rotated_scan().unwrap().bytes);
    assert_eq!(scan[0].rotation, Rotation::Quarter);
    assert_eq!((scan[0].width_pt.round(), scan[0].height_pt.round()), (595.0, 842.0));
}

#[test]
fn what_is_no_pdf_is_refused_by_name() {
    assert_eq!(refusal(b""), Unreadable::Empty);
    assert_eq!(refusal(b"PK\x03\x04 a word processor's file"), Unreadable::NotPdf);
    assert_eq!(refusal(&[vec![b' '; 2000], Odd::plain().pdf()].concat()), Unreadable::NotPdf);
    assert!(matches!(refusal(b"%PDF-1.7\nnothing more"), Unreadable::Broken { .. }));
    let junk_in_front = [b"junk\n".to_vec(), Odd::plain().pdf()].concat();
    assert_eq!(inspect(&junk_in_front, &Limits::default()).unwrap().pages.len(), 1);
}

#[test]
fn each_limit_is_kept() {
    let pdf = samples::nda().unwrap().bytes;
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        inspect(&pdf, &limits).unwrap_err()
    };
    let too_large = Unreadable::TooLarge { actual_bytes: pdf.len(), max_bytes: 1000 };
    assert_eq!(limits(|limits| limits.bytes_max = 1000), too_large);
    assert_eq!(too_large.to_string(), format!("the file has {} bytes, at most 1000 are allowed", pdf.len()));
    assert_eq!(limits(|limits| limits.pages_max = 1), Unreadable::TooManyPages { actual: 2, max: 1 });
    assert!(matches!(limits(|limits| limits.objects_max = 3), Unreadable::TooManyObjects { max: 3, .. }));
}

#[test]
fn encrypted_documents_are_refused_even_if_no_password_is_needed() {
    for user_password in ["", "secret"] {
        let encrypted = changed(|document| {
            let id = Object::string_literal("0123456789abcdef");
            document.trailer.set("ID", vec![id.clone(), id]);
            let version = EncryptionVersion::V2 {
                document,
                owner_password: "owner",
                user_password,
                key_length: 128,
                permissions: Permissions::all(),
            };
            let state = EncryptionState::try_from(version).unwrap();
            document.encrypt(&state).unwrap();
        });
        assert_eq!(refusal(&encrypted), Unreadable::Encrypted, "password {user_password:?}");
    }
}

#[test]
fn kinds_that_cannot_be_shown_are_refused_by_name() {
    let catalog = |key: &'static str, value: Object| {
        changed(move |document| {
            document.catalog_mut().unwrap().set(key, value);
        })
    };
    assert_eq!(refusal(&catalog("Collection", dictionary! {}.into())), Unreadable::Portfolio);
    assert_eq!(refusal(&catalog("NeedsRendering", true.into())), Unreadable::DynamicForm);
    let signed = catalog("AcroForm", dictionary! { "SigFlags" => 3 }.into());
    assert!(inspect(&signed, &Limits::default()).unwrap().is_signed);
}

#[test]
fn page_trees_that_loop_or_are_empty_are_refused() {
    let kids = |make: fn(Object, Object) -> Vec<Object>| {
        changed(move |document| {
            let root = document.catalog().unwrap().get(b"Pages").unwrap().as_reference().unwrap();
            let page = document.page_iter().next().unwrap();
            let kids = make(root.into(), page.into());
            document.get_dictionary_mut(root).unwrap().set("Kids", kids);
        })
    };
    assert_eq!(refusal(&kids(|_, _| vec![])), Unreadable::NoPages);
    assert_eq!(refusal(&kids(|_, _| vec![Object::Null, (999, 0).into()])), Unreadable::NoPages);
    assert!(matches!(refusal(&kids(|root, _| vec![root])), Unreadable::Broken { .. }));
    assert!(matches!(refusal(&kids(|_, page| vec![page.clone(), page])), Unreadable::Broken { .. }));
    assert!(matches!(refusal(&kids(|_, _| vec![dictionary! {}.into()])), Unreadable::Broken { .. }));
}

#[test]
fn pages_of_impossible_size_are_refused() {
    let vast = Odd { media: [0, 0, 20_000, 300], ..Odd::plain() }.pdf();
    assert!(matches!(refusal(&vast), Unreadable::PageSize { page: 1, .. }));
    let tiny = Odd { media: [0, 0, 400, 2], ..Odd::plain() }.pdf();
    assert!(matches!(refusal(&tiny), Unreadable::PageSize { page: 1, .. }));
}

#[test]
fn a_page_that_the_table_has_lost_is_found_in_the_file() {
    let pdf = samples::rotated_scan().unwrap().bytes;
    let text = |wanted: &[u8]| pdf.windows(wanted.len()).position(|window| window == wanted).unwrap();
    let page = text(b"/Type/Page/");
    let number = pdf[..page].windows(4).rposition(|window| window == b" obj").unwrap();
    let number = pdf[..number].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let offset = format!("{number:010} ");
    let entry = text(offset.as_bytes());
    let damaged = [&pdf[..entry], b"0000000016 ", &pdf[entry + offset.len()..]].concat();
    assert_eq!(inspect(&damaged, &Limits::default()), inspect(&pdf, &Limits::default()));
}
