//! Who is calling. Decided from the metadata alone, before a byte of the request is read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use countersign::v1::ErrorReason;
use countersign_chassis::keys::{same, sha256};
use countersign_chassis::problem::Problem;
use http::{HeaderMap, Request, Response};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Extensions, Status};
use tower::Service;

use super::status::database;
use crate::credential::{Keyring, Presented, SigningToken};
use crate::domain::command::Actor;
use crate::domain::envelope::Digest;
use crate::domain::id::AccountId;
use crate::store::{KeyRow, Scope, Store};

/// How long a key is believed without asking again: a revoked key stops within this time.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// How long a wrong key is refused without asking again.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// Remembered keys.
const REMEMBERED_MAX: usize = 10_000;
/// Names the account for which the service token acts.
const ACCOUNT_HEADER: &str = "countersign-account";

/// Whose credential came with a call.
#[derive(Clone, Copy)]
enum Caller {
    /// A sender's API key.
    Sender(Presented, KeyRow),
    /// A recipient's signing token, not yet proved.
    Recipient(SigningToken),
    /// The notifier, acting for an account where it names one.
    Notifier(Option<AccountId>),
}

/// A sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub scope: Scope,
    pub livemode: bool,
    pub key: KeyRow,
}

impl Sender {
    pub fn actor(&self) -> Actor {
        Actor::Sender(self.key.id)
    }
}

/// Somebody who may read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    Sender(Sender),
    Notifier(Option<AccountId>),
}

impl Reader {
    /// Whose envelopes a call may read that names one of them.
    pub fn scope(&self) -> Result<Scope, Status> {
        match self {
            Self::Sender(sender) => Ok(sender.scope),
            Self::Notifier(Some(account)) => Ok(Scope::any_mode(*account)),
            Self::Notifier(None) => Err(Problem::new(
                ErrorReason::PermissionDenied,
                "The service token needs the metadata `countersign-account` here.",
            )
            .into()),
        }
    }
}

fn caller(extensions: &Extensions) -> Result<Caller, Status> {
    extensions.get().copied().ok_or_else(|| Problem::internal().into())
}

fn denied() -> Status {
    Problem::new(ErrorReason::PermissionDenied, "This credential is not for this call.").into()
}

/// The sender, or why not.
pub(super) fn sender(extensions: &Extensions) -> Result<Sender, Status> {
    match caller(extensions)? {
        Caller::Sender(presented, key) => {
            let scope = Scope { account: presented.account, livemode: Some(key.livemode) };
            Ok(Sender { scope, livemode: key.livemode, key })
        }
        Caller::Recipient(_) | Caller::Notifier(_) => Err(denied()),
    }
}

/// Somebody who may read, or why not.
pub(super) fn reader(extensions: &Extensions) -> Result<Reader, Status> {
    match caller(extensions)? {
        Caller::Sender(..) => Ok(Reader::Sender(sender(extensions)?)),
        Caller::Notifier(account) => Ok(Reader::Notifier(account)),
        Caller::Recipient(_) => Err(denied()),
    }
}

/// The presented signing token, or why not.
pub(super) fn signing_token(extensions: &Extensions) -> Result<SigningToken, Status> {
    match caller(extensions)? {
        Caller::Recipient(token) => Ok(token),
        Caller::Sender(..) | Caller::Notifier(_) => Err(denied()),
    }
}

/// What was found for a key, and when.
type Remembered = (Instant, Option<KeyRow>);

/// Recognises credentials.
pub struct Authenticator {
    store: Store,
    keyring: Arc<Keyring>,
    service_token: Digest,
    remembered: Mutex<HashMap<(AccountId, Digest), Remembered>>,
}

impl Authenticator {
    /// With the token by which the notifier is known.
    #[must_use]
    pub fn new(store: Store, keyring: Arc<Keyring>, service_token: &SecretString) -> Self {
        let service_token = sha256(service_token.expose_secret().as_bytes());
        Self { store, keyring, service_token, remembered: Mutex::default() }
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Status> {
        let text = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(unauthenticated("A bearer token is needed: metadata `authorization: Bearer …`."));
        }
        let token = token.trim();
        if token.starts_with("cst_") {
            // Whatever is wrong with a signing token, it gets the same answer.
            return self
                .keyring
                .parse_signing_token(token)
                .map(Caller::Recipient)
                .ok_or_else(|| Problem::not_found().into());
        }
        if let Some(presented) = self.keyring.parse_api_key(token) {
            let known = self.key(presented).await?;
            return known
                .map(|key| Caller::Sender(presented, key))
                .ok_or_else(|| unauthenticated("The API key is not known."));
        }
        if same(&sha256(token.as_bytes()), &self.service_token) {
            let account = headers.get(ACCOUNT_HEADER).and_then(|value| value.to_str().ok());
            return Ok(Caller::Notifier(account.and_then(|account| account.parse().ok())));
        }
        Err(unauthenticated("The bearer token is not known."))
    }

    async fn key(&self, presented: Presented) -> Result<Option<KeyRow>, Status> {
        let name = (presented.account, presented.hash);
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
        if let Some((since, key)) = remembered
            && since.elapsed() < if key.is_some() { KNOWN_FOR } else { UNKNOWN_FOR }
        {
            return Ok(key);
        }
        let key = self.store.key(presented.account, &presented.hash).await.map_err(|error| database(&error))?;
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(name, (Instant::now(), key));
        Ok(key)
    }
}

fn unauthenticated(message: &str) -> Status {
    Problem::new(ErrorReason::AuthenticationRequired, message).into()
}

/// A service that is only reached by known callers.
#[derive(Clone)]
pub(super) struct Authenticated<S> {
    inner: S,
    authenticator: Arc<Authenticator>,
}

impl<S> Authenticated<S> {
    pub fn new(inner: S, authenticator: Arc<Authenticator>) -> Self {
        Self { inner, authenticator }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let authenticator = Arc::clone(&self.authenticator);
        Box::pin(async move {
            match authenticator.caller(request.headers()).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    ready.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
