//! Where a service may go on a caller's word: public hosts by name, over TLS, on few ports. Fails closed.
//!
//! Checked when an address is given and again at every attempt. Names are resolved here, every address that they have
//! must be public, and the connection is made to these addresses and to no other: who answers differently the next time
//! changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Longest address, in octets.
pub const URL_BYTES_MAX: usize = 2_048;
/// Ports that may be connected to, unless the operator says otherwise.
pub const PORTS: [u16; 2] = [443, 8443];
/// Addresses of one name that are looked at; more are refused.
const ADDRESSES_MAX: usize = 64;
/// What ends the names that are nobody's in public.
const PRIVATE_ENDS: [&str; 9] =
    ["localhost", "local", "internal", "intranet", "lan", "home", "corp", "localdomain", "home.arpa"];

/// Finds the addresses of names.
#[tonic::async_trait]
pub trait Lookup: Send + Sync {
    /// All addresses of a name.
    async fn lookup(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// By this machine's resolver.
struct System;

#[tonic::async_trait]
impl Lookup for System {
    async fn lookup(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// A name that may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the name has an address that is not public")]
pub struct NotPublic;

/// A name without an address.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address")]
pub struct NotFound;

/// What may be reached.
#[derive(Clone)]
pub struct Guard(Arc<Inside>);

struct Inside {
    allow_private: bool,
    ports: Vec<u16>,
    deny: Vec<IpNet>,
    lookup: Box<dyn Lookup>,
}

impl Guard {
    /// On those ports, but for those networks; everything, for development.
    #[must_use]
    pub fn new(allow_private: bool, ports: Vec<u16>, deny: Vec<IpNet>) -> Self {
        Self::with(allow_private, ports, deny, Box::new(System))
    }

    /// The same with names found otherwise.
    #[must_use]
    pub fn with(allow_private: bool, ports: Vec<u16>, deny: Vec<IpNet>, lookup: Box<dyn Lookup>) -> Self {
        Self(Arc::new(Inside { allow_private, ports, deny, lookup }))
    }

    /// The address, or what is wrong with it.
    pub fn check(&self, text: &str) -> Result<Url, &'static str> {
        if text.len() > URL_BYTES_MAX {
            return Err("must not be longer than 2048 octets");
        }
        // The parser takes these out or for something else; whoever writes them means to be read in two ways.
        if text.chars().any(|letter| letter.is_control() || letter.is_whitespace() || letter == '\\') {
            return Err("must not hold whitespace, control characters or backslashes");
        }
        let url = Url::parse(text).map_err(|_| "must be an absolute URL")?;
        match url.scheme() {
            "https" => {}
            "http" if self.0.allow_private => {}
            _ => return Err("must begin with https://"),
        }
        let authority = text.split("://").nth(1).unwrap_or_default();
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
            return Err("must not hold user information");
        }
        if url.fragment().is_some() {
            return Err("must not hold a fragment");
        }
        if url.as_str().len() > URL_BYTES_MAX {
            return Err("must not be longer than 2048 octets once it is encoded");
        }
        if self.0.allow_private {
            return url.host().is_some().then_some(url).ok_or("must name a host");
        }
        match url.host() {
            Some(Host::Domain(name)) if is_public_name(name) => {}
            Some(Host::Domain(_)) => return Err("must name a public host"),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Err("must name its host, not an address"),
            None => return Err("must name a host"),
        }
        // What reads as an address in one program and as a name in another is neither here.
        if authority.contains(['%', '[', ']']) {
            return Err("must name its host plainly");
        }
        if !url.port_or_known_default().is_some_and(|port| self.0.ports.contains(&port)) {
            return Err(
                "must be on one of the ports that are allowed (443 and 8443, unless the operator says otherwise)",
            );
        }
        Ok(url)
    }

    /// True for addresses that may be connected to.
    fn allows(&self, address: IpAddr) -> bool {
        self.0.allow_private || (is_public(address) && !self.0.deny.iter().any(|network| network.contains(&address)))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.0.lookup.lookup(name.as_str()).await.map_err(|_| NotFound)?;
            if found.is_empty() {
                return Err(NotFound.into());
            }
            // One bad address among good ones is an attempt to get there by chance.
            if found.len() > ADDRESSES_MAX || !found.iter().all(|address| guard.allows(*address)) {
                return Err(NotPublic.into());
            }
            // The port is that of the URL.
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// True for names that can be somebody's in public: two labels or more, and a last one that is no number.
fn is_public_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let labels: Vec<_> = name.split('.').collect();
    let plain = |label: &&str| !label.is_empty() && label.len() <= 63;
    let numeric = labels.last().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let private = PRIVATE_ENDS.iter().any(|end| name == *end || name.ends_with(&format!(".{end}")));
    labels.len() >= 2 && name.len() <= 253 && labels.iter().all(plain) && !numeric && !private
}

/// True for addresses of the public Internet. IPv6 is a list of what is allowed, so that what embeds an IPv4 address falls
/// out by itself.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let global = a & 0xe000 == 0x2000;
    let special = matches!((a, b), (0x2001, 0x0000..=0x01ff | 0x0db8) | (0x2002, _) | (0x3fff, 0x0000..=0x0fff));
    global && !special
}
