//! Page tokens: opaque to callers, bound to the account, the mode and the filters by a MAC.

use countersign_chassis::keys::Ring;
use countersign_chassis::token;

use crate::id::AccountId;

/// Longest token that is looked at.
const TOKEN_CHARS_MAX: usize = 256;

/// What a token is good for.
pub(super) struct Purpose<'a> {
    pub call: &'a str,
    pub scope: (AccountId, bool),
    /// What else must be the same on the next page.
    pub filter: &'a [u8],
}

/// A token for `content`.
pub(super) fn seal(ring: &Ring, purpose: &Purpose<'_>, content: &[u8]) -> String {
    let Purpose { call, scope: (account, livemode), filter } = purpose;
    token::seal(ring, &[call.as_bytes(), account.uuid().as_bytes(), &[u8::from(*livemode)], filter], content)
}

/// The content of a token, or `None` if we did not make it for that purpose.
pub(super) fn open(ring: &Ring, purpose: &Purpose<'_>, token: &str) -> Option<Vec<u8>> {
    let Purpose { call, scope: (account, livemode), filter } = purpose;
    let (account, mode) = (account.uuid(), [u8::from(*livemode)]);
    token::open(ring, &[call.as_bytes(), account.as_bytes(), &mode, filter], token, TOKEN_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use countersign_chassis::keys::Key;

    use super::*;

    #[test]
    fn a_token_is_bound_to_call_account_mode_and_filters() {
        let ring = Ring::from(Key::master(&"07".repeat(32).into()).unwrap());
        let scope = (AccountId::new(), true);
        let purpose = Purpose { call: "list", scope, filter: b"a" };
        let token = seal(&ring, &purpose, b"content");
        assert_eq!(open(&ring, &purpose, &token).as_deref(), Some(b"content".as_slice()));
        for other in [
            Purpose { call: "lists", scope, filter: b"a" },
            Purpose { call: "list", scope: (AccountId::new(), true), filter: b"a" },
            Purpose { call: "list", scope: (scope.0, false), filter: b"a" },
            Purpose { call: "list", scope, filter: b"b" },
        ] {
            assert_eq!(open(&ring, &other, &token), None);
        }
        for text in ["", "a", "!!!!", &token[1..], &"A".repeat(600)] {
            assert_eq!(open(&ring, &purpose, text), None);
        }
    }
}
