//! A disk so small that a test fills it to its last byte. It lies in memory, and is mounted for the test alone.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use countersign_postgres::Postgres;
use tempfile::TempDir;

use crate::Database;
use crate::outside::as_root;

/// Mounted until it is dropped.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// With so much room. `None`, after saying so, where nobody may mount one.
    #[must_use]
    pub fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("countersign-disk-").tempdir().unwrap();
        // Postgres, which is somebody else, passes through.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let options = format!("size={megabytes}m,mode=1777");
        let path = folder.path().to_str().unwrap();
        if as_root(&["mount", "-t", "tmpfs", "-o", &options, "countersign-disk", path]) {
            return Some(Self { folder });
        }
        // It is a right that is absent, and no program that could be installed: so it fails nowhere.
        eprintln!("SKIPPED: nobody may mount a small disk here; run it on Linux, as root or as somebody with sudo");
        None
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// To the last byte.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for bytes in [1 << 20, 1 << 12] {
            let piece = vec![0; bytes];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    /// What was filled in is taken out.
    pub fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Has all tables that are made from now on lie here, and nothing else of the server.
    pub async fn take_tables_of(&self, postgres: &Postgres) {
        let folder = self.path().join("tables");
        let folder = folder.to_str().unwrap();
        let client = Database::at(postgres, "postgres".to_owned()).connect().await;
        for statement in [
            // The server makes it itself: it has to be its own.
            &format!("COPY (SELECT 1) TO PROGRAM 'mkdir -m 700 {folder} && cat > /dev/null'"),
            &format!("CREATE TABLESPACE small LOCATION '{folder}'"),
            "GRANT CREATE ON TABLESPACE small TO PUBLIC",
            "ALTER ROLE countersign SET default_tablespace = 'small'",
        ] {
            client.batch_execute(statement).await.unwrap_or_else(|why| panic!("{statement}: {why:?}"));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // As soon as nobody uses it: Postgres may still be on its way out.
        let path = self.path().to_str().unwrap();
        if !as_root(&["umount", "--lazy", path]) {
            eprintln!("{path} stays mounted");
        }
    }
}
