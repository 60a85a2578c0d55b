//! A way on which nothing arrives any more and nobody is told, as where a cable is cut: the kernel drops what is sent to an address
//! that is this way's alone. Whoever has said something has to find out by himself that nobody is there.

use std::net::Ipv4Addr;

use crate::outside::as_root;

/// The way's address; it is this machine's like all of 127.0.0.0/8.
#[derive(Clone, Copy, Debug)]
pub struct Cable(pub Ipv4Addr);

/// Cut until it is dropped.
pub struct Cut(Ipv4Addr);

impl Cable {
    /// One that nobody else uses. `None`, after saying so, where nobody may cut it.
    #[must_use]
    pub fn lay() -> Option<Self> {
        let [a, b, c] = countersign_chassis::keys::random();
        let cable = Self(Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)));
        if cable.cut().is_none() {
            eprintln!("SKIPPED: nobody may cut ways here; run it on Linux, as root or as somebody with sudo");
            return None;
        }
        Some(cable)
    }

    /// Cuts it, if that may be.
    #[must_use]
    pub fn cut(self) -> Option<Cut> {
        route("add", self.0).then(|| Cut(self.0))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if !route("del", self.0) {
            eprintln!("the way to {} stays cut", self.0);
        }
    }
}

fn route(what: &str, to: Ipv4Addr) -> bool {
    as_root(&["ip", "route", what, "blackhole", &format!("{to}/32"), "table", "local"])
}
