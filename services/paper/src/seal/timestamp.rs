//! Asks for a timestamp and checks what was answered (RFC 3161).
//!
//! It must never let a token pass that is not about what was asked, whoever sent it.

use der::asn1::{Any, OctetString, Uint};
use der::{Decode, Encode, Reader, Sequence, SliceReader};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::verify::token::{Imprint, Token, TokenFault};
use crate::verify::{Roots, Trust, chain, oid};

/// A question to a timestamping authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampRequest {
    /// What to send, as `application/timestamp-query`.
    pub der: Vec<u8>,
    imprint: [u8; 32],
    nonce: Vec<u8>,
}

#[derive(Sequence)]
struct Request {
    version: u8,
    message_imprint: Imprint,
    nonce: Uint,
    cert_req: bool,
}

/// How far the clock of an authority may be from ours.
const APART_SECONDS_MAX: u64 = 300;
/// The longest token with the certificates that it brings along: so much room there is for it.
pub(super) const TIMESTAMP_BYTES_MAX: usize = 16 * 1024;
const GRANTED: u32 = 0;
const GRANTED_WITH_MODS: u32 = 1;

impl TimestampRequest {
    pub(super) fn new(imprint: [u8; 32], nonce: u64) -> der::Result<Self> {
        let nonce = Uint::new(&nonce.to_be_bytes())?;
        let request = Request {
            version: 1,
            message_imprint: Imprint {
                hash_algorithm: AlgorithmIdentifierOwned { oid: oid::SHA256, parameters: None },
                hashed_message: OctetString::new(imprint)?,
            },
            nonce: nonce.clone(),
            cert_req: true,
        };
        Ok(Self { der: request.to_der()?, imprint, nonce: nonce.as_bytes().to_vec() })
    }

    /// The token in what the authority answered, if it answers this request: granted, about this imprint, with this
    /// nonce, of about this time, signed by a certificate for timestamps that it brings along and that leads to one of
    /// `roots`, if there are any.
    ///
    /// # Errors
    ///
    /// [`TokenFault`] says what is wrong with it.
    pub fn token(&self, response: &[u8], now_unix_s: u64, roots: Option<&Roots>) -> Result<Vec<u8>, TokenFault> {
        let bytes = granted(response)?;
        let token = check(&bytes, &self.imprint, Some(&self.nonce))?;
        if token.at_unix_s().abs_diff(now_unix_s) > APART_SECONDS_MAX {
            return Err(TokenFault::Time);
        }
        let leads = |roots| chain::judge(token.authority(), token.certificates(), roots, token.at_unix_s());
        if roots.is_some_and(|roots| leads(roots) != Trust::Trusted) {
            return Err(TokenFault::Untrusted);
        }
        Ok(bytes)
    }
}

/// The token of a response that grants one.
fn granted(response: &[u8]) -> Result<Vec<u8>, TokenFault> {
    let unreadable = |_| TokenFault::Unreadable;
    let mut reader = SliceReader::new(response).map_err(unreadable)?;
    let parts = reader.sequence(|inner| {
        let status: Any = inner.decode()?;
        let token: Option<Any> = if inner.is_finished() { None } else { Some(inner.decode()?) };
        Ok((status, token))
    });
    let (status, token) = parts.map_err(unreadable)?;
    reader.finish(()).map_err(unreadable)?;
    let code = SliceReader::new(status.value()).and_then(|mut status| u32::decode(&mut status)).map_err(unreadable)?;
    if code != GRANTED && code != GRANTED_WITH_MODS {
        return Err(TokenFault::Rejected(code));
    }
    let token = token.ok_or(TokenFault::Unreadable)?.to_der().map_err(unreadable)?;
    if token.len() > TIMESTAMP_BYTES_MAX { Err(TokenFault::TooLarge(token.len())) } else { Ok(token) }
}

/// The token if it is sound, about that imprint and, if it was asked with one, has that nonce.
pub(super) fn check(token: &[u8], imprint: &[u8], nonce: Option<&[u8]>) -> Result<Token, TokenFault> {
    let token = Token::open(token)?;
    token.check(|hash| if hash == crate::verify::cms::Hash::Sha256 { imprint.to_vec() } else { Vec::new() })?;
    if nonce.is_some() && token.nonce() != nonce {
        return Err(TokenFault::Nonce);
    }
    Ok(token)
}
