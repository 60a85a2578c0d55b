//! Page tokens and resume tokens: opaque to callers, bound to the account and mode by a MAC.

use countersign_chassis::keys::Ring;
use countersign_chassis::token;
use uuid::Uuid;

use crate::store::{PARTS, Parts, Positions, Scope};

/// Longest token that is looked at.
const TOKEN_CHARS_MAX: usize = 512;
/// The form of resume tokens.
const FORM: u8 = 1;

/// A token for `content`, valid for that purpose and scope only. `None` stands for all accounts.
pub(super) fn seal(ring: &Ring, purpose: &str, scope: Option<Scope>, content: &[u8]) -> String {
    let (account, mode) = bound(scope);
    token::seal(ring, &[purpose.as_bytes(), &account, &mode], content)
}

/// The content of a token, or `None` if we did not make it for that purpose and scope.
pub(super) fn open(ring: &Ring, purpose: &str, scope: Option<Scope>, token: &str) -> Option<Vec<u8>> {
    let (account, mode) = bound(scope);
    token::open(ring, &[purpose.as_bytes(), &account, &mode], token, TOKEN_CHARS_MAX)
}

fn bound(scope: Option<Scope>) -> ([u8; 16], [u8; 1]) {
    let account = scope.map(|scope| scope.account.uuid().into_bytes()).unwrap_or_default();
    let mode = match scope.and_then(|scope| scope.livemode) {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    };
    (account, [mode])
}

/// The content of a resume token: where a reader of those partitions stands.
pub(super) fn write_positions(incarnation: Uuid, positions: &Positions, parts: Parts) -> Vec<u8> {
    let mut bytes = vec![FORM];
    bytes.extend(incarnation.into_bytes());
    for position in parts.iter().filter_map(|part| positions.get(part)) {
        prost::encoding::encode_varint(position.unsigned_abs(), &mut bytes);
    }
    bytes
}

/// Reads the content of a resume token of those partitions.
pub(super) fn read_positions(content: &[u8], parts: Parts) -> Option<(Uuid, Positions)> {
    let (form, rest) = content.split_first()?;
    let (incarnation, mut rest) = rest.split_first_chunk::<16>()?;
    if *form != FORM {
        return None;
    }
    let mut positions = [0; PARTS as usize];
    for part in parts.iter() {
        *positions.get_mut(part)? = i64::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
    }
    rest.is_empty().then(|| (Uuid::from_bytes(*incarnation), positions))
}

#[cfg(test)]
mod tests {
    use countersign_chassis::keys::Key;

    use super::*;
    use crate::domain::id::AccountId;

    #[test]
    fn a_token_is_bound_to_purpose_account_and_mode() {
        let ring = Ring::from(Key::master(&"07".repeat(32).into()).unwrap());
        let scope = Scope { account: AccountId::new(), livemode: Some(true) };
        let content = write_positions(Uuid::max(), &[i64::MAX; PARTS as usize], Parts::ALL);
        let token = seal(&ring, "watch", Some(scope), &content);
        assert!(token.len() <= TOKEN_CHARS_MAX, "{}", token.len());
        assert_eq!(open(&ring, "watch", Some(scope), &token), Some(content));
        let other = Scope { account: AccountId::new(), ..scope };
        for (purpose, scope) in [
            ("page", Some(scope)),
            ("watch", None),
            ("watch", Some(other)),
            ("watch", Some(Scope { livemode: Some(false), ..scope })),
            ("watch", Some(Scope { livemode: None, ..scope })),
        ] {
            assert_eq!(open(&ring, purpose, scope, &token), None);
        }
        for text in ["", "a", "!!!!", &token[1..], &"A".repeat(600)] {
            assert_eq!(open(&ring, "watch", Some(scope), text), None);
        }
    }

    #[test]
    fn positions_survive_the_token() {
        let mut positions: Positions = [0; PARTS as usize];
        positions[3] = 7;
        positions[15] = i64::MAX;
        let content = write_positions(Uuid::max(), &positions, Parts::ALL);
        assert_eq!(read_positions(&content, Parts::ALL), Some((Uuid::max(), positions)));
        assert_eq!(read_positions(&content[..content.len() - 1], Parts::ALL), None);
        assert_eq!(read_positions(&[], Parts::ALL), None);
        let some = Parts::none().with(3).unwrap();
        let content = write_positions(Uuid::max(), &positions, some);
        let mut of_some: Positions = [0; PARTS as usize];
        of_some[3] = 7;
        assert_eq!(read_positions(&content, some), Some((Uuid::max(), of_some)));
        assert_eq!(read_positions(&content, Parts::ALL), None);
    }
}
