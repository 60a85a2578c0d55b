//! Load that costs little, for when there is too much of it: requests that are made once, straight onto HTTP/2, at fixed times
//! whatever comes of those before.
//!
//! It must never be without bound: in number and in time all is fixed beforehand, and what cannot even be sent is given up.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use countersign_chassis::keys::random;
use h2::client::{self, ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Calls at a time on a connection: as many as the service takes.
const STREAMS: usize = 100;
/// Who could not send a call for so long gives it up.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long answers are waited for after the last call.
const LAST: Duration = Duration::from_secs(10);
/// How often it is looked which calls are due.
const TICK: Duration = Duration::from_millis(1);
/// A larger window than any answer.
const WINDOW: u32 = 1 << 20;

/// What came of a call.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused with that code, and whether it was said when to come again.
    Refused(Code, bool),
    /// No answer came, or none that is one.
    Broken,
    /// It was never sent.
    GivenUp,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it was due, from the beginning.
    pub due: Duration,
    /// How long it took from then.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// So many calls in a second for so long.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// How many.
    pub per_second: f64,
    /// How long.
    pub length: Duration,
}

/// Calls of one kind, ready to be sent.
#[derive(Clone)]
pub struct Ready {
    head: Request<()>,
    bodies: Arc<[Bytes]>,
}

impl Ready {
    /// With those messages in turn.
    pub fn new<M: Message>(address: SocketAddr, method: &str, api_key: &str, messages: &[M]) -> Result<Self> {
        let head = Request::post(format!("http://{address}{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {api_key}"))
            .body(())?;
        let bodies = messages.iter().map(|message| {
            let message = message.encode_to_vec();
            let length = u32::try_from(message.len())?;
            Ok(Bytes::from([&[0], &length.to_be_bytes()[..], &message].concat()))
        });
        Ok(Self { head, bodies: bodies.collect::<Result<_>>()? })
    }

    fn body(&self) -> Bytes {
        let number = usize::from_ne_bytes(random());
        self.bodies.get(number % self.bodies.len().max(1)).cloned().unwrap_or_default()
    }
}

/// A connection, with how many calls it has room for.
#[derive(Clone)]
struct Wire {
    sender: SendRequest<Bytes>,
    room: Arc<Semaphore>,
}

/// Connections to a service.
pub struct Flood {
    wires: Vec<Wire>,
}

impl Flood {
    /// So many.
    pub async fn connect(address: SocketAddr, connections: usize) -> Result<Self> {
        let mut wires = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut builder = client::Builder::new();
            builder.initial_window_size(WINDOW).initial_connection_window_size(4 * WINDOW);
            let (sender, connection) = builder.handshake(stream).await?;
            tokio::spawn(connection);
            wires.push(Wire { sender, room: Arc::new(Semaphore::new(STREAMS)) });
        }
        Ok(Self { wires })
    }

    /// Calls for that long, `count` at a time, each after an answer; how many were done in a second.
    pub async fn closed(&self, ready: &Ready, count: usize, length: Duration) -> Result<f64> {
        let begun = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for wire in self.wires.iter().cycle().take(count) {
            let (wire, ready) = (wire.clone(), ready.clone());
            tasks.spawn(async move {
                let mut done = 0_u64;
                while begun.elapsed() < length {
                    let permit = Arc::clone(&wire.room).acquire_owned().await?;
                    let answer = wire.send(&ready).await?;
                    done += u64::from(matches!(outcome(answer, permit).await, Outcome::Done));
                }
                anyhow::Ok(done)
            });
        }
        let mut done = 0;
        while let Some(ended) = tasks.join_next().await {
            done += ended??;
        }
        Ok(done as f64 / begun.elapsed().as_secs_f64())
    }

    /// Calls at fixed times, phase after phase without a pause.
    pub async fn open(&self, ready: &Ready, phases: &[Phase]) -> Result<Vec<Told>> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let (mut all, mut from) = (Vec::new(), Duration::ZERO);
        let mut wires: VecDeque<Wire> = self.wires.iter().cloned().collect();
        for phase in phases {
            let count = (phase.per_second * phase.length.as_secs_f64()) as u64;
            let due = |number: u64| from + Duration::from_secs_f64(number as f64 / phase.per_second);
            let (mut next, mut tick) = (0, tokio::time::interval(TICK));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while next < count && begun.elapsed() < from + phase.length {
                tick.tick().await;
                while next < count && due(next) <= begun.elapsed() {
                    let at = due(next);
                    if begun.elapsed() > at + PATIENCE {
                        all.push(given_up(at));
                    } else if let Some((wire, permit)) = free(&mut wires) {
                        let (answer, tell) = (wire.send(ready).await?, tell.clone());
                        tokio::spawn(async move {
                            let outcome = outcome(answer, permit).await;
                            let _ = tell.send(Told { due: at, took: begun.elapsed().saturating_sub(at), outcome });
                        });
                    } else {
                        break;
                    }
                    next += 1;
                }
                while let Ok(one) = told.try_recv() {
                    all.push(one);
                }
            }
            all.extend((next..count).map(|number| given_up(due(number))));
            from += phase.length;
            tokio::time::sleep_until(begun + from).await;
        }
        drop(tell);
        let rest = async {
            while let Some(one) = told.recv().await {
                all.push(one);
            }
        };
        tokio::time::timeout(LAST, rest).await.context("some are never answered")?;
        Ok(all)
    }
}

fn given_up(due: Duration) -> Told {
    Told { due, took: PATIENCE, outcome: Outcome::GivenUp }
}

/// The next connection that has room.
fn free(wires: &mut VecDeque<Wire>) -> Option<(Wire, OwnedSemaphorePermit)> {
    for _ in 0..wires.len() {
        wires.rotate_left(1);
        let wire = wires.front()?;
        if let Ok(permit) = Arc::clone(&wire.room).try_acquire_owned() {
            return Some((wire.clone(), permit));
        }
    }
    None
}

impl Wire {
    async fn send(&self, ready: &Ready) -> Result<ResponseFuture> {
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut body) = sender.send_request(ready.head.clone(), false)?;
        body.send_data(ready.body(), true)?;
        Ok(answer)
    }
}

/// What comes of a call, which has a place until then.
async fn outcome(answer: ResponseFuture, _place: OwnedSemaphorePermit) -> Outcome {
    let answer = async {
        let (head, mut body) = answer.await?.into_parts();
        if head.headers.contains_key("grpc-status") {
            return Ok(head.headers);
        }
        while let Some(data) = body.data().await {
            let length = data?.len();
            body.flow_control().release_capacity(length)?;
        }
        Ok::<_, h2::Error>(body.trailers().await?.unwrap_or_default())
    };
    match answer.await {
        Ok(trailers) => read(&trailers),
        Err(_) => Outcome::Broken,
    }
}

fn read(trailers: &HeaderMap) -> Outcome {
    match trailers.get("grpc-status").map(|status| status.as_bytes()) {
        Some(b"0") => Outcome::Done,
        Some(_) => {
            let Some(status) = Status::from_header_map(trailers) else { return Outcome::Broken };
            let says_when = status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some());
            Outcome::Refused(status.code(), says_when)
        }
        None => Outcome::Broken,
    }
}
