//! A request on its way in: at a pace, within what all requests may hold together, and with a turn once it is whole.
//!
//! It must never give a turn to who has not sent all of it: turns are for what is worked at, not for what is waited for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

use crate::metrics;
use crate::pool::Pool;
use crate::problem::Problem;

/// How long a request may take to arrive, and how much longer for each byte: a MiB a second, after ten.
const ARRIVES_IN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_nanos(1_000));
/// What each request may hold without asking.
const FREE_BYTES: usize = 64 * 1024;
/// What all requests may hold together beyond that, in KiB.
const HELD_KIB_MAX: usize = 512 * 1024;
const KIB: usize = 1024;
/// What calls have at a time, and connections to the database, as metrics name them.
pub(crate) const TURNS: &str = "turns";
pub(crate) const DATABASE: &str = "database";

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Room {
    turns: Arc<Semaphore>,
    held_kib: Arc<Semaphore>,
    /// Which as good as all calls need.
    database: Option<Pool>,
}

/// What a call has of it, until it is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share(Arc<Mutex<Vec<OwnedSemaphorePermit>>>);

impl Room {
    pub(crate) fn new(turns: usize, database: Option<Pool>) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns)), held_kib: Arc::new(Semaphore::new(HELD_KIB_MAX)), database }
    }

    /// What somebody who came now would not find in time.
    pub(crate) fn lacks(&self) -> Option<&'static str> {
        if self.turns.available_permits() == 0 {
            return Some(TURNS);
        }
        self.database.as_ref().filter(|database| database.is_crowded()).map(|_| DATABASE)
    }
}

impl Share {
    fn take(&self, (what, of): (&'static str, &Arc<Semaphore>), many: usize) -> Result<(), Status> {
        let overloaded = || {
            metrics::shed(what);
            Problem::overloaded()
        };
        let many = u32::try_from(many).map_err(|_| overloaded())?;
        let permit = Arc::clone(of).try_acquire_many_owned(many).map_err(|_| overloaded())?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(permit);
        Ok(())
    }
}

/// The body of a request that is sent at once.
pub(crate) struct Arriving {
    body: Body,
    room: Arc<Room>,
    share: Share,
    bytes: usize,
    held_kib: usize,
    has_turn: bool,
    began: Instant,
    until: Pin<Box<Sleep>>,
}

impl Arriving {
    /// `share` has to be kept until the call is answered.
    pub(crate) fn new(body: Body, room: Arc<Room>, share: Share) -> Self {
        let began = Instant::now();
        let until = Box::pin(sleep_until(began + ARRIVES_IN.0));
        Self { body, room, share, bytes: 0, held_kib: 0, has_turn: false, began, until }
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes = self.bytes.saturating_add(bytes);
        let kib = self.bytes.saturating_sub(FREE_BYTES).div_ceil(KIB);
        if kib > self.held_kib {
            self.share.take(("memory", &self.room.held_kib), kib - self.held_kib)?;
            self.held_kib = kib;
        }
        let longer = ARRIVES_IN.1.saturating_mul(u32::try_from(self.bytes).unwrap_or(u32::MAX));
        self.until.as_mut().reset(self.began + ARRIVES_IN.0 + longer);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Status> {
        if !self.has_turn {
            self.share.take((TURNS, &self.room.turns), 1)?;
            self.has_turn = true;
        }
        Ok(())
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            ready!(this.until.as_mut().poll(context));
            return Poll::Ready(Some(Err(Problem::deadline_exceeded().into())));
        };
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        let done = this.hold(bytes).and_then(|()| match &frame {
            None => this.end(),
            Some(_) if this.body.is_end_stream() => this.end(),
            Some(_) => Ok(()),
        });
        match done {
            Ok(()) => Poll::Ready(frame),
            Err(refused) => Poll::Ready(Some(Err(refused))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_turn && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
