//! Clocks of the machines on which services run, to be set at any time: programs with debug assertions read by how much they are
//! wrong.

use tempfile::TempDir;

use crate::stack::Place;

/// A clock for each place.
pub struct Clocks {
    folder: TempDir,
    setting: String,
}

impl Default for Clocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Clocks {
    /// All of which are right.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setting = folder.path().join("{address}").to_str().unwrap().to_owned();
        Self { folder, setting }
    }

    /// What has a place read its own.
    #[must_use]
    pub fn setting(&self) -> (&str, &str) {
        ("COUNTERSIGN_CLOCK", &self.setting)
    }

    /// Makes that place's wrong by so many seconds.
    pub fn set(&self, place: &Place, seconds: i64) {
        std::fs::write(self.folder.path().join(&place.address), seconds.to_string()).unwrap();
    }
}
