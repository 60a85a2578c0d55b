//! Personal text: names, addresses, reasons, field values. It never shows itself in logs, spans or errors.

use std::fmt;

/// Text about a person. `Debug` hides it and there is no `Display`: whoever shows it says so with [`Personal::reveal`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Personal(String);

impl Personal {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Personal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Personal(…)")
    }
}

/// Random bytes that keep a commitment from being guessed.
pub type Salt = [u8; 16];
