//! Bytes on their way in, which wait on disk until somebody needs all of them: what is slow must never take memory.

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// Bytes on disk, in a file without a name: it is gone with the process at the latest.
#[derive(Debug)]
pub struct Spool {
    file: File,
    size_bytes: usize,
}

impl Spool {
    /// With nothing in it.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { file: File::from_std(tempfile::tempfile()?), size_bytes: 0 })
    }

    /// Adds some.
    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.size_bytes += bytes.len();
        self.file.write_all(bytes).await?;
        self.file.flush().await
    }

    /// How many there are.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// All of them, in memory.
    pub async fn read(&self) -> std::io::Result<Bytes> {
        let (mut file, mut bytes) = (self.file.try_clone().await?, Vec::with_capacity(self.size_bytes));
        file.rewind().await?;
        file.read_to_end(&mut bytes).await?;
        Ok(bytes.into())
    }
}
