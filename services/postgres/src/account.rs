//! Decides as which user Postgres runs (it refuses root), and whether that user can reach a folder.
//! Must never run Postgres as root, and never change the rights of a folder it did not make.

use anyhow::{Context, Result, bail};
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const PASSWD: &str = "/etc/passwd";
/// Who Postgres runs as when this process is root; the first that exists.
const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// The user as which Postgres runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
    pub name: String,
    /// This process is root and has to become that user.
    pub switch: bool,
}

impl Account {
    /// The user of this process, or for root a harmless one.
    pub fn for_this_process() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let passwd = std::fs::read_to_string(PASSWD).unwrap_or_default();
        if uid != 0 {
            return Ok(Self { uid, gid, name: format!("user {uid}"), switch: false });
        }
        STAND_INS
            .iter()
            .find_map(|name| find_in_passwd(&passwd, name))
            .context("Postgres refuses to run as root, and neither of the users postgres and nobody exists")
    }

    /// Makes a command run as this user.
    pub fn apply(&self, command: &mut Command) {
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives one file or folder to this user; a link itself, not what it points to.
    pub fn give(&self, path: &Path) -> Result<()> {
        if self.switch {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give {} to {}", path.display(), self.name))?;
        }
        Ok(())
    }

    /// Gives a folder with all its content to this user, if it belongs to somebody else.
    pub fn give_all(&self, folder: &Path) -> Result<()> {
        let owner = folder.symlink_metadata()?.uid();
        if owner == self.uid {
            return Ok(());
        }
        if !self.switch {
            bail!(
                "{} belongs to user {owner}, this process is {}: start it as that user, or choose another folder",
                folder.display(),
                self.name
            );
        }
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.give_all(&entry.path())?;
            } else {
                self.give(&entry.path())?;
            }
        }
        // Last, so that an interrupted run is noticed and finished by the next.
        self.give(folder)
    }

    /// Fails, naming the folder, when this user cannot pass through `folder` and everything above it.
    pub fn check_can_enter(&self, folder: &Path) -> Result<()> {
        let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        let mut above: Vec<&Path> = folder.ancestors().collect();
        above.reverse();
        for path in above {
            let metadata = path.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
            if !self.may_enter(&metadata) {
                bail!(
                    "Postgres runs as {}, who may not enter {} (mode {:o}): \
                     choose a folder elsewhere, or allow it with: chmod a+x {}",
                    self.name,
                    path.display(),
                    metadata.permissions().mode() & 0o7777,
                    path.display()
                );
            }
        }
        Ok(())
    }

    fn may_enter(&self, metadata: &Metadata) -> bool {
        let needed = if metadata.uid() == self.uid {
            0o100
        } else if metadata.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        // Without a switch the process finds out by itself, groups and access lists included.
        !self.switch || metadata.mode() & needed != 0
    }
}

fn find_in_passwd(passwd: &str, name: &str) -> Option<Account> {
    let mut fields = passwd.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let found = fields.next()? == name;
        found.then_some(fields)
    })?;
    let uid = parse_id(fields.nth(1)?)?;
    let gid = parse_id(fields.next()?)?;
    (uid != 0).then(|| Account { uid, gid, name: format!("user {name}"), switch: true })
}

/// macOS writes nobody as -2.
fn parse_id(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TWO_SYSTEMS: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:admin:/var/lib/postgresql:/bin/sh\n\
                               nobody:*:-2:-2:Nobody:/var/empty:/usr/bin/false\ntoor:x:0:0::/root:/bin/sh\n";

    #[test]
    fn users_are_read_from_passwd() {
        let found = find_in_passwd(TWO_SYSTEMS, "postgres").unwrap();
        assert_eq!((found.uid, found.gid), (101, 104));
        assert_eq!(find_in_passwd(TWO_SYSTEMS, "nobody").unwrap().uid, u32::MAX - 1);
        assert_eq!(find_in_passwd(TWO_SYSTEMS, "post"), None);
    }

    #[test]
    fn a_second_name_for_root_is_not_taken() {
        assert_eq!(find_in_passwd(TWO_SYSTEMS, "toor"), None);
    }

    #[test]
    fn the_closed_folder_is_named() {
        let top = tempfile::tempdir().unwrap();
        let closed = top.path().join("closed");
        std::fs::create_dir_all(closed.join("inner")).unwrap();
        std::fs::set_permissions(top.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
        let stranger = Account { uid: 4_000_000, gid: 4_000_000, name: "user stranger".into(), switch: true };
        let error = stranger.check_can_enter(&closed.join("inner")).unwrap_err().to_string();
        let named = closed.canonicalize().unwrap();
        assert!(error.contains(&format!("may not enter {} (mode 700)", named.display())), "{error}");
        stranger.check_can_enter(top.path()).unwrap();
    }
}
