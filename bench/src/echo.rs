//! The other limit of a read: a gRPC server with nothing behind it, which says again what the service said.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use countersign::v1::envelope_service_server::SERVICE_NAME;
use countersign::v1::{GetEnvelopeRequest, GetEnvelopeResponse, ListEnvelopesRequest, ListEnvelopesResponse};
use countersign_envelope::domain::id::EnvelopeId;
use http::{Request, Response};
use prost::Message;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;

use crate::bare::Bare;
use crate::load::{Measured, PAGE, drive};
use crate::sample::Kind;
use crate::scripts::{self, FIRST, HOT};
use crate::stage::Stage;
use crate::usage::Usage;
use crate::{Cli, running};

/// A server that runs until it is dropped.
pub struct Echo(Bare);

impl Echo {
    /// Says what the service says now, on the service's threads.
    pub async fn of(stage: &Stage) -> Result<Self> {
        let mut sender = stage.sender()?.sender.clone();
        let envelope_id = EnvelopeId::from_uuid(scripts::id(FIRST)?).to_string();
        let get = sender.get_envelope(GetEnvelopeRequest { envelope_id, ..GetEnvelopeRequest::default() }).await?;
        let list = ListEnvelopesRequest { page_size: PAGE, ..ListEnvelopesRequest::default() };
        let list = sender.list_envelopes(list).await?;
        let answers = Answers { get: Arc::new(get.into_inner()), list: Arc::new(list.into_inner()) };
        Ok(Self(Bare::start(stage.runtime(), answers).await?))
    }

    /// The same calls as of the service.
    pub async fn measure(&self, cli: &Cli, stage: &Stage, kind: Kind) -> Result<(Measured, Usage)> {
        let callers = running::callers(self.0.address, cli.connections, stage.api_key()).await?;
        let (call, length) = (stage.call(kind, FIRST..FIRST + HOT)?, Duration::from_secs(cli.seconds.into()));
        let before = Usage::now(stage.postgres_pid())?;
        let measured = drive(&callers, &call, cli.concurrency, length).await?;
        Ok((measured, Usage::now(stage.postgres_pid())?.since(&before)))
    }
}

/// What is said.
#[derive(Clone)]
struct Answers {
    get: Arc<GetEnvelopeResponse>,
    list: Arc<ListEnvelopesResponse>,
}

impl NamedService for Answers {
    const NAME: &'static str = SERVICE_NAME;
}

impl tower::Service<Request<Body>> for Answers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { get, list } = self.clone();
        Box::pin(async move {
            Ok(if request.uri().path().ends_with("/ListEnvelopes") {
                say::<ListEnvelopesRequest, _>(list, request).await
            } else {
                say::<GetEnvelopeRequest, _>(get, request).await
            })
        })
    }
}

async fn say<Q, A>(answer: Arc<A>, request: Request<Body>) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Clone + 'static,
{
    Grpc::new(ProstCodec::<A, Q>::default()).unary(Always(answer), request).await
}

/// Says the same whatever it is asked.
struct Always<A>(Arc<A>);

impl<Q, A: Clone> UnaryService<Q> for Always<A> {
    type Response = A;
    type Future = Ready<Result<tonic::Response<A>, tonic::Status>>;

    fn call(&mut self, _: tonic::Request<Q>) -> Self::Future {
        ready(Ok(tonic::Response::new(A::clone(&self.0))))
    }
}
