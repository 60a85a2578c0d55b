//! API keys: made, rotated, ended, listed. Nobody gives what they do not have.

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1;
use countersign::v1::ErrorReason;
use countersign_chassis::once::Claimed;
use countersign_chassis::problem::Problem;
use prost::Message as _;
use tonic::Status;
use uuid::Uuid;

use super::auth::Keeper;
use super::envelope::page_start;
use super::once::keep_as;
use super::parse::{Faults, page_size};
use super::settings::{self, permissions};
use super::status::database;
use super::terms::instant;
use super::upload::over_limit;
use super::{Handler, cursor};
use crate::domain::account::{ApiKey, Permissions};
use crate::domain::id::KeyId;
use crate::domain::limits::{KEY_NAME_CHARS_MAX, OVERLAP_DAYS_MAX, OVERLAP_HOURS_DEFAULT};
use crate::execute::api_key;
use crate::store::{NewKey, Scope};

/// Keys on a page of a list: default and most.
const KEYS: (i64, i64) = (50, 100);

impl Keeper {
    /// Whose idempotency keys and page tokens theirs are.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Sender(sender) => sender.scope,
            Self::Operator(account) => Scope::any_mode(*account),
        }
    }

    /// The mode whose keys they see: a test key sees test keys only.
    fn sees(&self) -> Option<bool> {
        match self {
            Self::Sender(sender) if !sender.livemode => Some(false),
            Self::Sender(_) | Self::Operator(_) => None,
        }
    }

    fn may_give(&self, livemode: bool, permissions: Permissions) -> Result<(), Status> {
        let Self::Sender(sender) = self else { return Ok(()) };
        if (livemode && !sender.livemode) || !sender.permissions.covers(permissions) {
            let message = "A key cannot give what it does not have: neither a scope nor, for a test key, live mode.";
            return Err(Problem::new(ErrorReason::PermissionDenied, message).into());
        }
        Ok(())
    }

    /// Whether they are known by a test key.
    pub fn is_test(&self) -> bool {
        self.sees() == Some(false)
    }

    /// The end of a key that they give: not later than that of their own.
    fn ends(&self, asked: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        let own = match self {
            Self::Sender(sender) => sender.until,
            Self::Operator(_) => None,
        };
        [asked, own].into_iter().flatten().min()
    }

    fn gives(&self) -> Permissions {
        match self {
            Self::Sender(sender) => sender.permissions,
            Self::Operator(_) => Permissions::all(),
        }
    }
}

/// The id of a key, for an answer without its secret.
pub(super) fn id_of(key: Option<&v1::ApiKey>) -> String {
    key.map(|key| key.id.clone()).unwrap_or_default()
}

impl Handler {
    async fn keys_max(&self, keeper: &Keeper) -> Result<usize, Status> {
        let account = self.0.accounts.get(keeper.account()).await.map_err(|error| database(&error))?;
        let account = account.ok_or_else(|| Status::from(Problem::not_found()))?;
        Ok(account.settings.limits.api_keys_max)
    }

    pub(super) async fn new_key(
        &self,
        keeper: &Keeper,
        claimed: Option<&Claimed>,
        request: &v1::CreateApiKeyRequest,
    ) -> Result<v1::CreateApiKeyResponse, Status> {
        let now = self.0.store.clock().now();
        let mut faults = Faults::default();
        let name = faults.line("name", &request.name, false, KEY_NAME_CHARS_MAX);
        let chosen = permissions(&request.scopes, &mut faults);
        let expires_at = request.expires_at.as_ref().map(|given| {
            instant(given).filter(|at| *at > now).unwrap_or_else(|| {
                faults.add("expires_at", "must be a time to come");
                now
            })
        });
        faults.finish()?;
        let given = if chosen.is_empty() { keeper.gives() } else { chosen };
        keeper.may_give(request.livemode, given)?;
        let keys_max = self.keys_max(keeper).await?;
        let secret = self.0.keyring.new_api_key(keeper.account(), request.livemode);
        let new = ApiKey { expires_at: keeper.ends(expires_at), ..api_key(name, request.livemode, given, now) };
        let reply = |key: &ApiKey, secret: String| v1::CreateApiKeyResponse { key: Some(settings::key(key)), secret };
        let kept = keep_as(claimed, move |made: &NewKey| match made {
            NewKey::Made(made) => Some(reply(&made.0, String::new()).encode_to_vec()),
            NewKey::TooMany(_) | NewKey::NoSuchKey => None,
        });
        let made = self.0.store.create_key(keeper.account(), (new, secret.hash), None, keys_max, kept).await;
        match made.map_err(|error| database(&error))? {
            NewKey::Made(made) => Ok(reply(&made.0, secret.text)),
            other => Err(unmade(&other, keys_max)),
        }
    }

    pub(super) async fn rotate_key(
        &self,
        keeper: &Keeper,
        claimed: Option<&Claimed>,
        request: &v1::RotateApiKeyRequest,
    ) -> Result<v1::RotateApiKeyResponse, Status> {
        let now = self.0.store.clock().now();
        let mut faults = Faults::default();
        let id = faults.id("key_id", &request.key_id);
        let overlap = match &request.overlap {
            None => TimeDelta::hours(OVERLAP_HOURS_DEFAULT),
            Some(given) => {
                let overlap = TimeDelta::seconds(given.seconds);
                if given.seconds < 0 || given.nanos != 0 || overlap > TimeDelta::days(OVERLAP_DAYS_MAX) {
                    faults.add("overlap", format!("must be 0 to {OVERLAP_DAYS_MAX} days, in whole seconds"));
                }
                overlap
            }
        };
        faults.finish()?;
        let old = self.visible_key(keeper, id).await?;
        keeper.may_give(old.livemode, old.permissions)?;
        let keys_max = self.keys_max(keeper).await?;
        let secret = self.0.keyring.new_api_key(keeper.account(), old.livemode);
        let new =
            ApiKey { expires_at: keeper.ends(None), ..api_key(String::new(), old.livemode, old.permissions, now) };
        let reply = |made: &(ApiKey, Option<ApiKey>), secret: String| v1::RotateApiKeyResponse {
            key: Some(settings::key(&made.0)),
            secret,
            replaced: made.1.as_ref().map(settings::key),
        };
        let kept = keep_as(claimed, move |made: &NewKey| match made {
            NewKey::Made(made) => Some(reply(made, String::new()).encode_to_vec()),
            NewKey::TooMany(_) | NewKey::NoSuchKey => None,
        });
        let replaced = Some((id, now + overlap));
        let made = self.0.store.create_key(keeper.account(), (new, secret.hash), replaced, keys_max, kept).await;
        match made.map_err(|error| database(&error))? {
            NewKey::Made(made) => Ok(reply(&made, secret.text)),
            other => Err(unmade(&other, keys_max)),
        }
    }

    pub(super) async fn end_key(
        &self,
        keeper: &Keeper,
        claimed: Option<&Claimed>,
        request: &v1::RevokeApiKeyRequest,
    ) -> Result<v1::RevokeApiKeyResponse, Status> {
        let mut faults = Faults::default();
        let id = faults.id("key_id", &request.key_id);
        faults.finish()?;
        self.visible_key(keeper, id).await?;
        let now = self.0.store.clock().now();
        let reply = |key: &ApiKey| v1::RevokeApiKeyResponse { key: Some(settings::key(key)) };
        let kept = keep_as(claimed, move |key: &Option<ApiKey>| key.as_ref().map(|key| reply(key).encode_to_vec()));
        let ended = self.0.store.revoke_key(keeper.account(), id, now, kept).await.map_err(|error| database(&error))?;
        ended.map(|key| reply(&key)).ok_or_else(|| Problem::not_found().into())
    }

    async fn visible_key(&self, keeper: &Keeper, id: KeyId) -> Result<ApiKey, Status> {
        let key = self.0.store.key_by_id(keeper.account(), id).await.map_err(|error| database(&error))?;
        let key = key.filter(|key| keeper.sees().is_none_or(|mode| mode == key.livemode));
        key.ok_or_else(|| Problem::not_found().into())
    }

    pub(super) async fn keys(
        &self,
        keeper: &Keeper,
        request: &v1::ListApiKeysRequest,
    ) -> Result<v1::ListApiKeysResponse, Status> {
        let mut faults = Faults::default();
        let limit = page_size(&mut faults, request.page_size, KEYS.0, KEYS.1);
        let (key, scope) = (&self.0.keyring.cursor, Some(keeper.scope()));
        let before = page_start(&mut faults, &request.page_token, |token| {
            let content = cursor::open(key, "keys", scope, token)?;
            Some(KeyId::from_uuid(Uuid::from_slice(&content).ok()?))
        });
        faults.finish()?;
        let most = usize::try_from(limit).unwrap_or_default();
        let page = self.0.store.keys(keeper.account(), keeper.sees(), before, limit + 1).await;
        let mut page = page.map_err(|error| database(&error))?;
        let more = page.len() > most;
        page.truncate(most);
        let last = page.last().filter(|_| more).map(|key| key.id.uuid().into_bytes());
        Ok(v1::ListApiKeysResponse {
            keys: page.iter().map(settings::key).collect(),
            next_page_token: last.map(|id| cursor::seal(key, "keys", scope, &id)).unwrap_or_default(),
        })
    }
}

fn unmade(why: &NewKey, keys_max: usize) -> Status {
    match why {
        NewKey::TooMany(actual) => {
            let message = format!("The account has {keys_max} keys that can be used, and may have no more.");
            over_limit("key", "api_keys_max", *actual, keys_max, &message)
        }
        NewKey::NoSuchKey | NewKey::Made(_) => Problem::not_found().into(),
    }
}
