//! Judges whether what a file brings along shows that certificates were good.
//!
//! It must never count on what the file does not hold.

use der::Decode;
use x509_cert::Certificate;

use super::{Finding, Issued, Path, Unfit};
use crate::verify::chain;

/// Responders whose own certificates have to be proven, one after the other.
const RESPONDERS_MAX: usize = 2;

/// What a file brings along.
#[derive(Debug, Default)]
pub(crate) struct Proof<'a> {
    pub(crate) certificates: Vec<&'a [u8]>,
    pub(crate) ocsps: Vec<&'a [u8]>,
    pub(crate) crls: Vec<&'a [u8]>,
}

impl Proof<'_> {
    /// Whether it shows of a certificate and all above it, up to a root, that they were valid and
    /// not revoked at that time, and carry no conditions that are not understood.
    pub(crate) fn covers(&self, first: &Certificate, carried: &[Certificate], at_unix_s: u64) -> bool {
        let own = self.certificates.iter().filter_map(|der| Certificate::from_der(der).ok());
        let path = Path::of(first, &carried.iter().cloned().chain(own).collect::<Vec<_>>());
        let is_fit = |it: &Certificate| chain::is_valid_at(it, at_unix_s) && !chain::has_strange_conditions(it);
        path.ends_at_root
            && path
                .steps
                .iter()
                .all(|step| is_fit(&step.certificate) && self.shows_good(step, at_unix_s, RESPONDERS_MAX))
    }

    fn shows_good(&self, step: &Issued, at_unix_s: u64, responders_left: usize) -> bool {
        let mut is_shown = false;
        let answers = self.ocsps.iter().map(|answer| step.judge_ocsp(answer, at_unix_s));
        let lists = self.crls.iter().map(|list| step.judge_crl(list, at_unix_s));
        let findings: Vec<Result<Finding, Unfit>> = answers.chain(lists).collect();
        for finding in findings {
            match finding {
                Ok(Finding::Revoked { .. }) => return false,
                Ok(Finding::Good(good)) => {
                    is_shown |= good.responder.is_none_or(|responder| {
                        responders_left > 0 && self.shows_good(&responder, at_unix_s, responders_left - 1)
                    });
                }
                Err(_) => {}
            }
        }
        is_shown
    }
}
