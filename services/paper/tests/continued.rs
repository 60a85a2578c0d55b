//! All that a paper consists of is there after something was put behind it, whatever its parts say of themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use countersign_paper::{Completion, Mark, MarkContent, complete, samples};
use lopdf::{Document, Object, Stream, dictionary};

const SECOND: &[u8] = b"q 7 0 0 7 0 0 cm 1 1 9 9 re f Q";

/// A paper whose first page draws more than at first, by a stream that calls itself a picture: readers draw it.
fn with_a_part_like_a_picture() -> Vec<u8> {
    let mut document = Document::load_mem(&samples::nda().unwrap().bytes).unwrap();
    let page = *document.get_pages().get(&1).unwrap();
    let own = document.get_dictionary(page).unwrap().get(b"Contents").unwrap().clone();
    let second = Stream::new(dictionary! { "Type" => "XObject", "Subtype" => "Image" }, SECOND.to_vec());
    let second = document.add_object(second);
    let parts = match own {
        Object::Array(parts) => parts,
        one => vec![one],
    };
    let parts: Vec<Object> = parts.into_iter().chain([second.into()]).collect();
    document.get_object_mut(page).unwrap().as_dict_mut().unwrap().set("Contents", parts);
    let mut file = Vec::new();
    document.save_to(&mut file).unwrap();
    file
}

#[test]
fn a_part_of_a_page_that_calls_itself_a_picture_stays() {
    let content = MarkContent::Signature { name: "Ann Example".to_owned() };
    let mark = Mark { page: 1, x_pct: 10.0, y_pct: 80.0, width_pct: 40.0, height_pct: 5.0, content };
    let base = with_a_part_like_a_picture();
    let done = complete(&base, &Completion { marks: vec![mark], ..Completion::default() }).unwrap();
    assert!(done.starts_with(&base) && done.len() > base.len(), "the paper is continued");
    let document = Document::load_mem(&done).unwrap();
    let drawn = document.get_page_content(*document.get_pages().get(&1).unwrap());
    assert!(drawn.windows(SECOND.len()).any(|window| window == SECOND), "what was signed is what was seen");
}
