//! What the history keeps of each event besides the state, and what hides itself.

use chrono::TimeDelta;
use countersign_envelope::domain::command::{Assign, Command};
use countersign_envelope::domain::envelope::{Cause, Version};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::particulars::Particulars;
use countersign_envelope::domain::recipient::Role::Signer;
use countersign_envelope::domain::recipient::{Channel, Credential};
use countersign_envelope::domain::record::{Evidence, Record};
use countersign_envelope::domain::replace::copy;

use crate::play::{Play, sender};
use crate::record::story;
use crate::shape::{Count, assign, decline, document, draft, env, person, rcp, read, store, text, unread};

/// The evidence of the last event of that kind, but for the commitment to what is personal.
fn evidence(play: &Play, kind: EventType) -> Evidence {
    let event = play.history.iter().rfind(|event| event.kind == kind).unwrap();
    let record: Record = serde_json::from_slice(&event.record).unwrap();
    Evidence { particulars: None, ..record.evidence.unwrap_or_default() }
}

#[test]
fn a_refusal_says_through_which_door() {
    for (channel, number) in [(Channel::SigningToken, 1), (Channel::OnBehalf, 2), (Channel::User, 3)] {
        let mut play = Play::sent(draft(&[(Signer, 1)]));
        play.done(&decline(rcp(0), channel, None));
        let expected = Evidence { channel: Some(number), ..Evidence::default() };
        assert_eq!(evidence(&play, EventType::RecipientDeclined), expected);
    }
}

#[test]
fn a_reading_says_which_document() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.documents.push(unread(1));
    let mut play = Play::sent(envelope);
    play.done(&read(1, true));
    let expected = Evidence { document: Some(document(1).id), ..Evidence::default() };
    assert_eq!(evidence(&play, EventType::EnvelopeDocumentReady), expected);
}

#[test]
fn a_replacement_is_named() {
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    play.declines(rcp(0));
    play.done(&Command::Replace { by: env(5), lost: None });
    let expected = Evidence { replaced_by: Some(env(5)), ..Evidence::default() };
    assert_eq!(evidence(&play, EventType::EnvelopeReplaced), expected);
}

#[test]
fn a_new_link_is_told_of() {
    let mut envelope = draft(&[(Signer, 1)]);
    envelope.terms.delegations_max = 1;
    let mut play = Play::sent(envelope);
    let rotated = |rotated| Evidence { rotated, ..Evidence::default() };
    for rotate in [false, true] {
        play.wait(TimeDelta::hours(1));
        play.done(&Command::Resend { recipients: Vec::new(), rotate });
        assert_eq!(evidence(&play, EventType::RecipientResent), rotated(rotate));
    }
    play.done(&Command::Delegate(assign(rcp(0), "deputy")));
    assert_eq!(evidence(&play, EventType::RecipientDelegated), rotated(true));
    let other = person("Other", "other@example.org");
    play.done(&Command::Reassign(Assign { recipient: rcp(0), person: other, reason: None }));
    assert_eq!(evidence(&play, EventType::RecipientReassigned), rotated(true));
}

#[test]
fn the_reason_of_a_withdrawal_is_kept() {
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    play.done(&Command::Void { cause: Cause::Sender, reason: Some(text("Sent by mistake")) });
    let (_, bytes) = play
        .history
        .iter()
        .find_map(|event| event.kept.as_ref().filter(|_| event.kind == EventType::EnvelopeVoided))
        .unwrap();
    let kept: Particulars = serde_json::from_slice(bytes).unwrap();
    assert_eq!(kept.reason.as_deref(), Some("Sent by mistake"));
}

/// What concerns one recipient names them, and what concerns all names nobody.
#[test]
fn events_name_their_recipient() {
    let play = story();
    for event in &play.history {
        let kind = serde_json::to_string(&event.kind).unwrap();
        assert_eq!(event.recipient.is_some(), kind.starts_with("\"recipient."), "{kind}");
    }
    let of = |kind| play.history.iter().find(|event| event.kind == kind).unwrap().recipient;
    assert_eq!(of(EventType::RecipientViewed), Some(rcp(4)));
    assert_eq!(of(EventType::RecipientDeclined), Some(rcp(3)));
}

#[test]
fn what_hides_says_that_it_hides() {
    let shown = format!("{:?} {:?} {:?}", text("Ada"), sender().source, Particulars::default());
    assert_eq!(shown, "Personal(…) Source(…) Particulars(…)");
}

/// What was seen, made and handed out stays with the ended envelope.
#[test]
fn a_replacement_has_neither_views_nor_artefacts_nor_links() {
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    play.done(&Command::View { recipient: rcp(0) });
    play.declines(rcp(0));
    play.done(&store(&play.envelope, Version::Declined));
    let draft = copy(&play.envelope, env(5), play.now, &mut Count(2_000_000));
    assert_eq!(draft.documents[0].artifacts, []);
    let [new] = draft.recipients.as_slice() else { panic!("{draft:?}") };
    assert_eq!(new.viewed_at, None);
    assert_eq!(new.credential, Credential { generation: 0, salt: [0; 16], hash: [0; 32] });
}
