//! Who is calling, and whether they may. Decided from the metadata and the path alone, before a byte of the request is read.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::ErrorReason;
use countersign_chassis::keys::{same, sha256};
use countersign_chassis::problem::Problem;
use countersign_chassis::tls;
use http::HeaderMap;
use http::request::Parts;
use moka::sync::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Code, Extensions, Status};
use uuid::Uuid;

use super::access::{self, Access, Who};
use super::accounts::Accounts;
use super::rate::{Kind, Rates};
use super::status::database;
use crate::config::Config;
use crate::credential::{Keyring, Presented, SigningToken};
use crate::domain::account::{Account, ApiKey, Permission, Permissions};
use crate::domain::command::Actor;
use crate::domain::envelope::{Cause, Digest};
use crate::domain::id::{AccountId, KeyId};
use crate::identity::{Identities, Role};
use crate::oidc::{Oidc, Rejected};
use crate::store::{DatabaseError, Scope, Store};

/// How long a key and an account's settings are believed without asking again. With the time that asking may take, and
/// the notifier's own memory, a revoked key stops within five seconds.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(3);
/// How long a wrong key is refused without asking again.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// Remembered keys, and accounts.
pub(super) const REMEMBERED_MAX: u64 = 10_000;
/// How exactly it is known when a key was last used.
const USE_NOTED_SECONDS: i64 = 60;
/// Names the account for which the service token or the operator's key acts.
const ACCOUNT_HEADER: &str = "countersign-account";

/// Whose credential came with a call.
#[derive(Clone)]
pub(super) enum Caller {
    /// An account.
    Sender(Sender),
    /// A recipient; their token is not yet proved.
    Recipient(SigningToken, Arc<Account>),
    /// The notifier, acting for an account where it names one.
    Notifier(Option<AccountId>),
    /// Who runs the service, acting for an account where they name one.
    Operator(Option<AccountId>),
}

/// A sender.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub scope: Scope,
    pub livemode: bool,
    pub key: KeyId,
    pub permissions: Permissions,
    /// The first instant at which the credential is none any more.
    pub until: Option<DateTime<Utc>>,
    pub account: Arc<Account>,
    /// The key, to be asked for again; a token of the identity provider only ends.
    presented: Option<Presented>,
}

impl Sender {
    pub fn actor(&self) -> Actor {
        Actor::Sender(self.key)
    }

    /// Refuses what the sender's key is not for.
    pub fn require(&self, permission: Permission) -> Result<(), Status> {
        if self.permissions.has(permission) {
            return Ok(());
        }
        let message = "This credential lacks the scope that the call needs.";
        Err(Problem::new(ErrorReason::PermissionDenied, message).with("scope", permission.name()).into())
    }
}

/// Somebody who may take an envelope back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub scope: Scope,
    pub actor: Actor,
    pub cause: Cause,
}

/// Somebody who may look after an account.
#[derive(Clone, Debug)]
pub(super) enum Keeper {
    Sender(Sender),
    Operator(AccountId),
}

impl Keeper {
    pub fn account(&self) -> AccountId {
        match self {
            Self::Sender(sender) => sender.scope.account,
            Self::Operator(account) => *account,
        }
    }
}

/// Somebody who may read.
#[derive(Clone, Debug)]
pub(super) enum Reader {
    Sender(Sender),
    Notifier(Option<AccountId>),
}

impl Reader {
    /// The sender; nobody in particular sees all accounts.
    pub fn into_sender(self) -> Option<Sender> {
        match self {
            Self::Sender(sender) => Some(sender),
            Self::Notifier(_) => None,
        }
    }

    /// Whose envelopes a call may read that names one of them.
    pub fn scope(&self) -> Result<Scope, Status> {
        match self {
            Self::Sender(sender) => Ok(sender.scope),
            Self::Notifier(account) => named(*account).map(Scope::any_mode),
        }
    }
}

/// The account that a caller names who acts for all of them.
fn named(account: Option<AccountId>) -> Result<AccountId, Status> {
    account.ok_or_else(|| {
        let message = "This token needs the metadata `countersign-account` here.";
        Problem::new(ErrorReason::PermissionDenied, message).into()
    })
}

fn caller(extensions: &Extensions) -> Result<&Caller, Status> {
    extensions.get().ok_or_else(|| Problem::internal().into())
}

fn denied() -> Status {
    Problem::new(ErrorReason::PermissionDenied, "This credential is not for this call.").into()
}

/// The sender, or why not.
pub(super) fn sender(extensions: &Extensions) -> Result<Sender, Status> {
    match caller(extensions)? {
        Caller::Sender(sender) => Ok(sender.clone()),
        Caller::Recipient(..) | Caller::Notifier(_) | Caller::Operator(_) => Err(denied()),
    }
}

/// Somebody who may read, or why not.
pub(super) fn reader(extensions: &Extensions) -> Result<Reader, Status> {
    match caller(extensions)? {
        Caller::Sender(sender) => Ok(Reader::Sender(sender.clone())),
        Caller::Notifier(account) => Ok(Reader::Notifier(*account)),
        Caller::Recipient(..) | Caller::Operator(_) => Err(denied()),
    }
}

/// The account for which the notifier acts, or why not.
pub(super) fn notifier(extensions: &Extensions) -> Result<Scope, Status> {
    match caller(extensions)? {
        Caller::Notifier(account) => named(*account).map(Scope::any_mode),
        Caller::Sender(_) | Caller::Recipient(..) | Caller::Operator(_) => Err(denied()),
    }
}

/// Whose envelopes and histories may be looked at: by the sender, the notifier and the operator.
pub(super) fn overview(extensions: &Extensions) -> Result<Scope, Status> {
    match caller(extensions)? {
        Caller::Operator(account) => named(*account).map(Scope::any_mode),
        _ => reader(extensions)?.scope(),
    }
}

/// The sender or the operator as those who may take an envelope back, or why not.
pub(super) fn owner(extensions: &Extensions) -> Result<Owner, Status> {
    if let Caller::Operator(account) = caller(extensions)? {
        let scope = Scope::any_mode(named(*account)?);
        return Ok(Owner { scope, actor: Actor::Operator, cause: Cause::Operator });
    }
    let sender = sender(extensions)?;
    Ok(Owner { scope: sender.scope, actor: sender.actor(), cause: Cause::Sender })
}

/// The sender or the operator as those who look after an account, or why not.
pub(super) fn keeper(extensions: &Extensions) -> Result<Keeper, Status> {
    match caller(extensions)? {
        Caller::Operator(account) => named(*account).map(Keeper::Operator),
        _ => sender(extensions).map(Keeper::Sender),
    }
}

/// The account that may be looked at: by those who look after it, and by the notifier.
pub(super) fn looked_at(extensions: &Extensions) -> Result<AccountId, Status> {
    match caller(extensions)? {
        Caller::Notifier(account) => named(*account),
        _ => keeper(extensions).map(|keeper| keeper.account()),
    }
}

/// The account that the operator names, or why not.
pub(super) fn operated(extensions: &Extensions) -> Result<AccountId, Status> {
    operator(extensions)?;
    match caller(extensions)? {
        Caller::Operator(account) => named(*account),
        Caller::Sender(_) | Caller::Recipient(..) | Caller::Notifier(_) => Err(denied()),
    }
}

/// Refuses everybody but the operator.
pub(super) fn operator(extensions: &Extensions) -> Result<(), Status> {
    match caller(extensions)? {
        Caller::Operator(_) => Ok(()),
        Caller::Sender(_) | Caller::Recipient(..) | Caller::Notifier(_) => Err(denied()),
    }
}

/// The presented signing token and the account's settings, or why not.
pub(super) fn recipient(extensions: &Extensions) -> Result<(SigningToken, Arc<Account>), Status> {
    match caller(extensions)? {
        Caller::Recipient(token, account) => Ok((*token, Arc::clone(account))),
        Caller::Sender(_) | Caller::Notifier(_) | Caller::Operator(_) => Err(denied()),
    }
}

/// Marks a call that comes through a portal, known by its certificate.
#[derive(Clone, Copy)]
pub(super) struct Portal;

/// Recognises credentials.
pub struct Authenticator {
    store: Store,
    accounts: Accounts,
    keyring: Arc<Keyring>,
    service_token: Option<Digest>,
    identities: Identities,
    oidc: Option<Oidc>,
    operator_key: Option<Digest>,
    known: Cache<(AccountId, Digest), Arc<ApiKey>>,
    unknown: Cache<(AccountId, Digest), ()>,
    rates: Rates,
}

impl Authenticator {
    /// With the tokens and certificates by which the notifier and the operator are known, and the issuer of JWTs.
    #[must_use]
    pub fn new(store: Store, accounts: Accounts, keyring: Arc<Keyring>, oidc: Option<Oidc>, config: &Config) -> Self {
        let digest = |secret: &SecretString| sha256(secret.expose_secret().as_bytes());
        Self {
            store,
            accounts,
            keyring,
            service_token: config.service_token.as_ref().map(digest),
            identities: config.service_identities.clone(),
            oidc,
            operator_key: config.operator_key.as_ref().map(digest),
            known: Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(KNOWN_FOR).build(),
            unknown: Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(UNKNOWN_FOR).build(),
            rates: Rates::default(),
        }
    }

    /// The caller, if they may make this call.
    pub(super) async fn admit(&self, request: &Parts) -> Result<Caller, Status> {
        let access = access::of(request.uri.path()).ok_or_else(|| Status::new(Code::Unimplemented, ""))?;
        let caller = self.caller(request).await?;
        match &caller {
            Caller::Sender(sender) => {
                is_for(access, Who::Sender)?;
                access.permission.map_or(Ok(()), |permission| sender.require(permission))?;
                if access.changes && sender.account.suspended_at.is_some() {
                    let message = "The account is suspended: its keys only read.";
                    return Err(Problem::new(ErrorReason::AccountSuspended, message).into());
                }
                // Last: what is refused for another reason takes nothing from the bucket.
                self.rates.take(Kind::Key, sender.key.uuid(), &sender.account.settings.limits)?;
            }
            Caller::Recipient(token, account) => {
                is_for(access, Who::Recipient)?;
                // By the token, not by the recipient: a dead link must not use up the living one's calls.
                let [name @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = token.fingerprint();
                self.rates.take(Kind::Signer, Uuid::from_bytes(name), &account.settings.limits)?;
            }
            Caller::Notifier(_) => is_for(access, Who::Notifier)?,
            Caller::Operator(_) => is_for(access, Who::Operator)?,
        }
        Ok(caller)
    }

    /// Whether the peer is a portal, which is believed about where people are.
    pub(super) fn is_portal(&self, extensions: &http::Extensions) -> bool {
        !self.identities.is_empty() && self.identities.role_of(&tls::identities(extensions)) == Some(Role::Portal)
    }

    /// A bearer token alone decides where there is one: whoever passes on a bad one must not be taken for themselves.
    async fn caller(&self, request: &Parts) -> Result<Caller, Status> {
        let headers = &request.headers;
        let account = || acting_for(headers);
        let Some(authorization) = headers.get("authorization") else {
            return match self.identities.role_of(&tls::identities(&request.extensions)) {
                Some(Role::Notifier) => account().map(Caller::Notifier),
                Some(Role::Operator) => account().map(Caller::Operator),
                // A portal speaks for people, each with a token of their own.
                Some(Role::Portal) | None => Err(no_bearer()),
            };
        };
        let (scheme, token) = authorization.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(no_bearer());
        }
        let token = token.trim();
        if token.starts_with("cst_") {
            return self.by_signing_token(token).await;
        }
        if let Some(presented) = self.keyring.parse_api_key(token) {
            return self.by_key(presented).await;
        }
        let digest = sha256(token.as_bytes());
        if self.service_token.is_some_and(|known| same(&digest, &known)) {
            return account().map(Caller::Notifier);
        }
        if self.operator_key.is_some_and(|known| same(&digest, &known)) {
            return account().map(Caller::Operator);
        }
        match &self.oidc {
            Some(oidc) if token.split('.').count() == 3 => self.by_jwt(oidc, token).await,
            _ => Err(unauthenticated("The bearer token is not known.")),
        }
    }

    /// A token of the identity provider stands for a key of the account that it names.
    async fn by_jwt(&self, oidc: &Oidc, token: &str) -> Result<Caller, Status> {
        let known = oidc.verify(token).await.map_err(|rejected| match rejected {
            Rejected::Invalid(why) => unauthenticated(why),
            Rejected::Unavailable => Problem::unavailable().into(),
        })?;
        let permissions = Permission::ALL.into_iter().filter(|permission| known.scopes.contains(permission.name()));
        let (key, livemode, permissions) = (known.key, known.livemode, permissions.collect());
        let credential = Credential { key, livemode, permissions, until: Some(known.expires_at), presented: None };
        self.sender(known.account, credential).await?.ok_or_else(|| unauthenticated("The token names no account."))
    }

    /// Whatever is wrong with a signing token, it gets the same answer.
    async fn by_signing_token(&self, token: &str) -> Result<Caller, Status> {
        let absent = || Status::from(Problem::not_found());
        let token = self.keyring.parse_signing_token(token).ok_or_else(absent)?;
        let account = self.accounts.get(token.account).await.map_err(|error| database(&error))?;
        Ok(Caller::Recipient(token, account.ok_or_else(absent)?))
    }

    async fn by_key(&self, presented: Presented) -> Result<Caller, Status> {
        let unknown = || unauthenticated("The API key is not known.");
        let now = self.store.clock().now();
        let key = self.key(presented, now).await.map_err(|error| database(&error))?;
        let key = key.filter(|key| key.is_usable(now)).ok_or_else(unknown)?;
        let credential = Credential {
            key: key.id,
            livemode: key.livemode,
            permissions: key.permissions,
            until: key.ends_at(),
            presented: Some(presented),
        };
        self.sender(presented.account, credential).await?.ok_or_else(unknown)
    }

    /// Refuses a sender whose credential has ended since they came.
    pub(super) async fn still(&self, sender: &Sender) -> Result<(), Status> {
        let now = self.store.clock().now();
        let ended = || unauthenticated("The credential has ended.");
        if sender.until.is_some_and(|until| now >= until) {
            return Err(ended());
        }
        let Some(presented) = sender.presented else { return Ok(()) };
        let key = self.key(presented, now).await.map_err(|error| database(&error))?;
        key.filter(|key| key.is_usable(now)).map(drop).ok_or_else(ended)
    }

    async fn sender(&self, account: AccountId, credential: Credential) -> Result<Option<Caller>, Status> {
        let account = self.accounts.get(account).await.map_err(|error| database(&error))?;
        let Credential { key, livemode, permissions, until, presented } = credential;
        Ok(account.map(|account| {
            let scope = Scope { account: account.id, livemode: Some(livemode) };
            Caller::Sender(Sender { scope, livemode, key, permissions, until, account, presented })
        }))
    }

    async fn key(&self, presented: Presented, now: DateTime<Utc>) -> Result<Option<Arc<ApiKey>>, DatabaseError> {
        let name = (presented.account, presented.hash);
        if let Some(known) = self.known.get(&name) {
            return Ok(Some(known));
        }
        if self.unknown.contains_key(&name) {
            return Ok(None);
        }
        let Some(key) = self.store.key(presented.account, presented.hash).await?.map(Arc::new) else {
            self.unknown.insert(name, ());
            return Ok(None);
        };
        self.known.insert(name, Arc::clone(&key));
        if key.is_usable(now) && key.last_used_at.is_none_or(|at| now - at >= TimeDelta::seconds(USE_NOTED_SECONDS)) {
            let (store, id) = (self.store.clone(), key.id);
            tokio::spawn(async move {
                if let Err(error) = store.touch_key(presented.account, id, now).await {
                    tracing::info!(error = error.to_string(), "the use of a key was not noted");
                }
            });
        }
        Ok(Some(key))
    }
}

/// What a sender's credential says.
struct Credential {
    key: KeyId,
    livemode: bool,
    permissions: Permissions,
    until: Option<DateTime<Utc>>,
    presented: Option<Presented>,
}

/// The account that the metadata names.
fn acting_for(headers: &HeaderMap) -> Result<Option<AccountId>, Status> {
    let header = headers.get(ACCOUNT_HEADER).filter(|header| !header.is_empty());
    let Some(header) = header else { return Ok(None) };
    let account = header.to_str().ok().and_then(|text| text.parse().ok());
    account.map(Some).ok_or_else(|| {
        let why = "must be an id of the form acc_…";
        let problem = Problem::new(ErrorReason::InvalidField, format!("{ACCOUNT_HEADER}: {why}"));
        problem.field(ACCOUNT_HEADER, why).into()
    })
}

fn is_for(access: &Access, who: Who) -> Result<(), Status> {
    if access.callers.contains(&who) { Ok(()) } else { Err(denied()) }
}

fn no_bearer() -> Status {
    unauthenticated("A bearer token is needed: metadata `authorization: Bearer …`.")
}

fn unauthenticated(message: &str) -> Status {
    Problem::new(ErrorReason::AuthenticationRequired, message).into()
}
