//! Which services are known by the names in their certificates, and as what.
//!
//! Only the settings' list and its question; whose certificate it is has been verified by then. Fails closed: what is not
//! certain is nobody.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Names in the settings.
const IDENTITIES_MAX: usize = 100;
/// Longest name in bytes: that of a SPIFFE id.
const NAME_BYTES_MAX: usize = 2_048;
/// What DNS names are told by, as `chassis::tls` does.
const DNS: &str = "dns:";

/// What a service is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows all accounts' events and writes for us.
    Notifier,
    /// Runs the service.
    Operator,
    /// Where an organisation's people sign: it speaks for them.
    Portal,
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match text {
            "notifier" => Ok(Self::Notifier),
            "operator" => Ok(Self::Operator),
            "portal" => Ok(Self::Portal),
            _ => Err(IdentityError::Role(text.to_owned())),
        }
    }
}

/// Why a list of identities is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Something else than a pair.
    #[error("`{0}` is not of the form name=role")]
    Pair(String),
    /// A name that no certificate's is compared with.
    #[error("`{0}` is no name: it has to be a whole URI or dns:name, without patterns")]
    Name(String),
    /// A role that there is not.
    #[error("`{0}` is no role: notifier, operator or portal")]
    Role(String),
    /// Two entries for one name.
    #[error("`{0}` is named twice")]
    Twice(String),
    /// More than anybody has.
    #[error("at most {IDENTITIES_MAX} names")]
    TooMany,
}

/// The services known by certificate, by name: `name=role,name=role`. None by default.
#[derive(Clone, Debug, Default)]
pub struct Identities(BTreeMap<String, Role>);

impl Identities {
    /// As what a caller is known whose verified certificate bears these names. Names that are not listed say nothing;
    /// names of different roles make the caller nobody.
    #[must_use]
    pub fn role_of(&self, names: &[String]) -> Option<Role> {
        let mut roles = names.iter().filter_map(|name| self.0.get(name)).copied();
        let role = roles.next()?;
        roles.all(|other| other == role).then_some(role)
    }

    /// Whether some service is known as that.
    #[must_use]
    pub fn knows(&self, role: Role) -> bool {
        self.0.values().any(|known| *known == role)
    }

    /// Whether nobody is known by certificate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Identities {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let mut identities = BTreeMap::new();
        if text.trim().is_empty() {
            return Ok(Self(identities));
        }
        for pair in text.split(',').map(str::trim) {
            // A URI may hold `=`, a role does not.
            let (name, role) = pair.rsplit_once('=').ok_or_else(|| IdentityError::Pair(pair.to_owned()))?;
            let (name, role) = (spelt(name.trim())?, role.trim().parse()?);
            if identities.insert(name.clone(), role).is_some() {
                return Err(IdentityError::Twice(name));
            }
            if identities.len() > IDENTITIES_MAX {
                return Err(IdentityError::TooMany);
            }
        }
        Ok(Self(identities))
    }
}

/// A name as `chassis::tls` tells it, if it can tell it at all.
fn spelt(name: &str) -> Result<String, IdentityError> {
    let refused = || IdentityError::Name(name.to_owned());
    let (scheme, rest) = name.split_once(':').ok_or_else(refused)?;
    let printable = name.chars().all(|c| c.is_ascii_graphic() && c != '*');
    if !printable || scheme.is_empty() || rest.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(refused());
    }
    // DNS names do not know case; URIs are compared as they are.
    match scheme.eq_ignore_ascii_case(DNS.trim_end_matches(':')) {
        true => Ok(format!("{DNS}{}", rest.to_ascii_lowercase())),
        false => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(text: &str) -> Identities {
        text.parse().unwrap()
    }

    fn role(text: &str, names: &[&str]) -> Option<Role> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        identities(text).role_of(&names)
    }

    const LIST: &str = "spiffe://corp/notifier=notifier, dns:Ops.corp=operator,spiffe://corp/portal?a=b=portal";

    #[test]
    fn each_name_has_its_role() {
        assert_eq!(role(LIST, &["spiffe://corp/notifier"]), Some(Role::Notifier));
        assert_eq!(role(LIST, &["dns:ops.corp"]), Some(Role::Operator));
        assert_eq!(role(LIST, &["spiffe://corp/portal?a=b"]), Some(Role::Portal));
        assert_eq!(role(LIST, &["dns:other.corp", "dns:ops.corp"]), Some(Role::Operator), "others say nothing");
    }

    #[test]
    fn only_the_whole_name_counts() {
        for name in ["spiffe://corp/notifier/x", "spiffe://corp/notifie", "SPIFFE://corp/notifier", "ops.corp", ""] {
            assert_eq!(role(LIST, &[name]), None, "{name}");
        }
        assert_eq!(role(LIST, &[]), None);
        assert_eq!(role("", &["spiffe://corp/notifier", ""]), None);
    }

    #[test]
    fn names_of_different_roles_make_nobody() {
        assert_eq!(role(LIST, &["spiffe://corp/notifier", "dns:ops.corp"]), None);
        assert_eq!(role(LIST, &["dns:x", "dns:ops.corp", "spiffe://corp/notifier"]), None);
        let same = "dns:a=notifier,dns:b=notifier";
        assert_eq!(role(same, &["dns:a", "dns:b"]), Some(Role::Notifier));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let refused = |text: &str| text.parse::<Identities>().unwrap_err();
        assert_eq!(refused("spiffe://corp/notifier"), IdentityError::Pair("spiffe://corp/notifier".into()));
        assert_eq!(refused("dns:a=notifier,"), IdentityError::Pair(String::new()));
        assert_eq!(refused("dns:a=admin"), IdentityError::Role("admin".into()));
        assert_eq!(refused("dns:a=Notifier"), IdentityError::Role("Notifier".into()));
        for name in ["ops.corp", "", "dns:", ":x", "dns:*.corp", "dns:a b", "dns:ä"] {
            assert_eq!(refused(&format!("{name}=operator")), IdentityError::Name(name.into()));
        }
        assert_eq!(refused("dns:a=notifier,DNS:A=operator"), IdentityError::Twice("dns:a".into()));
        let long = format!("dns:{}=operator", "a".repeat(NAME_BYTES_MAX));
        assert!(matches!(refused(&long), IdentityError::Name(_)));
        let many: Vec<_> = (0..=IDENTITIES_MAX).map(|number| format!("dns:n{number}=portal")).collect();
        assert_eq!(refused(&many.join(",")), IdentityError::TooMany);
        assert!(many[1..].join(",").parse::<Identities>().is_ok());
    }

    #[test]
    fn it_says_whom_it_knows() {
        assert!(identities(LIST).knows(Role::Notifier) && !identities("dns:a=portal").knows(Role::Notifier));
        assert!(identities(" ").is_empty() && Identities::default().is_empty() && !identities(LIST).is_empty());
    }
}
