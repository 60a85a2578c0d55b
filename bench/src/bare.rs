//! A gRPC server with nothing behind it: the limit of what is behind one.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::Service;

/// A server that runs until it is dropped.
pub struct Bare {
    /// Where it listens.
    pub address: SocketAddr,
    serving: JoinHandle<Result<()>>,
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Bare {
    /// Of that service, on those threads.
    pub async fn start<S>(runtime: &Handle, service: S) -> Result<Self>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let listener = listener.into_std()?;
        let serving = runtime.spawn(async move {
            // The listener belongs to the runtime that made it.
            let incoming = TcpIncoming::from(TcpListener::from_std(listener)?).with_nodelay(Some(true));
            Ok(Server::builder().add_service(service).serve_with_incoming(incoming).await?)
        });
        Ok(Self { address, serving })
    }
}
