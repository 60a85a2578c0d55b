//! A way between two processes on which things go wrong.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a connection is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As if there were nobody in between.
    Through,
    /// What is said arrives late.
    Delay,
    /// What is said arrives in small pieces.
    Trickle,
    /// Nothing arrives, and nobody is told.
    Hold,
    /// All connections are ended in one direction.
    HalfClose,
    /// All connections are reset.
    Reset,
    /// A connection is reset before its next COMMIT arrives …
    ResetBeforeCommit,
    /// … or when it has, before it is answered.
    ResetAfterCommit,
}

impl Mode {
    /// Those that do harm.
    pub const ALL: [Self; 7] = [
        Self::Delay,
        Self::Trickle,
        Self::Hold,
        Self::HalfClose,
        Self::Reset,
        Self::ResetBeforeCommit,
        Self::ResetAfterCommit,
    ];

    /// Whether it does not need to understand what is said.
    #[must_use]
    pub fn is_of_any(self) -> bool {
        !matches!(self, Self::ResetBeforeCommit | Self::ResetAfterCommit)
    }
}

/// The way.
#[derive(Clone)]
pub struct Proxy {
    pub address: String,
    mode: watch::Sender<Mode>,
    target: Arc<Mutex<String>>,
    /// Whether what is said is Postgres' protocol.
    is_database: bool,
}

impl Proxy {
    /// To that address.
    pub async fn start(target: &str, is_database: bool) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, target, is_database).await
    }

    /// The same from an address of this machine.
    pub async fn start_at(own: Ipv4Addr, target: &str, is_database: bool) -> Self {
        let listener = TcpListener::bind((own, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mode, target) = (watch::Sender::new(Mode::Through), Arc::new(Mutex::new(target.to_owned())));
        let proxy = Self { address, mode, target, is_database };
        let way = proxy.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(way.target()).await else { continue };
                way.forward(near, far);
            }
        });
        proxy
    }

    /// To another address from now on.
    pub fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap());
    }

    #[must_use]
    pub fn target(&self) -> String {
        self.target.lock().unwrap().clone()
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    fn forward(&self, near: TcpStream, far: TcpStream) {
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        // Whoever is dropped without a word is reset.
        let _ = (near.set_zero_linger(), far.set_zero_linger());
        let (from_near, to_near) = near.into_split();
        let (from_far, to_far) = far.into_split();
        let (asks, answers) = (self.mode.subscribe(), self.mode.subscribe());
        let commits = self.is_database.then(Commits::default);
        tokio::spawn(async move {
            let ended = CancelBoth::default();
            let there = carry((from_near, to_far), (asks, true), commits, ended.clone());
            let back = carry((from_far, to_near), (answers, false), None, ended);
            tokio::join!(there, back);
        });
    }
}

/// Ends both directions.
type CancelBoth = tokio_util::sync::CancellationToken;

/// Carries one direction until it ends.
async fn carry(
    (mut from, mut to): (OwnedReadHalf, OwnedWriteHalf),
    (mut mode, asks): (watch::Receiver<Mode>, bool),
    mut commits: Option<Commits>,
    ended: CancelBoth,
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = mode.changed() => {
                let now = *mode.borrow_and_update();
                match now {
                    _ if changed.is_err() => break,
                    Mode::Reset => break ended.cancel(),
                    Mode::HalfClose if asks => {
                        let _ = to.shutdown().await;
                        break;
                    }
                    _ => continue,
                }
            }
            () = ended.cancelled() => break,
        };
        let Ok(length @ 1..) = read else {
            let _ = to.shutdown().await;
            break;
        };
        let said = &buffer[..length];
        let has_commit = commits.as_mut().is_some_and(|commits| commits.hear(said));
        let now = *mode.borrow();
        if has_commit && now == Mode::ResetBeforeCommit {
            break ended.cancel();
        }
        if !pass(&mut to, said, now, &mut mode, &ended).await {
            break;
        }
        if has_commit && now == Mode::ResetAfterCommit {
            break ended.cancel();
        }
    }
}

/// Says it further, as the mode has it. False: there is nobody to say it to.
async fn pass(
    to: &mut OwnedWriteHalf,
    said: &[u8],
    now: Mode,
    mode: &mut watch::Receiver<Mode>,
    ended: &CancelBoth,
) -> bool {
    match now {
        Mode::Delay => tokio::time::sleep(Duration::from_millis(40)).await,
        Mode::Hold => {
            tokio::select! {
                _ = mode.wait_for(|mode| *mode != Mode::Hold) => {}
                () = ended.cancelled() => return false,
            }
        }
        Mode::Trickle => {
            for piece in said.chunks(64) {
                if to.write_all(piece).await.is_err() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            return true;
        }
        _ => {}
    }
    to.write_all(said).await.is_ok()
}

/// Hears what a client says to Postgres, as far as to know when it says COMMIT: the statement is prepared under a name and then
/// bound by it.
#[derive(Default)]
struct Commits {
    /// The first message has no type.
    is_begun: bool,
    heard: Vec<u8>,
    names: BTreeSet<Vec<u8>>,
}

impl Commits {
    /// Whether there was a COMMIT in it.
    fn hear(&mut self, said: &[u8]) -> bool {
        self.heard.extend_from_slice(said);
        let mut has_one = false;
        loop {
            let head = usize::from(self.is_begun);
            let Some(length) = self.heard.get(head..head + 4) else { return has_one };
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize + head;
            if self.heard.len() < length {
                return has_one;
            }
            let message: Vec<u8> = self.heard.drain(..length).collect();
            if std::mem::replace(&mut self.is_begun, true) {
                has_one |= self.is_commit(message[0], &message[5..]);
            }
        }
    }

    fn is_commit(&mut self, kind: u8, message: &[u8]) -> bool {
        let mut words = message.split(|byte| *byte == 0);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match kind {
            b'P' if second == b"COMMIT" => {
                self.names.insert(first.to_vec());
                false
            }
            // A portal, which has no name, and the statement.
            b'B' => self.names.contains(second),
            b'Q' => first == b"COMMIT",
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_commit_is_heard_however_it_is_cut() {
        let begin = [&8_u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
        let parse = |name: &[u8], text: &[u8]| message(b'P', &[name, &[0], text, &[0, 0, 0]].concat());
        let bind = |name: &[u8]| message(b'B', &[&[0], name, &[0; 7]].concat());
        let said = [begin, parse(b"s1", b"BEGIN"), parse(b"s2", b"COMMIT"), bind(b"s1"), bind(b"s2")].concat();
        for size in [1, 3, 7, said.len()] {
            let mut commits = Commits::default();
            let heard: Vec<bool> = said.chunks(size).map(|piece| commits.hear(piece)).collect();
            assert_eq!(heard.iter().filter(|it| **it).count(), 1, "{size}");
            assert!(heard.last().unwrap(), "it is the last that was said");
        }
    }
}
