//! What is drawn at the end of an envelope: values, hands, watermarks and certificates.

use std::io::Write as _;
use std::process::Command;

use chrono::TimeDelta;
use countersign::v1::drawing::Content;
use countersign::v1::{
    ApproveRequest, DocumentVersion, Drawing, Envelope, EnvelopeStatus, FieldEntry, FieldType, FieldValue,
    MarkViewedRequest, RecipientRole, Routing, SignRequest, Stroke, Strokes, VerifyDocumentRequest, field_value,
};
use countersign_test_support::client::{request, signature};
use countersign_test_support::{Caller, Errors as _, Service};
use sha2::{Digest as _, Sha256};
use tonic::Request;

use crate::steps::{entry, epoch, field, people, session, until, until_status};
use crate::stories::download;

/// The words on the pages; none where poppler-utils is missing, but never in continuous integration.
pub fn words(pdf: &[u8]) -> Option<String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pdf).unwrap();
    let said = Command::new("pdftotext").arg("-layout").arg(file.path()).arg("-").output();
    assert!(said.is_ok() || std::env::var_os("CI").is_none(), "install poppler-utils");
    said.ok().map(|said| String::from_utf8(said.stdout).unwrap())
}

fn with_drawing(envelope: &Envelope, index: usize, drawing: Drawing) -> SignRequest {
    let value = Some(FieldValue { value: Some(field_value::Value::Drawn(drawing)) });
    let field_id = envelope.fields[index].id.clone();
    SignRequest { values: vec![FieldEntry { field_id, value }], ..signature(envelope) }
}

fn strokes(strokes: Vec<Stroke>) -> Drawing {
    let content = Some(Content::Strokes(Strokes { strokes, aspect: 3.0, pen: 0.0 }));
    Drawing { content, ..Drawing::default() }
}

fn line() -> Stroke {
    Stroke { x: vec![0.0, 0.5, 1.0], y: vec![0.0, 1.0, 0.25] }
}

fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&vec![7; (width * height) as usize]).unwrap();
    file
}

fn pictured(bytes: Vec<u8>) -> Drawing {
    Drawing { content: Some(Content::Picture(bytes.into())), ..Drawing::default() }
}

async fn certificate(sender: &Caller, envelope: &Envelope) -> Vec<u8> {
    download(sender, &envelope.id, DocumentVersion::Certificate).await.unwrap()
}

/// S3.21, S3.78: values and the certificate are in the signed document, and the certificate is there alone.
#[tokio::test(flavor = "multi_thread")]
async fn s3_21_a_signed_document_shows_values_and_ends_with_its_certificate() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = people(&[RecipientRole::Signer, RecipientRole::Approver], Routing::Parallel, true);
    new.recipients[0].name = "Ганна Ковальчук".into();
    new.fields.extend([FieldType::Text, FieldType::Name, FieldType::Date, FieldType::Number].map(|kind| {
        let mut new = field(kind, 0, 3 + kind as u32);
        new.required = true;
        new
    }));
    let envelope = sender.create(new).await.unwrap();
    let approver = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
    crate::steps::approve(&approver, &envelope, vec![]).await.unwrap();
    let signer = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    crate::steps::view(&signer).await.unwrap();
    let mut act = signature(&envelope);
    let of = |kind: FieldType| envelope.fields.iter().find(|field| field.r#type() == kind).unwrap();
    act.values.push(entry(&of(FieldType::Text).id, "Керівниця 山田"));
    act.values.push(entry(&of(FieldType::Number).id, "-12.50"));
    act.seen_revision = session(&signer).await.unwrap().revision;
    signer.signer().sign(act).await.unwrap();
    let done = until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
    let made: Vec<_> = done.documents[0].artifacts.iter().map(|artifact| artifact.version()).collect();
    assert_eq!(made, [DocumentVersion::Signed, DocumentVersion::Certificate]);

    let signed = download(&sender, &done.id, DocumentVersion::Signed).await.unwrap();
    let history = sender.history(&done.id).await.unwrap();
    let ended = history.iter().rev().nth(1).unwrap().event.clone().unwrap();
    let Some(on_the_pages) = words(&signed) else { return };
    for value in ["Керівниця", "山田", "-12.50", "Signed by Ганна Ковальчук"] {
        assert!(on_the_pages.contains(value), "{value}: {on_the_pages}");
    }
    let alone = words(&certificate(&sender, &done).await).unwrap();
    for said in [&on_the_pages, &alone] {
        for wanted in [
            "Certificate of completion",
            &done.id,
            &done.documents[0].sha256,
            &ended.hash,
            &done.recipients[0].email,
            &done.recipients[1].name,
            "Approved",
            "All required acts done",
            "TEST",
        ] {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
    }
}

/// A call from a person's machine, as a trusted peer forwards it.
fn from<T>(message: T, client_ip: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-forwarded-for", client_ip.parse().unwrap());
    request.metadata_mut().insert("x-forwarded-user-agent", "Firefox/140".parse().unwrap());
    request
}

/// The words without what stands between them: where a line ends is a matter of width.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

fn said_of(text: &str, facts: &[(&str, String)]) {
    let said = squeezed(text);
    for (label, value) in facts {
        assert!(said.contains(&squeezed(&format!("{label}{value}"))), "{label} {value}: {text}");
    }
}

/// Who acted, how that was known, from where, to what they agreed and when stands on the certificate, behind the pages as alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_says_who_acted_how_that_is_known_from_where_and_when() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let new = people(&[RecipientRole::Signer, RecipientRole::Approver], Routing::Parallel, true);
    let story = sender.story_of(new).await;
    let minutes = |minutes| service.clock.advance(TimeDelta::minutes(minutes));
    minutes(7);
    let shown = signature(&story.envelope);
    let act = ApproveRequest {
        seen_documents: shown.seen_documents,
        seen_revision: shown.seen_revision,
        ..ApproveRequest::default()
    };
    story.signer(1).signer().approve(from(act, "2001:db8::7")).await.unwrap();
    // Whoever signs does so after those who approve.
    let signer = sender.signer_of(&story.envelope.id, &story.envelope.recipients[0].id).await.unwrap();
    minutes(11);
    let opened = from(MarkViewedRequest::default(), "203.0.113.9");
    signer.signer().mark_viewed(opened).await.unwrap();
    minutes(13);
    let seen = session(&signer).await.unwrap();
    let act = SignRequest { seen_revision: seen.revision, ..signature(&story.envelope) };
    signer.signer().sign(from(act, "203.0.113.9")).await.unwrap();
    let done = story.until(EnvelopeStatus::Completed).await;
    let signed = download(&sender, &done.id, DocumentVersion::Signed).await.unwrap();
    let Some(behind) = words(&signed) else { return };
    let alone = words(&certificate(&sender, &done).await).unwrap();
    let agreed = hex::encode(Sha256::digest(&seen.consent_text));
    for said in [behind, alone] {
        let cards = said.split_once("Recipients").unwrap().1;
        let (signer, approver) = cards.split_once("Person 1").unwrap();
        let link = || ("Known by", "Personal link, sent to the e-mail address".to_owned());
        let facts = [
            ("E-mail", "person0@example.com".to_owned()),
            ("Asked to act", "2027-01-15 08:07:00 UTC".to_owned()),
            ("Opened", "2027-01-15 08:18:00 UTC".to_owned()),
            ("Signed", "2027-01-15 08:31:00 UTC".to_owned()),
            link(),
            ("IP address", "203.0.113.9".to_owned()),
            ("Program", "Firefox/140".to_owned()),
            ("Agreed to sign", format!("electronically; text with SHA-256 {agreed}")),
        ];
        said_of(signer, &facts);
        let asked = ("Asked to act", "2027-01-15 08:00:00 UTC".to_owned());
        let acted = ("Approved", "2027-01-15 08:07:00 UTC".to_owned());
        said_of(approver, &[asked, acted, link(), ("IP address", "2001:db8::7".to_owned())]);
        assert!(!approver.contains("Agreed to sign"), "who approves signs nothing");
        // The history says the same of each event.
        said_of(approver, &[("Signed", "Person 0, 203.0.113.9".to_owned())]);
    }
}

/// A refusal that the sender took down says so, and how they know.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_refusal_says_through_which_door_it_came() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    service.clock.advance(TimeDelta::minutes(5));
    crate::doors::on_behalf(&story, 0, "Too dear", "Phone call of Monday").await.unwrap();
    let done = story.until_artifact().await;
    let Some(said) = words(&certificate(&sender, &done).await) else { return };
    let facts = [
        ("Refused", "2027-01-15 08:05:00 UTC"),
        ("Reason", "Too dear"),
        ("Evidence", "Phone call of Monday"),
        ("Known by", "The sender, on the recipient's behalf"),
    ];
    said_of(&said, &facts.map(|(label, value)| (label, value.to_owned())));
    assert!(!said.contains("IP address"), "nobody told one: {said}");
}

/// Every file that the service made is known again by its bytes, the certificate alone like the others.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_is_known_by_its_bytes() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (signed, refused) = (sender.story(1, Routing::Parallel).await, sender.story(1, Routing::Parallel).await);
    signed.signer(0).sign(&signed.envelope).await.unwrap();
    signed.until(EnvelopeStatus::Completed).await;
    refused.signer(0).decline("No").await.unwrap();
    refused.until_artifact().await;
    use DocumentVersion::{Certificate, Declined, Signed};
    for (story, version) in [(&signed, Signed), (&signed, Certificate), (&refused, Declined), (&refused, Certificate)] {
        let file = download(&sender, &story.envelope.id, version).await.unwrap();
        let sent = tokio_stream::iter([VerifyDocumentRequest { chunk: file.into() }]);
        let said = sender.envelopes().verify_document(sent).await.unwrap().into_inner();
        let known = said.document.unwrap();
        assert_eq!((known.envelope_id.as_str(), known.version()), (story.envelope.id.as_str(), version));
    }
}

/// S4.11, S4.19: who refused and when is on each page, in which words on the certificate.
#[tokio::test(flavor = "multi_thread")]
async fn s4_11_a_refused_document_says_who_when_and_why() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    story.signer(1).sign(&story.envelope).await.unwrap();
    story.signer(0).decline("Clause 7 is missing").await.unwrap();
    let done = story.until_artifact().await;
    let refused = download(&sender, &done.id, DocumentVersion::Declined).await.unwrap();
    let Some(said) = words(&refused) else { return };
    let pages: Vec<&str> = said.trim_end_matches('\u{c}').split('\u{c}').collect();
    let (paper, behind) = pages.split_at(done.documents[0].page_count as usize);
    assert!(paper.iter().all(|page| page.contains("Document refused · by Signer 0 on 20")), "{paper:?}");
    assert!(paper.iter().all(|page| !page.contains("Clause 7 is missing")), "the reason is for the certificate");
    let behind = behind.concat();
    for wanted in
        ["Certificate of refusal", "Refused by Signer 0 (Signer) on 20", "Clause 7 is missing", "not effective"]
    {
        assert!(behind.contains(wanted), "{wanted}: {behind}");
    }
    assert!(words(&certificate(&sender, &done).await).unwrap().contains("Certificate of refusal"));
}

/// What a hand drew is on the page, in the session of whoever drew it, and in the history as a hash.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_drawn_by_hand() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(3, Routing::Parallel).await;
    let bytes = picture(60, 20);
    let drawings = [pictured(bytes.clone()), strokes(vec![line(), line()])];
    for (index, drawing) in drawings.iter().enumerate() {
        let signer = story.signer(index);
        signer.signer().sign(with_drawing(&story.envelope, index, drawing.clone())).await.unwrap();
        let shown = session(signer).await.unwrap().fields[0].value.clone().unwrap();
        let Some(field_value::Value::Drawn(shown)) = shown.value else { panic!("{shown:?}") };
        match (shown.content.unwrap(), drawing.content.clone().unwrap()) {
            (Content::Picture(is), Content::Picture(was)) => assert_eq!(is, was),
            (Content::Strokes(is), Content::Strokes(was)) => {
                assert_eq!((is.strokes.len(), is.aspect), (was.strokes.len(), was.aspect));
                assert!((is.strokes[1].y[2] - was.strokes[1].y[2]).abs() < 0.0001);
            }
            other => panic!("{other:?}"),
        }
    }
    let told = story.now().await.fields[0].value.clone().unwrap();
    let Some(field_value::Value::Drawn(told)) = told.value else { panic!("{told:?}") };
    assert_eq!((told.content, told.sha256), (None, hex::encode(Sha256::digest(&bytes))));
    let kept = "SELECT count(*) FROM event_particulars WHERE length(content) > 2000";
    assert_eq!(service.database.number(kept).await, 0, "the history holds no pictures");
    // The same picture again, by somebody else: it is kept already.
    story.signer(2).signer().sign(with_drawing(&story.envelope, 2, pictured(bytes))).await.unwrap();
    let done = story.until(EnvelopeStatus::Completed).await;
    let changed = "UPDATE field SET drawn_value = sha256('another')";
    assert!(service.database.connect().await.batch_execute(changed).await.is_err(), "what was signed stays");
    let signed = download(&sender, &done.id, DocumentVersion::Signed).await.unwrap();
    let find = |what: &[u8]| signed.windows(what.len()).filter(|window| *window == what).count();
    assert!(find(b"/Subtype/Image") + find(b"/Subtype /Image") >= 1, "the picture is in the document");
    assert_eq!(find(b"IHDR"), 0, "its pixels alone, not its file");
}

/// All that is wrong with a drawing is told at once, and nothing of it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_drawing_that_is_none_is_refused_with_all_that_is_wrong() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    let refused = async |drawing: Drawing| {
        let sent = story.signer(0).signer().sign(with_drawing(&story.envelope, 0, drawing)).await;
        let status = sent.unwrap_err();
        assert_eq!(status.reason(), "INVALID_FIELD");
        let start = "values[0].value.drawn";
        status.fields().into_iter().map(|path| path.strip_prefix(start).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(refused(Drawing::default()).await, [""]);
    assert_eq!(refused(strokes(vec![])).await, [".strokes.strokes"]);
    for wrong in
        [b"GIF89a".to_vec(), picture(2_001, 1), picture(1, 1_001), vec![0x89; 300_000], picture(9, 9)[..40].to_vec()]
    {
        assert_eq!(refused(pictured(wrong)).await, [".picture"]);
    }
    let bad = vec![
        Stroke { x: vec![], y: vec![] },
        Stroke { x: vec![0.1], y: vec![0.1, 0.2] },
        Stroke { x: vec![1.5], y: vec![f32::NAN] },
        Stroke { x: vec![0.1; 501], y: vec![0.1; 501] },
    ];
    let mut drawing = strokes(bad);
    if let Some(Content::Strokes(strokes)) = &mut drawing.content {
        (strokes.aspect, strokes.pen) = (0.01, f32::INFINITY);
    }
    let wrong = [
        ".strokes.aspect",
        ".strokes.pen",
        ".strokes.strokes[0].x",
        ".strokes.strokes[1].y",
        ".strokes.strokes[2].x",
        ".strokes.strokes[2].y",
        ".strokes.strokes[3].x",
    ];
    assert_eq!(refused(drawing).await, wrong);
    let many = vec![Stroke { x: vec![0.5; 200], y: vec![0.5; 200] }; 201];
    assert_eq!(refused(strokes(many)).await, [".strokes.strokes"; 2]);
    assert_eq!(service.database.number("SELECT count(*) FROM drawing").await, 0);
    assert_eq!(story.now().await.status(), EnvelopeStatus::Sent);
}

/// Only signatures and initials are drawn, and not by those who help.
#[tokio::test(flavor = "multi_thread")]
async fn other_fields_take_no_drawing() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(1, Routing::Parallel, true);
    new.fields
        .extend([FieldType::Text, FieldType::Checkbox, FieldType::Name].map(|kind| field(kind, 0, 3 + kind as u32)));
    let story = sender.story_of(new).await;
    for index in 1..4 {
        let refused = story.signer(0).signer().sign(with_drawing(&story.envelope, index, strokes(vec![line()]))).await;
        assert!(refused.unwrap_err().fields().contains(&"values[0]".to_owned()), "field {index}");
    }
}

/// Drawings of one act are bounded together, each counted once.
#[tokio::test(flavor = "multi_thread")]
async fn drawings_of_an_act_are_bounded_together() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(1, Routing::Parallel, true);
    new.fields.extend((1..6).map(|line| field(FieldType::Signature, 0, 2 * line)));
    let story = sender.story_of(new).await;
    // What is not compressed is as large as it looks.
    let large = |shade: u8| {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 500, 500);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_compression(png::Compression::NoCompression);
        encoder.write_header().unwrap().write_image_data(&vec![shade; 250_000]).unwrap();
        pictured(file)
    };
    let with = |shade: &dyn Fn(u8) -> u8| {
        let mut act = signature(&story.envelope);
        act.values = (0..)
            .zip(&story.envelope.fields)
            .map(|(index, field)| FieldEntry {
                field_id: field.id.clone(),
                value: Some(FieldValue { value: Some(field_value::Value::Drawn(large(shade(index)))) }),
            })
            .collect();
        act
    };
    let refused = story.signer(0).signer().sign(with(&|index| index)).await.unwrap_err();
    assert_eq!(refused.fields(), ["values"]);
    story.signer(0).signer().sign(with(&|_| 1)).await.unwrap();
    assert_eq!(service.database.number("SELECT count(*) FROM drawing").await, 1, "kept once");
}

/// D10: a job that is done again makes the same bytes.
#[tokio::test(flavor = "multi_thread")]
async fn d10_a_job_that_is_done_again_makes_the_same_bytes() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    story.signer(0).signer().sign(with_drawing(&story.envelope, 0, strokes(vec![line()]))).await.unwrap();
    let done = story.until(EnvelopeStatus::Completed).await;
    let file = |sha256: &str| service.documents.path().join(&sha256[..2]).join(&sha256[2..]);
    let made: Vec<_> = done.documents[0].artifacts.iter().map(|artifact| file(&artifact.sha256)).collect();
    let before: Vec<_> = made.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for path in &made {
        std::fs::remove_file(path).unwrap();
    }
    let again = "INSERT INTO artifact_job (account_id, envelope_id, version, due_at)
        SELECT account_id, id, 2, now() - interval '1 hour' FROM envelope";
    service.database.connect().await.batch_execute(again).await.unwrap();
    until(&sender, &done.id, "the same files", |_| made.iter().all(|path| path.exists())).await;
    assert_eq!(made.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>(), before);
    assert_eq!(story.now().await.revision, done.revision);
}
