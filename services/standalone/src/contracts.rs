//! The sample contracts as envelopes: who signs, and where on the page.
//! Must never place a field anywhere but on the lines that the samples have for it.

use anyhow::{Context, Result};
use countersign::v1;
use countersign::v1::document_source::Source;
use countersign_paper::StampError;
use countersign_paper::samples::{Area, Sample, SignatureBlock};

/// A recipient to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub name: &'static str,
    pub email: &'static str,
    pub label: &'static str,
}

/// The parties of the non-disclosure agreement.
pub(crate) const NDA: [Person; 2] = [
    Person { name: "Helena Marsh", email: "helena.marsh@aldergate.example", label: "Aldergate" },
    Person { name: "Jürgen Weißkopf", email: "j.weisskopf@fennimore.example", label: "Fennimore" },
];
/// The parties of the services agreement.
pub(crate) const SERVICES: [Person; 3] = [
    Person { name: "Margaret Oyelaran", email: "m.oyelaran@northam.example", label: "Customer" },
    Person { name: "Callum Drever", email: "callum.drever@tidewell.example", label: "Contractor" },
    Person { name: "Ewa Kowalczyk", email: "ewa.kowalczyk@tidewell-group.example", label: "Guarantor" },
];
/// The tenant of the scanned letter.
pub(crate) const CONSENT: [Person; 1] =
    [Person { name: "Oluwaseun Adeyemi-Clarke", email: "o.adeyemi@granary.example", label: "Tenant" }];

/// Makes a sample, which takes the processor for a while.
pub(crate) async fn sample(make: fn() -> Result<Sample, StampError>) -> Result<Sample> {
    tokio::task::spawn_blocking(make).await?.context("the sample contract cannot be made")
}

/// The bytes in the call itself.
pub(crate) fn inline(sample: &Sample) -> Source {
    Source::Content(sample.bytes.clone().into())
}

/// Fields on the signature line and the date line of each party.
fn fields(sample: &Sample) -> Vec<v1::NewField> {
    let field = |kind: v1::FieldType, index: usize, page: u32, area: Area, name: &str| v1::NewField {
        r#type: kind.into(),
        recipient_index: index as u32,
        document_index: 0,
        placement: Some(v1::Placement {
            page,
            x_percent: area.x_pct,
            y_percent: area.y_pct,
            width_percent: area.width_pct,
            height_percent: area.height_pct,
        }),
        required: true,
        name: name.to_owned(),
        ..Default::default()
    };
    let of_block = |(index, block): (usize, &SignatureBlock)| {
        let line =
            Area { x_pct: block.x_pct, y_pct: block.y_pct, width_pct: block.width_pct, height_pct: block.height_pct };
        [
            field(v1::FieldType::Signature, index, block.page, line, "signature"),
            field(v1::FieldType::Date, index, block.page, block.date, "date"),
        ]
    };
    sample.blocks.iter().enumerate().flat_map(of_block).collect()
}

/// An envelope around a sample, to be sent at once.
pub(crate) fn request(
    sample: &Sample,
    people: &[Person],
    routing: v1::Routing,
    source: Source,
) -> v1::CreateEnvelopeRequest {
    let recipient = |person: &Person| v1::NewRecipient {
        name: person.name.to_owned(),
        email: person.email.to_owned(),
        role: v1::RecipientRole::Signer.into(),
        label: person.label.to_owned(),
        ..Default::default()
    };
    v1::CreateEnvelopeRequest {
        subject: sample.title.to_owned(),
        message: "Please read and sign.".to_owned(),
        documents: vec![v1::DocumentSource {
            name: sample.file_name.to_owned(),
            source: Some(source),
            ..Default::default()
        }],
        recipients: people.iter().map(recipient).collect(),
        fields: fields(sample),
        routing: routing.into(),
        send: true,
        ..Default::default()
    }
}
