//! AccountService.

use countersign::v1;
use countersign::v1::account_service_server::AccountService;
use countersign_chassis::problem::Problem;
use tonic::{Request, Response, Status};

use super::Handler;
use super::auth::sender;
use super::parse::Faults;
use super::people::address;
use super::status::database;
use crate::domain::id::UserId;
use crate::execute::new_id;
use crate::store::UserRow;

#[tonic::async_trait]
impl AccountService for Handler {
    async fn get_caller_identity(
        &self,
        request: Request<v1::GetCallerIdentityRequest>,
    ) -> Result<Response<v1::GetCallerIdentityResponse>, Status> {
        let sender = sender(request.extensions())?;
        Ok(Response::new(v1::GetCallerIdentityResponse {
            account_id: sender.scope.account.to_string(),
            key_id: sender.key.id.to_string(),
            livemode: sender.livemode,
        }))
    }

    async fn create_user_token(
        &self,
        request: Request<v1::CreateUserTokenRequest>,
    ) -> Result<Response<v1::CreateUserTokenResponse>, Status> {
        let scope = sender(request.extensions())?.scope;
        let mut faults = Faults::default();
        let email = address("email", &request.get_ref().email, &mut faults);
        faults.finish()?;
        let now = self.0.store.clock().now();
        let user = UserRow { id: UserId::from_uuid(new_id(now)), email };
        let token = self.0.keyring.new_user_token(scope.account, user.id);
        self.0.store.create_user(scope, &user, &token.hash, now).await.map_err(|error| database(&error))?;
        Ok(Response::new(v1::CreateUserTokenResponse { user_id: user.id.to_string(), user_token: token.text }))
    }

    async fn revoke_user_token(
        &self,
        request: Request<v1::RevokeUserTokenRequest>,
    ) -> Result<Response<v1::RevokeUserTokenResponse>, Status> {
        let scope = sender(request.extensions())?.scope;
        let mut faults = Faults::default();
        let user = faults.id("user_id", &request.get_ref().user_id);
        faults.finish()?;
        let now = self.0.store.clock().now();
        let known = self.0.store.revoke_user(scope, user, now).await.map_err(|error| database(&error))?;
        if known { Ok(Response::new(v1::RevokeUserTokenResponse {})) } else { Err(Problem::not_found().into()) }
    }
}
