//! The folder of a stack and the rights on what is in it.
//! Must never change the rights of a folder that it did not make.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

const TEMPORARY_PREFIX: &str = "countersign-stack-";
/// Root's Postgres runs as another user, who has to pass through to its own folder; nobody can list what is here.
const MODE_PASSABLE: u32 = 0o711;
const MODE_PRIVATE: u32 = 0o700;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    mail: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    /// Opens the given folder, or makes a temporary one.
    pub fn open(given: Option<&Path>, mail: Option<&Path>) -> Result<Self> {
        let temporary = match given {
            Some(given) => {
                make_passable(given)?;
                None
            }
            None => Some(tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir().context("no temporary folder")?),
        };
        let path = match (given, &temporary) {
            (None, Some(temporary)) => temporary.path(),
            (given, _) => given.unwrap_or(Path::new(".")),
        };
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        let mail = mail.map_or_else(|| path.join("mail"), Path::to_path_buf);
        make_private(&mail)?;
        let mail = mail.canonicalize().with_context(|| format!("cannot find {}", mail.display()))?;
        let folder = Self { path, mail, temporary };
        make_private(&folder.documents())?;
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn mail(&self) -> &Path {
        &self.mail
    }

    pub fn postgres(&self) -> PathBuf {
        self.path.join("postgres")
    }

    pub fn documents(&self) -> PathBuf {
        self.path.join("documents")
    }

    pub fn keys(&self) -> PathBuf {
        self.path.join("keys.json")
    }

    /// The key of the seals with its certificates.
    pub fn seal(&self) -> PathBuf {
        self.path.join("seal.pem")
    }

    /// The CA of that key alone, for whoever checks a seal.
    pub fn seal_ca(&self) -> PathBuf {
        self.path.join("seal-ca.pem")
    }

    /// Removes the folder if it is temporary.
    pub fn close(self) -> Result<()> {
        let Some(temporary) = self.temporary else { return Ok(()) };
        temporary.close().with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

fn make_passable(path: &Path) -> Result<()> {
    make(path, if rustix::process::geteuid().is_root() { MODE_PASSABLE } else { MODE_PRIVATE })
}

/// Makes a folder that only its owner can enter.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    make(path, MODE_PRIVATE)
}

/// Only the folder itself gets this mode; what has to be made above it is as usual.
fn make(path: &Path, mode: u32) -> Result<()> {
    let made = || {
        if let Some(above) = path.parent() {
            std::fs::create_dir_all(above)?;
        }
        DirBuilder::new().mode(mode).create(path)
    };
    match made() {
        Err(_) if path.is_dir() => Ok(()),
        made => made.with_context(|| format!("cannot make the folder {}", path.display())),
    }
}
