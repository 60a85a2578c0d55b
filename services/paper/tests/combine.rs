//! Papers put into one: what their pages show comes along, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::combine;
use lopdf::{Dictionary, Document, Object, Stream, dictionary};
use odd::Odd;
use odd::tools::{self, Picture};

/// A paper that was changed and then combined with another.
fn combined(change: impl FnOnce(&mut Document)) -> Vec<u8> {
    let mut document = Document::load_mem(&Odd::plain().pdf()).unwrap();
    change(&mut document);
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    combine(&[Odd::plain().pdf(), file]).unwrap()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let mut plain = Vec::new();
    for object in Document::load_mem(bytes).unwrap().objects.values() {
        lopdf::Writer::write_object(&mut plain, object).unwrap();
    }
    plain.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_link_leads_somewhere_and_does_nothing_after_that() {
    let whole = combined(|document| {
        let script = dictionary! { "S" => "JavaScript", "JS" => Object::string_literal("app.alert(1)") };
        let action = dictionary! { "S" => "URI", "URI" => Object::string_literal("u"), "Next" => script };
        let link = dictionary! {
            "Subtype" => "Link", "Rect" => [0, 0, 9, 9].map(Object::from).to_vec(), "A" => document.add_object(action),
        };
        let page = document.page_iter().next().unwrap();
        document.get_dictionary_mut(page).unwrap().set("Annots", vec![link.into()]);
    });
    assert!(holds(&whole, b"/URI") && !holds(&whole, b"app.alert"));
}

#[test]
fn layers_that_are_off_stay_hidden_and_the_others_shown() {
    for (state, is_seen) in [("OFF", false), ("ON", true)] {
        let mut paper = Document::load_mem(&Odd::plain().pdf()).unwrap();
        let layers: Vec<Object> = ["a", "b"]
            .map(|name| {
                paper.add_object(dictionary! { "Type" => "OCG", "Name" => Object::string_literal(name) }).into()
            })
            .to_vec();
        let content = b"/OC /Layer BDC 0 g 100 100 100 100 re f EMC".to_vec();
        let content = paper.add_object(Stream::new(Dictionary::new(), content));
        let page = paper.page_iter().next().unwrap();
        let properties = dictionary! { "Properties" => dictionary! { "Layer" => layers[0].clone() } };
        let node = paper.get_dictionary_mut(page).unwrap();
        node.set("Contents", content);
        node.set("Resources", properties);
        let mut default = dictionary! { state => vec![layers[0].clone()] };
        if is_seen {
            default.set("BaseState", Object::Name(b"OFF".to_vec()));
        }
        let properties = dictionary! { "OCGs" => layers, "D" => default };
        paper.catalog_mut().unwrap().set("OCProperties", properties);
        let mut file = Vec::new();
        paper.save_to(&mut file).unwrap();
        let whole = combine(&[file, Odd::plain().pdf()]).unwrap();
        if tools::available("pdftoppm", "poppler-utils") {
            let bounds = Picture::of(&whole, (400.0, 300.0)).bounds_darker_than(40);
            assert_eq!(bounds.is_some(), is_seen, "{state}");
        }
    }
}
