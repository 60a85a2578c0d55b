//! Every limit of an envelope, by name.

/// Recipients of an envelope.
pub const RECIPIENTS_MAX: usize = 10;
/// Documents of an envelope.
pub const DOCUMENTS_MAX: usize = 10;
/// Fields of an envelope.
pub const FIELDS_MAX: usize = 200;
/// Size of a document.
pub const DOCUMENT_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Pages of a document.
pub const PAGES_MAX: usize = 500;
/// Length of a subject, in characters.
pub const SUBJECT_CHARS_MAX: usize = 200;
/// Length of the sender's message, of a reason and of an evidence note, in characters.
pub const NOTE_CHARS_MAX: usize = 2_000;
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
/// Days until the deadline where the sender names none.
pub const EXPIRY_DAYS_DEFAULT: i64 = 90;
/// The farthest deadline, in days.
pub const EXPIRY_DAYS_MAX: i64 = 366;
/// The nearest deadline, in seconds.
pub const EXPIRY_SECONDS_MIN: i64 = 60;
/// Length of a name that the sender has for the envelope, in characters.
pub const EXTERNAL_REFERENCE_CHARS_MAX: usize = 200;
/// Entries of the sender's metadata.
pub const METADATA_MAX: usize = 50;
/// Length of a key of the metadata, in characters.
pub const METADATA_KEY_CHARS_MAX: usize = 40;
/// Length of a value of the metadata, in characters.
pub const METADATA_VALUE_CHARS_MAX: usize = 500;
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
