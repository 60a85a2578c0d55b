//! What others append behind our seal: signatures that need more of PDF than the file had, and what hides behind them.

use lopdf::{Dictionary, Document, Object, dictionary};

use super::*;

/// The file with another catalog, as a later update has it.
fn declaring(file: &[u8], change: impl FnOnce(&mut Dictionary)) -> Vec<u8> {
    updated(file, |document| {
        let root = document.get_prev_documents().trailer.get(b"Root").and_then(Object::as_reference).unwrap();
        document.opt_clone_object_to_new_document(root).unwrap();
        change(document.new_document.get_object_mut(root).unwrap().as_dict_mut().unwrap());
    })
}

fn extension(level: i64) -> Object {
    dictionary! {
        "Type" => "DeveloperExtensions", "BaseVersion" => "2.0", "ExtensionLevel" => level,
        "URL" => Object::string_literal("https://example.com"), "ExtensionRevision" => Object::string_literal(":2022"),
    }
    .into()
}

/// What the algorithm of a signature needs is declared as a newer version and an extension of it.
fn declare(catalog: &mut Dictionary) {
    catalog.set("Version", "2.0");
    catalog.set("Extensions", dictionary! { "ISO_" => vec![extension(32_002)] });
}

/// The plain paper as one of an older version of PDF.
fn of_version(minor: u8, packing: Packing) -> Vec<u8> {
    let mut base = Odd { packing, ..Odd::plain() }.pdf();
    assert!(base.starts_with(b"%PDF-1.7"));
    base[7] = b'0' + minor;
    base
}

/// A signature with an elliptic curve raises the version, declares its extension and brings metadata: the seal below it holds,
/// and it was signed again.
#[test]
fn a_later_signature_may_say_what_it_needs_of_pdf() {
    if !judges::can_make_keys() {
        return;
    }
    for (key, kind, packing, minor) in [
        ("p256", "PADES", Packing::Table, 7),
        ("p256", "ADOBE_PKCS7_DETACHED", Packing::ObjectStreams, 5),
        ("rsa", "PADES", Packing::Table, 4),
    ] {
        let base = of_version(minor, packing);
        let sealed = sealed_by(if key == "p256" { "rsa" } else { "p256" }, &base, &options());
        let Some(twice) = judges::signed_by_pyhanko(&sealed, key, kind) else { return };
        let catalog = Document::load_mem(&twice).unwrap().catalog().unwrap().clone();
        let declared = catalog.get(b"Version").and_then(Object::as_name).unwrap();
        assert_eq!(declared, if key == "p256" { b"2.0" } else { b"1.7" });
        assert_eq!(catalog.has(b"Metadata"), key == "p256");
        let found = check(&twice).signatures;
        assert!(found.iter().all(|facts| facts.is_intact() && facts.trust == Trust::Trusted), "{key}: {found:?}");
        let later: Vec<Later> = found.iter().map(|facts| facts.later).collect();
        assert_eq!(later, [Later::FurtherSignatures, Later::Nothing], "{key}");
        for said in judges::pyhanko(&[twice]).into_iter().flatten() {
            assert!(said.len() == 2 && said.iter().all(|said| said.starts_with("valid trusted")), "{said:?}");
        }
    }
}

/// Somebody changes the file and has it signed with such a key: that signature holds, the seal below it does not.
#[test]
fn a_change_below_a_later_signature_is_found() {
    if !judges::can_make_keys() {
        return;
    }
    let sealed = sealed_by("rsa", &Odd::plain().pdf(), &options());
    let act = dictionary! { "S" => "JavaScript", "JS" => Object::string_literal("1") };
    let acting = declaring(&sealed, |catalog| catalog.set("OpenAction", act));
    let turned = updated(&sealed, |document| {
        let page = first_page(document);
        document.opt_clone_object_to_new_document(page).unwrap();
        document.new_document.get_object_mut(page).unwrap().as_dict_mut().unwrap().set("Rotate", 180);
    });
    for changed in [acting, turned] {
        let Some(twice) = judges::signed_by_pyhanko(&changed, "p256", "PADES") else { return };
        let found = check(&twice).signatures;
        let told: Vec<_> = found.iter().map(|facts| (facts.later, facts.fault, facts.is_intact())).collect();
        assert_eq!(told, [(Later::Changes, None, false), (Later::Nothing, None, true)]);
    }
}

/// What is declared hides nothing that stands beside it in the catalog, and is not taken back.
#[test]
fn nothing_else_passes_for_a_declaration() {
    if !judges::can_make_keys() {
        return;
    }
    let sealed = sealed_by("rsa", &Odd::plain().pdf(), &options());
    let declared = declaring(&sealed, declare);
    assert_eq!(only(&declared).later, Later::ValidationData);
    let extensions = |value: Object| move |catalog: &mut Dictionary| catalog.set("Extensions", value);
    let page = *Document::load_mem(&sealed).unwrap().get_pages().get(&1).unwrap();
    let acting = dictionary! { "S" => "Launch", "F" => Object::string_literal("x") };
    let more = |key: &'static str, value: Object| {
        move |catalog: &mut Dictionary| {
            declare(catalog);
            catalog.set(key, value);
        }
    };
    let widened = {
        let mut widened = extension(1).as_dict().unwrap().clone();
        widened.set("AA", acting.clone());
        widened
    };
    let harmful: [(&str, Vec<u8>); 11] = [
        ("an action", declaring(&sealed, more("OpenAction", acting.clone().into()))),
        ("other pages", declaring(&sealed, more("Pages", page.into()))),
        ("layers", declaring(&sealed, more("OCProperties", Dictionary::new().into()))),
        ("an action at events", declaring(&sealed, more("AA", dictionary! { "WC" => acting }.into()))),
        ("rights", declaring(&sealed, more("Perms", dictionary! { "UR3" => page }.into()))),
        ("metadata that was there", declaring(&sealed, more("Metadata", page.into()))),
        ("an older version", declaring(&sealed, |catalog| catalog.set("Version", "1.4"))),
        ("an unknown version", declaring(&sealed, |catalog| catalog.set("Version", "9.9"))),
        ("an object in an extension", declaring(&sealed, extensions(dictionary! { "ISO_" => page }.into()))),
        ("more in an extension", declaring(&sealed, extensions(dictionary! { "ISO_" => widened }.into()))),
        ("no extension", declaring(&sealed, extensions(dictionary! { "ISO_" => "x" }.into()))),
    ];
    for (what, file) in harmful {
        let facts = only(&file);
        assert_eq!((facts.later, facts.fault), (Later::Changes, None), "{what}");
    }
}

/// A seal on a file that declares something already: extensions, also those that are an object of their own, are added and
/// replaced by a higher level, and neither they nor the version are taken back.
#[test]
fn what_was_declared_is_not_taken_back() {
    if !judges::can_make_keys() {
        return;
    }
    for is_apart in [false, true] {
        let mut base = Document::load_mem(&Odd::plain().pdf()).unwrap();
        let declared: Object = dictionary! { "ADBE" => extension(3) }.into();
        let value: Object = if is_apart { base.add_object(declared).into() } else { declared };
        let catalog = base.catalog_mut().unwrap();
        catalog.set("Version", "2.0");
        catalog.set("Extensions", value);
        let mut bytes = Vec::new();
        base.save_to(&mut bytes).unwrap();
        let sealed = sealed_by("rsa", &bytes, &options());
        let apart = Document::load_mem(&sealed).unwrap().catalog().unwrap().get(b"Extensions").unwrap().as_reference();
        assert_eq!(apart.is_ok(), is_apart);
        let with = |extensions: Dictionary| match &apart {
            Ok(id) => updated(&sealed, |document| document.new_document.set_object(*id, extensions)),
            Err(_) => declaring(&sealed, |catalog| catalog.set("Extensions", extensions)),
        };
        for harmless in [
            dictionary! { "ADBE" => extension(3), "ISO_" => vec![extension(32_001), extension(32_002)] },
            dictionary! { "ADBE" => extension(8), "Type" => "Extensions" },
            dictionary! { "ADBE" => vec![extension(3), extension(5)] },
        ] {
            assert_eq!(only(&with(harmless)).later, Later::ValidationData, "apart: {is_apart}");
        }
        for taken_back in
            [dictionary! { "ISO_" => extension(1) }, dictionary! { "ADBE" => extension(2) }, Dictionary::new()]
        {
            assert_eq!(only(&with(taken_back)).later, Later::Changes, "apart: {is_apart}");
        }
        let older = declaring(&sealed, |catalog| catalog.set("Version", "1.7"));
        let none = declaring(&sealed, |catalog| drop(catalog.remove(b"Version")));
        assert_eq!((only(&older).later, only(&none).later), (Later::Changes, Later::Changes));
    }
}
