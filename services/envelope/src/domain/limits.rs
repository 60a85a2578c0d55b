//! Every limit of an account and an envelope, by name.

use serde::{Deserialize, Serialize};

/// Length of a subject, in characters.
pub const SUBJECT_CHARS_MAX: usize = 200;
/// Length of a recipient's name, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Length of a label and of a field's name, in characters.
pub const LABEL_CHARS_MAX: usize = 100;
/// Length of an e-mail address, in octets (RFC 5321 §4.5.3.1.3, less the angle brackets).
pub const EMAIL_BYTES_MAX: usize = 254;
/// Length of a file name, in characters.
pub const FILE_NAME_CHARS_MAX: usize = 255;
/// Length of the text in a field, in characters.
pub const TEXT_CHARS_MAX: usize = 500;
/// Size of a drawn signature as a picture.
pub const PICTURE_BYTES_MAX: usize = 256 * 1024;
/// Strokes of a drawn signature.
pub const STROKES_MAX: usize = 200;
/// Points of a stroke.
pub const POINTS_MAX: usize = 500;
/// Points of all strokes together: several times what a hand makes of a long name.
pub const POINTS_ALTOGETHER_MAX: usize = 20_000;
/// Bytes of all different drawings that come with one signature.
pub const DRAWN_BYTES_MAX: usize = 1024 * 1024;
/// Days until the deadline where the sender names none.
pub const EXPIRY_DAYS_DEFAULT: i64 = 90;
/// The farthest deadline, in days.
pub const EXPIRY_DAYS_MAX: i64 = 366;
/// The nearest deadline, in seconds.
pub const EXPIRY_SECONDS_MIN: i64 = 60;
/// Length of a name that the sender has for the envelope, in characters.
pub const EXTERNAL_REFERENCE_CHARS_MAX: usize = 200;
/// Length of a key of the metadata, in characters.
pub const METADATA_KEY_CHARS_MAX: usize = 40;
/// Watchers of an envelope.
pub const WATCHERS_MAX: usize = 10;
/// The highest number of a group.
pub const GROUP_MAX: u32 = 100;
/// How often a recipient's place may be passed on at most.
pub const DELEGATIONS_MAX: u32 = 5;
/// The longest warning before a deadline, in days; the shortest is an hour.
pub const WARNING_DAYS_MAX: i64 = 30;
/// Minutes between two invitations to the same recipient.
pub const RESEND_PAUSE_MINUTES: i64 = 60;
/// Length of a pattern, in characters.
pub const PATTERN_CHARS_MAX: usize = 200;
/// Options of a dropdown.
pub const OPTIONS_MAX: usize = 100;
/// Length of an option, in characters.
pub const OPTION_CHARS_MAX: usize = 100;
/// Length of the name of somebody's program, in characters; the rest is cut off.
pub const USER_AGENT_CHARS_MAX: usize = 300;
/// Days before the deadline at which people are warned where the sender says nothing.
pub const WARNING_DAYS_DEFAULT: i64 = 3;
/// Days to the first reminder, and from one to the next, where nobody says anything.
pub const REMINDER_DAYS_DEFAULT: i64 = 3;
/// The longest time to a reminder, in days; the shortest is an hour.
pub const REMINDER_DAYS_MAX: i64 = 90;
/// Reminders that a recipient gets where nobody says anything.
pub const REMINDERS_DEFAULT: u16 = 5;
/// Reminders that a recipient may get at most.
pub const REMINDERS_MAX: u32 = 30;
/// Minutes of a day.
pub const DAY_MINUTES: u32 = 1_440;
/// Length of a language tag (RFC 5646 §4.4.1), in characters.
pub const LOCALE_CHARS_MAX: usize = 35;
/// Length of an address of the web, in octets.
pub const URL_BYTES_MAX: usize = 2_048;
/// Length of a brand's name, in characters.
pub const BRAND_CHARS_MAX: usize = 100;
/// A whole, in hundredths of a percent.
pub const BASIS_POINTS: u16 = 10_000;
/// Days for which a content is kept where nobody says anything.
pub const RETENTION_DAYS_DEFAULT: u32 = 3_650;
/// The longest time for which a content is kept, in days.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// Days from the warning to the purge where nobody says anything.
pub const PURGE_WARNING_DAYS_DEFAULT: u16 = 7;
/// The longest such time.
pub const PURGE_WARNING_DAYS_MAX: u16 = 365;
/// Days after which a draft that nobody has changed is discarded where nobody says anything.
pub const DRAFT_DAYS_DEFAULT: u16 = 90;
/// The longest such time.
pub const DRAFT_DAYS_MAX: u16 = 3_650;
/// Rules of a refund policy.
pub const REFUND_RULES_MAX: usize = 20;
/// The largest amount of credits or minor units.
pub const AMOUNT_MAX: u64 = 1_000_000_000_000;
/// What a new account may spend, in credits.
pub const FREE_CREDITS: u64 = 5;
/// Length of an account's name, in characters.
pub const ACCOUNT_NAME_CHARS_MAX: usize = 200;
/// Length of the name of a key, in characters.
pub const KEY_NAME_CHARS_MAX: usize = 100;
/// Length of the operator's reference of a grant, in characters.
pub const REFERENCE_CHARS_MAX: usize = 200;
/// Hours for which a rotated key goes on where nothing else is asked for.
pub const OVERLAP_HOURS_DEFAULT: i64 = 24;
/// The longest overlap of two keys, in days.
pub const OVERLAP_DAYS_MAX: i64 = 7;

/// How much an account may do: the usual values, unless the operator has set others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names of the contract's Limits")]
pub struct Limits {
    pub recipients_max: usize,
    pub documents_max: usize,
    pub fields_max: usize,
    pub document_bytes_max: usize,
    pub pages_max: usize,
    pub note_chars_max: usize,
    pub metadata_max: usize,
    pub metadata_value_chars_max: usize,
    pub key_calls_per_second: u32,
    pub key_calls_burst: u32,
    pub signer_calls_per_minute: u32,
    pub signer_calls_burst: u32,
    pub api_keys_max: usize,
    pub retention_days_min: u32,
    pub retention_days_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recipients_max: 10,
            documents_max: 10,
            fields_max: 200,
            document_bytes_max: 25 * 1024 * 1024,
            pages_max: 500,
            note_chars_max: 2_000,
            metadata_max: 50,
            metadata_value_chars_max: 500,
            key_calls_per_second: 100,
            key_calls_burst: 200,
            signer_calls_per_minute: 120,
            signer_calls_burst: 40,
            api_keys_max: 50,
            retention_days_min: 1,
            retention_days_max: RETENTION_DAYS_MAX,
        }
    }
}

impl Limits {
    /// The farthest that the operator may go.
    #[must_use]
    pub fn ceiling() -> Self {
        Self {
            recipients_max: 50,
            documents_max: 50,
            fields_max: 2_000,
            document_bytes_max: 100 * 1024 * 1024,
            pages_max: 5_000,
            note_chars_max: 10_000,
            metadata_max: 200,
            metadata_value_chars_max: 5_000,
            key_calls_per_second: 10_000,
            key_calls_burst: 20_000,
            signer_calls_per_minute: 6_000,
            signer_calls_burst: 6_000,
            api_keys_max: 500,
            retention_days_min: RETENTION_DAYS_MAX,
            retention_days_max: RETENTION_DAYS_MAX,
        }
    }
}
