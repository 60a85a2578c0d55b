//! The limit of overload: a gRPC server with nothing behind it, which refuses whatever it is asked.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use countersign::v1::envelope_service_server::SERVICE_NAME;
use http::{Request, Response};
use tokio::runtime::Handle;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::bare::Bare;

/// On those threads, until it is dropped.
pub async fn refuser(runtime: &Handle) -> Result<Bare> {
    Bare::start(runtime, Refuses(refusal())).await
}

/// As a service of this kind words it: with the time to come again.
fn refusal() -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(Code::Unavailable, "There is too much to do.", details)
}

#[derive(Clone)]
struct Refuses(Status);

impl NamedService for Refuses {
    const NAME: &'static str = SERVICE_NAME;
}

impl tower::Service<Request<Body>> for Refuses {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(self.0.clone().into_http()))
    }
}
