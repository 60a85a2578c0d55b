//! A timestamping authority on this machine, made of `openssl ts`, that answers as it is told.

#![allow(dead_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use crate::pki::Pki;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Right,
    /// To one question, and fails from then on.
    RightOnce,
    /// To the same question with another nonce.
    OtherNonce,
    /// About something else.
    OtherImprint,
    /// As to another, earlier question.
    Stale,
    /// With a signature that does not hold.
    Broken,
    Garbage,
    Rejected,
    /// With a token for which no seal has room.
    LongToken,
    TooLong,
    Failing,
    Elsewhere,
    Slow,
}

struct Told {
    answer: Mutex<Answer>,
    asked: AtomicUsize,
    url: Mutex<String>,
}

impl Told {
    fn answer_now(&self) -> Answer {
        let mut answer = self.answer.lock().unwrap();
        let now = *answer;
        if now == Answer::RightOnce {
            *answer = Answer::Failing;
        }
        now
    }
}

/// The authority.
pub struct Authority {
    pub url: String,
    told: Arc<Told>,
}

impl Authority {
    pub async fn start(answer: Answer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/tsa", listener.local_addr().unwrap());
        let told = Told { answer: answer.into(), asked: AtomicUsize::new(0), url: url.clone().into() };
        let told = Arc::new(told);
        let app = Router::new().fallback(answer_to).with_state(Arc::clone(&told));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, told }
    }

    pub fn tell(&self, answer: Answer) {
        *self.told.answer.lock().unwrap() = answer;
    }

    pub fn asked(&self) -> usize {
        self.told.asked.load(Ordering::SeqCst)
    }
}

async fn answer_to(State(told): State<Arc<Told>>, headers: HeaderMap, request: Bytes) -> Response {
    told.asked.fetch_add(1, Ordering::SeqCst);
    let answer = told.answer_now();
    assert_eq!(headers["content-type"], "application/timestamp-query");
    let mut request = request.to_vec();
    match answer {
        Answer::Failing => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Answer::Garbage => return "no token".into_response(),
        Answer::Rejected => return vec![0x30, 5, 0x30, 3, 2, 1, 2].into_response(),
        Answer::LongToken => return long_token(17_000).into_response(),
        Answer::TooLong => return Body::from(vec![0x30; 1_000_000]).into_response(),
        Answer::Elsewhere => {
            let url = told.url.lock().unwrap().clone();
            return (StatusCode::TEMPORARY_REDIRECT, [("location", url)]).into_response();
        }
        Answer::Slow => tokio::time::sleep(Duration::from_secs(60)).await,
        Answer::OtherNonce => {
            // The last byte before the three that ask for the certificates.
            let at = request.len() - 4;
            request[at] ^= 1;
        }
        Answer::OtherImprint => *imprint(&mut request) ^= 1,
        Answer::Right | Answer::RightOnce | Answer::Broken | Answer::Stale => {}
    }
    if answer == Answer::Stale {
        // Without a nonce: as what was once answered to somebody who asked without one.
        request = without_nonce(request);
    }
    let made = tokio::task::spawn_blocking(move || Pki::get().timestamp(&request)).await;
    let mut token = made.unwrap();
    if answer == Answer::Broken {
        let last = token.len() - 1;
        token[last] ^= 1;
    }
    token.into_response()
}

/// Granted, and a sequence of zeros.
fn long_token(bytes: u16) -> Vec<u8> {
    let token = [&[0x30, 0x82][..], &(bytes - 4).to_be_bytes(), &vec![0; usize::from(bytes - 4)]].concat();
    [&[0x30, 0x82][..], &(bytes + 5).to_be_bytes(), &[0x30, 3, 2, 1, 0], &token].concat()
}

/// The first byte of the hash that a request is about.
fn imprint(request: &mut [u8]) -> &mut u8 {
    let at = request.windows(2).position(|window| window == [4, 32]).unwrap() + 2;
    &mut request[at]
}

/// The same request without its nonce.
fn without_nonce(mut request: Vec<u8>) -> Vec<u8> {
    let at = request.windows(2).position(|window| window == [4, 32]).unwrap() + 2 + 32;
    let nonce = 2 + usize::from(request[at + 1]);
    request.drain(at..at + nonce);
    request[1] -= u8::try_from(nonce).unwrap();
    request
}
