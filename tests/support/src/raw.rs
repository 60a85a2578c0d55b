//! A call over HTTP/2 itself: generated clients keep deadlines on their own side as well, and hide what the service says.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::Status;

/// What a call without a message is refused with. `path` is `/package.Service/Method`.
pub async fn refused(address: &str, path: &str, headers: &[(&str, &str)]) -> Status {
    // The frame of a message without fields: not compressed, no bytes.
    asked(address, path, headers, Full::new(Bytes::from_static(&[0; 5])).boxed()).await
}

/// What a call is refused with whose request comes in so many pieces of a byte each.
pub async fn crumbled(address: &str, path: &str, pieces: usize) -> Status {
    let piece = || Ok(Frame::data(Bytes::from_static(&[0])));
    asked(address, path, &[], BoxBody::new(StreamBody::new(stream::iter((0..pieces).map(move |_| piece()))))).await
}

/// What a call is refused with whose request never ends.
pub async fn withheld(address: &str, path: &str) -> Status {
    let begun = stream::once(async { Ok(Frame::data(Bytes::from_static(&[0; 3]))) });
    asked(address, path, &[], BoxBody::new(StreamBody::new(begun.chain(stream::pending())))).await
}

async fn asked(address: &str, path: &str, headers: &[(&str, &str)], body: BoxBody<Bytes, Infallible>) -> Status {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    connection.abort();
    Status::from_header_map(response.headers()).expect("refused before anything else is said")
}
