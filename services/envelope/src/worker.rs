//! Has foreign documents read by a child process: this program again, confined, one document each.
//!
//! It must never read a document in this process, wait without bound for a child, believe what it answers without a look,
//! or let it inherit anything: no environment, no files, no sockets.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use countersign_chassis::keys::sha256;
use countersign_paper::worker::{self, Answer, Task};
use countersign_paper::{Ingested, Inspection, Limits, Markings, Picture, Policy, Roots, Unreadable, Verification};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

use crate::domain::envelope::Digest;

/// How long a document waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a child may live. Its own limit is in processor time; this one is met where the machine has none to give.
const LIFE_MAX: Duration = Duration::from_secs(60);
/// What an answer may have beside a copy of the document: an unpacked copy is larger, a picture has a size of its own.
const ANSWER_BYTES_BESIDE: u64 = 48 * 1024 * 1024;

/// Pages of documents whose sizes are remembered, of some ten bytes each.
const REMEMBERED_PAGES_MAX: u64 = 500_000;

/// Signals by which people, supervisors and a machine without memory end processes, whatever these do.
const HANGUP: i32 = 1;
const INTERRUPT: i32 = 2;
const KILL: i32 = 9;
const TERMINATE: i32 = 15;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The document is at fault.
    #[error(transparent)]
    Refused(#[from] Unreadable),
    /// The document is not at fault: it may work later.
    #[error("no child could read the document: {0:#}")]
    Unavailable(anyhow::Error),
}

/// Starts the children, a few at a time.
#[derive(Clone, Debug)]
pub struct Workers {
    program: PathBuf,
    /// What was found in documents before that stay as they came: the same contract is sent again and again.
    ingested: moka::sync::Cache<(Digest, Limits, Policy), Ingested>,
    slots: Arc<Semaphore>,
    at_once: usize,
    wait_max: Duration,
    life_max: Duration,
}

impl Workers {
    /// Children of `program`, which has the subcommand `paper-worker`; without one of this program itself. At most
    /// `at_once` live at the same time, without a number as many as there are processors.
    pub fn new(program: Option<PathBuf>, at_once: Option<u16>) -> anyhow::Result<Self> {
        let program = match program {
            Some(program) => program,
            // The file may have been replaced by a newer one since; this name stays what runs.
            None if cfg!(target_os = "linux") => PathBuf::from("/proc/self/exe"),
            None => std::env::current_exe().context("finding this program")?,
        };
        let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let at_once = at_once.map_or_else(processors, usize::from).max(1);
        let slots = Arc::new(Semaphore::new(at_once));
        let pages =
            |_: &(Digest, Limits, Policy), found: &Ingested| u32::try_from(1 + found.pages.len()).unwrap_or(u32::MAX);
        let ingested = moka::sync::Cache::builder().weigher(pages).max_capacity(REMEMBERED_PAGES_MAX).build();
        Ok(Self { program, ingested, slots, at_once, wait_max: WAIT_MAX, life_max: LIFE_MAX })
    }

    /// How many children live at the same time at most.
    #[must_use]
    pub fn at_once(&self) -> usize {
        self.at_once
    }

    /// The same with other patience.
    #[must_use]
    pub fn with_patience(self, wait_max: Duration, life_max: Duration) -> Self {
        Self { wait_max, life_max, ..self }
    }

    /// See [`countersign_paper::inspect()`].
    pub async fn inspect(&self, bytes: Bytes, limits: Limits) -> Result<Inspection, WorkerError> {
        match self.run(&Task::Inspect(limits), bytes).await? {
            (Answer::Inspected(found), _) => Ok(found),
            _ => Err(unavailable("another answer than asked for")),
        }
    }

    /// See [`countersign_paper::ingest()`].
    pub async fn ingest(&self, bytes: Bytes, limits: Limits, policy: Policy) -> Result<Ingested, WorkerError> {
        let name = (sha256(&bytes), limits, policy);
        if let Some(found) = self.ingested.get(&name) {
            return Ok(found);
        }
        match self.run(&Task::Ingest(limits, policy), bytes).await? {
            (Answer::Ingested(found), base) if base.is_empty() => {
                self.ingested.insert(name, found.clone());
                Ok(found)
            }
            (Answer::Ingested(found), base) => Ok(Ingested { base: Some(base), ..found }),
            _ => Err(unavailable("another answer than asked for")),
        }
    }

    /// See [`countersign_paper::markers()`].
    pub async fn markers(&self, bytes: Bytes, limits: Limits) -> Result<Markings, WorkerError> {
        match self.run(&Task::Markers(limits), bytes).await? {
            (Answer::Marked(found), _) => Ok(found),
            _ => Err(unavailable("another answer than asked for")),
        }
    }

    /// See [`countersign_paper::render_page()`]. The document is read when its turn has come.
    pub async fn render_page(
        &self,
        read: impl Future<Output = anyhow::Result<Bytes>>,
        (page, width_px): (u32, u32),
        limits: Limits,
    ) -> Result<Option<Picture>, WorkerError> {
        match self.run_read(&Task::Render { limits, page, width_px }, read).await? {
            (Answer::Rendered(found), png) => Ok(found.map(|found| Picture { png, ..found })),
            _ => Err(unavailable("another answer than asked for")),
        }
    }

    /// See [`countersign_paper::verify()`]. The document is read when its turn has come.
    pub async fn verify(
        &self,
        read: impl Future<Output = anyhow::Result<Bytes>>,
        (roots, now_unix_s): (Roots, u64),
        limits: Limits,
    ) -> Result<Verification, WorkerError> {
        match self.run_read(&Task::Verify { limits, roots, now_unix_s }, read).await? {
            (Answer::Verified(found), _) => Ok(found),
            _ => Err(unavailable("another answer than asked for")),
        }
    }

    /// See [`countersign_paper::combine()`]. The documents are of these sizes and stand one behind the other.
    pub async fn combine(&self, papers: Bytes, sizes: Vec<u64>) -> Result<Vec<u8>, WorkerError> {
        match self.run(&Task::Combine(sizes), papers).await? {
            (Answer::Combined, whole) => Ok(whole),
            _ => Err(unavailable("another answer than asked for")),
        }
    }

    async fn run(&self, task: &Task, bytes: Bytes) -> Result<(Answer, Vec<u8>), WorkerError> {
        self.run_read(task, async { Ok(bytes) }).await
    }

    /// What a child makes of a document. Who waits for a turn holds nothing.
    async fn run_read(
        &self,
        task: &Task,
        read: impl Future<Output = anyhow::Result<Bytes>>,
    ) -> Result<(Answer, Vec<u8>), WorkerError> {
        let turn = tokio::time::timeout(self.wait_max, self.slots.acquire()).await;
        let turn = turn.map_err(|_| unavailable("too many documents wait"))?;
        let _turn = turn.map_err(|why| unavailable(&why.to_string()))?;
        let bytes = read.await.map_err(WorkerError::Unavailable)?;
        // More than this is not read by the child either.
        if bytes.len() > Limits::CEILING.bytes_max {
            let max_bytes = Limits::CEILING.bytes_max;
            return Err(Unreadable::TooLarge { actual_bytes: bytes.len(), max_bytes }.into());
        }
        let head = worker::request_head(task).context("a request").map_err(WorkerError::Unavailable)?;
        let mut child =
            self.start().with_context(|| self.program.display().to_string()).map_err(WorkerError::Unavailable)?;
        let lived = tokio::time::timeout(self.life_max, live(&mut child, &head, bytes)).await;
        let Ok(lived) = lived else {
            // Nobody is left behind, not even as a zombie.
            child.kill().await.context("ending a child").map_err(WorkerError::Unavailable)?;
            return Err(unavailable("a child that was too slow"));
        };
        let (written, status) = lived.context("talking to a child").map_err(WorkerError::Unavailable)?;
        judge(written, status)
    }

    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg(worker::ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It would quote the document.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            // An interrupt at the keyboard is for the service, which ends in order.
            .process_group(0)
            .spawn()
    }
}

fn unavailable(why: &str) -> WorkerError {
    WorkerError::Unavailable(anyhow::anyhow!("{why}"))
}

/// The whole life of a child: what it wrote, and how it ended.
async fn live(child: &mut Child, head: &[u8], bytes: Bytes) -> anyhow::Result<(Vec<u8>, ExitStatus)> {
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        anyhow::bail!("a child without pipes");
    };
    let answer_bytes_max = 2 * bytes.len() as u64 + ANSWER_BYTES_BESIDE;
    let (told, heard) = tokio::join!(tell(stdin, head, bytes), hear(stdout, answer_bytes_max));
    // A child that ends early leaves the rest of the request unread; how it ended says why.
    drop(told);
    let written = heard?;
    if written.len() as u64 > answer_bytes_max {
        child.kill().await?;
        anyhow::bail!("an answer without end");
    }
    Ok((written, child.wait().await?))
}

async fn tell(mut stdin: ChildStdin, head: &[u8], bytes: Bytes) -> std::io::Result<()> {
    stdin.write_all(head).await?;
    stdin.write_all(&bytes).await?;
    stdin.shutdown().await
}

/// One byte more than allowed shows that there was more.
async fn hear(stdout: ChildStdout, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut written = Vec::new();
    stdout.take(bytes_max + 1).read_to_end(&mut written).await?;
    Ok(written)
}

/// What the child said, if it ended as it should.
fn judge(written: Vec<u8>, status: ExitStatus) -> Result<(Answer, Vec<u8>), WorkerError> {
    use std::os::unix::process::ExitStatusExt as _;

    match status.signal() {
        // It may have been any child's turn.
        Some(HANGUP | INTERRUPT | KILL | TERMINATE) => return Err(unavailable("a child that was told to stop")),
        // Its memory or its time was over: it could not allocate, overran its stack or its limit.
        Some(_) => return Err(Unreadable::TooCostly.into()),
        None => {}
    }
    if !status.success() {
        return Err(unavailable("a child that could not work"));
    }
    match worker::parse_answer(written) {
        Ok((Answer::Refused(why), _)) => Err(why.into()),
        Ok(answered) => Ok(answered),
        Err(garbled) => Err(unavailable(&garbled.to_string())),
    }
}
