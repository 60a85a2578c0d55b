//! What a download sends: pieces out of memory, off the disk and out of the store, one after the other, at its consumer's pace.
//!
//! Must never end in good order before all of it was sent.

use std::io::{SeekFrom, Write as _};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use countersign::v1::document_part::Part;
use countersign::v1::{DocumentInfo, DocumentPart};
use countersign_chassis::problem::{CALL, Problem};
use futures_util::{Stream, TryStreamExt as _};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::seats::Seat;
use super::status::{not_read, unavailable};
use crate::blobs::Blob;
use crate::store::READING_MINUTES_MAX;

/// Size of a part.
const PART_BYTES: usize = 64 * 1024;
/// Parts on their way to the consumer.
const ON_THEIR_WAY_MAX: usize = 2;
/// How long a download may take in all: who is slower goes on in another. As long as bytes stay after a purge.
const LIFETIME: Duration = Duration::from_secs(60 * READING_MINUTES_MAX.unsigned_abs());

/// A file on its way out.
pub(super) struct Parcel {
    pub info: DocumentInfo,
    pub pieces: Vec<Piece>,
}

/// A piece of it.
pub(super) enum Piece {
    Made(Bytes),
    Stored(Box<Blob>),
    /// A file without a name, with its size: gone when it has been sent.
    OnDisk(File, u64),
}

impl Piece {
    /// Puts bytes on the disk. It waits for the disk: not for a thread that serves calls.
    pub fn on_disk(bytes: &[u8]) -> std::io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        Ok(Self::OnDisk(File::from_std(file), bytes.len() as u64))
    }

    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Made(bytes) => bytes.len() as u64,
            Self::Stored(blob) => blob.size(),
            Self::OnDisk(_, size) => *size,
        }
    }
}

impl Parcel {
    /// All parts from `info.offset_bytes` on. Ends with an error if the consumer takes nothing for as long as `stall`.
    pub fn send(self, seat: Seat, stall: Duration) -> impl Stream<Item = Result<DocumentPart, Status>> + Send + use<> {
        let (consumer, mut parts) = mpsc::channel(ON_THEIR_WAY_MAX);
        let sending = Sending { consumer, stall, end: Instant::now() + LIFETIME, _seat: seat };
        let task = AbortOnDropHandle::new(match CALL.try_with(Clone::clone) {
            // What the task says at its end is said of this call.
            Ok(facts) => tokio::spawn(CALL.scope(facts, sending.run(self))),
            Err(_) => tokio::spawn(sending.run(self)),
        });
        async_stream::stream! {
            while let Some(part) = parts.recv().await {
                yield Ok(DocumentPart { part: Some(part) });
            }
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(status)) => yield Err(status),
                Err(_) => {
                    tracing::error!("a download panicked");
                    yield Err(Problem::internal().into());
                }
            }
        }
    }
}

/// A download and its consumer.
struct Sending {
    consumer: mpsc::Sender<Part>,
    stall: Duration,
    end: Instant,
    /// It ends with the sending: of a consumer who takes nothing nobody looks at the stream any more.
    _seat: Seat,
}

impl Sending {
    async fn run(self, parcel: Parcel) -> Result<(), Status> {
        let mut skip = parcel.info.offset_bytes;
        self.send(Part::Info(parcel.info)).await?;
        for piece in parcel.pieces {
            let size = piece.size_bytes();
            let from = skip.min(size);
            skip -= from;
            if from == size && size > 0 {
                continue;
            }
            match piece {
                Piece::Made(bytes) => {
                    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
                    self.chunks(bytes.slice(from..)).await?;
                }
                Piece::OnDisk(mut file, _) => {
                    file.seek(SeekFrom::Start(from)).await.map_err(off_disk)?;
                    let mut part = BytesMut::with_capacity(PART_BYTES);
                    while file.read_buf(&mut part).await.map_err(off_disk)? > 0 {
                        let sent = std::mem::replace(&mut part, BytesMut::with_capacity(PART_BYTES));
                        self.send(Part::Chunk(sent.freeze())).await?;
                    }
                }
                Piece::Stored(blob) => {
                    let mut windows = std::pin::pin!(blob.read(from..size));
                    while let Some(window) = windows.try_next().await.map_err(|error| not_read(&error))? {
                        self.chunks(window).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn chunks(&self, mut bytes: Bytes) -> Result<(), Status> {
        while !bytes.is_empty() {
            self.send(Part::Chunk(bytes.split_to(PART_BYTES.min(bytes.len())))).await?;
        }
        Ok(())
    }

    /// Waits for the consumer, but not for ever.
    async fn send(&self, part: Part) -> Result<(), Status> {
        if Instant::now() >= self.end {
            return Err(Problem::unavailable().into());
        }
        self.consumer.send_timeout(part, self.stall).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => {
                tracing::info!("a download whose consumer takes nothing was ended");
                Problem::unavailable().into()
            }
            // Nobody is there to hear it.
            SendTimeoutError::Closed(_) => Status::cancelled(""),
        })
    }
}

/// The disk did not keep what was made.
pub(super) fn off_disk(error: std::io::Error) -> Status {
    unavailable(&anyhow::Error::new(error).context("keeping a download"))
}
