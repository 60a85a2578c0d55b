//! What comes of reading documents, and what an envelope makes of it.

use countersign_envelope::domain::command::{Command, Edit};
use countersign_envelope::domain::envelope::{Document, Envelope, Ingest};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::field::{Field, FieldType};
use countersign_envelope::domain::id::SourceId;
use countersign_envelope::domain::ingest::{
    Awaited, ContentType, FaultReason, IngestFault, MarkerFault, Original, Read, Reading,
};
use countersign_envelope::domain::recipient::Role::Signer;
use countersign_envelope::domain::record::Record;
use countersign_envelope::domain::refusal::Why;
use countersign_envelope::domain::replace::copy;
use countersign_envelope::domain::status::Status;

use crate::play::Play;
use crate::shape::{
    Count, broken, document, draft, env, field, place_of, rcp, read, start, text, text_of, unread, uuid,
};

fn source(number: u128) -> SourceId {
    SourceId::from_uuid(uuid(number))
}

/// Still to be read, with or without markers.
fn awaiting(number: u128, markers: bool) -> Document {
    Document { awaits: Some(Awaited { id: source(50), markers, url: None }), ..unread(number) }
}

fn found(pages: u32, fields: Vec<Field>) -> Command {
    let original = Original { sha256: [4; 32], size_bytes: 77, content_type: ContentType::Docx };
    let (sha256, original) = ([5; 32], Some(original));
    let read = Read { sha256, size_bytes: 900, page_count: pages, original, fields, fields_max: 3 };
    Command::Ingest { document: document(0).id, source: Some(source(50)), reading: Reading::Ready(Box::new(read)) }
}

fn envelope(markers: bool) -> Envelope {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.documents[0] = awaiting(0, markers);
    envelope
}

/// T-69, T-70: what was read is frozen then, with what came, and the history commits to both.
#[test]
fn t69_what_was_read_is_frozen() {
    let mut play = Play::sent(envelope(false));
    assert_eq!(play.envelope.status(), Status::Pending);
    play.done(&found(3, Vec::new()));
    let read = &play.envelope.documents[0];
    assert_eq!((read.sha256, read.size_bytes, read.page_count, read.ingest), ([5; 32], 900, 3, Ingest::Ready));
    assert_eq!(read.original.map(|it| (it.sha256, it.size_bytes)), Some(([4; 32], 77)));
    assert_eq!(read.awaits, None, "it is forgotten where it came from");
    let record: Record = serde_json::from_slice(&play.history[1].record).unwrap();
    let state = &record.state.documents[0];
    assert_eq!((state.sha256.as_str(), state.ingest), ("05".repeat(32).as_str(), 2));
    assert_eq!(state.original_sha256, Some("04".repeat(32)));
    let before: Record = serde_json::from_slice(&play.history[0].record).unwrap();
    assert_eq!((before.state.documents[0].sha256.as_str(), before.state.documents[0].ingest), ("", 1));
    play.again(&found(3, Vec::new()));
}

/// What was read of another source than the document awaits by now counts for nothing.
#[test]
fn what_was_read_of_something_else_does_not_count() {
    let mut play = Play::new(envelope(false));
    let new = Document { awaits: Some(Awaited { id: source(51), markers: false, url: None }), ..unread(0) };
    play.done(&Command::Update(Edit::ReplaceDocument { document: Box::new(new), fields: None, fields_max: 3 }));
    play.again(&found(2, Vec::new()));
    play.again(&read(0, false));
    assert_eq!(play.envelope.documents[0].ingest, Ingest::Processing);
}

/// T-69: a fault stands with its document; in a draft it stands in the way of sending, and another document takes it away.
#[test]
fn t69_a_fault_stands_in_the_way_until_the_document_is_replaced() {
    let mut play = Play::new(envelope(false));
    let fault =
        Command::Ingest { document: document(0).id, source: Some(source(50)), reading: Reading::Failed(broken()) };
    assert_eq!(play.done(&fault), [EventType::EnvelopeDocumentFailed]);
    assert_eq!(play.envelope.documents[0].fault, Some(broken()));
    assert_eq!(play.refused(&Command::Send), Why::Incomplete(vec!["A document cannot be read."]));
    let record: Record = serde_json::from_slice(&play.history[0].record).unwrap();
    assert_eq!(record.state.documents[0].fault, Some(FaultReason::Unreadable as u8));
    play.done(&Command::Update(Edit::ReplaceDocument { document: Box::new(document(0)), fields: None, fields_max: 3 }));
    play.done(&Command::Send);
}

/// T-68: a field on a page that there is not: known only once the document was read.
#[test]
fn t68_fields_are_held_against_pages_when_those_are_known() {
    let mut late = envelope(false);
    late.fields[0].placement.page = 3;
    let mut waiting = Play::sent(late.clone());
    let events = waiting.done(&found(2, Vec::new()));
    assert_eq!(events, [EventType::EnvelopeDocumentFailed, EventType::EnvelopeVoided]);
    let fault = waiting.envelope.documents[0].fault.clone().unwrap();
    assert_eq!(fault.reason, FaultReason::DoesNotFit);
    assert_eq!(fault.message, "A field stands on a page that its document lacks.");
    let mut sent = Play::sent(late.clone());
    assert_eq!(sent.done(&found(3, Vec::new()))[1], EventType::EnvelopeSent);
    // A draft can be put right.
    let mut draft = Play::new(late);
    assert_eq!(draft.done(&found(2, Vec::new())), [EventType::EnvelopeDocumentReady]);
    let lacks = Why::Incomplete(vec!["A field stands on a page that its document lacks."]);
    assert_eq!(draft.refused(&Command::Send), lacks);
}

/// T-67: as long as markers may bring a signer's place the envelope waits for them, and ends if they do not.
#[test]
fn t67_markers_bring_the_fields() {
    let mut bare = envelope(true);
    bare.fields.clear();
    let place = || vec![field(place_of(0), FieldType::Signature, rcp(0))];
    let mut play = Play::sent(bare.clone());
    assert_eq!(play.envelope.status(), Status::Pending);
    let events = play.done(&found(2, place()));
    assert_eq!(events, [EventType::EnvelopeDocumentReady, EventType::EnvelopeSent, EventType::RecipientReleased]);
    assert_eq!(play.envelope.fields, place());
    let mut none = Play::sent(bare.clone());
    none.done(&found(2, Vec::new()));
    assert_eq!(none.envelope.status(), Status::Voided);
    let fault = none.envelope.documents[0].fault.clone().unwrap();
    assert_eq!(fault.message, "Every signer needs a SIGNATURE field.");
    let mut without = bare.clone();
    without.documents[0] = awaiting(0, false);
    assert!(matches!(Play::new(without).refused(&Command::Send), Why::Incomplete(_)), "nothing will bring it");
    // More than the envelope may have, also in a draft.
    let many = (0..4).map(|number| field(text_of(number), FieldType::Text, rcp(0))).collect();
    let mut play = Play::new(bare);
    assert_eq!(play.done(&found(2, many)), [EventType::EnvelopeDocumentFailed]);
    assert_eq!(play.envelope.fields, []);
}

/// Fields that are made anew take the place of those that stood on the document, and of no others.
#[test]
fn fields_from_markers_take_the_place_of_those_before() {
    let mut play = Play::new(draft(&[(Signer, 1)]));
    play.envelope.documents.push(document(1));
    play.envelope.fields[1].document = document(1).id;
    let kept = play.envelope.fields[1].clone();
    let new = field(text_of(5), FieldType::Signature, rcp(0));
    let put = |fields_max| {
        let fields = Some(vec![new.clone()]);
        Command::Update(Edit::ReplaceDocument { document: Box::new(document(0)), fields, fields_max })
    };
    assert_eq!(play.refused(&put(1)), Why::TooManyFields { actual: 2, allowed: 1 });
    play.done(&put(2));
    assert_eq!(play.envelope.fields, [kept, new]);
}

/// A draft in an ended envelope's place reads anew what the other still awaited.
#[test]
fn a_copy_awaits_by_itself() {
    let copied = copy(&envelope(false), env(9), start(), &mut Count(700));
    let awaited = copied.documents[0].awaits.clone().unwrap();
    assert!(awaited.id != source(50) && copied.documents[0].ingest == Ingest::Processing);
}

/// S4.9: what is purged says neither where a document was to be fetched nor which markers were wrong with it.
#[test]
fn s4_9_a_purge_forgets_sources_and_faults() {
    let mut purged = envelope(false);
    purged.documents[0].awaits.as_mut().unwrap().url = Some(text("https://files.example.com/?key=secret"));
    let marker = MarkerFault { page: 1, text: text("{{text:Ada}}"), message: "no recipient has this label".to_owned() };
    purged.documents.push(Document { fault: Some(IngestFault::of(vec![marker])), ..document(1) });
    purged.forget_content();
    for document in &purged.documents {
        assert_eq!((&document.awaits, &document.fault, document.name.as_str()), (&None, &None, ""));
    }
}
