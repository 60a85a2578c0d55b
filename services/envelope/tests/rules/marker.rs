//! Markers and the recipients whom they name.

use countersign_envelope::domain::envelope::Envelope;
use countersign_envelope::domain::field::{Field, FieldType, Placement, Value};
use countersign_envelope::domain::id::FieldId;
use countersign_envelope::domain::ingest::{IngestFault, MARKER_FAULTS_MAX, MarkerFault};
use countersign_envelope::domain::marker::{Marker, fields};
use countersign_envelope::domain::recipient::Role::{Cc, Signer};

use crate::shape::{document, draft, rcp, text, uuid};

fn labelled(labels: [&str; 3]) -> Envelope {
    let mut envelope = draft(&[(Signer, 1), (Signer, 1), (Cc, 1)]);
    for (recipient, label) in envelope.recipients.iter_mut().zip(labels) {
        label.clone_into(&mut recipient.label);
    }
    envelope
}

fn marker(kind: FieldType, label: &str, options: &[(&str, &str)]) -> Marker {
    let place = Placement { page: 2, x_percent: 10.0, y_percent: 20.0, width_percent: 15.0, height_percent: 1.5 };
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let text = text(&format!("{{{{…:{label}}}}}"));
    Marker { place, text, kind, label: label.to_owned(), name: "place".to_owned(), options }
}

fn made(markers: &[Marker]) -> Result<Vec<Field>, Vec<MarkerFault>> {
    let envelope = labelled(["Customer", "The  Landlord", "Copy"]);
    let mut next = 0;
    fields(markers, document(0).id, &envelope.recipients, || {
        next += 1;
        FieldId::from_uuid(uuid(600 + next))
    })
}

fn one(kind: FieldType, options: &[(&str, &str)]) -> Result<Field, String> {
    made(&[marker(kind, "Customer", options)])
        .map(|mut fields| fields.remove(0))
        .map_err(|faults| faults[0].message.clone())
}

/// S3.20, T-67: a marker becomes a field of the recipient with its label, where it stands.
#[test]
fn t67_a_marker_is_bound_by_its_label() {
    let fields = made(&[
        marker(FieldType::Signature, " customer ", &[]),
        marker(FieldType::Text, "the landlord", &[("required", "true"), ("max_length", "40"), ("value", " Oslo ")]),
    ])
    .unwrap();
    assert_eq!((fields[0].recipient, fields[1].recipient), (rcp(0), rcp(1)));
    let place = marker(FieldType::Text, "", &[]).place;
    assert_eq!((fields[0].placement, fields[0].document, fields[0].name.as_str()), (place, document(0).id, "place"));
    assert!(fields[0].required && fields[1].required);
    assert_eq!(fields[1].value, Some(Value::Text(text("Oslo"))));
    assert_eq!((&fields[1].preset, fields[1].rules.max_length), (&fields[1].value, Some(40)));
}

/// T-67: what names nobody, or several, is told of with page and text; one that is wrong fails all.
#[test]
fn t67_unmatched_and_ambiguous_markers_are_told_of() {
    let envelope = labelled(["Tenant", "TENANT", ""]);
    let markers = ["Tenant", "Owner", ""].map(|label| marker(FieldType::Signature, label, &[]));
    let faults = fields(&markers, document(0).id, &envelope.recipients, || FieldId::from_uuid(uuid(1))).unwrap_err();
    let told: Vec<_> = faults.iter().map(|it| (it.page, it.text.reveal(), it.message.as_str())).collect();
    let nobody = "no recipient has this label";
    let several = (2, "{{…:Tenant}}", "several recipients have this label");
    assert_eq!(
        told,
        [several, (2, "{{…:Owner}}", nobody), (2, "{{…:}}", nobody)],
        "no label is nobody's, not the CC's"
    );
    assert_eq!(
        made(&[marker(FieldType::Date, "Customer", &[]), marker(FieldType::Date, "Nobody", &[])]).unwrap_err().len(),
        1
    );
    let many = IngestFault::of(vec![faults[0].clone(); 40]);
    assert_eq!(
        (many.markers.len(), many.message.as_str()),
        (MARKER_FAULTS_MAX, "40 of its markers cannot be made into fields")
    );
}

#[test]
fn t67_options_make_the_field() {
    let wide = one(FieldType::Text, &[("width", "30"), ("height", "4%")]).unwrap().placement;
    assert_eq!((wide.x_percent, wide.width_percent, wide.height_percent), (10.0, 30.0, 4.0));
    let choice = one(FieldType::Dropdown, &[("options", "red | green|blue"), ("value", "green")]).unwrap();
    assert_eq!(choice.rules.options, ["red", "green", "blue"]);
    assert_eq!(one(FieldType::Checkbox, &[("value", "yes")]).unwrap().value, Some(Value::Checked(true)));
    assert_eq!(one(FieldType::Radio, &[("group", "size")]).unwrap().rules.group, "size");
    let wrong = |kind, key: &str, value: &str| one(kind, &[(key, value)]).unwrap_err();
    assert!(wrong(FieldType::Text, "width", "95").contains("end on the page"));
    assert!(wrong(FieldType::Text, "width", "NaN").starts_with("width:"));
    assert!(wrong(FieldType::Text, "required", "perhaps").starts_with("required:"));
    assert!(wrong(FieldType::Number, "min", "much").starts_with("min:"));
    assert!(wrong(FieldType::Text, "min", "3").starts_with("min:"), "not for this type");
    assert!(wrong(FieldType::Dropdown, "value", "x").starts_with("options:"));
    assert!(wrong(FieldType::Signature, "value", "Ada").starts_with("value:"));
}

/// T-68: text at the edge of a page still gives a field that ends on it.
#[test]
fn t68_a_marker_at_the_edge_stays_on_the_page() {
    let mut edge = marker(FieldType::Text, "Customer", &[]);
    (edge.place.x_percent, edge.place.width_percent) = (99.9, 8.0);
    (edge.place.y_percent, edge.place.height_percent) = (-0.2, 0.1);
    let place = made(&[edge]).unwrap()[0].placement;
    assert!(place.x_percent + place.width_percent <= 100.0 && place.y_percent >= 0.0);
    assert!(place.width_percent >= 0.5 && place.height_percent >= 0.5);
}
