//! The written history: chained, without personal data.

use chrono::TimeDelta;
use countersign_envelope::domain::command::{Act, Assign, Command, Decline};
use countersign_envelope::domain::event::Event;
use countersign_envelope::domain::field::Value;
use countersign_envelope::domain::particulars::{Entered, Particulars, commit};
use countersign_envelope::domain::recipient::Channel;
use countersign_envelope::domain::recipient::Role::{Approver, Assistant, Cc, Signer, Viewer};
use countersign_envelope::domain::record::{CONSENT_TEXT, Record, RecordedActor, link};
use countersign_envelope::domain::status::Status;
use sha2::{Digest as _, Sha256};

use crate::play::Play;
use crate::shape::{act, assign, draft, env, person, rcp, start, text, text_of};

/// All that is personal in the story.
const PERSONAL: [&str; 14] = [
    "Person",
    "person0",
    "example.com",
    "example.org",
    "deputy",
    "Hedwig",
    "acceptable",
    "phone",
    "on leave",
    "their words",
    "my words",
    "203.0.113.9",
    "Netscape",
    "198.51.100.7",
];

/// A story from creation to a refusal, in which everything personal happens.
pub fn story() -> Play {
    let mut envelope = draft(&[(Signer, 1), (Assistant, 1), (Approver, 1), (Signer, 2), (Viewer, 1), (Cc, 1)]);
    (envelope.revision, envelope.sequence) = (0, 0);
    envelope.terms.delegations_max = 1;
    let mut play = Play::new(envelope);
    play.events(&[Event::Created]);
    play.done(&Command::Send);
    let value = |words: &str| vec![(text_of(0), Value::Text(text(words)))];
    play.done(&Command::Fill { recipient: rcp(1), values: value("their words") });
    let reassigned = person("Hedwig", "hedwig@198.51.100.7");
    let reason = Some(text("on leave"));
    play.done(&Command::Reassign(Assign { recipient: rcp(0), person: reassigned, reason }));
    play.done(&Command::Delegate(assign(rcp(2), "deputy")));
    play.wait(TimeDelta::hours(1));
    play.done(&Command::Resend { recipients: Vec::new(), rotate: true });
    play.done(&Command::View { recipient: rcp(4) });
    let seen = act(&play.envelope, rcp(0));
    play.done(&Command::Sign(Act { values: value("my words"), ..seen }));
    play.approves(rcp(2));
    play.done(&Command::Decline(Decline {
        recipient: rcp(3),
        channel: Channel::OnBehalf,
        reason: Some(text("Terms not acceptable")),
        note: Some(text("Told us on the phone")),
        correction: env(3),
    }));
    play
}

fn records(play: &Play) -> Vec<Record> {
    play.history.iter().map(|event| serde_json::from_slice(&event.record).unwrap()).collect()
}

#[test]
fn d4_records_are_chained_without_a_gap() {
    let Play { envelope, history, .. } = story();
    let mut before = [0; 32];
    for (event, sequence) in history.iter().zip(1..) {
        assert_eq!((event.sequence, event.prev_hash), (sequence, before));
        assert_eq!(event.hash, link(sequence, &before, &event.record));
        before = event.hash;
    }
    assert_eq!((envelope.chain, envelope.sequence), (before, history.len() as u64));
    // A flipped bit anywhere breaks its link.
    for event in &history {
        for index in 0..event.record.len() {
            let mut flipped = event.record.clone();
            flipped[index] ^= 1;
            assert_ne!(link(event.sequence, &event.prev_hash, &flipped), event.hash);
        }
    }
}

/// D4: a record says what its entry says, and the envelope as it was right after the event.
#[test]
fn d4_records_say_what_happened() {
    let play = story();
    let records = records(&play);
    for (record, event) in records.iter().zip(&play.history) {
        assert_eq!((record.id, record.kind, record.sequence), (event.id, event.kind, event.sequence));
        assert_eq!((record.recipient, record.occurred_at), (event.recipient, event.occurred_at));
        assert_eq!((record.envelope, record.account), (play.envelope.id, play.envelope.account));
        assert!(matches!(&record.actor, RecordedActor::Sender(key) if key.starts_with("key_")));
    }
    let last = records.last().unwrap();
    assert_eq!(
        (last.state.status, last.state.cause, last.revision),
        (Status::Declined, Some(1), play.envelope.revision)
    );
    let statuses: Vec<_> = last.state.recipients.iter().map(|other| (other.status, other.not_effective)).collect();
    assert_eq!(statuses, [(3, true), (5, false), (8, true), (4, false), (5, false), (5, false)]);
    let first = &records[0].state;
    assert_eq!((first.status, first.recipients[0].status), (Status::Draft, 1), "as it was then");
    let ids: std::collections::BTreeSet<_> = records.iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), records.len());
}

/// T-70: a signature's evidence is what was seen and agreed to.
#[test]
fn t70_the_evidence_of_a_signature() {
    let play = story();
    let signed =
        records(&play).into_iter().find(|record| record.evidence.as_ref().is_some_and(|it| !it.seen.is_empty()));
    let evidence = signed.unwrap().evidence.unwrap();
    assert_eq!(evidence.seen, [(play.envelope.documents[0].id, "07".repeat(32))]);
    assert_eq!(evidence.seen_revision, Some(7));
    assert_eq!(evidence.consent_sha256, Some(hex::encode(Sha256::digest(CONSENT_TEXT))));
}

/// T-57, T-58: what is personal is committed to, not written, and does not show itself.
#[test]
fn t57_records_hold_no_personal_data() {
    let play = story();
    let mut kept = String::new();
    for event in &play.history {
        let record = String::from_utf8(event.record.clone()).unwrap();
        let shown = format!("{event:?}").replace(&format!("{:?}", event.kept), "");
        for personal in PERSONAL {
            assert!(!record.contains(personal), "{personal} in {record}");
            assert!(!shown.contains(personal), "{personal} in {shown}");
        }
        kept.extend(event.kept.iter().map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap()));
    }
    for personal in PERSONAL.iter().filter(|personal| **personal != "person0" && **personal != "Person") {
        assert!(kept.contains(personal), "{personal} is kept nowhere, so that this test shows nothing");
    }
    let shown = format!("{:?}", play.envelope);
    for personal in PERSONAL.iter().filter(|personal| **personal != "Person") {
        assert!(!shown.contains(personal), "{personal} in {shown}");
    }
}

/// T-57: what is kept is what the record committed to, each with a salt of its own.
#[test]
fn t57_particulars_are_committed_to() {
    let play = story();
    let mut salts = std::collections::BTreeSet::new();
    for (record, event) in records(&play).iter().zip(&play.history) {
        let promised = record.evidence.as_ref().and_then(|evidence| evidence.particulars.clone());
        let Some((salt, bytes)) = &event.kept else {
            assert_eq!(promised, None);
            continue;
        };
        assert_eq!(promised, Some(commit(salt, bytes)));
        assert!(salts.insert(*salt), "a salt is used twice");
        let particulars: Particulars = serde_json::from_slice(bytes).unwrap();
        assert_eq!(particulars.bytes(), *bytes, "read back as written");
        assert_eq!(particulars.client_ip, "203.0.113.9".parse().ok());
    }
    let all: Vec<_> = play.history.iter().filter_map(|event| event.kept.as_ref()).collect();
    let all: Vec<Particulars> = all.iter().map(|(_, bytes)| serde_json::from_slice(bytes).unwrap()).collect();
    let refusal = all.iter().find(|particulars| particulars.evidence_note.is_some()).unwrap();
    assert_eq!(refusal.reason.as_deref(), Some("Terms not acceptable"));
    let mut values = all.iter().map(|particulars| &particulars.values).filter(|values| !values.is_empty());
    let words = |words: &str| Some(Entered::Text(words.into()));
    assert!(*values.next().unwrap() == [(text_of(0), words("their words"))]);
    assert!(values.next().unwrap().contains(&(text_of(0), words("my words"))));
}

/// T-59: from where a deed came is kept with the deed, not with what followed from it for others.
#[test]
fn t59_only_the_deed_says_from_where() {
    let mut play = Play::sent(draft(&[(Signer, 1), (Signer, 1), (Signer, 2)]));
    play.history.clear();
    play.declines(rcp(0));
    let from: Vec<_> = play.history.iter().map(|event| event.kept.is_some()).collect();
    assert_eq!(from, [true, false, false, false]);
    let recipient = play.history[0].kept.as_ref().map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap());
    assert_eq!(recipient.unwrap(), r#"{"client_ip":"203.0.113.9","user_agent":"Netscape/4.0"}"#);
}

/// T-73: a clock that is set back does not reorder the history.
#[test]
fn t73_an_event_never_precedes_its_predecessor() {
    let mut play = Play::new(draft(&[(Signer, 1)]));
    play.now = start() - TimeDelta::hours(1);
    play.done(&Command::Send);
    assert!(play.history.iter().all(|event| event.occurred_at == start()));
    assert_eq!(play.envelope.facts.sent_at, Some(start()));
    let play = story();
    assert!(play.history.is_sorted_by_key(|event| event.occurred_at));
}
