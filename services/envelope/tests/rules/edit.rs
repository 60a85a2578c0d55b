//! Drafts that change, what is kept of documents, and the names that errors use.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use countersign_envelope::domain::command::{Command, Edit};
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::{Cause, Document, Version};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::recipient::Role::Signer;
use countersign_envelope::domain::refusal::{Place, Transition, Why};
use countersign_envelope::domain::status::Status;
use countersign_envelope::domain::terms::Changes;

use crate::play::Play;
use crate::shape::{deadline, document, draft, env, place_of, rcp, start, store};

fn replacement(number: u128, pages: u32) -> Command {
    let new = Document { sha256: [42; 32], page_count: pages, name: "corrected.pdf".into(), ..document(number) };
    Command::Update(Edit::ReplaceDocument { document: Box::new(new), fields: None, fields_max: 200 })
}

/// S2.18: another document takes the place of the one of that id, and of no other.
#[test]
fn s2_18_a_document_is_replaced_in_its_place() {
    let mut play = Play::new(draft(&[(Signer, 1)]));
    play.envelope.documents = vec![document(0), document(1)];
    assert_eq!(play.done(&replacement(1, 2)), [EventType::EnvelopeUpdated]);
    let names: Vec<_> = play.envelope.documents.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [document(0).name.as_str(), "corrected.pdf"]);
    assert_eq!(play.refused(&replacement(7, 2)), Why::NoSuchDocument);
    // The signer's place is on the first page of the first document.
    play.done(&replacement(0, 1));
    play.envelope.fields[0].placement.page = 2;
    let Why::Invalid(wrong) = play.refused(&replacement(0, 1)) else { panic!("not told where") };
    assert!(wrong.iter().all(|(place, _)| *place == Place::Page(place_of(0))), "{wrong:?}");
    play.done(&replacement(0, 2));
    play.done(&replacement(1, 1));
    play.done(&Command::Send);
    assert_eq!(play.refused(&replacement(0, 2)), Why::State);
}

/// S3.45: a change takes what it names and leaves the rest; the history says what.
#[test]
fn s3_45_a_change_takes_what_it_names() {
    let mut play = Play::new(draft(&[(Signer, 1)]));
    let before = play.envelope.terms.clone();
    let changes = Changes { subject: Some("Another".into()), delegations_max: Some(2), ..Changes::default() };
    play.done(&Command::Update(Edit::Terms(Box::new(changes))));
    let after = &play.envelope.terms;
    assert_eq!((after.subject.as_str(), after.delegations_max), ("Another", 2));
    assert_eq!((&after.message, &after.metadata, after.decline), (&before.message, &before.metadata, before.decline));
    assert_eq!(play.envelope.expires_at, deadline());
    let record = String::from_utf8(play.history[0].record.clone()).unwrap();
    assert!(record.contains(r#""changed":["subject","delegations_max"]"#), "{record}");
    let later = deadline() + TimeDelta::days(1);
    let changes = Changes { expires_at: Some(later), ..Changes::default() };
    play.done(&Command::Update(Edit::Terms(Box::new(changes))));
    assert_eq!(play.envelope.expires_at, later);
}

/// S3.79: what was made of each document is kept with it.
#[test]
fn s3_79_artefacts_are_kept_with_their_documents() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.documents = vec![document(0), document(1)];
    let mut play = Play::sent(envelope);
    play.signs(rcp(0));
    assert_eq!(play.stored(), [EventType::EnvelopeCompleted]);
    for document in &play.envelope.documents {
        let [artifact] = document.artifacts.as_slice() else { panic!("{document:?}") };
        assert_eq!((artifact.version, artifact.created_at), (Version::Signed, play.now));
    }
    play.again(&store(&play.envelope, Version::Signed));
}

/// T-4: who comes first after the deadline is told of the envelope as it is then; the sweeper has done its work.
#[test]
fn t4_the_latecomer_is_told_the_end() {
    let play = Play::sent(draft(&[(Signer, 1)]));
    let void = Command::Void { cause: Cause::Sender, reason: None };
    let Verdict::Refused(refusal) = decide(&play.envelope, &void, None, deadline()).verdict else { panic!("accepted") };
    assert_eq!((refusal.current, refusal.cause), (Status::Expired, Some(Cause::Deadline)));
    assert_eq!((refusal.revision, refusal.allowed), (play.envelope.revision + 1, Vec::new()));
    assert_eq!(decide(&play.envelope, &Command::Expire, None, deadline()).verdict, Verdict::Done);
    let early = deadline() - TimeDelta::microseconds(1);
    assert_eq!(decide(&play.envelope, &Command::Expire, None, early).verdict, Verdict::AlreadyDone);
    assert_eq!(decide(&play.envelope, &Command::Replace { by: env(5), lost: None }, None, start()).events, []);
}

/// S2.56: names in errors are those of the contract, each once.
#[test]
fn s2_56_names_tell_things_apart() {
    let causes = ["SIGNATURE_REFUSED", "APPROVAL_REFUSED", "SENDER", "OPERATOR", "INGEST_FAILED", "DEADLINE"];
    assert_eq!(Cause::ALL.map(Cause::name), causes);
    let names: BTreeSet<_> = Transition::ALL.iter().map(|transition| transition.name()).collect();
    assert_eq!(names.len(), Transition::ALL.len());
    let statuses = ["DRAFT", "PENDING", "SENT", "PARTIALLY_SIGNED", "COMPLETED", "DECLINED", "VOIDED", "EXPIRED"];
    assert_eq!(Status::ALL.map(Status::name), statuses);
    let unlisted: Vec<_> = Transition::ALL.iter().filter(|transition| transition.is_unlisted()).collect();
    use Transition::{Bounce, Complete, Expire, Hold, Ingest, Prompt, Purge, Release, Replace, Retain, Warn};
    let by_itself = [&Expire, &Complete, &Replace, &Release, &Warn, &Ingest, &Bounce, &Prompt];
    assert_eq!(unlisted, [&by_itself[..], &[&Purge, &Hold, &Retain]].concat());
}
