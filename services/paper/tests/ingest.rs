//! What is kept of an upload: itself where it can be, else a copy that looks the same and can be sealed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{Ingested, Limits, Note, Policy, Unreadable, ingest, inspect, samples};
use lopdf::{
    Dictionary, Document, EncryptionState, EncryptionVersion, Object, ObjectId, Permissions, Stream, dictionary,
};
use odd::tools::{self, Picture};
use odd::{Odd, Packing};

fn ingested(bytes: &[u8]) -> Result<Ingested, Unreadable> {
    ingest(bytes, &Limits::default(), &Policy::default())
}

/// The copy, which has to read as cleanly as if it had been uploaded, and satisfy others.
fn mended(bytes: &[u8], expected: &[Note]) -> Vec<u8> {
    let found = ingested(bytes).unwrap();
    assert_eq!(found.notes, expected);
    let base = found.base.expect("a copy");
    let again = ingested(&base).unwrap();
    assert_eq!((again.base, again.notes), (None, vec![]), "a copy needs no copy");
    assert_eq!(again.pages, found.pages);
    if tools::available("qpdf", "qpdf") {
        tools::run("qpdf", &["--check", "{}"], &base);
    }
    base
}

fn looks_the_same(one: &[u8], other: &[u8]) {
    if tools::available("pdftoppm", "poppler-utils") {
        let size = inspect(other, &Limits::default()).unwrap().pages[0];
        let size = (size.width_pt, size.height_pt);
        let difference = Picture::of(one, size).difference(&Picture::of(other, size), 128);
        assert!(difference < 0.001, "{difference} of the page looks different");
    }
}

fn changed(change: impl FnOnce(&mut Document)) -> Vec<u8> {
    let mut document = Document::load_mem(&samples::nda().unwrap().bytes).unwrap();
    change(&mut document);
    saved(document)
}

fn saved(mut document: Document) -> Vec<u8> {
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    file
}

fn last(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).rposition(|window| window == wanted).unwrap()
}

fn objects(bytes: &[u8]) -> Vec<Object> {
    Document::load_mem(bytes).unwrap().objects.into_values().collect()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let mut plain = Vec::new();
    for object in objects(bytes) {
        lopdf::Writer::write_object(&mut plain, &object).unwrap();
    }
    plain.windows(needle.len()).any(|window| window == needle)
}

fn catalog(document: &mut Document, key: &str, value: impl Into<Object>) {
    document.catalog_mut().unwrap().set(key, value);
}

fn first_page(document: &Document) -> ObjectId {
    document.page_iter().next().unwrap()
}

#[test]
fn what_is_clean_stays_as_it_is() {
    for packing in [Packing::Table, Packing::XrefStream, Packing::ObjectStreams] {
        let found = ingested(&Odd { packing, ..Odd::plain() }.pdf()).unwrap();
        assert_eq!((found.base, found.notes.as_slice(), found.is_signed), (None, &[][..], false), "{packing:?}");
    }
    for sample in samples::all().unwrap() {
        assert_eq!(ingested(&sample.bytes).unwrap().notes, [], "{}", sample.file_name);
    }
    // Links and a place to open at only lead somewhere.
    let leading = changed(|document| {
        let page = first_page(document);
        catalog(document, "OpenAction", vec![page.into(), Object::Name(b"Fit".to_vec())]);
        let link = dictionary! { "S" => "URI", "URI" => Object::string_literal("https://example.com") };
        let link =
            dictionary! { "Subtype" => "Link", "Rect" => vec![0.into(), 0.into(), 9.into(), 9.into()], "A" => link };
        document.get_dictionary_mut(page).unwrap().set("Annots", vec![link.into()]);
    });
    assert_eq!(ingested(&leading).unwrap().notes, []);
}

#[test]
fn files_that_others_would_have_to_repair_are_written_anew() {
    let sample = samples::nda().unwrap().bytes;
    let junk = [b"\xef\xbb\xbfHTTP/1.1 200 OK\r\n\r\n".to_vec(), sample.clone()].concat();
    looks_the_same(&sample, &mended(&junk, &[Note::JunkBeforeHeader]));

    let start = last(&sample, b"startxref");
    let lost = [&sample[..start], b"startxref\n17\n%%EOF\n"].concat();
    looks_the_same(&sample, &mended(&lost, &[Note::TableRepaired]));

    let plain = Odd::plain().pdf();
    let size = last(&plain, b"/Size ") + 6;
    let small = [&plain[..size], b"1", &plain[size + 1..]].concat();
    let notes = ingested(&small).unwrap().notes;
    assert!(notes.contains(&Note::WrongSize), "{notes:?}");

    let trailer = last(&plain, b"/Root");
    let hybrid = [&plain[..trailer], b"/XRefStm 9", &plain[trailer..]].concat();
    let notes = ingested(&hybrid).unwrap().notes;
    assert!(notes.contains(&Note::HybridTable), "{notes:?}");
}

fn encrypted(user_password: &str, permissions: Permissions) -> Vec<u8> {
    changed(|document| {
        let id = Object::string_literal("0123456789abcdef");
        document.trailer.set("ID", vec![id.clone(), id]);
        let version =
            EncryptionVersion::V2 { document, owner_password: "owner", user_password, key_length: 128, permissions };
        let state = EncryptionState::try_from(version).unwrap();
        document.encrypt(&state).unwrap();
    })
}

#[test]
fn what_opens_without_a_password_is_decrypted_if_its_author_allows_changes() {
    let sample = samples::nda().unwrap().bytes;
    looks_the_same(&sample, &mended(&encrypted("", Permissions::all()), &[Note::Decrypted]));
    let restricted = encrypted("", Permissions::PRINTABLE);
    assert_eq!(ingested(&restricted).unwrap_err(), Unreadable::ChangesForbidden);
    let policy = Policy { overrule_restrictions: true, ..Policy::default() };
    assert_eq!(ingest(&restricted, &Limits::default(), &policy).unwrap().notes, [Note::Decrypted]);
    let locked = encrypted("secret", Permissions::all());
    assert_eq!(ingested(&locked).unwrap_err(), Unreadable::PasswordNeeded);
}

#[test]
fn what_acts_by_itself_is_taken_out() {
    let script = || dictionary! { "S" => "JavaScript", "JS" => Object::string_literal("app.alert(1)") };
    let acting = changed(|document| {
        let page = first_page(document);
        let elsewhere = document.add_object(script());
        let launch = dictionary! { "S" => "Launch", "F" => Object::string_literal("calc.exe"), "Next" => elsewhere };
        catalog(document, "OpenAction", launch);
        let names = document.add_object(dictionary! {
            "JavaScript" => dictionary! { "Names" => vec![Object::string_literal("a"), elsewhere.into()] },
        });
        catalog(document, "Names", names);
        catalog(document, "AA", dictionary! { "WC" => elsewhere });
        let triggers = document.add_object(dictionary! { "O" => script() });
        let link = dictionary! {
            "Subtype" => "Link", "Rect" => vec![0.into(), 0.into(), 9.into(), 9.into()],
            "A" => dictionary! { "S" => "URI", "URI" => Object::string_literal("u"), "Next" => vec![elsewhere.into()] },
        };
        let node = document.get_dictionary_mut(page).unwrap();
        node.set("AA", triggers);
        node.set("Annots", vec![link.into()]);
    });
    assert!(holds(&acting, b"app.alert") && holds(&acting, b"calc.exe"));
    let base = mended(&acting, &[Note::ActionsRemoved]);
    for gone in [b"JavaScript".as_slice(), b"app.alert", b"calc.exe", b"/AA"] {
        assert!(!holds(&base, gone), "{}", String::from_utf8_lossy(gone));
    }
    assert!(holds(&base, b"/URI"), "a link only leads somewhere");
    looks_the_same(&acting, &base);
}

#[test]
fn actions_are_found_however_they_are_written() {
    let script = || dictionary! { "S" => "JavaScript", "JS" => Object::string_literal("app.alert(1)") };
    let is_caught = |what: &str, action: &dyn Fn(&mut Document) -> Object| {
        let acting = changed(|document| {
            let action = action(document);
            catalog(document, "OpenAction", action);
        });
        let found = ingested(&acting).unwrap();
        assert_eq!(found.notes, [Note::ActionsRemoved], "{what}");
        assert!(!holds(&found.base.unwrap(), b"app.alert"), "{what}");
        let signed = signed(|document, value| {
            with_signature(document, value);
            let action = action(document);
            catalog(document, "OpenAction", action);
        });
        let refused = ingested(&signed).unwrap_err();
        assert_eq!(refused, Unreadable::SignedAndFlawed { why: "ActionsRemoved".into() }, "{what}");
    };
    is_caught("as if it were a part of the structure", &|_| {
        let mut action = script();
        action.set("K", 0);
        action.into()
    });
    is_caught("its kind elsewhere", &|document| {
        let mut action = script();
        action.set("S", document.add_object(Object::Name(b"JavaScript".to_vec())));
        action.into()
    });
    is_caught("in a list elsewhere of what comes next", &|document| {
        let list = document.add_object(vec![script().into()]);
        dictionary! { "S" => "URI", "URI" => Object::string_literal("u"), "Next" => list }.into()
    });
}

#[test]
fn files_inside_go_unless_the_operator_keeps_them() {
    let carrying = changed(|document| {
        let file = document.add_object(Stream::new(dictionary! { "Type" => "EmbeddedFile" }, b"hidden terms".to_vec()));
        let file = document.add_object(dictionary! { "Type" => "Filespec", "EF" => dictionary! { "F" => file } });
        let names = dictionary! { "Names" => vec![Object::string_literal("a"), file.into()] };
        catalog(document, "Names", dictionary! { "EmbeddedFiles" => names });
        catalog(document, "AF", vec![file.into()]);
        let page = first_page(document);
        let pin = dictionary! {
            "Subtype" => "FileAttachment", "Rect" => vec![0.into(), 0.into(), 9.into(), 9.into()], "FS" => file,
        };
        document.get_dictionary_mut(page).unwrap().set("Annots", vec![pin.into()]);
    });
    let base = ingested(&carrying).unwrap();
    assert_eq!(base.notes, [Note::AttachmentsRemoved]);
    assert!(!holds(&base.base.unwrap(), b"hidden terms"));
    let policy = Policy { keep_attachments: true, ..Policy::default() };
    let kept = ingest(&carrying, &Limits::default(), &policy).unwrap();
    assert_eq!((kept.base, kept.notes), (None, vec![Note::AttachmentsKept]));
}

#[test]
fn media_become_pictures() {
    let playing = changed(|document| {
        let page = first_page(document);
        let film = dictionary! {
            "Subtype" => "RichMedia", "Rect" => vec![0.into(), 0.into(), 99.into(), 99.into()],
            "RichMediaContent" => dictionary! {}, "AA" => dictionary! {},
        };
        let film = document.add_object(film);
        document.get_dictionary_mut(page).unwrap().set("Annots", vec![film.into()]);
    });
    let base = mended(&playing, &[Note::MediaRemoved]);
    assert!(!holds(&base, b"RichMedia"));
}

/// A form with a text field, a ticked box, a hidden field and a field without a look, on a page that is turned.
fn form(rotate: i64) -> Vec<u8> {
    let odd = Odd { rotate, untidy: true, inherited: true, crop: Some([10, 20, 390, 280]), ..Odd::plain() };
    let mut document = Document::load_mem(&odd.pdf()).unwrap();
    let look = |document: &mut Document, content: &str, matrix: &[i64]| {
        let matrix: Vec<Object> = matrix.iter().copied().map(Object::from).collect();
        let bounds: Vec<Object> = [0, 0, 50, 20].map(Object::from).to_vec();
        document
            .add_object(Stream::new(dictionary! { "BBox" => bounds, "Matrix" => matrix }, content.as_bytes().to_vec()))
    };
    let rectangle = |numbers: [i64; 4]| numbers.map(Object::from).to_vec();
    let text = look(&mut document, "0 g 5 5 40 10 re f", &[0, 1, -1, 0, 20, 0]);
    let tick = look(&mut document, "0 0 1 rg 0 0 50 20 re f", &[1, 0, 0, 1, 0, 0]);
    let value = || Object::string_literal("Anna");
    let fields = [
        dictionary! { "FT" => "Tx", "V" => value(), "Rect" => rectangle([100, 100, 140, 200]),
        "AP" => dictionary! { "N" => text } },
        dictionary! { "FT" => "Btn", "AS" => "On", "Rect" => rectangle([200, 100, 220, 120]),
        "AP" => dictionary! { "N" => dictionary! { "On" => tick, "Off" => text } } },
        dictionary! { "FT" => "Tx", "F" => 2, "Rect" => rectangle([300, 100, 340, 120]), "AP" => dictionary! { "N" => tick } },
        dictionary! { "FT" => "Tx", "V" => value(), "Rect" => rectangle([300, 200, 340, 220]) },
    ];
    let ids: Vec<Object> = fields
        .into_iter()
        .map(|mut field| {
            field.set("Subtype", Object::Name(b"Widget".to_vec()));
            document.add_object(field).into()
        })
        .collect();
    catalog(&mut document, "AcroForm", dictionary! { "Fields" => ids.clone(), "XFA" => Object::string_literal("x") });
    let page = first_page(&document);
    document.get_dictionary_mut(page).unwrap().set("Annots", ids);
    saved(document)
}

#[test]
fn forms_become_part_of_their_pages_as_they_looked() {
    for rotate in [0, 90, 180, 270] {
        let form = form(rotate);
        assert!(ingested(&form).unwrap().has_form);
        let base = mended(&form, &[Note::FormFlattened, Note::FormValueWithoutLook]);
        for gone in [b"Widget".as_slice(), b"AcroForm", b"XFA"] {
            assert!(!holds(&base, gone), "{}", String::from_utf8_lossy(gone));
        }
        looks_the_same(&form, &base);
        if tools::available("pdftoppm", "poppler-utils") {
            let size = inspect(&base, &Limits::default()).unwrap().pages[0];
            let picture = Picture::of(&base, (size.width_pt, size.height_pt));
            assert!(picture.bounds_darker_than(40).is_some(), "the fields are there");
        }
    }
}

#[test]
fn a_value_that_a_part_of_a_field_inherits_is_noted_when_it_is_lost() {
    let form = changed(|document| {
        let value = Object::string_literal("Anna");
        let field = document.add_object(dictionary! { "FT" => "Tx", "V" => value });
        let place = [0, 0, 9, 9].map(Object::from).to_vec();
        let widget = document.add_object(dictionary! { "Subtype" => "Widget", "Parent" => field, "Rect" => place });
        document.get_dictionary_mut(field).unwrap().set("Kids", vec![widget.into()]);
        catalog(document, "AcroForm", dictionary! { "Fields" => vec![field.into()] });
        let page = first_page(document);
        document.get_dictionary_mut(page).unwrap().set("Annots", vec![widget.into()]);
    });
    mended(&form, &[Note::FormFlattened, Note::FormValueWithoutLook]);
}

#[test]
fn a_field_in_a_layer_that_is_off_stays_hidden() {
    let form = changed(|document| {
        let place = || [100, 100, 300, 300].map(Object::from).to_vec();
        let look = Stream::new(dictionary! { "BBox" => place() }, b"0 g 100 100 200 200 re f".to_vec());
        let look = document.add_object(look);
        let group = document.add_object(dictionary! { "Type" => "OCG", "Name" => Object::string_literal("Draft") });
        let off = dictionary! { "OFF" => vec![group.into()], "Locked" => vec![group.into()] };
        catalog(document, "OCProperties", dictionary! { "OCGs" => vec![group.into()], "D" => off });
        let widget = document.add_object(dictionary! {
            "Subtype" => "Widget", "FT" => "Tx", "Rect" => place(), "OC" => group, "AP" => dictionary! { "N" => look },
        });
        catalog(document, "AcroForm", dictionary! { "Fields" => vec![widget.into()] });
        let page = first_page(document);
        document.get_dictionary_mut(page).unwrap().set("Annots", vec![widget.into()]);
    });
    looks_the_same(&form, &mended(&form, &[Note::FormFlattened]));
}

#[test]
fn layers_are_held_as_they_stand() {
    let layered = |locked: bool| {
        changed(|document| {
            let group = document.add_object(dictionary! { "Type" => "OCG", "Name" => Object::string_literal("Draft") });
            let mut default = dictionary! { "OFF" => vec![group.into()] };
            if locked {
                default.set("Locked", vec![group.into()]);
            } else {
                default.set("Order", vec![group.into()]);
                default.set("AS", vec![dictionary! { "Event" => "Print" }.into()]);
            }
            let mut properties = dictionary! { "OCGs" => vec![group.into()], "D" => default };
            if !locked {
                properties.set("Configs", vec![dictionary! {}.into()]);
            }
            catalog(document, "OCProperties", properties);
        })
    };
    let base = mended(&layered(false), &[Note::LayersFixed]);
    for gone in [b"/AS[".as_slice(), b"/Order[", b"/Configs"] {
        assert!(!holds(&base, gone), "{}", String::from_utf8_lossy(gone));
    }
    assert!(holds(&base, b"/OFF") && holds(&base, b"/Locked"));
    let found = ingested(&layered(true)).unwrap();
    assert_eq!((found.base, found.has_layers), (None, true));
}

/// As if somebody had signed it: no rewriting any more.
fn signed(change: impl FnOnce(&mut Document, Dictionary)) -> Vec<u8> {
    changed(|document| {
        let value = dictionary! {
            "Type" => "Sig", "ByteRange" => vec![0.into(), 1.into(), 2.into(), 3.into()],
            "Contents" => Object::string_literal("x"),
        };
        change(document, value);
    })
}

fn with_signature(document: &mut Document, value: Dictionary) -> ObjectId {
    let value = document.add_object(value);
    let field = document.add_object(dictionary! { "FT" => "Sig", "V" => value });
    catalog(document, "AcroForm", dictionary! { "Fields" => vec![field.into()], "SigFlags" => 3 });
    value
}

#[test]
fn what_was_signed_before_is_never_written_anew() {
    let clean = signed(|document, value| {
        with_signature(document, value);
    });
    let found = ingested(&clean).unwrap();
    assert_eq!((found.base, found.is_signed, found.has_form), (None, true, true));
    let junk = [b"junk\n".to_vec(), clean].concat();
    let refused = ingested(&junk).unwrap_err();
    assert!(matches!(refused, Unreadable::SignedAndFlawed { .. }), "{refused:?}");
    let acting = signed(|document, value| {
        with_signature(document, value);
        catalog(document, "OpenAction", dictionary! { "S" => "JavaScript", "JS" => Object::string_literal("1") });
    });
    let refused = ingested(&acting).unwrap_err();
    assert_eq!(refused, Unreadable::SignedAndFlawed { why: "ActionsRemoved".into() });
    // A flag alone is no signature, nor is an object that no field holds, nor a field's value that signs nothing.
    for value in ["junk", "field"] {
        let open = signed(|document, mut signature| {
            let text = dictionary! { "FT" => "Tx", "T" => Object::string_literal("Price") };
            let mut fields: Vec<Object> = vec![document.add_object(text).into()];
            if value == "field" {
                signature.remove(b"ByteRange");
                fields.push(document.add_object(dictionary! { "FT" => "Sig", "V" => signature }).into());
            } else {
                document.add_object(signature);
            }
            catalog(document, "AcroForm", dictionary! { "Fields" => fields });
        });
        let found = ingested(&open).unwrap();
        assert_eq!((found.notes, found.is_signed), (vec![Note::FormFlattened], false), "{value}");
        assert!(!holds(&found.base.unwrap(), b"AcroForm"), "{value}");
    }
    let flagged = changed(|document| catalog(document, "AcroForm", dictionary! { "SigFlags" => 3 }));
    assert!(!ingested(&flagged).unwrap().is_signed);
}

#[test]
fn what_was_certified_as_final_is_refused() {
    let certified = |level: i64| {
        signed(move |document, mut value| {
            let parameters = dictionary! { "P" => level };
            value.set("Reference", vec![dictionary! { "TransformParams" => parameters }.into()]);
            let value = with_signature(document, value);
            catalog(document, "Perms", dictionary! { "DocMDP" => value });
        })
    };
    assert_eq!(ingested(&certified(1)).unwrap_err(), Unreadable::CertifiedFinal);
    assert!(ingested(&certified(2)).unwrap().is_signed);
}

/// Wherever that is said: a seal would void what was signed.
#[test]
fn what_a_signature_locks_is_refused() {
    let locked = |method: &str, level: i64| {
        let parameters = dictionary! { "P" => level };
        let reference = dictionary! { "TransformMethod" => method, "TransformParams" => parameters };
        signed(move |document, mut value| {
            value.set("Reference", vec![reference.into()]);
            with_signature(document, value);
        })
    };
    for method in ["DocMDP", "FieldMDP"] {
        assert_eq!(ingested(&locked(method, 1)).unwrap_err(), Unreadable::CertifiedFinal, "{method}");
        assert!(ingested(&locked(method, 2)).unwrap().is_signed, "{method}");
    }
    let field = |level: i64| {
        signed(move |document, value| {
            let lock = document.add_object(dictionary! { "Action" => "All", "P" => level });
            let value = document.add_object(value);
            let field = document.add_object(dictionary! { "FT" => "Sig", "V" => value, "Lock" => lock });
            catalog(document, "AcroForm", dictionary! { "Fields" => vec![field.into()] });
        })
    };
    assert_eq!(ingested(&field(1)).unwrap_err(), Unreadable::CertifiedFinal);
    assert!(ingested(&field(2)).unwrap().is_signed);
}

#[test]
fn pages_that_hold_too_much_are_refused() {
    let sample = samples::nda().unwrap().bytes;
    let limits = Limits { content_bytes_max: 1_000, ..Limits::default() };
    let refused = ingest(&sample, &limits, &Policy::default()).unwrap_err();
    assert_eq!(refused, Unreadable::TooMuchContent { max_bytes: 1_000 });
}

#[test]
fn every_refusal_has_a_name_of_its_own() {
    let refusals = [
        (Unreadable::Empty, "EMPTY"),
        (Unreadable::PasswordNeeded, "PASSWORD_NEEDED"),
        (Unreadable::TooCostly, "TOO_COSTLY"),
        (Unreadable::CertifiedFinal, "CERTIFIED_FINAL"),
    ];
    for (refusal, name) in refusals {
        assert_eq!(refusal.name(), name);
        assert!(!refusal.to_string().is_empty());
    }
}
