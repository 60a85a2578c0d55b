//! Whose turn it is.

use super::envelope::Recipient;
use super::id::RecipientId;

/// Those whose act is due: everybody who still owes one in the lowest group in which anybody does.
#[must_use]
pub fn whose_turn(recipients: &[Recipient]) -> Vec<RecipientId> {
    let owing = || recipients.iter().filter(|recipient| recipient.owes());
    let Some(group) = owing().map(|recipient| recipient.group).min() else { return Vec::new() };
    owing().filter(|recipient| recipient.group == group).map(|recipient| recipient.id).collect()
}
