//! Services that run in this process, each on a runtime of its own, so that the kernel accounts for their threads apart.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::Result;
use countersign_chassis::clock::Clock;
use countersign_envelope::config::Config as EnvelopeConfig;
use countersign_notifier::config::Config as NotifierConfig;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::load::Caller;

/// A running service.
pub struct Running {
    stop: CancellationToken,
    served: JoinHandle<Result<()>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Running {
    /// The envelope service.
    pub async fn envelope(config: EnvelopeConfig, runtime: &Handle) -> Result<Self> {
        let at = config.listen.listen;
        let serve = |listener, stop| countersign_envelope::serve::serve(config, Clock::database(), listener, stop);
        Self::start(at, runtime, serve).await
    }

    /// The notifier.
    pub async fn notifier(config: NotifierConfig, runtime: &Handle) -> Result<Self> {
        let at = config.listen.listen;
        let serve = |listener, stop| countersign_notifier::serve::serve(config, Clock::database(), listener, stop);
        Self::start(at, runtime, serve).await
    }

    async fn start<F: Future<Output = Result<()>> + Send + 'static>(
        at: SocketAddr,
        runtime: &Handle,
        serve: impl FnOnce(TcpListener, CancellationToken) -> F + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        // The listener belongs to the runtime that made it.
        let listener = listener.into_std()?;
        let until = stop.clone();
        let served = runtime.spawn(async move { serve(TcpListener::from_std(listener)?, until).await });
        Ok(Self { stop, served, address })
    }

    /// A connection to it.
    pub async fn connect(&self) -> Result<Channel> {
        connect(self.address).await
    }

    /// So many connections to it, with that key on each.
    pub async fn callers(&self, count: u32, api_key: &str) -> Result<Vec<Caller>> {
        callers(self.address, count, api_key).await
    }

    /// Ends it in good order.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.served.await?
    }
}

/// A connection to whoever listens there.
pub async fn connect(address: SocketAddr) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect().await?)
}

/// So many connections, with that key on each.
pub async fn callers(address: SocketAddr, count: u32, api_key: &str) -> Result<Vec<Caller>> {
    let mut callers = Vec::new();
    for _ in 0..count {
        callers.push(Caller::new(connect(address).await?, api_key)?);
    }
    Ok(callers)
}
