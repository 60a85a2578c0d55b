//! What stands in fields before anybody signs: what the sender filled in, sets of buttons, and turned pages.

use countersign::v1::document_source::Source;
use countersign::v1::field_value::Value;
use countersign::v1::{
    CreateEnvelopeRequest, DocumentSource, EnvelopeStatus, FieldType, FieldValue, NewField, Placement, Routing,
};
use countersign_paper::samples;
use countersign_test_support::client::request;
use countersign_test_support::{Errors as _, Service};

use crate::entries::{checked, faults, field, group, named, options, ruled, sign, text, value, with};

/// Of a set of buttons at most one is chosen, and one must be if any of them is required.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_set_of_buttons_one_is_chosen() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let button = |name: &str, set: &str| ruled(FieldType::Radio, name, group(set));
    let new = with([
        button("a", "must"),
        NewField { required: true, ..button("b", "must") },
        NewField { value: Some(checked(true)), ..button("c", "may") },
        button("d", "may"),
    ]);
    let story = sender.story_of(new.clone()).await;
    let (yes, no) = (checked(true), checked(false));
    assert_eq!(faults(&story, &[]).await, ["values"]);
    assert_eq!(faults(&story, &[("a", no.clone()), ("b", no.clone())]).await, ["values"]);
    assert_eq!(faults(&story, &[("a", yes.clone()), ("b", yes.clone())]).await, ["values"]);
    assert_eq!(faults(&story, &[("a", yes.clone()), ("c", yes.clone()), ("d", yes.clone())]).await, ["values"]);
    sign(&story, &[("a", yes.clone())]).await.unwrap();
    let now = story.now().await;
    let all = ["a", "b", "c", "d"].map(|name| named(&now, name).value.clone().unwrap());
    assert_eq!(all, [yes.clone(), no.clone(), yes.clone(), no.clone()], "the sender's choice stays");
    let story = sender.story_of(new).await;
    sign(&story, &[("b", yes.clone()), ("d", yes.clone())]).await.unwrap();
    let now = story.now().await;
    let all = ["a", "b", "c", "d"].map(|name| named(&now, name).value.clone().unwrap());
    assert_eq!(all, [no.clone(), yes.clone(), no, yes], "the sender's choice springs back");
}

/// What the sender filled in is shown, kept, and changed by the signer unless it is read-only.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_sender_filled_in_stays_unless_it_is_changed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let filled = |field: NewField, value: FieldValue| NewField { value: Some(value), ..field };
    let fixed = NewField { read_only: true, required: true, ..field(FieldType::Text, "fixed") };
    let new = with([
        filled(NewField { required: true, ..field(FieldType::Text, "kept") }, text("Acme Ltd")),
        filled(field(FieldType::Text, "changed"), text("Acme Ltd")),
        filled(NewField { required: true, ..field(FieldType::Text, "emptied") }, text("Acme Ltd")),
        filled(fixed.clone(), text("GBP 100")),
        filled(NewField { read_only: true, ..field(FieldType::Checkbox, "ticked") }, checked(true)),
        filled(ruled(FieldType::Dropdown, "wine", options(&["Red", "White"])), text("White")),
        filled(field(FieldType::Number, "number"), text("7")),
    ]);
    let story = sender.story_of(new).await;
    let session = story.signer(0).session().await.unwrap();
    assert_eq!(session.fields, story.envelope.fields);
    let shown: Vec<_> = session.fields.iter().filter_map(|field| field.value.clone()).collect();
    let acme = text("Acme Ltd");
    assert_eq!(shown[..5], [acme.clone(), acme.clone(), acme, text("GBP 100"), checked(true)]);
    assert_eq!(shown[5..], [text("White"), text("7")]);
    for (name, given) in [("fixed", text("GBP 1")), ("fixed", text("GBP 100")), ("ticked", checked(false))] {
        assert_eq!(faults(&story, &[(name, given)]).await, ["values[0]"], "{name} is read-only");
    }
    assert_eq!(faults(&story, &[("emptied", text(""))]).await, ["values[0]"], "required, and emptied");
    sign(&story, &[("changed", text("Best Ltd")), ("number", text(""))]).await.unwrap();
    let id = story.envelope.id.as_str();
    for (name, kept) in [("kept", "Acme Ltd"), ("changed", "Best Ltd"), ("fixed", "GBP 100"), ("wine", "White")] {
        assert_eq!(value(&sender, id, name).await, Some(Value::Text(kept.into())), "{name}");
    }
    assert_eq!(value(&sender, id, "ticked").await, Some(Value::Checked(true)));
    assert_eq!(value(&sender, id, "number").await, None);
    // What nobody could fill any more is not sent.
    let status = sender.create(with([fixed])).await.unwrap_err();
    assert_eq!(status.reason(), "ENVELOPE_INCOMPLETE");
}

/// An empty text of the sender fills nothing: the signer still has to.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_text_of_the_sender_fills_nothing() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for empty in ["", "  "] {
        let blank = NewField { required: true, value: Some(text(empty)), ..field(FieldType::Text, "blank") };
        let story = sender.story_of(with([blank.clone()])).await;
        assert_eq!(faults(&story, &[]).await, ["values"], "{empty:?}");
        let status = sender.create(with([NewField { read_only: true, ..blank }])).await.unwrap_err();
        assert_eq!(status.reason(), "ENVELOPE_INCOMPLETE", "{empty:?}");
    }
}

/// Nothing is sent that nobody could ever sign.
#[tokio::test(flavor = "multi_thread")]
async fn an_unticked_box_that_is_required_and_read_only_is_not_sent() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let fixed = NewField { required: true, read_only: true, value: Some(checked(false)), ..NewField::default() };
    let terms = field(FieldType::Checkbox, "terms");
    let stuck = with([NewField { r#type: terms.r#type, name: terms.name, placement: terms.placement, ..fixed }]);
    let answer = sender.create(stuck).await;
    assert_eq!(answer.err().map(|status| status.reason()), Some("ENVELOPE_INCOMPLETE".into()));
}

/// A read-only button stays as the sender left it, also when another of its set is pressed.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_button_does_not_spring_back() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let button = |name: &str| ruled(FieldType::Radio, name, group("set"));
    let fixed = NewField { read_only: true, value: Some(checked(true)), ..button("fixed") };
    let story = sender.story_of(with([fixed, button("free")])).await;
    let answer = sign(&story, &[("free", checked(true))]).await;
    assert_eq!(answer.map_err(|status| status.reason()), Err("INVALID_FIELD".into()));
    assert_eq!(value(&sender, &story.envelope.id, "fixed").await, Some(Value::Checked(true)));
}

/// An option can be chosen in the form of letters in which it was given.
#[tokio::test(flavor = "multi_thread")]
async fn an_option_of_decomposed_letters_can_be_chosen() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let new = || with([ruled(FieldType::Dropdown, "drink", options(&["Cafe\u{301}", "Tea"]))]);
    for given in ["Cafe\u{301}", "Caf\u{e9}"] {
        let story = sender.story_of(new()).await;
        let answer = sign(&story, &[("drink", text(given))]).await;
        assert_eq!(answer.map_err(|status| status.fields()), Ok(()), "{given:?}");
    }
}

/// T-68: fields on a page that lies on its side and is turned for display are signed like any other.
#[tokio::test(flavor = "multi_thread")]
async fn t68_fields_on_a_rotated_scan_are_signed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let scan = samples::rotated_scan().unwrap();
    let block = &scan.blocks[0];
    let at = |x_percent, y_percent, width_percent, height_percent| {
        Some(Placement { page: block.page, x_percent, y_percent, width_percent, height_percent })
    };
    let date = block.date;
    let new = CreateEnvelopeRequest {
        documents: vec![DocumentSource {
            name: scan.file_name.into(),
            source: Some(Source::Content(scan.bytes.clone().into())),
            ..Default::default()
        }],
        fields: vec![
            NewField {
                placement: at(block.x_pct, block.y_pct, block.width_pct, block.height_pct),
                ..field(FieldType::Signature, "signature")
            },
            NewField {
                placement: at(date.x_pct, date.y_pct, date.width_pct, date.height_pct),
                ..field(FieldType::Date, "date")
            },
            NewField { placement: at(0.0, 99.5, 100.0, 0.5), ..field(FieldType::Text, "edge") },
        ],
        ..request(1, Routing::Parallel, true)
    };
    let story = sender.story_of(new).await;
    sign(&story, &[("signature", text(block.signer)), ("edge", text("at the very edge"))]).await.unwrap();
    let done = story.until(EnvelopeStatus::Completed).await;
    let signed = &done.documents[0].artifacts[0];
    assert!(signed.size_bytes > done.documents[0].size_bytes && signed.sha256 != done.documents[0].sha256);
    assert_eq!(named(&done, "signature").placement.unwrap().x_percent, block.x_pct);
}
