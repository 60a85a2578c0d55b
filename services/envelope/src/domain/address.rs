//! When two e-mail addresses are the same.

use unicode_normalization::UnicodeNormalization as _;

use super::personal::Personal;

/// True if mail to one goes to the other: white space around them, the form of letters and the spelling of the domain do
/// not count. Neither does the case of the local part, though RFC 5321 §2.4 would let it; plus tags do.
#[must_use]
pub fn same_address(one: &Personal, other: &Personal) -> bool {
    plain(one.reveal()) == plain(other.reveal())
}

fn plain(address: &str) -> String {
    let address: String = address.trim().nfc().collect();
    match address.rsplit_once('@') {
        Some((local, domain)) => {
            let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
            format!("{}@{domain}", local.to_lowercase())
        }
        None => address.to_lowercase(),
    }
}
