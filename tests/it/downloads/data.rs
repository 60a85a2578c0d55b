//! What everybody put in, as data.

use countersign::v1::field_data::Value;
use countersign::v1::mark_data::Mark;
use countersign::v1::{
    CreateEnvelopeRequest, FieldData, FieldEntry, FieldType, FieldValue, GetEnvelopeDataRequest,
    GetEnvelopeDataResponse, NewField, RecipientRole, Routing, SignRequest, Validation, field_value,
};
use countersign_test_support::client::signature;
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::{Code, Status};

use crate::steps::{entry, field, fill, people, until_status};

use RecipientRole::{Assistant, Signer, Viewer};
use countersign::v1::EnvelopeStatus::{Completed, Declined, PartiallySigned, Voided};

pub async fn data(caller: &Caller, id: &str) -> Result<GetEnvelopeDataResponse, Status> {
    let request = GetEnvelopeDataRequest { envelope_id: id.to_owned() };
    Ok(caller.envelopes().get_envelope_data(request).await?.into_inner())
}

/// All ten types for the first of two signers.
fn contract() -> CreateEnvelopeRequest {
    let mut new = people(&[Signer, Signer, Assistant, Viewer], Routing::Parallel, true);
    new.recipients[2].assists_index = Some(0);
    new.recipients[0].label = "Customer".into();
    let named = |kind, line, name: &str| NewField { name: name.into(), ..field(kind, 0, line) };
    let with = |field, validation| NewField { validation: Some(validation), ..field };
    let group = || Validation { group: "plan".into(), ..Validation::default() };
    new.fields.extend([
        named(FieldType::Initials, 3, "initials"),
        named(FieldType::Name, 4, "name"),
        named(FieldType::Email, 5, "email"),
        named(FieldType::Date, 6, "date"),
        named(FieldType::Text, 7, "title"),
        named(FieldType::Text, 8, "city"),
        named(FieldType::Text, 9, "empty"),
        named(FieldType::Number, 10, "price"),
        named(FieldType::Checkbox, 11, "terms"),
        with(named(FieldType::Radio, 12, "monthly"), group()),
        with(named(FieldType::Radio, 13, "yearly"), group()),
        with(
            named(FieldType::Dropdown, 14, "country"),
            Validation { options: vec!["Germany".into(), "France".into()], ..Validation::default() },
        ),
    ]);
    new
}

fn ticked(id: &str) -> FieldEntry {
    let value = Some(FieldValue { value: Some(field_value::Value::Checked(true)) });
    FieldEntry { field_id: id.to_owned(), value }
}

/// S1.5, T-20: after the last signature and not before, typed, with what an assistant put in marked as such.
#[tokio::test(flavor = "multi_thread")]
async fn s1_5_what_was_put_in_is_told_after_the_last_signature() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(contract()).await.unwrap();
    let id = |name: &str| envelope.fields.iter().find(|field| field.name == name).unwrap().id.clone();
    let link = async |index: usize| sender.signer_of(&envelope.id, &envelope.recipients[index].id).await.unwrap();
    let (first, second, assistant) = (link(0).await, link(1).await, link(2).await);
    let early = data(&sender, &envelope.id).await.unwrap_err();
    assert_eq!((early.code(), early.reason().as_str()), (Code::FailedPrecondition, "DATA_NOT_AVAILABLE"));
    assert_eq!(early.fact("current_state"), "SENT");
    fill(&assistant, vec![entry(&id("title"), "Director"), entry(&id("city"), "Bonn")]).await.unwrap();
    let session = first.session().await.unwrap();
    let values = vec![
        entry(&id("city"), "Köln"),
        entry(&id("price"), "-12.50"),
        ticked(&id("terms")),
        ticked(&id("yearly")),
        entry(&id("country"), "France"),
    ];
    let act = SignRequest { values, seen_revision: session.revision, ..signature(&envelope) };
    first.signer().sign(act).await.unwrap();
    let half = data(&sender, &envelope.id).await.unwrap_err();
    assert_eq!(half.fact("current_state"), PartiallySigned.as_str_name().trim_start_matches("ENVELOPE_STATUS_"));
    let now = sender.get(&envelope.id).await.unwrap();
    second.sign(&now).await.unwrap();
    let done = until_status(&sender, &envelope.id, Completed).await;

    let told = data(&sender, &envelope.id).await.unwrap();
    assert_eq!((told.envelope_id.as_str(), told.completed_at), (envelope.id.as_str(), done.completed_at));
    let [one, other] = &told.recipients[..] else { panic!("those who put something in: {:?}", told.recipients) };
    assert_eq!(
        (one.name.as_str(), one.email.as_str(), one.label.as_str()),
        ("Person 0", "person0@example.com", "Customer")
    );
    assert_eq!((one.role(), one.acted_at), (Signer, done.recipients[0].signed_at));
    assert_eq!((other.recipient_id.as_str(), other.fields.len()), (envelope.recipients[1].id.as_str(), 1));
    let found = |name: &str| one.fields.iter().find(|field| field.name == name).unwrap();
    let is = |name: &str, value: Value| assert_eq!(found(name).value, Some(value), "{name}");
    let mark = |text: &str| Value::Mark(countersign::v1::MarkData { mark: Some(Mark::Typed(text.into())) });
    assert_eq!(one.fields[0].value, Some(mark("Person 0")));
    is("initials", mark("P0"));
    is("name", Value::Text("Person 0".into()));
    is("email", Value::Text("person0@example.com".into()));
    let Some(Value::Date(day)) = &found("date").value else { panic!("a date") };
    assert!(chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").is_ok());
    is("title", Value::Text("Director".into()));
    is("city", Value::Text("Köln".into()));
    is("price", Value::Number("-12.50".into()));
    is("terms", Value::Checked(true));
    is("monthly", Value::Checked(false));
    is("yearly", Value::Checked(true));
    is("country", Value::Option("France".into()));
    assert_eq!((found("empty").value.as_ref(), found("yearly").group.as_str()), (None, "plan"));
    let assisted: Vec<_> = one.fields.iter().filter(|field| field.assisted).map(|field| field.name.as_str()).collect();
    assert_eq!(assisted, ["title"], "what the signer changed is theirs");
    let places = |field: &FieldData| field.document_id == envelope.documents[0].id && field.page == 1;
    assert!(one.fields.iter().all(places));
}

/// S1.5, S2.11: of what fell through nothing is told as data; nor to anybody but the sender.
#[tokio::test(flavor = "multi_thread")]
async fn s1_5_what_fell_through_is_no_data() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for (end, state) in [(Declined, "DECLINED"), (Voided, "VOIDED")] {
        let story = sender.story(2, Routing::Parallel).await;
        story.signer(0).sign(&story.envelope).await.unwrap();
        if end == Declined {
            story.signer(1).decline("No").await.unwrap();
        } else {
            sender.void(&story.envelope.id, "").await.unwrap();
        }
        let refused = data(&sender, &story.envelope.id).await.unwrap_err();
        assert_eq!((refused.reason().as_str(), refused.fact("current_state").as_str()), ("DATA_NOT_AVAILABLE", state));
    }
    let story = sender.story(1, Routing::Parallel).await;
    let id = &story.envelope.id;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.until(Completed).await;
    data(&sender, id).await.unwrap();
    for (who, caller) in [
        ("the signer", story.signer(0).clone()),
        ("the notifier", service.notifier(&sender.account)),
        ("the operator", service.operator(&sender.account)),
    ] {
        assert_eq!(data(&caller, id).await.unwrap_err().reason(), "PERMISSION_DENIED", "{who}");
    }
    let stranger = service.account(false).await;
    assert_eq!(data(&stranger, id).await.unwrap_err().reason(), "NOT_FOUND");
}
