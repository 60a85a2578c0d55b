//! The real binaries, as an operator starts them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use tonic::transport::Endpoint;

use crate::service::SERVICE_TOKEN;
use crate::{Caller, Service};

/// How long a process may take to listen.
const START: Duration = Duration::from_secs(60);

static BUILT: OnceCell<PathBuf> = OnceCell::const_new();

/// The path of one of our binaries, built from what is here now. `cargo test` of everything has built it already.
pub async fn path(name: &str) -> PathBuf {
    let folder = BUILT.get_or_init(|| async {
        let exe = std::env::current_exe().unwrap();
        // …/target/<profile>/deps/<test>, or a program beside ours.
        let beside = exe.parent().unwrap();
        let folder = if beside.ends_with("deps") { beside.parent().unwrap() } else { beside }.to_owned();
        let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let newest = ["proto", "services"].iter().filter_map(|room| newest(&sources.join(room))).max().unwrap();
        let fresh = |binary| changed(&folder.join(binary)).is_some_and(|built| built >= newest);
        if !["countersign-envelope", "countersign-notifier"].iter().all(fresh) {
            build(sources, folder.ends_with("release")).await;
        }
        folder
    });
    folder.await.join(name)
}

async fn build(sources: &Path, release: bool) {
    let mut build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    build.args(["build", "--quiet", "--package", "countersign-envelope", "--package", "countersign-notifier"]);
    if release {
        build.arg("--release");
    }
    let built = build.current_dir(sources).status().await.unwrap();
    assert!(built.success(), "the binaries build");
}

fn changed(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// When something that goes into the binaries was last changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| !path.ends_with("tests"))
        .filter_map(|path| if path.is_dir() { newest(&path) } else { changed(&path) })
        .max()
}

/// A running process of ours. Killed when dropped.
pub struct Process {
    pub child: Child,
    pub address: String,
    said: Arc<Mutex<Vec<String>>>,
}

/// The address that a line tells, as text or as JSON.
fn told(line: &str, name: &str) -> Option<String> {
    let json = serde_json::from_str::<serde_json::Value>(line).ok();
    let json = json.and_then(|line| line[name].as_str().map(str::to_owned));
    json.or_else(|| {
        let (_, rest) = line.split_once(&format!(" {name}="))?;
        rest.split_whitespace().next().map(|word| word.trim_matches('"').to_owned())
    })
}

impl Process {
    /// Starts a service on a free port and waits until it listens. Settings are environment variables.
    pub async fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(path(name).await);
        command.arg("serve").env("COUNTERSIGN_LISTEN", "127.0.0.1:0").env("COUNTERSIGN_LOG", "info");
        command.envs(settings.iter().copied()).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect(name);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = Vec::new();
        let listening = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(address) = told(&line, "address") {
                    return address;
                }
                before.push(line);
            }
            panic!("{name} ended before it listened: {before:#?}");
        };
        let address = tokio::time::timeout(START, listening).await.expect("listening in time");
        // The rest of what it says goes to the test's output.
        let (name, said) = (name.to_owned(), Arc::<Mutex<Vec<String>>>::default());
        tokio::spawn({
            let said = Arc::clone(&said);
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    eprintln!("{name}: {line}");
                    said.lock().unwrap().push(line);
                }
            }
        });
        Self { child, address, said }
    }

    /// What it has said since it listened.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Where its metrics are.
    pub async fn metrics(&self) -> String {
        for _ in 0..200 {
            if let Some(at) = self.said().iter().find_map(|line| told(line, "at")) {
                return format!("http://{at}/metrics");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody says where metrics are");
    }

    /// SIGTERM, and how long it took to end well.
    pub async fn terminate(mut self) -> Duration {
        let (pid, began) = (self.child.id().expect("running").to_string(), std::time::Instant::now());
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().await.unwrap().success(), "it ends well");
        began.elapsed()
    }

    /// An envelope service on the database of another, with settings of its own.
    pub async fn beside(seed: &Service, documents: &Path, more: &[(&str, &str)]) -> Self {
        let master = "5c".repeat(32);
        let mut settings = vec![
            ("COUNTERSIGN_DATABASE_URL", seed.database.url.as_str()),
            ("COUNTERSIGN_MASTER_KEY", &master),
            ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN),
            ("COUNTERSIGN_UNSEALED", "true"),
            ("COUNTERSIGN_DOCUMENTS", documents.to_str().unwrap()),
        ];
        settings.extend(more);
        Self::start("countersign-envelope", &settings).await
    }

    /// The same caller on a connection to this process.
    #[must_use]
    pub fn caller(&self, caller: &Caller) -> Caller {
        let channel = Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy();
        Caller { channel, ..caller.clone() }
    }

    /// kill -9.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// What the kernel says of a process's memory.
#[must_use]
pub fn memory_bytes(process: u32, what: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
