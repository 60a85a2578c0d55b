//! AccountService.

use countersign::v1::account_service_server::AccountService;
use countersign::v1::{GetCallerIdentityRequest, GetCallerIdentityResponse};
use tonic::{Request, Response, Status};

use super::Handler;
use super::auth::sender;

#[tonic::async_trait]
impl AccountService for Handler {
    async fn get_caller_identity(
        &self,
        request: Request<GetCallerIdentityRequest>,
    ) -> Result<Response<GetCallerIdentityResponse>, Status> {
        let sender = sender(request.extensions())?;
        Ok(Response::new(GetCallerIdentityResponse {
            account_id: sender.scope.account.to_string(),
            key_id: sender.key.id.to_string(),
            livemode: sender.livemode,
        }))
    }
}
