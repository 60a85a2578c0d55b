//! Listens in on a service and its database, to learn what one call says: which statements, with which values, in which
//! flights.
//!
//! It must never change a byte, and never be in the way of what is measured: it is there for the samples alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What is sent without waiting for an answer.
pub type Flight = Vec<Spoken>;

/// A statement as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Its text.
    pub sql: String,
    /// The types of its parameters, as object ids.
    pub types: Vec<u32>,
    /// Their values in binary form.
    pub values: Vec<Option<Vec<u8>>>,
}

/// One connection.
#[derive(Default)]
struct Wire {
    prepared: HashMap<String, (String, Vec<u32>)>,
    /// Answers that are still to come.
    open: u32,
    flights: Vec<Flight>,
    is_answered: bool,
}

/// All connections through it.
#[derive(Clone, Default)]
pub struct Tap(Arc<Mutex<Vec<Arc<Mutex<Wire>>>>>);

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tap {
    /// Listens and forwards to that port of this machine; returns its own.
    pub async fn listen(&self, port: u16) -> Result<u16> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let tap = self.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
                let wire = Arc::new(Mutex::new(Wire::default()));
                lock(&tap.0).push(Arc::clone(&wire));
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                let back = Arc::clone(&wire);
                tokio::spawn(forward(from_near, to_far, true, move |kind, body| lock(&wire).said(kind, body)));
                tokio::spawn(forward(from_far, to_near, false, move |kind, _| lock(&back).answered(kind)));
            }
        });
        Ok(own)
    }

    /// Forgets what was said.
    pub fn clear(&self) {
        for wire in lock(&self.0).iter() {
            lock(wire).flights.clear();
        }
    }

    /// What was said since on the one connection on which those bytes were: nobody else speaks of a new envelope yet.
    pub fn heard(&self, of: &[u8]) -> Result<Vec<Flight>> {
        let is_of =
            |spoken: &Spoken| spoken.values.iter().flatten().any(|value| value.windows(of.len()).any(|it| it == of));
        let wires = lock(&self.0);
        let found = wires.iter().map(|wire| lock(wire).flights.clone()).find(|it| it.iter().flatten().any(is_of));
        let flights = found.context("nothing was said of it")?;
        // A connection may have been used for something before: the last transaction is the call's own.
        let begins = |flight: &Flight| flight.iter().any(|spoken| spoken.sql.starts_with("BEGIN"));
        let first = flights.iter().rposition(begins).context("no transaction")?;
        Ok(flights.get(first..).unwrap_or_default().to_vec())
    }
}

impl Wire {
    fn said(&mut self, kind: u8, body: &[u8]) {
        match kind {
            b'P' => {
                let Some((name, rest)) = text(body) else { return };
                let Some((sql, rest)) = text(rest) else { return };
                let types = rest.get(2..).unwrap_or_default().chunks_exact(4).map(number).collect();
                self.prepared.insert(name, (sql, types));
            }
            b'B' => {
                let Some(spoken) = self.bound(body) else { return };
                self.say(spoken);
            }
            b'Q' => {
                let Some((sql, _)) = text(body) else { return };
                for sql in sql.split(';').map(str::trim).filter(|sql| !sql.is_empty()) {
                    self.say(Spoken { sql: sql.to_owned(), types: Vec::new(), values: Vec::new() });
                }
                self.open += 1;
            }
            b'S' => self.open += 1,
            _ => {}
        }
    }

    fn answered(&mut self, kind: u8) {
        if kind == b'Z' {
            self.open = self.open.saturating_sub(1);
            self.is_answered = self.open == 0;
        }
    }

    fn say(&mut self, spoken: Spoken) {
        match self.flights.last_mut() {
            Some(flight) if !self.is_answered => flight.push(spoken),
            _ => self.flights.push(vec![spoken]),
        }
        self.is_answered = false;
    }

    fn bound(&self, body: &[u8]) -> Option<Spoken> {
        let (_, rest) = text(body)?;
        let (name, rest) = text(rest)?;
        let (formats, rest) = counted(rest)?;
        let (count, mut rest) = counted(rest.get(formats * 2..)?)?;
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            let (length, after) = rest.split_at_checked(4)?;
            // Minus one is NULL.
            let length = usize::try_from(number(length).cast_signed()).ok();
            let (value, after) = after.split_at_checked(length.unwrap_or(0))?;
            values.push(length.map(|_| value.to_vec()));
            rest = after;
        }
        let (sql, types) = self.prepared.get(&name)?.clone();
        Some(Spoken { sql, types, values })
    }
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((String::from_utf8(bytes.get(..end)?.to_vec()).ok()?, bytes.get(end + 1..)?))
}

fn counted(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_be_bytes(*count)), rest))
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Passes bytes on, and tells of each message once it is whole. The first one of a client has no kind.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut is_first: bool,
    hear: impl Fn(u8, &[u8]) + Send + 'static,
) {
    let (mut held, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let part = buffer.get(..length).unwrap_or_default();
        held.extend_from_slice(part);
        loop {
            let head = usize::from(!is_first);
            let Some(size) = held.get(head..head + 4).map(|size| number(size) as usize) else { break };
            if held.len() < head + size {
                break;
            }
            let rest = held.split_off(head + size);
            if !is_first {
                hear(held.first().copied().unwrap_or_default(), held.get(5..).unwrap_or_default());
            }
            (held, is_first) = (rest, false);
        }
        if to.write_all(part).await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn statements_are_told_with_their_values_and_flights() {
        let mut wire = Wire::default();
        wire.said(b'P', &message(&[b"s1\0SELECT $1\0", &[0, 1], &2950_u32.to_be_bytes()]));
        wire.said(b'S', b"");
        wire.answered(b'Z');
        wire.said(b'Q', b"BEGIN; SET LOCAL a = 'b'\0");
        let bind = message(&[b"\0s1\0", &[0, 1, 0, 1], &[0, 2], &[0, 0, 0, 2, 7, 8], &[255; 4], &[0, 0]]);
        wire.said(b'B', &bind);
        wire.said(b'S', b"");
        wire.answered(b'Z');
        wire.answered(b'Z');
        wire.said(b'B', &bind);
        let texts: Vec<Vec<&str>> =
            wire.flights.iter().map(|flight| flight.iter().map(|it| it.sql.as_str()).collect()).collect();
        assert_eq!(texts, [vec!["BEGIN", "SET LOCAL a = 'b'", "SELECT $1"], vec!["SELECT $1"]]);
        let spoken = &wire.flights[1][0];
        assert_eq!(
            (spoken.types.as_slice(), spoken.values.as_slice()),
            ([2950].as_slice(), [Some(vec![7, 8]), None].as_slice())
        );
    }
}
