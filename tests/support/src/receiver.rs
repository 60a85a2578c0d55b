//! A receiver of webhooks that writes down every request.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Received {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The event in the body.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

type Answer = Arc<dyn Fn(usize) -> StatusCode + Send + Sync>;

/// A listening receiver.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Answers each request, numbered from 0, as `answer` says.
    pub async fn start(answer: impl Fn(usize) -> StatusCode + Send + Sync + 'static) -> Self {
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let answer: Answer = Arc::new(answer);
        let app = Router::new().fallback(take).with_state((Arc::clone(&received), answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, received }
    }

    /// All that came so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn take(
    State((received, answer)): State<(Arc<Mutex<Vec<Received>>>, Answer)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let mut received = received.lock().unwrap();
    received.push(Received { headers, body: body.to_vec() });
    answer(received.len() - 1)
}
