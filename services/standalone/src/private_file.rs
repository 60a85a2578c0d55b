//! Files for secrets: readable by their owner alone, written whole or not at all.
//! Must never follow a link or leave a half-written file under the final name.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads what [`write`] has written; `None` if there is no such file.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    // What serde says could quote the secret.
    let content = serde_json::from_slice(&text).ok();
    content.map(Some).with_context(|| format!("{} is damaged", path.display()))
}

/// Writes `content` as JSON, with mode 0600.
///
/// # Errors
/// When the file cannot be written.
pub fn write<T: Serialize>(path: &Path, content: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(content).with_context(|| format!("cannot write {}", path.display()))?;
    write_text(path, &(text + "\n"))
}

/// Writes `text` as it is, with mode 0600.
///
/// # Errors
/// When the file cannot be written.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    let written = || -> Result<()> {
        let folder = path.parent().context("a file without a folder")?;
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_owner_can_read_what_was_written_and_damage_is_told_without_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.json");
        assert_eq!(read::<String>(&path).unwrap(), None);
        write(&path, &"tell nobody").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read::<String>(&path).unwrap().unwrap(), "tell nobody");
        let error = format!("{:#}", read::<u8>(&path).unwrap_err());
        assert!(error.ends_with("secret.json is damaged"), "{error}");
    }
}
