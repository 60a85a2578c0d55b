//! When two e-mail addresses are the same.

use unicode_normalization::UnicodeNormalization as _;

use super::personal::Personal;

/// True if mail to one goes to the other: white space around them, the form of letters and the spelling of the domain do
/// not count. Neither does the case of the local part, though RFC 5321 §2.4 would let it; plus tags do.
#[must_use]
pub fn same_address(one: &Personal, other: &Personal) -> bool {
    search_form(one) == search_form(other)
}

/// The form in which an address is searched for: equal for addresses that are the same.
#[must_use]
pub fn search_form(address: &Personal) -> String {
    let address: String = address.reveal().trim().nfc().collect();
    match address.rsplit_once('@') {
        Some((local, domain)) => {
            let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
            format!("{}@{domain}", local.to_lowercase())
        }
        None => address.to_lowercase(),
    }
}
