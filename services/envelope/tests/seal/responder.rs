//! Those who answer for certificates, on this machine: `openssl ocsp`, `openssl ca` and `openssl ts` behind one address, which
//! answer as they are told.

#![allow(dead_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use countersign_envelope::seal::SealConfig;
use futures_util::stream;

use crate::pki::openssl;
use crate::revocable::Revocable;

/// What they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    Right,
    /// Signed by somebody whom the issuer did not make a responder.
    Strange,
    /// Of another time, where that can be told.
    Stale,
    /// What was right about another certificate.
    Other,
    /// With another byte in it.
    Replaced,
    Garbage,
    Endless,
    Elsewhere,
    Down,
}

struct Told {
    revocable: Revocable,
    url: String,
    ocsp: Mutex<Say>,
    crl: Mutex<Say>,
    ocsps: AtomicUsize,
    crls: AtomicUsize,
    stamps: AtomicUsize,
    stamps_max: AtomicUsize,
    sent_bytes: AtomicUsize,
}

/// Where they are.
pub struct Responder {
    pub url: String,
    told: Arc<Told>,
}

impl Responder {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let at = url.clone();
        let revocable = tokio::task::spawn_blocking(move || Revocable::at(&at)).await.unwrap();
        let (ocsp, crl) = (Say::Right.into(), Say::Right.into());
        let [ocsps, crls, stamps, sent_bytes] = [0; 4].map(AtomicUsize::new);
        let (url_told, stamps_max) = (url.clone(), AtomicUsize::new(usize::MAX));
        let told = Told { revocable, url: url_told, ocsp, crl, ocsps, crls, stamps, stamps_max, sent_bytes };
        let told = Arc::new(told);
        let app = Router::new().fallback(answer_to).with_state(Arc::clone(&told));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, told }
    }

    /// Documents of its key and its authority.
    pub fn config(&self) -> SealConfig {
        let folder = self.revocable().path();
        let key = openssl(folder, &["pkcs8", "-topk8", "-nocrypt", "-in", "p256.key"]);
        let certificates = ["p256.pem", "issuer.pem", "root.pem"].map(|name| std::fs::read(folder.join(name)).unwrap());
        let path = folder.join("seal.pem");
        std::fs::write(&path, [&key[..], &certificates.concat()].concat()).unwrap();
        SealConfig {
            seal_pkcs12: Some(path),
            seal_tsa_urls: vec![format!("{}/tsa", self.url).parse().unwrap()],
            seal_trust: Some(folder.join("root.pem")),
            ..SealConfig::default()
        }
    }

    pub fn revocable(&self) -> &Revocable {
        &self.told.revocable
    }

    pub fn tell(&self, ocsp: Say, crl: Say) {
        *self.told.ocsp.lock().unwrap() = ocsp;
        *self.told.crl.lock().unwrap() = crl;
    }

    /// The authority gives no more timestamps than that.
    pub fn stamp_at_most(&self, stamps: usize) {
        self.told.stamps_max.store(stamps, Ordering::SeqCst);
    }

    /// How often responders, lists and the timestamping authority were asked.
    pub fn asked(&self) -> [usize; 3] {
        [&self.told.ocsps, &self.told.crls, &self.told.stamps].map(|count| count.load(Ordering::SeqCst))
    }

    pub fn sent_bytes(&self) -> usize {
        self.told.sent_bytes.load(Ordering::SeqCst)
    }
}

async fn answer_to(State(told): State<Arc<Told>>, uri: Uri, headers: HeaderMap, request: Bytes) -> Response {
    let path = uri.path().trim_start_matches('/').to_owned();
    let (kind, issuer) = path.split_once('/').unwrap_or((&path, ""));
    let (count, say) = match kind {
        "ocsp" => (&told.ocsps, *told.ocsp.lock().unwrap()),
        "crl" => (&told.crls, *told.crl.lock().unwrap()),
        _ if told.stamps.load(Ordering::SeqCst) >= told.stamps_max.load(Ordering::SeqCst) => (&told.stamps, Say::Down),
        _ => (&told.stamps, Say::Right),
    };
    count.fetch_add(1, Ordering::SeqCst);
    assert!(kind != "ocsp" || headers["content-type"] == "application/ocsp-request");
    match say {
        Say::Garbage => return "nothing".into_response(),
        Say::Down => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Say::Endless => {
            let sent = Arc::clone(&told);
            let endless = stream::repeat_with(move || {
                sent.sent_bytes.fetch_add(1 << 16, Ordering::SeqCst);
                Ok::<_, std::io::Error>(vec![0x30; 1 << 16])
            });
            return Body::from_stream(endless).into_response();
        }
        Say::Elsewhere => {
            let url = format!("{}/{path}", told.url);
            return (StatusCode::TEMPORARY_REDIRECT, [("location", url)]).into_response();
        }
        Say::Right | Say::Strange | Say::Stale | Say::Other | Say::Replaced => {}
    }
    let (told, kind, issuer) = (Arc::clone(&told), kind.to_owned(), issuer.to_owned());
    let make = move || match kind.as_str() {
        "ocsp" => ocsp(&told.revocable, &issuer, &request, say),
        "crl" => crl(&told.revocable, &issuer, say),
        _ => told.revocable.pki.timestamp(&request),
    };
    let mut made = tokio::task::spawn_blocking(make).await.unwrap();
    if say == Say::Replaced {
        let last = made.len() - 1;
        made[last] ^= 1;
    }
    made.into_response()
}

fn ocsp(revocable: &Revocable, issuer: &str, request: &[u8], say: Say) -> Vec<u8> {
    match say {
        Say::Strange => revocable.answer(issuer, "stranger", request, &["-ndays", "1"]),
        Say::Other => {
            // The certificate's number is what the request ends with.
            let mut request = request.to_vec();
            *request.last_mut().unwrap() ^= 1;
            revocable.right_answer(issuer, &request)
        }
        _ => revocable.right_answer(issuer, request),
    }
}

fn crl(revocable: &Revocable, issuer: &str, say: Say) -> Vec<u8> {
    let old = ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z"];
    match say {
        Say::Stale => revocable.list(issuer, &old),
        Say::Strange => revocable.list("stranger", &[]),
        Say::Other => revocable.list(if issuer == "root" { "issuer" } else { "root" }, &[]),
        _ => revocable.list(issuer, &[]),
    }
}
