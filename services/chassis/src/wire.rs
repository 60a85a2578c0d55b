//! Small conversions between the services' types and the contract's.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// A time as the contract has it.
#[must_use]
pub fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or_default() }
}

/// A time from the contract, or `None` if it is none (RFC 3339 has years 1 to 9999).
#[must_use]
pub fn datetime(at: &Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(at.nanos).ok()?;
    let years = -62_135_596_800..=253_402_300_799;
    if !years.contains(&at.seconds) || nanos > 999_999_999 {
        return None;
    }
    DateTime::from_timestamp(at.seconds, nanos)
}
