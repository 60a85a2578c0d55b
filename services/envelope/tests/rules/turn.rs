//! Whose turn it is, against a reference that is plainly right.

use countersign_envelope::domain::envelope::{RecipientState, Routing};
use countersign_envelope::domain::routing::whose_turn;

use crate::shape::{draft, start};

/// D6: for every shape of up to five recipients in groups, whoever has acted.
#[test]
fn d6_whose_turn_equals_the_naive_reference() {
    let at = start();
    for count in 1..=5_u16 {
        for groups in 0..3_u32.pow(count.into()) {
            for acted in 0..2_u32.pow(count.into()) {
                let mut envelope = draft(count, Routing::Parallel, false);
                for (index, recipient) in (0..).zip(&mut envelope.recipients) {
                    recipient.group = u16::try_from(groups / 3_u32.pow(index) % 3 + 1).unwrap();
                    if acted >> index & 1 == 1 {
                        recipient.state =
                            RecipientState::Signed { released_at: at, at, salt: [0; 16], effective: true };
                    }
                }
                let due = |group| {
                    let of_group = envelope.recipients.iter().filter(move |recipient| recipient.group == group);
                    of_group.filter(|recipient| recipient.owes()).map(|recipient| recipient.id).collect::<Vec<_>>()
                };
                let expected = (1..=3).map(due).find(|group| !group.is_empty()).unwrap_or_default();
                assert_eq!(whose_turn(&envelope.recipients), expected);
            }
        }
    }
}
