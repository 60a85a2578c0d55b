//! Finds a TCP port that nobody listens on.
//! Must never promise more than that: the port may be taken before it is used, so callers try again.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below what Linux (from 32768), BSD and macOS (from 49152) give.
const STEADY: Range<u16> = 20_000..32_000;
const TRIES: usize = 100;

/// A port of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// When the system has no free port left.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A port of 127.0.0.1 that was free a moment ago and that nobody is given by chance, as it lies below those that systems give to
/// whoever asks for any: for servers that come back at their address.
///
/// # Errors
/// When none is found.
pub fn steady_port() -> io::Result<u16> {
    for _ in 0..TRIES {
        let drawn = RandomState::new().hash_one(()) % u64::from(STEADY.end - STEADY.start);
        let port = STEADY.start + u16::try_from(drawn).unwrap_or_default();
        if !is_taken(port) {
            return Ok(port);
        }
    }
    free_port()
}

/// Whether somebody holds this port of 127.0.0.1 now.
#[must_use]
pub fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_free_port_can_be_bound_and_is_then_taken() {
        let port = free_port().unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(is_taken(port));
        drop(held);
        assert!(!is_taken(port));
    }

    #[test]
    fn a_steady_port_is_free_and_given_to_nobody() {
        let port = steady_port().unwrap();
        assert!(STEADY.contains(&port) && !is_taken(port));
        assert!(!STEADY.contains(&free_port().unwrap()));
    }
}
