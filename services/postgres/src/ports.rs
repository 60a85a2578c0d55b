//! Finds a TCP port that nobody listens on.
//! Must never promise more than that: the port may be taken before it is used, so callers try again.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A port of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// When the system has no free port left.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
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
}
