//! Peers who break the rules of HTTP/2, or keep them in bad faith, frame by frame: for the tests and the benchmark.
//!
//! It must never go on by itself: whoever floods says at whom, how fast and for how long.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

/// What every connection begins with (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types and flags of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// CANCEL (RFC 9113, 7).
const CANCEL: u32 = 8;
/// A call that anybody may make, and one for which it takes a credential.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const IDENTITY: &str = "/countersign.v1.AccountService/GetCallerIdentity";

/// A way to abuse HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Calls that are given up as soon as they are made.
    RapidReset,
    /// Headers that never end.
    Continuation,
    /// A request in frames without a byte.
    EmptyData,
    /// A request that never ends, in frames of a byte each.
    TinyData,
    /// Frames of streams that do not exist.
    NoStream,
    /// Questions whether the service is still there.
    Ping,
    /// Settings, each of which is to be acknowledged.
    Settings,
    /// Room for one more byte, again and again.
    WindowUpdate,
}

impl Kind {
    /// Those after which the connection ends, however the service is doing.
    pub const ENDED: [Self; 4] = [Self::RapidReset, Self::Continuation, Self::EmptyData, Self::NoStream];
    /// Those that the protocol allows.
    pub const ALLOWED: [Self; 4] = [Self::TinyData, Self::Ping, Self::Settings, Self::WindowUpdate];

    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RapidReset => "rapid reset",
            Self::Continuation => "CONTINUATION without end",
            Self::EmptyData => "empty DATA",
            Self::TinyData => "DATA of one byte",
            Self::NoStream => "streams that do not exist",
            Self::Ping => "PING",
            Self::Settings => "SETTINGS",
            Self::WindowUpdate => "WINDOW_UPDATE of one byte",
        }
    }

    /// Whether each turn but the first is like the next.
    fn repeats(self) -> bool {
        !matches!(self, Self::RapidReset | Self::NoStream)
    }

    /// What is said in that turn, counted from zero.
    #[must_use]
    pub fn frames(self, turn: u32) -> Vec<u8> {
        let stream = turn.wrapping_mul(2).wrapping_add(1);
        match self {
            Self::RapidReset => {
                let call = frame(HEADERS, END_HEADERS | END_STREAM, stream, &call(IDENTITY));
                [call, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
            }
            Self::Continuation if turn == 0 => frame(HEADERS, 0, 1, &call(IDENTITY)),
            Self::Continuation => frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']),
            Self::EmptyData | Self::TinyData if turn == 0 => frame(HEADERS, END_HEADERS, 1, &call(HEALTH)),
            Self::EmptyData => frame(DATA, 0, 1, &[]),
            Self::TinyData => frame(DATA, 0, 1, &[0]),
            Self::NoStream => frame(DATA, END_STREAM, stream.wrapping_add(1_000), b"x"),
            Self::Ping => frame(PING, 0, 0, &[0; 8]),
            Self::Settings => frame(SETTINGS, 0, 0, &[]),
            Self::WindowUpdate => frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call, in HPACK without its compression (RFC 7541, 6).
fn call(path: &str) -> Vec<u8> {
    let literal = |name: &[u8], value: &str| [name, &[value.len() as u8], value.as_bytes()].concat();
    let indexed = [0x83, 0x86];
    [
        &indexed[..],
        &literal(&[0x04], path),
        &literal(&[0x01], "localhost"),
        &literal(&[0x0f, 0x10], "application/grpc"),
        &literal(b"\x00\x02te", "trailers"),
    ]
    .concat()
}

/// How fast something is said: so many turns at once, and then a pause.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Turns at once.
    pub at_once: u32,
    /// The pause after them.
    pub pause: Duration,
}

impl Pace {
    /// As fast as it is taken.
    pub const UNBOUND: Self = Self { at_once: 1, pause: Duration::ZERO };
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flooded {
    /// Turns that were sent.
    pub turns: u64,
    /// Bytes that came back.
    pub taken: u64,
    /// Whether the service ended the connection.
    pub is_ended: bool,
}

/// A peer who has said hello.
pub async fn greeted(address: &str) -> io::Result<TcpStream> {
    let mut peer = TcpStream::connect(address).await?;
    // Else the next burst waits until the one before is acknowledged.
    peer.set_nodelay(true)?;
    peer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
    Ok(peer)
}

/// Does it on a connection of its own, and takes what comes back, until the service ends it or the time is over.
pub async fn flood(address: &str, kind: Kind, pace: Pace, length: Duration) -> io::Result<Flooded> {
    let (from, mut to) = greeted(address).await?.into_split();
    let (mut turns, mut taken, mut burst) = (0, 0, Vec::new());
    let sending = async {
        loop {
            // Made once where it can be: who floods is to take little of the machine.
            if turns <= pace.at_once || !kind.repeats() {
                burst = (turns..turns + pace.at_once).flat_map(|turn| kind.frames(turn)).collect();
            }
            if to.write_all(&burst).await.is_err() {
                break;
            }
            turns += pace.at_once;
            if !pace.pause.is_zero() {
                tokio::time::sleep(pace.pause).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let is_ended = tokio::select! {
        () = sending => false,
        () = ended(from, &mut taken) => true,
        () = tokio::time::sleep(length) => false,
    };
    Ok(Flooded { turns: turns.into(), taken, is_ended })
}

/// Waits until the service ends the connection.
async fn ended(mut from: OwnedReadHalf, taken: &mut u64) {
    let mut told = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = from.read(&mut told).await {
        *taken += bytes as u64;
        // The service may also say so and wait for the peer to leave.
        let told = told.get(..bytes).unwrap_or_default();
        if told.windows(9).any(|header| header[..2] == [0, 0] && header[3..9] == [GOAWAY, 0, 0, 0, 0, 0]) {
            return;
        }
    }
}

/// Connects, says the beginning of a greeting, and then nothing until the service ends it or the time is over.
pub async fn silent(address: &str, bytes: usize, length: Duration) -> io::Result<Flooded> {
    let mut peer = TcpStream::connect(address).await?;
    peer.write_all(PREFACE.get(..bytes).unwrap_or(PREFACE)).await?;
    // The service greets first: that is no end.
    let ended = async { while let Ok(1..) = peer.read(&mut [0; 1_024]).await {} };
    let is_ended = tokio::time::timeout(length, ended).await.is_ok();
    Ok(Flooded { is_ended, ..Flooded::default() })
}
