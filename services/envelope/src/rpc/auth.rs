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
use crate::config::Config;
use crate::credential::{Keyring, Presented, SigningToken};
use crate::domain::command::Actor;
use crate::domain::envelope::{Cause, Digest};
use crate::domain::id::AccountId;
use crate::store::{KeyRow, Scope, Store};

/// How long a key is believed without asking again: a revoked key stops within this time.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// How long a wrong key is refused without asking again.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// Remembered keys.
const REMEMBERED_MAX: usize = 10_000;
/// Names the account for which the service token or the operator's key acts.
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
    /// Who runs the service, acting for an account where they name one.
    Operator(Option<AccountId>),
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

/// Somebody who may take an envelope back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub scope: Scope,
    pub actor: Actor,
    pub cause: Cause,
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
            Self::Notifier(account) => named(*account),
        }
    }
}

/// The envelopes of the account that a caller names who acts for all of them.
fn named(account: Option<AccountId>) -> Result<Scope, Status> {
    account.map(Scope::any_mode).ok_or_else(|| {
        let message = "This token needs the metadata `countersign-account` here.";
        Problem::new(ErrorReason::PermissionDenied, message).into()
    })
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
        Caller::Recipient(_) | Caller::Notifier(_) | Caller::Operator(_) => Err(denied()),
    }
}

/// Somebody who may read, or why not.
pub(super) fn reader(extensions: &Extensions) -> Result<Reader, Status> {
    match caller(extensions)? {
        Caller::Sender(..) => Ok(Reader::Sender(sender(extensions)?)),
        Caller::Notifier(account) => Ok(Reader::Notifier(account)),
        Caller::Recipient(_) | Caller::Operator(_) => Err(denied()),
    }
}

/// Whose envelopes and histories may be looked at: by the sender, the notifier and the operator.
pub(super) fn overview(extensions: &Extensions) -> Result<Scope, Status> {
    match caller(extensions)? {
        Caller::Operator(account) => named(account),
        _ => reader(extensions)?.scope(),
    }
}

/// The sender or the operator, or why not.
pub(super) fn owner(extensions: &Extensions) -> Result<Owner, Status> {
    if let Caller::Operator(account) = caller(extensions)? {
        return Ok(Owner { scope: named(account)?, actor: Actor::Operator, cause: Cause::Operator });
    }
    let sender = sender(extensions)?;
    Ok(Owner { scope: sender.scope, actor: sender.actor(), cause: Cause::Sender })
}

/// The presented signing token, or why not.
pub(super) fn signing_token(extensions: &Extensions) -> Result<SigningToken, Status> {
    match caller(extensions)? {
        Caller::Recipient(token) => Ok(token),
        Caller::Sender(..) | Caller::Notifier(_) | Caller::Operator(_) => Err(denied()),
    }
}

/// What was found for a key, and when.
type Remembered = (Instant, Option<KeyRow>);

/// Recognises credentials.
pub struct Authenticator {
    store: Store,
    keyring: Arc<Keyring>,
    service_token: Option<Digest>,
    operator_key: Option<Digest>,
    remembered: Mutex<HashMap<(AccountId, Digest), Remembered>>,
}

impl Authenticator {
    /// With the tokens by which the notifier and the operator are known.
    #[must_use]
    pub fn new(store: Store, keyring: Arc<Keyring>, config: &Config) -> Self {
        let digest = |secret: &SecretString| sha256(secret.expose_secret().as_bytes());
        let (service_token, operator_key) =
            (config.service_token.as_ref().map(digest), config.operator_key.as_ref().map(digest));
        Self { store, keyring, service_token, operator_key, remembered: Mutex::default() }
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
        let digest = sha256(token.as_bytes());
        let account = headers.get(ACCOUNT_HEADER).and_then(|value| value.to_str().ok());
        let account = account.and_then(|account| account.parse().ok());
        if self.service_token.is_some_and(|token| same(&digest, &token)) {
            return Ok(Caller::Notifier(account));
        }
        if self.operator_key.is_some_and(|key| same(&digest, &key)) {
            return Ok(Caller::Operator(account));
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
