//! Documents are read by confined children: what hurts a reader hurts none of the service.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_envelope::worker::{WorkerError, Workers};
use countersign_paper::worker::{CPU_SECONDS_MAX, MEMORY_BYTES_MAX};
use countersign_paper::{Limits, Policy, Roots, Unreadable};
use countersign_test_support::client::{pdf, request};
use countersign_test_support::{Errors as _, Service, binary, crafted};
use tempfile::TempDir;
use tonic::Code;

use crate::ending::Ending;
use crate::mutants::press::Press;

/// Longer than a child may live.
const ANSWER_MAX: Duration = Duration::from_secs(75);
/// By how much this process may grow while children read: the papers themselves and what allocators keep.
const GROWTH_BYTES_MAX: u64 = 400 << 20;

async fn workers() -> Workers {
    Workers::new(Some(binary::path("countersign-envelope").await), Some(2)).unwrap()
}

pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// What a task made of a paper: nothing, or why not. A child that cannot work is a failure.
fn told<T>(name: &str, task: &str, result: Result<T, WorkerError>) -> Option<Unreadable> {
    match result {
        Ok(_) => None,
        Err(WorkerError::Refused(why)) => Some(why),
        // On a busy machine the clock may be faster than the limit of processor time: it is an answer, too.
        Err(WorkerError::Unavailable(why)) if why.to_string().contains("too slow") => Some(Unreadable::TooCostly),
        Err(other) => panic!("{name}: {task}: {other}"),
    }
}

/// How long a child may live where it is not its own limit that is looked at: most need a hundredth of it.
const BRISK: Duration = Duration::from_secs(4);
/// What is left to its child until that meets its own limit of processor time.
const ENDLESS: &str = "a thousand million laughs";

/// Has a paper read and, if it is let in, searched, drawn and sealed; what was said of it.
async fn read(workers: &Workers, press: &Press, name: &str, bytes: Bytes) -> Vec<Option<Unreadable>> {
    let (begun, limits) = (Instant::now(), Limits::default());
    let inspect = async { told(name, "inspect", workers.inspect(bytes.clone(), limits).await) };
    let ingest = workers.ingest(bytes.clone(), limits, Policy::default());
    let check = workers.verify(async { Ok(bytes.clone()) }, (Roots::default(), 0), limits);
    let check = async { told(name, "verify", check.await) };
    let (inspected, ingested, verified) = tokio::join!(inspect, ingest, check);
    let found = ingested.as_ref().ok().cloned();
    let mut said = vec![inspected, told(name, "ingest", ingested), verified];
    if let Some(found) = found {
        // What is let in is drawn and searched later.
        let mark = async { told(name, "markers", workers.markers(bytes.clone(), limits).await) };
        let draw = workers.render_page(async { Ok(bytes.clone()) }, (1, 500), limits);
        let draw = async { told(name, "render", draw.await) };
        let (marked, drawn) = tokio::join!(mark, draw);
        said.extend([marked, drawn]);
        // No child does that: what was let in is sealed by the process that serves.
        let base = found.base.map_or(bytes, Bytes::from);
        let sealed = press.press(base, found.pages.len(), Ending::Refused).await;
        sealed.unwrap_or_else(|why| panic!("{name} was let in and cannot be sealed: {why}"));
    }
    assert!(begun.elapsed() < ANSWER_MAX, "{name}: {:?}", begun.elapsed());
    eprintln!("{name}: {said:?} after {:?}", begun.elapsed());
    said
}

/// pdf.md, section 5: each crafted paper is answered in time and within the child's memory, whatever is asked of it, and
/// leaves sealed if it is let in.
#[tokio::test(flavor = "multi_thread")]
async fn s1_35_papers_made_to_hurt_hurt_no_one() {
    let patient = workers().await;
    let brisk = patient.clone().with_patience(ANSWER_MAX, BRISK);
    let press = Press::open().await;
    let before = resident_bytes();
    // They are made while others are read; that takes about as long.
    let (made, mut papers) = tokio::sync::mpsc::channel(2);
    let making = tokio::task::spawn_blocking(move || crafted::all().try_for_each(|paper| made.blocking_send(paper)));
    let mut costly = Vec::new();
    while let Some((name, bytes)) = papers.recv().await {
        let workers = if name == ENDLESS { &patient } else { &brisk };
        if read(workers, &press, name, bytes.into()).await.contains(&Some(Unreadable::TooCostly)) {
            costly.push(name);
        }
    }
    making.await.unwrap().expect("all were taken");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "this process grew by {grown} bytes");
    // One meets the limit of time, the other that of memory.
    for name in [ENDLESS, "an array of ten million"] {
        assert!(costly.contains(&name), "{name} met no limit of a child: {costly:?}");
    }
}

/// The numbers after a name in a file under /proc.
fn line_of(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

#[tokio::test]
async fn a_child_shuts_itself_in_before_it_reads() {
    let program = binary::path("countersign-envelope").await;
    let mut child = tokio::process::Command::new(program)
        .arg("paper-worker")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let id = child.id().unwrap();
    let filtered = || {
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
        let states = threads.map(|thread| {
            let status = thread.path().join("status").display().to_string();
            (line_of(&status, "Seccomp:"), line_of(&status, "NoNewPrivs:"))
        });
        let states: Vec<bool> = states.map(|state| state == ("2".to_owned(), "1".to_owned())).collect();
        // The one that waits, and the one that reads.
        states.len() == 2 && states.iter().all(|is_filtered| *is_filtered)
    };
    let begun = Instant::now();
    while !filtered() {
        assert!(begun.elapsed() < ANSWER_MAX, "the child filters no system calls");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let limit = |name: &str| {
        let line = line_of(&format!("/proc/{id}/limits"), name);
        line.split_whitespace().take(2).map(|most| most.parse::<u64>().unwrap_or(u64::MAX)).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max address space"), [MEMORY_BYTES_MAX; 2]);
    assert_eq!(limit("Max cpu time"), [CPU_SECONDS_MAX, CPU_SECONDS_MAX + 2]);
    assert_eq!(limit("Max file size"), [0; 2]);
    assert_eq!(limit("Max core file size"), [0; 2]);
    assert_eq!(limit("Max open files"), [16; 2]);
    drop(child.stdin.take());
    assert_eq!(child.wait().await.unwrap().code(), Some(2), "no request is no document");
}

/// A program that stands where the reader should be.
pub fn stand_in(folder: &TempDir, script: &str) -> PathBuf {
    let path = folder.path().join("stand-in");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn asked(program: &Path, life_max: Duration) -> Result<(), WorkerError> {
    let workers = Workers::new(Some(program.to_owned()), Some(1)).unwrap().with_patience(ANSWER_MAX, life_max);
    workers.inspect(pdf().into(), Limits::default()).await.map(drop)
}

#[tokio::test]
async fn a_child_inherits_nothing() {
    let folder = TempDir::new().unwrap();
    let at = folder.path().display();
    let script = format!("cat /proc/$$/environ > {at}/environ; ls -l /proc/$$/fd > {at}/files; pwd > {at}/pwd; exit 3");
    let program = stand_in(&folder, &script);
    let _socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(std::env::vars().count() > 0);
    assert!(matches!(asked(&program, ANSWER_MAX).await, Err(WorkerError::Unavailable(_))));
    let left = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(left("environ"), "", "no secret of the service is in the child's environment");
    assert_eq!(left("pwd").trim(), "/");
    let files = left("files");
    let others = files.lines().filter(|line| line.contains(" -> ")).filter(|line| {
        !["pipe:", "/dev/null", "stand-in", "/proc/", "/files"].iter().any(|known| line.contains(known))
    });
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new(), "no file or socket of the service is open in the child");
}

#[tokio::test]
async fn what_is_no_answer_is_not_the_documents_fault() {
    let folder = TempDir::new().unwrap();
    let later = |result: Result<(), WorkerError>| matches!(result, Err(WorkerError::Unavailable(_)));
    for script in
        ["echo hello", "exec cat /dev/zero", "exit 2", "true", "cat", "kill -TERM $$", "kill -INT $$", "kill -9 $$"]
    {
        assert!(later(asked(&stand_in(&folder, script), ANSWER_MAX).await), "{script}");
    }
    assert!(later(asked(Path::new("/nowhere/at/all"), ANSWER_MAX).await), "a program that is not there");
}

#[tokio::test]
async fn a_child_that_meets_its_limits_is_the_documents_fault() {
    let folder = TempDir::new().unwrap();
    for signal in ["XCPU", "ABRT", "SEGV"] {
        let result = asked(&stand_in(&folder, &format!("kill -{signal} $$")), ANSWER_MAX).await;
        assert!(matches!(result, Err(WorkerError::Refused(Unreadable::TooCostly))), "{signal}: {result:?}");
    }
}

/// The machine may have had no time for it.
#[tokio::test]
async fn a_slow_child_is_ended_and_nobodys_fault() {
    let folder = TempDir::new().unwrap();
    let at = folder.path().join("id").display().to_string();
    let begun = Instant::now();
    let slow = asked(&stand_in(&folder, &format!("echo $$ > {at}; exec sleep 600")), Duration::from_millis(300)).await;
    assert!(matches!(slow, Err(WorkerError::Unavailable(_))), "{slow:?}");
    assert!(begun.elapsed() < ANSWER_MAX);
    if let Ok(id) = std::fs::read_to_string(&at) {
        assert!(!Path::new(&format!("/proc/{}", id.trim())).exists(), "the child is gone, not even a zombie");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_35_two_hundred_at_once_stay_a_few() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let script = format!("echo + >> {0}; cat > /dev/null; echo - >> {0}; exit 3", log.display());
    let program = stand_in(&folder, &script);
    let workers = Workers::new(Some(program), Some(3)).unwrap();
    let all = (0..200).map(|_| workers.inspect(pdf().into(), Limits::default()));
    for result in futures_util::future::join_all(all).await {
        assert!(matches!(result, Err(WorkerError::Unavailable(_))));
    }
    let (mut now, mut most, mut begun) = (0, 0, 0);
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        now += if line == "+" { 1 } else { -1 };
        begun += usize::from(line == "+");
        most = most.max(now);
    }
    assert_eq!(begun, 200);
    assert!((1..=3).contains(&most), "{most} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_told_to_come_back() {
    let folder = TempDir::new().unwrap();
    let program = stand_in(&folder, "exec sleep 600");
    let patience = (Duration::from_millis(50), Duration::from_millis(500));
    let workers = Workers::new(Some(program), Some(1)).unwrap().with_patience(patience.0, patience.1);
    let ask = || workers.inspect(pdf().into(), Limits::default());
    let (one, other) = tokio::join!(ask(), ask());
    let results = [one.unwrap_err(), other.unwrap_err()].map(|error| error.to_string());
    assert!(results.iter().any(|why| why.contains("too many documents wait")), "{results:?}");
    assert!(results.iter().any(|why| why.contains("too slow")), "{results:?}");
}

/// What was found once is not looked for again.
#[tokio::test]
async fn the_same_document_is_read_once() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("reader");
    std::os::unix::fs::symlink(binary::path("countersign-envelope").await, &link).unwrap();
    let workers = Workers::new(Some(link.clone()), Some(1)).unwrap();
    let found = workers.ingest(pdf().into(), Limits::default(), Policy::default()).await.unwrap();
    std::fs::remove_file(&link).unwrap();
    assert_eq!(workers.ingest(pdf().into(), Limits::default(), Policy::default()).await.unwrap(), found);
    let limits = Limits { pages_max: 1, ..Limits::default() };
    assert!(
        workers.ingest(pdf().into(), limits, Policy::default()).await.is_err(),
        "under other limits it is another question"
    );
}

fn with_document(bytes: Vec<u8>) -> countersign::v1::CreateEnvelopeRequest {
    let mut request = request(1, countersign::v1::Routing::Parallel, false);
    request.documents[0].source = Some(countersign::v1::document_source::Source::Content(bytes.into()));
    request
}

/// T-69: the caller hears what is wrong in a word, and that it is the document, or that it is not.
#[tokio::test(flavor = "multi_thread")]
async fn t69_callers_hear_whose_fault_it_is() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let refused = sender.create(with_document(b"%PDF-1.7 and no more".to_vec())).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::InvalidArgument, "UNREADABLE_DOCUMENT"));
    assert_eq!(refused.fact("fault"), "BROKEN");
    assert_eq!(refused.fields(), ["documents[0].content"]);
    let (database, documents) = service.stop().await;
    let mut config = countersign_test_support::service::config(&database, &documents);
    config.paper_worker = Some("/nowhere/at/all".into());
    let clock = countersign_chassis::clock::Clock::database();
    let service = Service::start_with(database, clock, documents, config).await;
    let sender = service.account(false).await;
    let refused = sender.create(with_document(pdf())).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::Unavailable, "UNAVAILABLE"));
}
