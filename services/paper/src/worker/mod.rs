//! Reads foreign bytes in a process of its own: the request and the answer that go through its pipes, and its life.
//!
//! A parser that meets a bomb ends in an abort that nothing catches, or in no end at all; so it must never run in the
//! process that serves. The child must never open a file, a socket or another process, and serves one request only.

mod confine;

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::confine::{CPU_SECONDS_MAX, MEMORY_BYTES_MAX};
use crate::apply::StampError;
use crate::combine::combine;
use crate::ingest::{Ingested, Policy, ingest};
use crate::inspect::{Inspection, Unreadable, inspect};
use crate::limits::Limits;
use crate::markers::{Markings, markers};
use crate::render::{Picture, render_page};
use crate::verify::{Roots, Verification, verify};

/// The argument by which a binary of ours is asked to be the child.
pub const ARGUMENT: &str = "paper-worker";
/// The most that a request says beside the document: certificates that are trusted.
const REQUEST_HEAD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most that an answer says beside the bytes it makes: page sizes and markers of the largest paper.
const ANSWER_HEAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Parsers recurse as deep as documents nest.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// What the child is to do with the document behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Task {
    /// [`inspect()`].
    Inspect(Limits),
    /// [`ingest()`].
    Ingest(Limits, Policy),
    /// [`markers()`].
    Markers(Limits),
    /// [`render_page()`].
    Render {
        /// What the document may cost.
        limits: Limits,
        /// The page, counted from 1.
        page: u32,
        /// How wide the picture is to be.
        width_px: u32,
    },
    /// [`verify()`].
    Verify {
        /// What the document may cost.
        limits: Limits,
        /// Who is trusted.
        roots: Roots,
        /// The time at which.
        now_unix_s: u64,
    },
    /// [`combine()`] of the documents of these sizes, which stand one behind the other.
    Combine(Vec<u64>),
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Of [`Task::Inspect`].
    Inspected(Inspection),
    /// Of [`Task::Ingest`]; the base, if there is a new one, stands behind the answer.
    Ingested(Ingested),
    /// Of [`Task::Markers`].
    Marked(Markings),
    /// Of [`Task::Render`], none if there is no such page; the picture itself stands behind the answer.
    Rendered(Option<Picture>),
    /// Of [`Task::Verify`].
    Verified(Verification),
    /// Of [`Task::Combine`]; the one document stands behind the answer.
    Combined,
    /// The document is at fault.
    Refused(Unreadable),
}

/// What the child writes that is no answer, or not all of one.
#[derive(Debug, thiserror::Error)]
#[error("not an answer of a paper worker")]
pub struct Garbled;

/// What stands before the document in a request.
///
/// # Errors
///
/// If the task cannot be written, which tasks can.
pub fn request_head(task: &Task) -> io::Result<Vec<u8>> {
    head(task)
}

/// The answer, and the bytes that were made.
///
/// # Errors
///
/// [`Garbled`] if it is none: the bytes come from a process that read foreign bytes, and are not believed.
pub fn parse_answer(mut written: Vec<u8>) -> Result<(Answer, Vec<u8>), Garbled> {
    let size = written.first_chunk::<4>().ok_or(Garbled)?;
    let end = 4 + u32::from_le_bytes(*size) as usize;
    if end > ANSWER_HEAD_BYTES_MAX {
        return Err(Garbled);
    }
    let head = written.get(4..end).ok_or(Garbled)?;
    let answer = postcard::from_bytes(head).map_err(|_| Garbled)?;
    written.drain(..end);
    Ok((answer, written))
}

/// Lives as the child: confines itself, serves the one request on standard input and ends.
#[must_use]
pub fn run() -> ExitCode {
    // Nobody reads what it would say, and it would quote the document.
    std::panic::set_hook(Box::new(|_| {}));
    // Before the first foreign byte is read. A child that cannot be confined must not read any.
    if confine::limit_resources().is_err() {
        return ExitCode::from(2);
    }
    let reader = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        confine::leave_the_world()?;
        serve(&mut io::stdin().lock(), &mut io::stdout().lock())
    });
    match reader.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

/// Serves one request.
fn serve(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let task = read_head(input)?;
    let mut bytes = Vec::new();
    let bytes_max = Limits::CEILING.bytes_max as u64 + 1;
    input.take(bytes_max).read_to_end(&mut bytes)?;
    // Nothing that a panic leaves behind is looked at again.
    let (answer, made) = catch_unwind(AssertUnwindSafe(|| answer(&task, bytes)))
        .unwrap_or_else(|_| (Answer::Refused(Unreadable::broken("it cannot be read")), Vec::new()));
    output.write_all(&head(&answer)?)?;
    output.write_all(&made)?;
    output.flush()
}

fn answer(task: &Task, bytes: Vec<u8>) -> (Answer, Vec<u8>) {
    let result = match task {
        Task::Inspect(limits) => inspect(&bytes, limits).map(|found| (Answer::Inspected(found), Vec::new())),
        Task::Ingest(limits, policy) => ingest(&bytes, limits, policy).map(|mut found| {
            let base = found.base.take().unwrap_or_default();
            (Answer::Ingested(found), base)
        }),
        Task::Markers(limits) => markers(&bytes, limits).map(|found| (Answer::Marked(found), Vec::new())),
        Task::Render { limits, page, width_px } => render_page(&bytes, *page, *width_px, limits).map(|mut found| {
            let png = found.as_mut().map(|picture| std::mem::take(&mut picture.png)).unwrap_or_default();
            (Answer::Rendered(found), png)
        }),
        Task::Verify { limits, roots, now_unix_s } => {
            verify(&bytes, limits, roots, *now_unix_s).map(|found| (Answer::Verified(found), Vec::new()))
        }
        Task::Combine(sizes) => combined(&bytes, sizes).map(|whole| (Answer::Combined, whole)),
    };
    result.unwrap_or_else(|why| (Answer::Refused(why), Vec::new()))
}

fn combined(mut bytes: &[u8], sizes: &[u64]) -> Result<Vec<u8>, Unreadable> {
    let mut papers = Vec::new();
    for size in sizes {
        let size = usize::try_from(*size).unwrap_or(usize::MAX);
        let (paper, rest) = bytes.split_at_checked(size).ok_or_else(|| Unreadable::broken("it is cut off"))?;
        papers.push(paper);
        bytes = rest;
    }
    combine(&papers).map_err(|why| match why {
        StampError::Unreadable(why) => why,
        other => Unreadable::broken(other),
    })
}

fn head(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut head = postcard::to_extend(value, vec![0; 4]).map_err(io::Error::other)?;
    let size = u32::try_from(head.len() - 4).map_err(io::Error::other)?;
    head[..4].copy_from_slice(&size.to_le_bytes());
    Ok(head)
}

fn read_head<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<T> {
    let mut size = [0; 4];
    input.read_exact(&mut size)?;
    let size = u32::from_le_bytes(size) as usize;
    if size > REQUEST_HEAD_BYTES_MAX {
        return Err(io::Error::other("the head of the request is too large"));
    }
    let mut head = vec![0; size];
    input.read_exact(&mut head)?;
    postcard::from_bytes(&head).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn served(task: &Task, bytes: &[u8]) -> (Answer, Vec<u8>) {
        let request = [request_head(task).unwrap(), bytes.to_vec()].concat();
        let mut written = Vec::new();
        serve(&mut request.as_slice(), &mut written).unwrap();
        parse_answer(written).unwrap()
    }

    #[test]
    fn what_goes_in_comes_out_on_the_other_side() {
        let sample = crate::samples::nda().unwrap();
        let task = Task::Inspect(Limits::default());
        let expected = inspect(&sample.bytes, &Limits::default()).unwrap();
        assert_eq!(served(&task, &sample.bytes), (Answer::Inspected(expected), vec![]));
        assert_eq!(served(&task, b"nothing"), (Answer::Refused(Unreadable::NotPdf), vec![]));
    }

    #[test]
    fn several_documents_go_in_and_one_comes_out() {
        let papers: Vec<Vec<u8>> = crate::samples::all().unwrap().into_iter().map(|sample| sample.bytes).collect();
        let sizes: Vec<u64> = papers.iter().map(|paper| paper.len() as u64).collect();
        let whole = combine(&papers).unwrap();
        assert_eq!(served(&Task::Combine(sizes.clone()), &papers.concat()), (Answer::Combined, whole));
        let (cut, _) = served(&Task::Combine(vec![sizes[0] + 1]), &papers[0]);
        assert_eq!(cut, Answer::Refused(Unreadable::broken("it is cut off")));
    }

    #[test]
    fn certificates_go_in_with_the_document() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&pair).unwrap().der().to_vec();
        let (limits, roots) = (Limits::default(), Roots::new(&vec![root; 1_000]));
        let sample = crate::samples::nda().unwrap();
        let expected = verify(&sample.bytes, &limits, &roots, 7).unwrap();
        let task = Task::Verify { limits, roots, now_unix_s: 7 };
        assert_eq!(served(&task, &sample.bytes), (Answer::Verified(expected), vec![]));
        let request = request_head(&task).unwrap();
        assert!(request.len() > 300_000 && read_head::<Task>(&mut request.as_slice()).unwrap() == task);
    }

    #[test]
    fn what_is_no_answer_is_not_believed() {
        let long = u32::MAX.to_le_bytes().to_vec();
        for garbage in [vec![], b"not".to_vec(), b"hello, here is no answer".to_vec(), long, vec![1, 0, 0, 0, 77]] {
            assert!(parse_answer(garbage).is_err());
        }
    }

    #[test]
    fn heads_that_are_too_large_are_not_read() {
        let long = u32::MAX.to_le_bytes();
        assert!(serve(&mut long.as_slice(), &mut Vec::new()).is_err());
    }
}
