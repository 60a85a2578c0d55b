//! What a peer says on its connection: counted, and heard no faster than it is of use.
//!
//! HTTP/2 lets a peer say a hundred thousand things of no use in a megabyte, and whoever reads all that there is does nothing else
//! meanwhile. So frames that bring next to nothing are paid for: by a rate that is above any client's, by calls, and by what
//! travels besides. Who has nothing left is heard a little later; nobody is cut off.
//!
//! It must never hold up a peer whose frames are of use, and never what the service itself says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::metrics;

/// What comes before the first frame (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;
/// The header of a frame (RFC 9113, 4.1): three bytes of length, type, flags, four of the stream.
const HEADER_BYTES: usize = 9;
/// Types of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// So many bytes, of documents or answers, are of use: they pay for a frame, and as DATA they need no payment.
const USEFUL_BYTES: usize = 256;
/// Frames of no use that a call pays for: what clients say around each.
const CALL_PAYS: u64 = 8;
/// Frames of no use in a second for nothing (4,000), and how many may come at once.
const FRAME_TAKES: Duration = Duration::from_micros(250);
const AT_ONCE: u32 = 256;

/// A connection of which it is known how much its peer has said.
pub(crate) struct Heard<T> {
    stream: T,
    bytes: Arc<AtomicU64>,
    frames: Frames,
    purse: Purse,
    rest: Option<Pin<Box<Sleep>>>,
}

impl<T> Heard<T> {
    /// Tells `bytes` how many bytes the peer has said.
    pub(crate) fn new(stream: T, bytes: Arc<AtomicU64>) -> Self {
        Self { stream, bytes, frames: Frames::default(), purse: Purse::new(), rest: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(context));
            self.rest = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let said = buffer.filled().get(before..).unwrap_or_default();
        self.bytes.fetch_add(said.len() as u64, Ordering::Relaxed);
        let Worth { idle, paid } = self.frames.look(said);
        self.purse.put(paid);
        if let Some(until) = self.purse.take(idle, Instant::now) {
            self.rest = Some(Box::pin(sleep_until(until)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Heard<T> {
    /// What is answered pays for what clients say to it: windows and pings.
    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.purse.put_bytes(*bytes);
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What some frames are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Worth {
    /// Frames of no use.
    idle: u32,
    /// Frames of no use that the others pay for.
    paid: u64,
}

/// Where one frame ends and the next begins, in whatever pieces they come.
struct Frames {
    /// Bytes until the next header.
    skip: usize,
    header: [u8; HEADER_BYTES],
    /// How much of it is there.
    has: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE_BYTES, header: [0; HEADER_BYTES], has: 0 }
    }
}

impl Frames {
    fn look(&mut self, mut said: &[u8]) -> Worth {
        let mut worth = Worth::default();
        loop {
            let skipped = self.skip.min(said.len());
            self.skip -= skipped;
            said = said.get(skipped..).unwrap_or_default();
            let Some((first, rest)) = said.split_first() else { return worth };
            // A byte at a time: a header may come in pieces, and there are nine.
            if let Some(place) = self.header.get_mut(self.has) {
                *place = *first;
            }
            (self.has, said) = (self.has + 1, rest);
            if self.has == HEADER_BYTES {
                let [high, middle, low, kind, ..] = self.header;
                (self.has, self.skip) = (0, u32::from_be_bytes([0, high, middle, low]) as usize);
                weigh(kind, self.skip, &mut worth);
            }
        }
    }
}

/// Adds what a frame is worth. What ends a call is paid for with its headers, and of no use without them.
fn weigh(kind: u8, length: usize, worth: &mut Worth) {
    match kind {
        HEADERS => worth.paid += CALL_PAYS,
        DATA if length >= USEFUL_BYTES => worth.paid += (length / USEFUL_BYTES) as u64,
        _ => worth.idle += 1,
    }
}

/// What a peer has left: so much comes back in a second, and it never holds more than a few frames.
struct Purse {
    /// By when all frames so far are paid for.
    even_at: Instant,
    /// What came in besides since the last look.
    paid: u64,
    /// Bytes that are not enough for a frame yet.
    bytes: usize,
    is_slowed: bool,
}

impl Purse {
    fn new() -> Self {
        Self { even_at: Instant::now(), paid: 0, bytes: 0, is_slowed: false }
    }

    fn put(&mut self, frames: u64) {
        self.paid = self.paid.saturating_add(frames);
    }

    fn put_bytes(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.put((self.bytes / USEFUL_BYTES) as u64);
        self.bytes %= USEFUL_BYTES;
    }

    /// Pays for that many frames; if there is not enough, says until when not to listen.
    fn take(&mut self, idle: u32, now: impl FnOnce() -> Instant) -> Option<Instant> {
        let paid = u32::try_from(self.paid).unwrap_or(u32::MAX).min(idle);
        // What calls and answers paid for and nobody used is there for the next frames, within bounds.
        self.paid = (self.paid - u64::from(paid)).min(u64::from(AT_ONCE));
        let owed = idle - paid;
        if owed == 0 {
            return None;
        }
        let now = now();
        self.even_at = self.even_at.max(now) + FRAME_TAKES * owed;
        let until = self.even_at.checked_sub(FRAME_TAKES * AT_ONCE).filter(|until| *until > now)?;
        if !std::mem::replace(&mut self.is_slowed, true) {
            metrics::slowed();
            tracing::debug!("a connection says more that is of no use than it may: it is heard later");
        }
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RST_STREAM: u8 = 3;
    const END_STREAM: u8 = 1;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let bytes = (length as u32).to_be_bytes();
        [&bytes[1..], &[kind, flags, 0, 0, 0, 1], &vec![kind; length]].concat()
    }

    fn looked(said: &[u8], at_once: usize) -> Worth {
        let mut frames = Frames::default();
        let all = [&[b'P'; PREFACE_BYTES], said].concat();
        all.chunks(at_once)
            .map(|piece| frames.look(piece))
            .fold(Worth::default(), |sum, it| Worth { idle: sum.idle + it.idle, paid: sum.paid + it.paid })
    }

    #[test]
    fn frames_are_told_apart_in_whatever_pieces_they_come() {
        let call = [frame(HEADERS, 4, 80), frame(DATA, END_STREAM, 30)].concat();
        let document = [frame(HEADERS, 4, 80), frame(DATA, 0, 16_384), frame(DATA, 0, 255), frame(DATA, 0, 0)].concat();
        let chatter =
            [frame(6, 0, 8), frame(4, 0, 0), frame(8, 0, 4), frame(RST_STREAM, 0, 4), frame(77, 0, 3)].concat();
        for at_once in [1, 2, 9, 13, 4_096, 100_000] {
            assert_eq!(looked(&call, at_once), Worth { idle: 1, paid: 8 });
            assert_eq!(looked(&document, at_once), Worth { idle: 2, paid: 8 + 64 });
            assert_eq!(looked(&chatter, at_once), Worth { idle: 5, paid: 0 });
        }
    }

    #[test]
    fn who_says_nothing_of_use_is_heard_later_and_calls_pay_for_what_is_said_around_them() {
        let (mut purse, now) = (Purse::new(), Instant::now() + Duration::from_secs(1));
        assert_eq!(purse.take(AT_ONCE, || now), None, "so many at once are nothing");
        assert_eq!(purse.take(400, || now), Some(now + FRAME_TAKES * 400));
        // A rest of that length is enough, and a longer one leaves no more than what may come at once.
        let later = now + Duration::from_secs(60);
        assert_eq!(purse.take(AT_ONCE + 1, || later), Some(later + FRAME_TAKES));
        let later = later + Duration::from_secs(60);
        purse.put(CALL_PAYS * 1_000);
        assert_eq!(purse.take(8_000, || later), None, "eight around each call");
        assert_eq!(purse.take(AT_ONCE, || later), None);
        purse.put_bytes(USEFUL_BYTES * 1_000 + 1);
        assert_eq!(purse.take(1_000, || later), None, "and one for each piece of an answer");
        purse.put(100_000);
        assert_eq!(purse.take(0, || later), None);
        assert_eq!(purse.take(AT_ONCE + 4, || later), Some(later + FRAME_TAKES * 4), "nothing is saved up");
    }
}
