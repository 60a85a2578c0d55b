//! An issuer on this machine that answers as it is told and counts how often it is asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

/// What the issuer answers when it is asked for its keys.
#[derive(Clone)]
pub enum Answer {
    Keys(Vec<Value>),
    Raw(Vec<u8>),
    Status(StatusCode),
    /// To where the keys are.
    Redirect(StatusCode),
}

struct Told {
    answer: Answer,
    /// In place of the true description.
    description: Option<Value>,
    delay: Duration,
    asked: usize,
    described: usize,
}

/// The issuer.
pub struct Issuer {
    pub url: String,
    told: Arc<Mutex<Told>>,
}

impl Issuer {
    pub async fn start(keys: Vec<Value>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told =
            Told { answer: Answer::Keys(keys), description: None, delay: Duration::ZERO, asked: 0, described: 0 };
        let told = Arc::new(Mutex::new(told));
        let app = Router::new().fallback(answer).with_state((url.clone(), Arc::clone(&told)));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, told }
    }

    pub fn tell(&self, answer: Answer) {
        self.told.lock().unwrap().answer = answer;
    }

    pub fn publish(&self, keys: Vec<Value>) {
        self.tell(Answer::Keys(keys));
    }

    pub fn describe(&self, description: Value) {
        self.told.lock().unwrap().description = Some(description);
    }

    pub fn delay(&self, delay: Duration) {
        self.told.lock().unwrap().delay = delay;
    }

    /// How often the keys were asked for.
    pub fn asked(&self) -> usize {
        self.told.lock().unwrap().asked
    }

    /// How often the description was asked for.
    pub fn described(&self) -> usize {
        self.told.lock().unwrap().described
    }
}

async fn answer(State((url, told)): State<(String, Arc<Mutex<Told>>)>, uri: Uri) -> Response {
    let delay = told.lock().unwrap().delay;
    tokio::time::sleep(delay).await;
    let mut told = told.lock().unwrap();
    let json = |value: Value| ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response();
    match uri.path() {
        "/.well-known/openid-configuration" => {
            told.described += 1;
            json(told.description.clone().unwrap_or_else(|| json!({"issuer": url, "jwks_uri": format!("{url}/jwks")})))
        }
        "/jwks" => {
            told.asked += 1;
            match told.answer.clone() {
                Answer::Keys(keys) => json(json!({ "keys": keys })),
                Answer::Raw(bytes) => bytes.into_response(),
                Answer::Status(status) => status.into_response(),
                Answer::Redirect(status) => (status, [(header::LOCATION, format!("{url}/jwks2"))]).into_response(),
            }
        }
        // Where redirects lead: it would be wrong to get here.
        "/jwks2" => {
            told.asked += 1_000;
            json(json!({ "keys": [] }))
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
