//! Fields and what goes into them: ten types, their rules, and every wrong value told in one answer.

use countersign::v1::field_value::Value;
use countersign::v1::{
    CreateEnvelopeRequest, Envelope, EnvelopeStatus, FieldEntry, FieldType, FieldValue, NewField, NewRecipient,
    Placement, RecipientRole, Routing, SignRequest, Validation,
};
use countersign_test_support::client::{request, signature};
use countersign_test_support::{Caller, Errors as _, Service, Story};
use tonic::{Code, Status};

pub fn text(text: &str) -> FieldValue {
    FieldValue { value: Some(Value::Text(text.into())) }
}

pub fn checked(checked: bool) -> FieldValue {
    FieldValue { value: Some(Value::Checked(checked)) }
}

/// A field of the first signer under that name.
pub fn field(kind: FieldType, name: &str) -> NewField {
    let placement = Placement { page: 1, x_percent: 50.0, y_percent: 40.0, width_percent: 20.0, height_percent: 3.0 };
    NewField { r#type: kind.into(), placement: Some(placement), name: name.into(), ..NewField::default() }
}

pub fn ruled(kind: FieldType, name: &str, validation: Validation) -> NewField {
    NewField { validation: Some(validation), ..field(kind, name) }
}

fn pattern(pattern: &str) -> Validation {
    Validation { pattern: pattern.into(), ..Validation::default() }
}

fn lengths(min_length: u32, max_length: u32) -> Validation {
    Validation { min_length, max_length, ..Validation::default() }
}

fn range(min: &str, max: &str) -> Validation {
    Validation { min: min.into(), max: max.into(), ..Validation::default() }
}

pub fn options(options: &[&str]) -> Validation {
    Validation { options: options.iter().map(ToString::to_string).collect(), ..Validation::default() }
}

pub fn group(group: &str) -> Validation {
    Validation { group: group.into(), ..Validation::default() }
}

/// A request with the first signer's SIGNATURE and these fields after it.
pub fn with(fields: impl IntoIterator<Item = NewField>) -> CreateEnvelopeRequest {
    let mut new = request(1, Routing::Parallel, true);
    new.fields.extend(fields);
    new
}

pub fn named<'a>(envelope: &'a Envelope, name: &str) -> &'a countersign::v1::Field {
    envelope.fields.iter().find(|field| field.name == name).expect(name)
}

/// A signature with these values, by the names of the fields.
fn signing(envelope: &Envelope, values: &[(&str, FieldValue)]) -> SignRequest {
    let entry = |(name, value): &(&str, FieldValue)| FieldEntry {
        field_id: named(envelope, name).id.clone(),
        value: Some(value.clone()),
    };
    SignRequest { values: values.iter().map(entry).collect(), ..signature(envelope) }
}

pub async fn sign(story: &Story, values: &[(&str, FieldValue)]) -> Result<(), Status> {
    story.signer(0).signer().sign(signing(&story.envelope, values)).await.map(drop)
}

/// The paths that a signature with these values is refused for.
pub async fn faults(story: &Story, values: &[(&str, FieldValue)]) -> Vec<String> {
    let status = sign(story, values).await.expect_err(&format!("{values:?}"));
    assert_eq!((status.code(), status.reason().as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{values:?}");
    status.fields()
}

pub async fn value(caller: &Caller, id: &str, name: &str) -> Option<Value> {
    named(&caller.get(id).await.unwrap(), name).value.clone().and_then(|value| value.value)
}

/// All ten types as they may be asked for.
fn ten() -> Vec<NewField> {
    vec![
        NewField { name: "signature".into(), ..field(FieldType::Signature, "") },
        field(FieldType::Initials, "initials"),
        field(FieldType::Name, "name"),
        field(FieldType::Email, "email"),
        field(FieldType::Date, "date"),
        ruled(FieldType::Text, "text", Validation { min_length: 2, max_length: 20, ..pattern("[\\pL ]+") }),
        field(FieldType::Checkbox, "checkbox"),
        ruled(FieldType::Number, "number", range("-20", "+20.5")),
        ruled(FieldType::Radio, "yes", group("answer")),
        ruled(FieldType::Radio, "no", group("answer")),
        ruled(FieldType::Dropdown, "dropdown", options(&["Red wine", "White wine"])),
    ]
}

/// S3.21, S3.55: every type is asked for, filled, and read back.
#[tokio::test(flavor = "multi_thread")]
async fn s3_21_ten_types_of_fields_are_filled_and_read_back() {
    let service = Service::start_at(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap()).await;
    let sender = service.account(false).await;
    let mut new = CreateEnvelopeRequest { fields: ten(), ..request(1, Routing::Parallel, true) };
    new.recipients[0].name = "\u{d6}zlem de la Cruz".into();
    let story = sender.story_of(new.clone()).await;
    let session = story.signer(0).session().await.unwrap();
    assert_eq!(session.fields, story.envelope.fields);
    for (asked, field) in new.fields.iter().zip(&session.fields) {
        assert_eq!((asked.r#type, &asked.name, &asked.placement), (field.r#type, &field.name, &field.placement));
        let always = asked.r#type <= FieldType::Date as i32;
        assert_eq!(field.required, always, "{}", field.name);
        assert!(field.value.is_none());
    }
    assert_eq!(named(&story.envelope, "number").validation.clone().unwrap(), range("-20", "20.5"));
    assert_eq!(named(&story.envelope, "text").validation, new.fields[5].validation);
    assert_eq!(named(&story.envelope, "dropdown").validation, new.fields[10].validation);
    let given = [
        ("signature", text(" \u{d6}. de la Cruz ")),
        ("initials", text("OC")),
        ("text", text("  Ge\u{301}rant  ")),
        ("checkbox", checked(true)),
        ("number", text("-12.50")),
        ("no", checked(true)),
        ("dropdown", text("White wine")),
    ];
    sign(&story, &given).await.unwrap();
    let done = story.until(EnvelopeStatus::Completed).await;
    let kept = |name: &str| named(&done, name).value.clone();
    assert_eq!(kept("signature"), Some(text("\u{d6}. de la Cruz")));
    assert_eq!((kept("initials"), kept("text")), (Some(text("OC")), Some(text("G\u{e9}rant"))));
    assert_eq!(
        (kept("name"), kept("email")),
        (Some(text("\u{d6}zlem de la Cruz")), Some(text("signer0@example.com")),)
    );
    assert_eq!((kept("date"), kept("number")), (Some(text("2027-01-15")), Some(text("-12.50"))));
    assert_eq!((kept("checkbox"), kept("yes"), kept("no")), {
        (Some(checked(true)), Some(checked(false)), Some(checked(true)))
    });
    assert_eq!(kept("dropdown"), Some(text("White wine")));

    // Nothing given: what the service knows, and nothing else.
    let story = sender.story_of(new).await;
    sign(&story, &[]).await.unwrap();
    let now = story.now().await;
    let kept = |name: &str| named(&now, name).value.clone();
    assert_eq!((kept("signature"), kept("initials")), (Some(text("\u{d6}zlem de la Cruz")), Some(text("\u{d6}dlC"))));
    assert_eq!((kept("text"), kept("number"), kept("dropdown")), (None, None, None));
    assert_eq!((kept("checkbox"), kept("yes")), (Some(checked(false)), Some(checked(false))));
}

/// What fields may not be, each with the part that is wrong.
fn defects() -> Vec<(NewField, &'static str)> {
    use FieldType::*;
    let long = "x".repeat(101);
    let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let valued = |kind, validation, value| NewField { value: Some(value), ..ruled(kind, "f", validation) };
    let none = Validation::default;
    let fixed = |kind| NewField { read_only: true, ..field(kind, "f") };
    vec![
        (ruled(Text, "f", pattern("(")), "validation.pattern"),
        (ruled(Text, "f", pattern("a)(b")), "validation.pattern"),
        (ruled(Text, "f", pattern("(?=a)a")), "validation.pattern"),
        (ruled(Text, "f", pattern("(?x)a # all the rest")), "validation.pattern"),
        (ruled(Text, "f", pattern("((a{100}){100}){100}")), "validation.pattern"),
        (ruled(Text, "f", pattern(&"x".repeat(201))), "validation.pattern"),
        (ruled(Number, "f", pattern("1")), "validation.pattern"),
        (ruled(Text, "f", lengths(5, 4)), "validation.min_length"),
        (ruled(Text, "f", lengths(0, 501)), "validation.max_length"),
        (ruled(Checkbox, "f", lengths(0, 5)), "validation.max_length"),
        (ruled(Number, "f", range("2", "1.9")), "validation.min"),
        (ruled(Number, "f", range("abc", "")), "validation.min"),
        (ruled(Number, "f", range("", "1e3")), "validation.max"),
        (ruled(Text, "f", range("1", "")), "validation.min"),
        (ruled(Text, "f", options(&["a"])), "validation.options"),
        (ruled(Dropdown, "f", none()), "validation.options"),
        (ruled(Dropdown, "f", options(&many)), "validation.options"),
        (ruled(Dropdown, "f", options(&["a", "b", "a"])), "validation.options"),
        (ruled(Dropdown, "f", options(&["a", ""])), "validation.options"),
        (ruled(Dropdown, "f", options(&[" a"])), "validation.options"),
        (ruled(Dropdown, "f", options(&["a\nb"])), "validation.options"),
        (ruled(Dropdown, "f", options(&[&long])), "validation.options"),
        (ruled(Radio, "f", none()), "validation.group"),
        (ruled(Radio, "f", group(&long)), "validation.group"),
        (ruled(Text, "f", group("g")), "validation.group"),
        (fixed(Signature), "read_only"),
        (fixed(Initials), "read_only"),
        (fixed(Date), "read_only"),
        (valued(Signature, none(), text("x")), "value"),
        (valued(Initials, none(), text("x")), "value"),
        (valued(Name, none(), text("x")), "value"),
        (valued(Email, none(), text("x")), "value"),
        (valued(Date, none(), text("2026-01-01")), "value"),
        (valued(Text, none(), checked(true)), "value"),
        (valued(Text, none(), FieldValue::default()), "value"),
        (valued(Text, none(), text("two\nlines")), "value"),
        (valued(Text, none(), text(&"x".repeat(501))), "value"),
        (valued(Text, lengths(0, 3), text("four")), "value"),
        (valued(Text, pattern("[0-9]+"), text("1a")), "value"),
        (valued(Checkbox, none(), text("yes")), "value"),
        (valued(Radio, group("g"), text("yes")), "value"),
        (valued(Number, range("1", ""), text("0.99")), "value"),
        (valued(Dropdown, options(&["a"]), text("b")), "value"),
        (NewField { r#type: 0, ..field(Text, "f") }, "type"),
        (NewField { r#type: 11, ..field(Text, "f") }, "type"),
        (field(Text, &long), "name"),
        (field(Text, "a\nb"), "name"),
    ]
}

/// Each defect of a rule is told with its place.
#[tokio::test(flavor = "multi_thread")]
async fn each_defect_of_a_field_is_told_by_its_part() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for (defect, part) in defects() {
        let given = format!("{defect:?}");
        let status = sender.create(with([field(FieldType::Checkbox, ""), defect])).await.expect_err(&given);
        assert_eq!((status.code(), status.reason().as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{given}");
        let mut paths = status.fields();
        paths.dedup();
        assert_eq!(paths, [format!("fields[2].{part}")], "{given}");
    }
    // A field may have several.
    let both = NewField { value: Some(text("x")), read_only: true, ..ruled(FieldType::Date, "", pattern("(")) };
    let mut paths = sender.create(with([both])).await.unwrap_err().fields();
    paths.dedup();
    assert_eq!(paths, ["fields[1].validation.pattern", "fields[1].read_only", "fields[1].value"]);
    assert_eq!(service.database.number("SELECT count(*) FROM envelope").await, 0);
}

/// A rule that is not for the type, or that no value can meet, is told by its own name.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_met_is_told_by_its_own_name() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut told = Vec::new();
    let cases = [
        (ruled(FieldType::Number, "", lengths(3, 0)), "validation.min_length"),
        (ruled(FieldType::Text, "", range("", "3")), "validation.max"),
        (ruled(FieldType::Text, "", lengths(501, 0)), "validation.min_length"),
    ];
    for (defect, part) in cases {
        let answer = sender.create(with([defect])).await;
        told.push((part, answer.map(|envelope| envelope.id.len()).map_err(|status| status.fields())));
    }
    let expected: Vec<_> = told.iter().map(|(part, _)| (*part, Err(vec![format!("fields[1].{part}")]))).collect();
    assert_eq!(told, expected);
}

/// What fields take and what they do not, one value at a time.
#[tokio::test(flavor = "multi_thread")]
async fn each_value_has_to_fit_its_field() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let required = |field: NewField| NewField { required: true, ..field };
    let fields = || {
        vec![
            required(ruled(FieldType::Text, "plate", pattern("[A-Z]{2}[0-9]{2}|none"))),
            ruled(FieldType::Text, "short", lengths(2, 4)),
            ruled(FieldType::Number, "share", range("-1.5", "10")),
            ruled(FieldType::Dropdown, "wine", options(&["Red", "White"])),
            required(field(FieldType::Checkbox, "terms")),
            field(FieldType::Checkbox, "news"),
            field(FieldType::Date, "date"),
            field(FieldType::Initials, "initials"),
        ]
    };
    let story = sender.story_of(with(fields())).await;
    let base = |name: &str| {
        let all = [("plate", text("AB12")), ("terms", checked(true))];
        all.into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>()
    };
    let longer = "x".repeat(501);
    let bad = [
        ("plate", vec!["AB1", "AB123", "xAB12", "ab12", "AB12 none", "nonesense"]),
        ("short", vec!["a", "abcde", "\u{1F600}", "a\u{7}b"]),
        (
            "share",
            vec!["-1.51", "10.01", "1e1", "1,5", "--1", "1.2.3", "\u{663}", "0x1", "one", "-", "+", ".", "5-", "1-2"],
        ),
        ("wine", vec!["red", "Rose", "Red, White"]),
        ("initials", vec![longer.as_str(), "a\nb"]),
        ("date", vec!["2026-01-01"]),
        ("news", vec!["true"]),
    ];
    for (name, values) in bad {
        for given in values {
            let mut values = vec![(name, text(given))];
            values.extend(base(name));
            assert_eq!(faults(&story, &values).await, ["values[0]"], "{name} {given:?}");
        }
    }
    for (name, given) in [("plate", checked(true)), ("plate", text("  ")), ("terms", checked(false))] {
        let mut values = vec![(name, given.clone())];
        values.extend(base(name));
        assert_eq!(faults(&story, &values).await, ["values[0]"], "{name} {given:?}");
        assert_eq!(faults(&story, &base(name)).await, ["values"], "{name} is missing");
    }
    assert_eq!(story.now().await, story.envelope, "nothing of it was kept");
    for good in [
        vec![("plate", text("none")), ("share", text("-1.5")), ("short", text("ab"))],
        vec![
            ("plate", text("ZZ99")),
            ("share", text("10.00")),
            ("short", text("\u{e9}\u{1F600}xy")),
            ("wine", text("Red")),
        ],
        vec![("plate", text(" AB12 ")), ("share", text("+0")), ("short", text("")), ("news", checked(true))],
    ] {
        let story = sender.story_of(with(fields())).await;
        let values: Vec<_> = good.into_iter().chain([("terms", checked(true))]).collect();
        sign(&story, &values).await.unwrap_or_else(|status| panic!("{values:?}: {status:?}"));
    }
}

/// S3.23: all that is wrong about a signature comes in one answer, a value for another's field too.
#[tokio::test(flavor = "multi_thread")]
async fn s3_23_all_wrong_values_are_told_at_once() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = with([
        NewField { required: true, ..field(FieldType::Text, "missing") },
        ruled(FieldType::Number, "number", range("1", "2")),
        field(FieldType::Checkbox, "box"),
        NewField { read_only: true, value: Some(text("fixed")), ..field(FieldType::Text, "fixed") },
        field(FieldType::Text, "twice"),
    ]);
    let other = NewRecipient { name: "B".into(), email: "b@example.com".into(), ..NewRecipient::default() };
    new.recipients.push(other);
    new.fields.push(NewField { recipient_index: 1, ..field(FieldType::Signature, "foreign") });
    let story = sender.story_of(new).await;
    let mut wrong = signing(
        &story.envelope,
        &[
            ("number", text("3")),
            ("box", text("x")),
            ("fixed", text("other")),
            ("twice", text("a")),
            ("twice", text("b")),
            ("foreign", text("Mallory")),
        ],
    );
    let unknown = "fld_01h455vb4pex5vsknk084sn02q".to_owned();
    wrong.values.push(FieldEntry { field_id: unknown, value: Some(text("x")) });
    (wrong.consent, wrong.seen_revision) = (false, 0);
    wrong.seen_documents.clear();
    let mut paths = story.signer(0).signer().sign(wrong).await.unwrap_err().fields();
    paths.sort();
    let expected = ["consent", "seen_documents", "seen_revision", "values"];
    let values = ["values[0]", "values[1]", "values[2]", "values[4]", "values[5]", "values[6]"];
    assert_eq!(paths, expected.into_iter().chain(values).collect::<Vec<_>>());
    assert_eq!(story.now().await, story.envelope);
}

/// Faults of fields come with those of all other parts.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_all_parts_come_in_one_answer() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = with([ruled(FieldType::Text, "", pattern("(")), field(FieldType::Text, "")]);
    new.subject.clear();
    new.fields[0].placement.as_mut().unwrap().x_percent = f64::NAN;
    new.fields[2].recipient_index = 7;
    new.documents[0].name.clear();
    new.recipients[0].email = "nobody".into();
    new.recipients[0].role = RecipientRole::Assistant.into();
    new.watchers = vec!["w@example.com".into(), "nobody".into()];
    new.delegations_max = 6;
    let mut paths = sender.create(new).await.unwrap_err().fields();
    paths.sort();
    let expected = [
        "delegations_max",
        "documents[0].name",
        "fields[0].placement.x_percent",
        "fields[1].validation.pattern",
        "fields[2].recipient_index",
        "recipients[0].assists_index",
        "recipients[0].email",
        "subject",
        "watchers[1]",
    ];
    assert_eq!(paths, expected);
}
