//! AccountService.

use countersign::v1;
use countersign::v1::ErrorReason;
use countersign::v1::account_service_server::AccountService;
use countersign_chassis::once::{Claimed, shown_once};
use countersign_chassis::problem::Problem;
use countersign_chassis::wire::timestamp;
use prost::Message;
use tonic::{Request, Response, Status};

use super::auth::{Keeper, keeper, looked_at, operated, operator, sender};
use super::envelope::page_start;
use super::once::{keep, keep_as};
use super::parse::{Faults, page_size};
use super::people::address;
use super::settings::{self, Changes, amount, scopes};
use super::status::database;
use super::{Handler, cursor, keys};
use crate::domain::account::Account;
use crate::domain::id::{AccountId, EnvelopeId, LedgerId, UserId};
use crate::domain::limits::{ACCOUNT_NAME_CHARS_MAX, REFERENCE_CHARS_MAX};
use crate::execute::{account, new_id};
use crate::store::{Scope, UserRow};

/// Entries on a page of the ledger: default and most.
const ENTRIES: (i64, i64) = (50, 200);

fn not_for(message: &str) -> Status {
    Problem::new(ErrorReason::PermissionDenied, message).into()
}

impl Handler {
    /// The account of a call, as it stands now.
    async fn current(&self, id: AccountId) -> Result<Account, Status> {
        let found = self.0.store.account(id).await.map_err(|error| database(&error))?;
        found.ok_or_else(|| Problem::not_found().into())
    }

    /// Suspends an account, or ends that.
    async fn suspend<R: Message>(
        &self,
        id: AccountId,
        claimed: Option<&Claimed>,
        suspended: bool,
        reply: impl Fn(&Account) -> R + Copy + Send + 'static,
    ) -> Result<R, Status> {
        let now = self.0.store.clock().now();
        let change = move |account: &mut Account| {
            account.suspended_at = suspended.then(|| account.suspended_at.unwrap_or(now));
            true
        };
        let kept = keep_as(claimed, move |changed: &Option<(Account, bool)>| {
            changed.as_ref().map(|(account, _)| reply(account).encode_to_vec())
        });
        let changed = self.0.store.change_account(id, change, kept).await.map_err(|error| database(&error))?;
        self.0.accounts.forget(id);
        changed.map(|(account, _)| reply(&account)).ok_or_else(|| Problem::not_found().into())
    }

    async fn change_settings(
        &self,
        keeper: &Keeper,
        claimed: Option<&Claimed>,
        request: &v1::UpdateAccountSettingsRequest,
    ) -> Result<v1::UpdateAccountSettingsResponse, Status> {
        let mut faults = Faults::default();
        let mask = request.update_mask.clone().unwrap_or_default().paths;
        if matches!(keeper, Keeper::Sender(_)) && mask.iter().any(|path| path == "billing" || path == "limits") {
            return Err(not_for("`billing` and `limits` are the operator's to change."));
        }
        let changes = Changes::read(request.settings.as_ref(), &mask, &mut faults);
        faults.finish()?;
        let expected = request.if_revision;
        let change = move |account: &mut Account| {
            let fits = expected == 0 || expected == account.revision;
            if fits {
                changes.apply(&mut account.settings);
            }
            fits
        };
        let reply = |account: &Account| v1::UpdateAccountSettingsResponse { account: Some(settings::account(account)) };
        let kept = keep_as(claimed, move |changed: &Option<(Account, bool)>| match changed {
            Some((account, true)) => Some(reply(account).encode_to_vec()),
            _ => None,
        });
        let id = keeper.account();
        let changed = self.0.store.change_account(id, change, kept).await.map_err(|error| database(&error))?;
        self.0.accounts.forget(id);
        match changed {
            Some((account, true)) => Ok(reply(&account)),
            Some((account, false)) => {
                let message = "The account has changed: its revision is not `if_revision`.";
                let problem = Problem::new(ErrorReason::RevisionMismatch, message);
                Err(problem.with("revision", account.revision.to_string()).into())
            }
            None => Err(Problem::not_found().into()),
        }
    }

    async fn new_account(
        &self,
        claimed: Option<&Claimed>,
        request: &v1::CreateAccountRequest,
    ) -> Result<v1::CreateAccountResponse, Status> {
        let mut faults = Faults::default();
        let name = faults.line("name", &request.name, true, ACCOUNT_NAME_CHARS_MAX);
        faults.finish()?;
        let now = self.0.store.clock().now();
        let new = account(name, now);
        let reply = v1::CreateAccountResponse { account: Some(settings::account(&new)) };
        let kept = keep(claimed, &reply);
        let made = self.0.store.create_account(new, LedgerId::from_uuid(new_id(now)), None, kept).await;
        made.map_err(|error| database(&error))?;
        Ok(reply)
    }

    async fn grant(
        &self,
        id: AccountId,
        claimed: Option<&Claimed>,
        request: &v1::GrantCreditsRequest,
    ) -> Result<v1::GrantCreditsResponse, Status> {
        let mut faults = Faults::default();
        let given = amount(request.amount.as_ref(), "amount", 1, &mut faults);
        let reference = faults.line("reference", &request.reference, false, REFERENCE_CHARS_MAX);
        faults.finish()?;
        self.current(id).await?;
        let now = self.0.store.clock().now();
        let reply = |entry: &_| v1::GrantCreditsResponse { entry: Some(settings::entry(entry)) };
        let kept = keep_as(claimed, move |entry| Some(reply(entry).encode_to_vec()));
        let granted = self.0.store.grant(id, LedgerId::from_uuid(new_id(now)), (given, reference), now, kept).await;
        Ok(reply(&granted.map_err(|error| database(&error))?))
    }

    async fn ledger(&self, keeper: &Keeper, request: &v1::ListLedgerRequest) -> Result<v1::ListLedgerResponse, Status> {
        let mut faults = Faults::default();
        let limit = page_size(&mut faults, request.page_size, ENTRIES.0, ENTRIES.1);
        let envelope: Option<EnvelopeId> =
            (!request.envelope_id.is_empty()).then(|| faults.id("envelope_id", &request.envelope_id));
        let purpose = format!("ledger/{}", request.envelope_id);
        let (id, scope) = (keeper.account(), Some(keeper.scope()));
        let key = &self.0.keyring.cursor;
        let before = page_start(&mut faults, &request.page_token, |token| {
            let content = cursor::open(key, &purpose, scope, token)?;
            Some(i64::from_be_bytes(content.try_into().ok()?))
        });
        faults.finish()?;
        if keeper.is_test() {
            // What live envelopes cost is none of a test key's business.
            return Ok(v1::ListLedgerResponse::default());
        }
        let most = usize::try_from(limit).unwrap_or_default();
        let page = self.0.store.ledger(id, envelope, before, limit + 1).await;
        let mut page = page.map_err(|error| database(&error))?;
        let more = page.len() > most;
        page.truncate(most);
        let last = page.last().filter(|_| more).map(|entry| entry.sequence.to_be_bytes());
        Ok(v1::ListLedgerResponse {
            entries: page.iter().map(settings::entry).collect(),
            next_page_token: last.map(|at| cursor::seal(key, &purpose, scope, &at)).unwrap_or_default(),
        })
    }

    async fn new_user(
        &self,
        scope: Scope,
        claimed: Option<&Claimed>,
        request: &v1::CreateUserTokenRequest,
    ) -> Result<v1::CreateUserTokenResponse, Status> {
        let mut faults = Faults::default();
        let email = address("email", &request.email, &mut faults);
        faults.finish()?;
        let now = self.0.store.clock().now();
        let user = UserRow { id: UserId::from_uuid(new_id(now)), email };
        let token = self.0.keyring.new_user_token(scope.account, user.id);
        let user_id = user.id.to_string();
        let kept = v1::CreateUserTokenResponse { user_id: user_id.clone(), user_token: String::new() };
        let made = self.0.store.create_user(scope, user, token.hash, now, keep(claimed, &kept)).await;
        made.map_err(|error| database(&error))?;
        Ok(v1::CreateUserTokenResponse { user_id, user_token: token.text })
    }

    async fn end_user(
        &self,
        scope: Scope,
        claimed: Option<&Claimed>,
        request: &v1::RevokeUserTokenRequest,
    ) -> Result<v1::RevokeUserTokenResponse, Status> {
        let mut faults = Faults::default();
        let user = faults.id("user_id", &request.user_id);
        faults.finish()?;
        let now = self.0.store.clock().now();
        let reply = v1::RevokeUserTokenResponse {};
        let kept = keep_as(claimed, |known: &bool| known.then(Vec::new));
        let known = self.0.store.revoke_user(scope, user, now, kept).await.map_err(|error| database(&error))?;
        if known { Ok(reply) } else { Err(Problem::not_found().into()) }
    }
}

#[tonic::async_trait]
impl AccountService for Handler {
    async fn create_account(
        &self,
        request: Request<v1::CreateAccountRequest>,
    ) -> Result<Response<v1::CreateAccountResponse>, Status> {
        operator(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim_alone(&metadata, &mut message)?;
        self.once(claimed.as_ref(), self.new_account(claimed.as_ref(), &message)).await
    }

    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::GetAccountResponse>, Status> {
        let account = self.current(looked_at(request.extensions())?).await?;
        Ok(Response::new(v1::GetAccountResponse { account: Some(settings::account(&account)) }))
    }

    async fn update_account_settings(
        &self,
        request: Request<v1::UpdateAccountSettingsRequest>,
    ) -> Result<Response<v1::UpdateAccountSettingsResponse>, Status> {
        let keeper = keeper(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, keeper.scope())?;
        if keeper.is_test() {
            return Err(not_for("The settings are those of live envelopes too: a test key cannot change them."));
        }
        self.once(claimed.as_ref(), self.change_settings(&keeper, claimed.as_ref(), &message)).await
    }

    async fn suspend_account(
        &self,
        request: Request<v1::SuspendAccountRequest>,
    ) -> Result<Response<v1::SuspendAccountResponse>, Status> {
        let id = operated(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, Scope::any_mode(id))?;
        let reply = |account: &Account| v1::SuspendAccountResponse { account: Some(settings::account(account)) };
        self.once(claimed.as_ref(), self.suspend(id, claimed.as_ref(), true, reply)).await
    }

    async fn resume_account(
        &self,
        request: Request<v1::ResumeAccountRequest>,
    ) -> Result<Response<v1::ResumeAccountResponse>, Status> {
        let id = operated(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, Scope::any_mode(id))?;
        let reply = |account: &Account| v1::ResumeAccountResponse { account: Some(settings::account(account)) };
        self.once(claimed.as_ref(), self.suspend(id, claimed.as_ref(), false, reply)).await
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        let keeper = keeper(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, keeper.scope())?;
        let made = self.once(claimed.as_ref(), self.new_key(&keeper, claimed.as_ref(), &message)).await?;
        shown_once(made, |reply| keys::id_of(reply.key.as_ref()))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        let keeper = keeper(request.extensions())?;
        Ok(Response::new(self.keys(&keeper, request.get_ref()).await?))
    }

    async fn rotate_api_key(
        &self,
        request: Request<v1::RotateApiKeyRequest>,
    ) -> Result<Response<v1::RotateApiKeyResponse>, Status> {
        let keeper = keeper(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, keeper.scope())?;
        let made = self.once(claimed.as_ref(), self.rotate_key(&keeper, claimed.as_ref(), &message)).await?;
        shown_once(made, |reply| keys::id_of(reply.key.as_ref()))
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        let keeper = keeper(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, keeper.scope())?;
        self.once(claimed.as_ref(), self.end_key(&keeper, claimed.as_ref(), &message)).await
    }

    async fn grant_credits(
        &self,
        request: Request<v1::GrantCreditsRequest>,
    ) -> Result<Response<v1::GrantCreditsResponse>, Status> {
        let id = operated(request.extensions())?;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, Scope::any_mode(id))?;
        if claimed.is_none() {
            let mut faults = Faults::default();
            faults.add("idempotency_key", "must be there: nothing else keeps a repeat from giving twice");
            faults.finish()?;
        }
        self.once(claimed.as_ref(), self.grant(id, claimed.as_ref(), &message)).await
    }

    async fn get_credit_balance(
        &self,
        request: Request<v1::GetCreditBalanceRequest>,
    ) -> Result<Response<v1::GetCreditBalanceResponse>, Status> {
        let keeper = keeper(request.extensions())?;
        let id = keeper.account();
        self.current(id).await?;
        let balances = self.0.store.balances(id).await.map_err(|error| database(&error))?;
        // Test envelopes cost nothing, so a test key has nothing to spend.
        let balances = if keeper.is_test() { Vec::new() } else { balances };
        let available = balances.into_iter().map(|(unit, value)| v1::Amount { unit, value }).collect();
        Ok(Response::new(v1::GetCreditBalanceResponse { available }))
    }

    async fn list_ledger(
        &self,
        request: Request<v1::ListLedgerRequest>,
    ) -> Result<Response<v1::ListLedgerResponse>, Status> {
        let keeper = keeper(request.extensions())?;
        Ok(Response::new(self.ledger(&keeper, request.get_ref()).await?))
    }

    async fn get_caller_identity(
        &self,
        request: Request<v1::GetCallerIdentityRequest>,
    ) -> Result<Response<v1::GetCallerIdentityResponse>, Status> {
        let sender = sender(request.extensions())?;
        Ok(Response::new(v1::GetCallerIdentityResponse {
            account_id: sender.scope.account.to_string(),
            key_id: sender.key.to_string(),
            livemode: sender.livemode,
            scopes: scopes(sender.permissions),
            expires_at: sender.until.map(timestamp),
            account_suspended: sender.account.suspended_at.is_some(),
        }))
    }

    async fn create_user_token(
        &self,
        request: Request<v1::CreateUserTokenRequest>,
    ) -> Result<Response<v1::CreateUserTokenResponse>, Status> {
        let scope = sender(request.extensions())?.scope;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, scope)?;
        let made = self.once(claimed.as_ref(), self.new_user(scope, claimed.as_ref(), &message)).await?;
        shown_once(made, |reply| reply.user_id.clone())
    }

    async fn revoke_user_token(
        &self,
        request: Request<v1::RevokeUserTokenRequest>,
    ) -> Result<Response<v1::RevokeUserTokenResponse>, Status> {
        let scope = sender(request.extensions())?.scope;
        let (metadata, _, mut message) = request.into_parts();
        let claimed = self.claim(&metadata, &mut message, scope)?;
        self.once(claimed.as_ref(), self.end_user(scope, claimed.as_ref(), &message)).await
    }
}
