//! Which language somebody reads and by which clock they live. Never part of an event: it is about a person.

use chrono_tz::Tz;

/// A language and a time zone; either may be unsaid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// A language tag (BCP 47); empty: none is said.
    pub locale: String,
    /// A zone of the IANA database.
    pub zone: Option<Tz>,
}

impl Locality {
    /// This one, and where it says nothing, the other.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let locale = if self.locale.is_empty() { &other.locale } else { &self.locale };
        Self { locale: locale.clone(), zone: self.zone.or(other.zone) }
    }

    /// The zone's name; empty if none is said.
    #[must_use]
    pub fn zone_name(&self) -> &'static str {
        self.zone.map(Tz::name).unwrap_or_default()
    }
}
