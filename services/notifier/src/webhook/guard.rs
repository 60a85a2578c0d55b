//! Where webhooks may go: public addresses over TLS. Fails closed.
//!
//! Checked when an endpoint is registered and again at every attempt: names are resolved by a resolver that drops every
//! address that is not public, and the connection is made to what is left.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Longest address, in octets.
pub const URL_BYTES_MAX: usize = 2_048;

/// What may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Everything, for development.
    pub allow_private: bool,
}

impl Guard {
    /// The address, or what is wrong with it.
    pub fn check(self, text: &str) -> Result<Url, &'static str> {
        if text.len() > URL_BYTES_MAX {
            return Err("must not be longer than 2048 octets");
        }
        let url = Url::parse(text).map_err(|_| "must be an absolute URL")?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private => {}
            _ => return Err("must begin with https://"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold user information");
        }
        if url.fragment().is_some() {
            return Err("must not hold a fragment");
        }
        let public = match url.host() {
            None => return Err("must name a host"),
            Some(Host::Domain(name)) => !name.eq_ignore_ascii_case("localhost") && name.contains('.'),
            Some(Host::Ipv4(address)) => is_public(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => is_public(IpAddr::V6(address)),
        };
        if url.as_str().len() > URL_BYTES_MAX {
            return Err("must not be longer than 2048 octets once it is encoded");
        }
        if public || self.allow_private { Ok(url) } else { Err("must be a public address") }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| guard.allow_private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name has no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t34_only_public_addresses_pass() {
        let guard = Guard { allow_private: false };
        for bad in [
            "",
            "x",
            "/hook",
            "ftp://example.com",
            "http://example.com",
            "https://",
            "https://u@example.com/",
            "https://u:p@example.com/",
            "https://localhost/",
            "https://LOCALHOST/",
            "https://intranet/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://10.1.2.3/",
            "https://100.64.0.1/",
            "https://169.254.169.254/",
            "https://172.16.0.1/",
            "https://172.31.255.255/",
            "https://192.168.1.1/",
            "https://192.0.2.1/",
            "https://198.18.0.1/",
            "https://203.0.113.9/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://[::1]/",
            "https://[::]/",
            "https://[fc00::1]/",
            "https://[fe80::1]/",
            "https://[ff02::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::127.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[2001:db8::1]/",
            "https://[2001::1]/",
            "https://[3fff::1]/",
            "https://example.com/#x",
        ] {
            assert!(guard.check(bad).is_err(), "{bad} passed");
        }
        for good in [
            "https://example.com/hook",
            "https://example.com:8443/",
            "https://8.8.8.8/",
            "https://172.32.0.1/",
            "https://[2606:4700::1111]/",
        ] {
            assert!(guard.check(good).is_ok(), "{good} was refused");
        }
        assert!(Guard { allow_private: true }.check("http://127.0.0.1:8080/hook").is_ok());
        assert!(Guard { allow_private: true }.check(&format!("http://a.example/{}", "x".repeat(2048))).is_err());
    }
}
