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
