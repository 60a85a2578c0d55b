//! The languages that mails are written in, and instants as people there read them.

use chrono::{DateTime, Datelike as _, Offset as _, Utc};
use chrono_tz::Tz;

/// A language that there are texts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English, the language of whoever reads none of the others.
    English,
    /// German.
    German,
    /// Spanish.
    Spanish,
    /// French.
    French,
    /// Portuguese.
    Portuguese,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::English, Self::German, Self::Spanish, Self::French, Self::Portuguese];

    /// For whoever reads that language (BCP 47): of `pt-BR`, whatever there is in `pt`.
    #[must_use]
    pub fn of(tag: &str) -> Self {
        let language = tag.split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|known| known.tag().eq_ignore_ascii_case(language)).unwrap_or(Self::English)
    }

    /// Its tag.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::Spanish => "es",
            Self::French => "fr",
            Self::Portuguese => "pt",
        }
    }

    /// Which way it is written.
    #[must_use]
    pub const fn direction(self) -> &'static str {
        match self {
            Self::English | Self::German | Self::Spanish | Self::French | Self::Portuguese => "ltr",
        }
    }

    /// Its texts: an object of JSON with strings only.
    pub(super) const fn texts(self) -> &'static str {
        match self {
            Self::English => include_str!("../../templates/en.json"),
            Self::German => include_str!("../../templates/de.json"),
            Self::Spanish => include_str!("../../templates/es.json"),
            Self::French => include_str!("../../templates/fr.json"),
            Self::Portuguese => include_str!("../../templates/pt.json"),
        }
    }
}

/// An instant by the clocks of a zone, in the parts that a language puts together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the calendar")]
pub struct Moment {
    pub day: u32,
    pub month: u32,
    pub year: i32,
    /// `04:05`.
    pub time: String,
    /// `UTC`, or `Europe/Lisbon, UTC+1`.
    pub zone: String,
}

impl Moment {
    /// In a zone of the IANA database; what is none is read as UTC.
    #[must_use]
    pub fn at(at: DateTime<Utc>, zone: &str) -> Self {
        let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
        let local = at.with_timezone(&zone);
        let minutes = local.offset().fix().local_minus_utc() / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let offset = match (minutes.abs() / 60, minutes.abs() % 60) {
            (hours, 0) => format!("UTC{sign}{hours}"),
            (hours, rest) => format!("UTC{sign}{hours}:{rest:02}"),
        };
        let zone = if zone == Tz::UTC { "UTC".to_owned() } else { format!("{}, {offset}", zone.name()) };
        let time = local.format("%H:%M").to_string();
        Self { day: local.day(), month: local.month(), year: local.year(), time, zone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_found_by_its_first_part() {
        for (tag, language) in [
            ("pt-BR", Language::Portuguese),
            ("PT", Language::Portuguese),
            ("de_CH", Language::German),
            ("fr-CA-x-private", Language::French),
            ("es-419", Language::Spanish),
            ("en-GB", Language::English),
            ("", Language::English),
            ("ptx", Language::English),
            ("ja", Language::English),
        ] {
            assert_eq!(Language::of(tag), language, "{tag}");
        }
    }

    #[test]
    fn an_instant_is_told_by_the_clocks_of_the_zone() {
        let moment = |at: &str, zone| {
            let moment = Moment::at(at.parse().unwrap(), zone);
            format!("{}.{}.{} {} {}", moment.day, moment.month, moment.year, moment.time, moment.zone)
        };
        assert_eq!(moment("2031-02-03T04:05:00Z", "Europe/Lisbon"), "3.2.2031 04:05 Europe/Lisbon, UTC+0");
        assert_eq!(moment("2031-07-03T23:05:00Z", "Europe/Lisbon"), "4.7.2031 00:05 Europe/Lisbon, UTC+1");
        assert_eq!(moment("2031-02-03T04:05:00Z", "Asia/Kolkata"), "3.2.2031 09:35 Asia/Kolkata, UTC+5:30");
        assert_eq!(moment("2031-01-01T02:00:00Z", "America/St_Johns"), "31.12.2030 22:30 America/St_Johns, UTC-3:30");
        assert_eq!(moment("2028-02-29T12:00:00Z", ""), "29.2.2028 12:00 UTC");
        assert_eq!(moment("2028-02-29T12:00:00Z", "Not/AZone"), "29.2.2028 12:00 UTC");
    }
}
