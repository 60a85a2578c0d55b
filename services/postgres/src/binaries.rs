//! Finds the programs of Postgres on this machine, or has them downloaded.
//! Must never return programs that the user who will run them cannot start.

use crate::account::Account;
use crate::download;
use crate::options::{Options, Search};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Older ones are not maintained any more.
const MAJOR_MIN: u32 = 14;
/// `--version` and `--bindir` answer at once; this is for a machine that is very busy.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A folder with working programs.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    pub dir: PathBuf,
    pub major: u32,
}

/// The programs for new data, or for data that another run made with `major`.
pub(super) async fn find(options: &Options, account: &Account, major: Option<u32>) -> Result<Binaries> {
    if let Some(dir) = &options.bin_dir {
        let dir = dir.canonicalize().with_context(|| format!("cannot find the folder {}", dir.display()))?;
        account.check_can_enter(&dir)?;
        let found = inspect(&dir, account).await?;
        return if fits(&found, major) { Ok(found) } else { Err(wrong_version(major, &found)) };
    }
    let mut unfit = None;
    for dir in candidates(&options.search).await {
        match inspect(&dir, account).await {
            Ok(found) if fits(&found, major) => return Ok(found),
            Ok(found) => unfit = unfit.or(Some(found)),
            Err(error) => tracing::debug!(folder = %dir.display(), "no usable Postgres: {error:#}"),
        }
    }
    if let (Some(_), Some(unfit)) = (major.filter(|major| *major != download::MAJOR), &unfit) {
        return Err(wrong_version(major, unfit));
    }
    let reason = match download::fetch(&options.search, &options.progress).await {
        Ok(dir) => {
            account.check_can_enter(&dir)?;
            let found = inspect(&dir, account).await.context("the downloaded Postgres does not work here")?;
            return if fits(&found, major) { Ok(found) } else { Err(wrong_version(major, &found)) };
        }
        Err(reason) => reason,
    };
    match unfit {
        Some(unfit) if major.is_some() => Err(wrong_version(major, &unfit)),
        _ => bail!(
            "Postgres {MAJOR_MIN} or newer was not found on this machine and could not be downloaded ({reason:#}); {}",
            how_to_install()
        ),
    }
}

fn fits(found: &Binaries, major: Option<u32>) -> bool {
    major.map_or(found.major >= MAJOR_MIN, |major| found.major == major)
}

fn wrong_version(major: Option<u32>, found: &Binaries) -> anyhow::Error {
    let (has, dir) = (found.major, found.dir.display());
    match major {
        Some(made_by) => anyhow::anyhow!(
            "the data was made by Postgres {made_by}, but {dir} holds Postgres {has}: \
             install Postgres {made_by}, or choose another data folder"
        ),
        None => anyhow::anyhow!("{dir} holds Postgres {has}, the oldest that can be used is {MAJOR_MIN}"),
    }
}

/// Folders that hold both programs, in the order in which they are tried.
async fn candidates(search: &Search) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    if let Some(pg_config) = &search.pg_config
        && let Ok(answer) = ask(pg_config, "--bindir", None).await
    {
        dirs.push(answer.into());
    }
    dirs.extend(search.places.iter().flat_map(|place| expand(place)));
    dirs.extend(search.path.iter().flat_map(std::env::split_paths));
    dirs.extend(search.cache_dir.iter().flat_map(|cache| expand(&download::place(cache))));
    let mut found = Vec::new();
    for dir in dirs {
        let Ok(program) = dir.join("initdb").canonicalize() else { continue };
        let Some(dir) = program.parent() else { continue };
        if dir.join("postgres").exists() && !found.iter().any(|known| known == dir) {
            found.push(dir.to_path_buf());
        }
    }
    found
}

/// The existing folders that a path with one `*` stands for, the highest number first.
pub(super) fn expand(place: &Path) -> Vec<PathBuf> {
    let mut expanded = vec![(Vec::new(), PathBuf::new())];
    for component in place.components() {
        let name = component.as_os_str().to_string_lossy();
        let Some((before, after)) = name.split_once('*') else {
            expanded.iter_mut().for_each(|(_, path)| path.push(component));
            continue;
        };
        let inside = |path: &PathBuf| {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let matching = names.filter(|name| {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            });
            matching.map(|name| (numbers(&name), path.join(name))).collect::<Vec<_>>()
        };
        expanded = expanded.iter().flat_map(|(_, path)| inside(path)).collect();
    }
    expanded.sort_by(|one, other| other.cmp(one));
    expanded.into_iter().map(|(_, path)| path).filter(|path| path.is_dir()).collect()
}

fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Runs both programs as the user who will run them later.
async fn inspect(dir: &Path, account: &Account) -> Result<Binaries> {
    let mut majors = Vec::new();
    for name in ["postgres", "initdb"] {
        let program = dir.join(name);
        if !program.exists() {
            bail!("there is no {name} in {}", dir.display());
        }
        let answer = ask(&program, "--version", Some(account)).await?;
        majors.push(major_of(&answer).with_context(|| format!("{} says: {answer}", program.display()))?);
    }
    match majors[..] {
        [major, other] if major == other => Ok(Binaries { dir: dir.to_path_buf(), major }),
        _ => bail!("postgres and initdb in {} are of different versions", dir.display()),
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15, `... 19beta1` is 19.
fn major_of(answer: &str) -> Option<u32> {
    let (_, version) = answer.split_once("(PostgreSQL) ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

async fn ask(program: &Path, question: &str, account: Option<&Account>) -> Result<String> {
    let mut command = tokio::process::Command::new(program);
    command.arg(question).stdin(Stdio::null()).current_dir("/").kill_on_drop(true);
    if let Some(account) = account {
        account.apply(command.as_std_mut());
    }
    let asked = || format!("cannot run {} {question}", program.display());
    let output = tokio::time::timeout(ANSWER_MAX, command.output()).await.with_context(asked)?.with_context(asked)?;
    if !output.status.success() {
        bail!("{}: {}", asked(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn how_to_install() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let prefix = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    match install_command(&release) {
        Some(command) if command.starts_with("brew") => format!("install it with: {command}"),
        Some(command) => format!("install it with: {prefix}{command}"),
        None => "install PostgreSQL, or name the folder of its programs".to_owned(),
    }
}

fn install_command(os_release: &str) -> Option<&'static str> {
    if cfg!(target_os = "macos") {
        return Some("brew install postgresql@17");
    }
    let ids = os_release.lines().filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
    ids.flat_map(|value| value.trim_matches('"').split_whitespace()).find_map(|id| match id {
        "debian" | "ubuntu" => Some("apt-get install -y postgresql"),
        "fedora" | "rhel" | "centos" => Some("dnf install -y postgresql-server"),
        "alpine" => Some("apk add postgresql"),
        "arch" => Some("pacman -S --noconfirm postgresql"),
        "suse" | "opensuse" => Some("zypper install -y postgresql-server"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_of("initdb (PostgreSQL) 18.4"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major_of("something else 4"), None);
    }

    #[test]
    fn the_newest_version_comes_first_by_number() {
        let top = tempfile::tempdir().unwrap();
        for name in ["9.6/bin", "15/bin", "17/bin", "14/lib"] {
            std::fs::create_dir_all(top.path().join(name)).unwrap();
        }
        let found = expand(&top.path().join("*/bin"));
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(top.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["17/bin", "15/bin", "9.6/bin"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_install_command_is_that_of_the_system() {
        assert_eq!(install_command("NAME=x\nID=debian\n"), Some("apt-get install -y postgresql"));
        assert_eq!(
            install_command("ID=rocky\nID_LIKE=\"rhel centos fedora\"\n"),
            Some("dnf install -y postgresql-server")
        );
        assert_eq!(install_command("ID=plan9\n"), None);
    }
}
