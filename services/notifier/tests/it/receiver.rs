//! Somebody's receiver of webhooks, whose answers are scripted. Must never know what the notifier means to send.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// How long a test waits for something that has to come.
pub const SOON: Duration = Duration::from_secs(10);

/// What a receiver answers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Never answers.
    pub hang: bool,
}

impl Answer {
    pub fn of(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), hang: false }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Kept {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Kept {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
    }

    pub fn sequence(&self) -> u64 {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["data"]["sequence"].as_str().unwrap().parse().unwrap()
    }
}

#[derive(Default)]
struct Inside {
    kept: Vec<Kept>,
    answers: VecDeque<Answer>,
}

/// A running receiver. Ends when dropped.
pub struct Receiver {
    pub url: String,
    inside: Arc<Mutex<Inside>>,
    _task: AbortOnDropHandle<()>,
}

impl Receiver {
    /// Answers as told, in this order, then 204.
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let inside = Arc::new(Mutex::new(Inside { kept: Vec::new(), answers: answers.into_iter().collect() }));
        let router = Router::new().fallback(post(keep)).with_state(Arc::clone(&inside));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inside, _task: AbortOnDropHandle::new(task) }
    }

    pub fn kept(&self) -> Vec<Kept> {
        self.inside.lock().unwrap().kept.clone()
    }

    pub fn sequences(&self) -> Vec<u64> {
        self.kept().iter().map(Kept::sequence).collect()
    }

    /// Until so many requests have come.
    pub async fn wait_for(&self, count: usize) {
        let come = async {
            while self.inside.lock().unwrap().kept.len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, come).await.expect("a request has to come");
    }
}

async fn keep(State(inside): State<Arc<Mutex<Inside>>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let answer = {
        let mut inside = inside.lock().unwrap();
        inside.kept.push(Kept { headers, body });
        inside.answers.pop_front().unwrap_or_else(|| Answer::of(204))
    };
    if answer.hang {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

/// Until that holds.
pub async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let come = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, come).await.expect("it has to happen soon");
}
