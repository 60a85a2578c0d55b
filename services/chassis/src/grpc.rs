//! The gRPC shell: routes, health, reflection, and the way down.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tower::Layer as _;

use crate::call::CallLayer;
use crate::config::ListenConfig;
use crate::pool::Pool;
use crate::tls::ServerTls;
use crate::{accept, readiness};

/// Size of a question to health and reflection, which anybody may ask.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// Installs the TLS provider that all clients and servers of the process use. Harmless when repeated.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Serves until `stop`: then says NOT_SERVING, takes calls for as long as those who send them need to hear of it, says
/// GOAWAY, and lets open calls end for as long as the settings allow.
///
/// `names` are the services whose health is told by name, besides the server's own, and `able` says whether they can answer.
/// While the line for connections to `database` stays long, calls are sent away.
pub async fn serve<F: Future<Output = bool> + Send + 'static>(
    listener: TcpListener,
    routes: Routes,
    names: &'static [&'static str],
    able: impl Fn() -> F + Send + Sync + 'static,
    database: Option<Pool>,
    config: &ListenConfig,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let mut routes = routes.add_service(health_service.max_decoding_message_size(QUESTION_BYTES_MAX));
    if config.reflection {
        let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
        let v1 = v1.max_decoding_message_size(QUESTION_BYTES_MAX);
        routes = routes.add_service(v1).add_service(v1alpha.max_decoding_message_size(QUESTION_BYTES_MAX));
    }
    let tls = ServerTls::open(&config.tls)?.map(Arc::new);
    let _renewing = tls.clone().map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.renew(stop.clone()))));
    readiness::begin(&reporter, names).await;
    let _telling = AbortOnDropHandle::new(tokio::spawn(readiness::tell(reporter, names, able, stop.clone())));
    let service = CallLayer::new(&config.help_url, config.calls_max as usize, database).layer(routes.prepare());
    let (leave, delay) = (CancellationToken::new(), config.drain_delay());
    let _leaving = AbortOnDropHandle::new(tokio::spawn({
        let leave = leave.clone();
        async move {
            stop.cancelled().await;
            tokio::time::sleep(delay).await;
            leave.cancel();
        }
    }));
    accept::serve(listener, tls, service, config, &leave).await;
    Ok(())
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(countersign::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // For the details of errors, which clients would otherwise print as opaque bytes.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Ends with the first SIGTERM or Ctrl-C.
pub async fn termination() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
