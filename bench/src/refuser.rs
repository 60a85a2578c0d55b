//! The limit of overload: a gRPC server with nothing behind it, which refuses whatever it is asked.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use countersign::v1::envelope_service_server::SERVICE_NAME;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// A server that runs until it is dropped.
pub struct Refuser {
    /// Where it listens.
    pub address: SocketAddr,
    serving: JoinHandle<Result<()>>,
}

impl Drop for Refuser {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Refuser {
    /// On those threads.
    pub async fn start(runtime: &Handle) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let listener = listener.into_std()?;
        let serving = runtime.spawn(async move {
            // The listener belongs to the runtime that made it.
            let incoming = TcpIncoming::from(TcpListener::from_std(listener)?).with_nodelay(Some(true));
            Ok(Server::builder().add_service(Refuses(refusal())).serve_with_incoming(incoming).await?)
        });
        Ok(Self { address, serving })
    }
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
