//! From where a command came, as far as trusted peers tell it.

use std::net::IpAddr;

use ipnet::IpNet;
use tonic::Request;
use unicode_normalization::UnicodeNormalization as _;

use super::auth::Portal;
use crate::domain::limits::USER_AGENT_CHARS_MAX;
use crate::domain::particulars::Source;
use crate::domain::personal::Personal;

/// Addresses, nearest to the person first; each proxy adds its own peer at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// The person's program; `user-agent` names the peer's own.
const USER_AGENT: &str = "x-forwarded-user-agent";

/// What a trusted peer or a portal says of the person for whom it calls. Nothing from anybody else.
pub(super) fn source<T>(request: &Request<T>, trusted: &[IpNet]) -> Source {
    let known = |address: &IpAddr| trusted.iter().any(|network| network.contains(&address.to_canonical()));
    let is_portal = request.extensions().get::<Portal>().is_some();
    if !is_portal && !request.remote_addr().is_some_and(|peer| known(&peer.ip())) {
        return Source::default();
    }
    let header = |name| {
        // Several lines of one name are one list (RFC 9110 §5.3): whoever stood nearest wrote the last.
        let lines = request.metadata().get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
        lines.collect::<Vec<_>>().join(",")
    };
    let forwarded = header(FORWARDED_FOR);
    let hops = forwarded.rsplit(',').map(|hop| hop.trim().parse::<IpAddr>().ok());
    // The last that is none of ours is who called the first of ours; what stands before it, anybody can write.
    let client_ip = hops.map_while(|hop| hop).find(|hop| !known(hop)).map(|hop| hop.to_canonical());
    let agent: String = header(USER_AGENT).nfc().filter(|c| !c.is_control()).collect();
    let agent: String = agent.trim().chars().take(USER_AGENT_CHARS_MAX).collect();
    Source { client_ip, user_agent: (!agent.is_empty()).then(|| Personal::new(agent)) }
}
