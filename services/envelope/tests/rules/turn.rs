//! Whose turn it is, against a reference that is plainly right.

use countersign_envelope::domain::envelope::Envelope;
use countersign_envelope::domain::id::RecipientId;
use countersign_envelope::domain::recipient::{Channel, Recipient, RecipientState, Role};
use countersign_envelope::domain::routing::{not_needed, to_release, whose_turn};
use countersign_envelope::domain::terms::Quorum;

use crate::shape::{draft, start};

/// Where a recipient stands, as far as it matters for the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Waits,
    Released,
    Acted,
    Refused,
}

/// Role, group and standing of one recipient.
type Kind = (Role, u16, Stands);

/// Whose turn it is, who is to be told, and who owes nothing any more.
type Answer = [Vec<RecipientId>; 3];

fn state(stands: Stands) -> RecipientState {
    let at = start();
    match stands {
        Stands::Waits => RecipientState::Waiting,
        Stands::Released => RecipientState::Released { at },
        Stands::Acted => RecipientState::Acted { released_at: at, at, effective: true },
        Stands::Refused => {
            let (released_at, channel) = (Some(at), Channel::SigningToken);
            RecipientState::Declined { released_at, at, channel, reason: None, note: None }
        }
    }
}

fn ids(envelope: &Envelope, which: impl Fn(&Recipient) -> bool) -> Vec<RecipientId> {
    envelope.recipients.iter().filter(|recipient| which(recipient)).map(|recipient| recipient.id).collect()
}

/// The rule in plain words: go through the groups from the first on, until one has not had enough acts.
fn reference(envelope: &Envelope) -> Answer {
    let gates = |recipient: &Recipient| matches!(recipient.role, Role::Signer | Role::Approver);
    let waits = |recipient: &Recipient| recipient.state == RecipientState::Waiting;
    let open = |recipient: &Recipient| waits(recipient) || matches!(recipient.state, RecipientState::Released { .. });
    let acted = |recipient: &Recipient| matches!(recipient.state, RecipientState::Acted { .. });
    let assisted = |assistant: &Recipient| {
        envelope.recipients.iter().find(|signer| Some(signer.id) == assistant.assists && assistant.assists.is_some())
    };
    let mut enough = Vec::new();
    let mut turn = None;
    for group in 1..=3 {
        let members = ids(envelope, |other| gates(other) && other.group == group).len();
        let done = ids(envelope, |other| gates(other) && other.group == group && acted(other)).len();
        let quorum = envelope.terms.quorums.iter().find(|quorum| quorum.group == group);
        let needed = quorum.map_or(members, |quorum| usize::from(quorum.needed));
        if done >= needed {
            enough.push(group);
        } else if turn.is_none() {
            turn = Some(group);
        }
    }
    let surplus = |recipient: &Recipient| gates(recipient) && open(recipient) && enough.contains(&recipient.group);
    let refused = |recipient: &Recipient| matches!(recipient.state, RecipientState::Declined { .. });
    let idle = |recipient: &Recipient| {
        open(recipient) && assisted(recipient).is_some_and(|signer| surplus(signer) || refused(signer))
    };
    let nothing = ids(envelope, |other| surplus(other) || idle(other));
    let Some(turn) = turn else { return [Vec::new(), Vec::new(), nothing] };
    let told = |other: &Recipient| match other.role {
        Role::Signer | Role::Approver => other.group == turn,
        Role::Viewer => other.group <= turn,
        Role::Cc => other.copy_on_send,
        Role::Assistant => assisted(other).is_some_and(|signer| open(signer) && signer.group == turn),
    };
    [
        ids(envelope, |other| gates(other) && other.group == turn && open(other)),
        ids(envelope, |other| waits(other) && told(other)),
        nothing,
    ]
}

/// Compares for these recipients, without a quorum and with each that one group may have. Returns the comparisons.
fn compare(kinds: &[Kind]) -> u32 {
    let people: Vec<_> = kinds.iter().map(|(role, group, _)| (*role, *group)).collect();
    let mut envelope = draft(&people);
    envelope.fields.clear();
    for (recipient, (role, _, stands)) in envelope.recipients.iter_mut().zip(kinds) {
        recipient.state = state(*stands);
        recipient.copy_on_send = *role == Role::Cc;
    }
    let mut count = 0;
    let mut same = |envelope: &Envelope| {
        count += 1;
        let answer = [whose_turn(envelope), to_release(envelope), not_needed(envelope)];
        assert_eq!(answer, reference(envelope), "{kinds:?} {:?}", envelope.terms.quorums);
    };
    same(&envelope);
    for group in 1..=3 {
        let members = kinds.iter().filter(|(role, of, _)| role.gates() && *of == group).count();
        for needed in 1..=u16::try_from(members).unwrap() {
            envelope.terms.quorums = vec![Quorum { group, needed }];
            same(&envelope);
        }
        envelope.terms.quorums.clear();
    }
    count
}

/// All recipients of these roles and standings in three groups.
fn kinds(roles: &[Role], standings: &[Stands]) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for role in roles {
        for group in 1..=3 {
            let may = |stands: &&Stands| role.gates() || matches!(stands, Stands::Waits | Stands::Released);
            kinds.extend(standings.iter().filter(may).map(|stands| (*role, group, *stands)));
        }
    }
    kinds
}

/// Calls `visit` for all choices of that many, the order aside, but in an order that differs from one to the next: the
/// rules do not look at the order, the answers keep it.
fn choices(of: &[Kind], count: usize, visit: &mut impl FnMut(&[Kind])) {
    fn choose(of: &[Kind], count: usize, chosen: &mut Vec<Kind>, visit: &mut impl FnMut(&[Kind])) {
        if chosen.len() == count {
            return visit(chosen);
        }
        for (index, kind) in of.iter().enumerate() {
            chosen.push(*kind);
            choose(&of[index..], count, chosen, visit);
            chosen.pop();
        }
    }
    let mut turn = 0;
    choose(of, count, &mut Vec::new(), &mut |chosen| {
        turn += 1;
        let mut turned = chosen.to_vec();
        turned.rotate_left(turn % count);
        visit(&turned);
    });
}

/// D6: for every shape of up to five recipients in groups, whoever has acted or refused, and each quorum of one group.
///
/// Thinned out: of shapes that differ in the order of their recipients only one is tried, and among five recipients
/// nobody is released already, which only takes them off the list of those to release.
#[test]
fn d6_whose_turn_equals_the_naive_reference() {
    let roles = [Role::Signer, Role::Approver, Role::Viewer];
    let all = kinds(&roles, &[Stands::Waits, Stands::Released, Stands::Acted, Stands::Refused]);
    let mut count = 0;
    for people in 1..=4 {
        choices(&all, people, &mut |kinds| count += compare(kinds));
    }
    let fewer = kinds(&roles, &[Stands::Waits, Stands::Acted, Stands::Refused]);
    choices(&fewer, 5, &mut |kinds| count += compare(kinds));
    assert!(count > 300_000, "{count}");
}

/// The same for all five roles and up to three recipients; an assistant is that of the first signer.
#[test]
fn d6_assistants_and_copies_follow_the_turn() {
    let all = kinds(&Role::ALL, &[Stands::Waits, Stands::Released, Stands::Acted, Stands::Refused]);
    for people in 1..=3 {
        choices(&all, people, &mut |kinds| {
            compare(kinds);
        });
    }
}
