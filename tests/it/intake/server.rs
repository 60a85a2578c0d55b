//! Somebody's server with documents, whose answers are scripted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// What it answers: a status with a body, the same after a while, or nothing for ever.
#[derive(Clone)]
pub enum Answer {
    Of(u16, Vec<u8>),
    Late(Duration, u16, Vec<u8>),
    Never,
}

#[derive(Default)]
struct Inside {
    /// By path; the last answer stays.
    answers: HashMap<String, VecDeque<Answer>>,
    asked: Vec<(String, HeaderMap)>,
}

#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<Inside>>);

pub struct Running {
    pub server: Server,
    pub address: String,
    _task: AbortOnDropHandle<()>,
}

async fn answer(State(server): State<Server>, Path(path): Path<String>, headers: HeaderMap) -> Response<Body> {
    let answer = {
        let mut inside = server.0.lock().unwrap();
        inside.asked.push((path.clone(), headers));
        let answers = inside.answers.entry(path).or_default();
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
    };
    let of = |status: u16, body: Vec<u8>| Response::builder().status(status).body(Body::from(body)).unwrap();
    match answer {
        Some(Answer::Of(status, body)) => of(status, body),
        Some(Answer::Late(after, status, body)) => {
            tokio::time::sleep(after).await;
            of(status, body)
        }
        Some(Answer::Never) => std::future::pending().await,
        None => of(404, Vec::new()),
    }
}

impl Running {
    pub async fn start() -> Self {
        let server = Server::default();
        let routes = Router::new().route("/{*path}", get(answer)).with_state(server.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { server, address, _task: AbortOnDropHandle::new(task) }
    }

    /// What it answers there, one after another; the last stays.
    pub fn at(&self, path: &str, answers: Vec<Answer>) -> String {
        self.server.0.lock().unwrap().answers.insert(path.to_owned(), answers.into());
        format!("{}/{path}", self.address)
    }

    /// A document.
    pub fn holds(&self, path: &str, bytes: Vec<u8>) -> String {
        self.at(path, vec![Answer::Of(200, bytes)])
    }

    /// How often it was asked for that.
    pub fn asked(&self, path: &str) -> usize {
        self.server.0.lock().unwrap().asked.iter().filter(|(asked, _)| asked == path).count()
    }

    /// With what.
    pub fn headers(&self, path: &str) -> HeaderMap {
        self.server.0.lock().unwrap().asked.iter().find(|(asked, _)| asked == path).unwrap().1.clone()
    }
}
