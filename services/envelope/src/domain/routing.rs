//! Whose turn it is.
//!
//! Signers and approvers act group by group, lower numbers first, side by side inside a group. A group is done when as many
//! of it have acted as it needs: all, unless the sender set a quorum.

use super::envelope::Envelope;
use super::id::RecipientId;
use super::recipient::{Recipient, RecipientState, Role};

fn members(envelope: &Envelope, group: u16) -> impl Iterator<Item = &Recipient> {
    envelope.recipients.iter().filter(move |recipient| recipient.role.gates() && recipient.group == group)
}

/// How many of a group have to act.
#[must_use]
pub fn needed(envelope: &Envelope, group: u16) -> usize {
    let quorum = envelope.terms.quorums.iter().find(|quorum| quorum.group == group);
    quorum.map_or_else(|| members(envelope, group).count(), |quorum| quorum.needed.into())
}

/// True if enough of a group have acted.
#[must_use]
pub fn is_done(envelope: &Envelope, group: u16) -> bool {
    members(envelope, group).filter(|member| member.has_acted()).count() >= needed(envelope, group)
}

/// True if enough of a group have acted or still can.
#[must_use]
pub fn is_reachable(envelope: &Envelope, group: u16) -> bool {
    let able = |member: &&Recipient| member.has_acted() || member.is_open();
    members(envelope, group).filter(able).count() >= needed(envelope, group)
}

/// The group whose turn it is; none when all are done.
#[must_use]
pub fn current(envelope: &Envelope) -> Option<u16> {
    let groups = envelope.recipients.iter().filter(|recipient| recipient.role.gates()).map(|recipient| recipient.group);
    groups.filter(|group| !is_done(envelope, *group)).min()
}

/// Those whose act is due: everybody who still owes one in the group whose turn it is.
#[must_use]
pub fn whose_turn(envelope: &Envelope) -> Vec<RecipientId> {
    let Some(group) = current(envelope) else { return Vec::new() };
    members(envelope, group).filter(|member| member.is_open()).map(|member| member.id).collect()
}

/// Those whose time has come and who do not know it yet: besides those whose turn it is, their assistants, and readers of
/// that group or an earlier one. Who only gets a copy is told of the sending if the sender asked for it.
#[must_use]
pub fn to_release(envelope: &Envelope) -> Vec<RecipientId> {
    let Some(group) = current(envelope) else { return Vec::new() };
    let due = |recipient: &&Recipient| {
        recipient.state == RecipientState::Waiting
            && match recipient.role {
                Role::Signer | Role::Approver => recipient.group == group,
                Role::Viewer => recipient.group <= group,
                Role::Cc => recipient.copy_on_send,
                Role::Assistant => {
                    assisted(envelope, recipient).is_some_and(|signer| signer.is_open() && signer.group == group)
                }
            }
    };
    envelope.recipients.iter().filter(due).map(|recipient| recipient.id).collect()
}

/// Those who owe nothing any more though the envelope goes on: open members of a group that is done, and assistants of
/// somebody who has refused or is not needed.
#[must_use]
pub fn not_needed(envelope: &Envelope) -> Vec<RecipientId> {
    let surplus = |recipient: &Recipient| recipient.owes() && is_done(envelope, recipient.group);
    let idle = |recipient: &&Recipient| {
        surplus(recipient)
            || recipient.is_open()
                && assisted(envelope, recipient).is_some_and(|signer| {
                    surplus(signer)
                        || matches!(signer.state, RecipientState::Declined { .. } | RecipientState::NotNeeded { .. })
                })
    };
    envelope.recipients.iter().filter(idle).map(|recipient| recipient.id).collect()
}

/// True while an invitation makes sense: it is their turn, and there is something for them to do.
#[must_use]
pub fn is_asked(envelope: &Envelope, recipient: &Recipient) -> bool {
    recipient.is_released()
        && match recipient.role {
            Role::Signer | Role::Approver => true,
            Role::Viewer => recipient.viewed_at.is_none(),
            Role::Assistant => assisted(envelope, recipient).is_some_and(Recipient::is_released),
            Role::Cc => false,
        }
}

/// The signer for whom an assistant fills fields.
#[must_use]
pub fn assisted<'a>(envelope: &'a Envelope, recipient: &Recipient) -> Option<&'a Recipient> {
    envelope.recipient(recipient.assists?)
}
