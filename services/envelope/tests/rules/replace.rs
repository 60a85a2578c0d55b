//! The draft in an ended envelope's place.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use countersign_envelope::domain::address::same_address;
use countersign_envelope::domain::command::{Assign, Command};
use countersign_envelope::domain::envelope::{Cause, Envelope};
use countersign_envelope::domain::field::{FieldType, Value};
use countersign_envelope::domain::id::WatcherId;
use countersign_envelope::domain::limits::EXPIRY_DAYS_MAX;
use countersign_envelope::domain::recipient::RecipientState;
use countersign_envelope::domain::recipient::Role::{Assistant, Signer, Viewer};
use countersign_envelope::domain::replace::copy;
use countersign_envelope::domain::status::{Facts, Status};
use countersign_envelope::domain::terms::Watcher;
use uuid::Uuid;

use crate::play::Play;
use crate::shape::{
    Count, act, assign, deadline, draft, env, field, person, rcp, start, text, text_of, uuid, with_quorum,
};

/// An envelope in which much has happened, declined.
fn ended() -> Envelope {
    let people = [(Signer, 1), (Assistant, 1), (Viewer, 1), (Signer, 2)];
    let mut envelope = with_quorum(draft(&people), 1, 1);
    envelope.terms.watchers = vec![Watcher { id: WatcherId::from_uuid(uuid(50)), email: text("watcher@example.com") }];
    envelope.terms.scheduled_send_at = Some(start());
    envelope.terms.delegations_max = 1;
    let mut fixed = field(text_of(9), FieldType::Text, rcp(0));
    fixed.preset = Some(Value::Text(text("fixed")));
    (fixed.read_only, fixed.value) = (true, fixed.preset.clone());
    envelope.fields.push(fixed);
    let mut play = Play::sent(envelope);
    play.done(&Command::View { recipient: rcp(0) });
    play.done(&Command::Fill { recipient: rcp(1), values: vec![(text_of(0), Value::Text(text("words")))] });
    play.done(&Command::Delegate(assign(rcp(0), "deputy")));
    play.done(&Command::Sign(act(&play.envelope, rcp(0))));
    play.declines(rcp(3));
    play.envelope
}

fn ids(envelope: &Envelope) -> BTreeSet<Uuid> {
    let recipients = envelope.recipients.iter().map(|it| it.id.uuid());
    let documents = envelope.documents.iter().map(|it| it.id.uuid());
    let fields = envelope.fields.iter().map(|it| it.id.uuid());
    let watchers = envelope.terms.watchers.iter().map(|it| it.id.uuid());
    recipients.chain(documents).chain(fields).chain(watchers).collect()
}

/// T-15, S2.18: the same people, documents and fields under new ids, with nothing that they did.
#[test]
fn t15_a_replacement_begins_anew() {
    let ended = ended();
    let now = start() + TimeDelta::days(10);
    let draft = copy(&ended, env(5), now, &mut Count(2_000_000));
    assert_eq!((draft.id, draft.replaces, draft.status()), (env(5), Some(ended.id), Status::Draft));
    assert_eq!((draft.revision, draft.sequence, draft.chain), (0, 0, [0; 32]));
    assert_eq!(draft.facts, Facts::created(now));
    assert_eq!((draft.end, draft.replaced_by, draft.requires_replacement), (None, None, false));
    assert_eq!(draft.terms.scheduled_send_at, None, "its time has passed");
    assert_eq!(draft.terms.quorums, ended.terms.quorums);
    assert_eq!(ids(&draft).len(), ids(&ended).len());
    assert!(ids(&draft).is_disjoint(&ids(&ended)));
    for (new, old) in draft.recipients.iter().zip(&ended.recipients) {
        assert_eq!((&new.person, new.role, new.group), (&old.person, old.role, old.group));
        assert_eq!(new.state, RecipientState::Waiting);
        assert_eq!((new.viewed_at, new.invited_at, new.delegations, new.filled_revision), (None, None, 0, 0));
    }
    assert_eq!(draft.recipients[1].assists, Some(draft.recipients[0].id));
    for (new, old) in draft.fields.iter().zip(&ended.fields) {
        assert!(draft.recipient(new.recipient).is_some() && draft.document(new.document).is_some());
        assert_eq!(new.value, old.preset);
    }
    assert_eq!(draft.fields.last().unwrap().value, Some(Value::Text(text("fixed"))));
    let mut play = Play::new(draft);
    play.now = now;
    play.done(&Command::Send);
    play.signs(play.envelope.recipients[0].id);
}

/// T-44: the deadline is as far ahead as it was, and never too far.
#[test]
fn t44_a_replacement_has_a_deadline_of_its_own() {
    let mut ended = ended();
    let now = start() + TimeDelta::days(89);
    let of = |ended: &Envelope| copy(ended, env(5), now, &mut Count(2_000_000)).expires_at - now;
    assert_eq!(of(&ended), deadline() - start());
    ended.expires_at = start() + TimeDelta::days(700);
    assert_eq!(of(&ended), TimeDelta::days(EXPIRY_DAYS_MAX));
}

/// The sender may replace what they took back, too.
#[test]
fn t15_a_voided_envelope_may_be_replaced() {
    let mut play = Play::sent(draft(&[(Signer, 1)]));
    play.done(&Command::Void { cause: Cause::Sender, reason: None });
    play.done(&Command::Replace { by: env(5), lost: None });
    assert_eq!((play.envelope.status(), play.envelope.replaced_by), (Status::Voided, Some(env(5))));
}

/// T-23: trimmed, composed, in lower case, the domain in ASCII; plus tags count.
#[test]
fn t23_when_two_addresses_are_the_same() {
    for (one, other, same) in [
        ("ada@example.com", "ada@example.com", true),
        (" Ada@Example.COM\n", "ada@example.com", true),
        ("e\u{301}va@example.com", "\u{e9}va@example.com", true),
        ("ÉVA@example.com", "éva@example.com", true),
        ("ada@bücher.example", "ada@xn--bcher-kva.example", true),
        ("ada@BÜCHER.example", "ada@bücher.example", true),
        ("ada+1@example.com", "ada@example.com", false),
        ("a.da@example.com", "ada@example.com", false),
        ("ada@example.org", "ada@example.com", false),
        ("\"a@b\"@example.com", "\"a@c\"@example.com", false),
    ] {
        assert_eq!(same_address(&text(one), &text(other)), same, "{one} {other}");
    }
}

/// T-22: two places with one address are two places.
#[test]
fn t22_one_address_twice_is_two_recipients() {
    let mut envelope = draft(&[(Signer, 1), (Signer, 1)]);
    envelope.recipients[1].person = envelope.recipients[0].person.clone();
    let mut play = Play::sent(envelope);
    play.signs(rcp(0));
    assert!(!play.envelope.recipients[1].has_acted());
    let twin = person("Twin", "person0@example.com");
    play.done(&Command::Reassign(Assign { recipient: rcp(1), person: twin, reason: None }));
    play.signs(rcp(1));
}
