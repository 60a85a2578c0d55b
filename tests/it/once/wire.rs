//! Calls as bytes: any request, with a key put into it, and the reply as it came.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::LazyLock;

use countersign_test_support::Caller;
use prost::Message;
use prost::bytes::{Buf as _, BufMut as _};
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

/// How a key is given.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    Field(&'a str),
    Header(&'a str),
    Both(&'a str, &'a str),
}

/// A call that is ready to be made, as often as one likes.
#[derive(Clone)]
pub struct Call {
    pub caller: Caller,
    /// The message that carries the key.
    pub message: &'static str,
    pub request: Vec<u8>,
    /// What follows the first message of an upload.
    pub chunk: Option<Vec<u8>>,
}

/// A call by whom with which request: `call!(sender, VoidEnvelopeRequest { … })`, or `call!(sender, Type expression)`.
macro_rules! call {
    ($caller:expr, $message:ident { $($fields:tt)* }) => {
        $crate::once::wire::Call::new(&$caller, stringify!($message), &countersign::v1::$message { $($fields)* })
    };
    ($caller:expr, $message:ident::default()) => {
        $crate::once::wire::Call::new(&$caller, stringify!($message), &countersign::v1::$message::default())
    };
    ($caller:expr, $message:ident $request:expr) => {
        $crate::once::wire::Call::new(&$caller, stringify!($message), &$request)
    };
}
pub(super) use call;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub bytes: Vec<u8>,
    /// Whether it says that it is the reply to an earlier request.
    pub replayed: bool,
}

impl Reply {
    pub fn holds(&self, part: &[u8]) -> bool {
        self.bytes.windows(part.len()).any(|window| window == part)
    }

    pub fn decoded<R: Message + Default>(&self) -> R {
        R::decode(self.bytes.as_slice()).unwrap()
    }
}

/// The contract, read once.
fn pool() -> DescriptorPool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(countersign::FILE_DESCRIPTOR_SET).unwrap());
    POOL.clone()
}

/// All messages of the contract that carry a key.
pub fn keyed_messages() -> BTreeSet<String> {
    let messages = pool();
    let keyed = messages.all_messages().filter(|message| message.get_field_by_name("idempotency_key").is_some());
    keyed.map(|message| message.name().to_owned()).collect()
}

/// The path of the call whose request carries its key in that message, and the first message of an upload around it.
pub fn method_of(message: &str) -> (String, Option<&'static str>) {
    let (input, around) = match message {
        "UploadInfo" => ("UploadDocumentRequest", Some("info")),
        message => (message, None),
    };
    let pool = pool();
    let mut methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let method = methods.find(|method| method.input().name() == input).unwrap_or_else(|| panic!("{message}: no call"));
    (format!("/{}/{}", method.parent_service().full_name(), method.name()), around)
}

impl Call {
    pub fn new(caller: &Caller, message: &'static str, request: &impl Message) -> Self {
        Self { caller: caller.clone(), message, request: request.encode_to_vec(), chunk: None }
    }

    /// The same by somebody else.
    pub fn by(&self, caller: &Caller) -> Self {
        Self { caller: caller.clone(), ..self.clone() }
    }

    /// The messages of the call.
    fn messages(&self, key: &str) -> Vec<Vec<u8>> {
        let descriptor = pool().get_message_by_name(&format!("countersign.v1.{}", self.message)).unwrap();
        let mut message = DynamicMessage::decode(descriptor, self.request.as_slice()).unwrap();
        message.set_field_by_name("idempotency_key", Value::String(key.to_owned()));
        let Some(chunk) = &self.chunk else { return vec![message.encode_to_vec()] };
        let upload = pool().get_message_by_name("countersign.v1.UploadDocumentRequest").unwrap();
        let (mut first, mut second) = (DynamicMessage::new(upload.clone()), DynamicMessage::new(upload));
        first.set_field_by_name("info", Value::Message(message));
        second.set_field_by_name("chunk", Value::Bytes(chunk.clone().into()));
        vec![first.encode_to_vec(), second.encode_to_vec()]
    }

    /// Makes the call.
    pub async fn send(&self, key: Key<'_>) -> Result<Reply, Status> {
        let (field, header) = match key {
            Key::Field(key) => (key, None),
            Key::Header(key) => ("", Some(key)),
            Key::Both(field, header) => (field, Some(header)),
        };
        let mut request = Request::new(tokio_stream::iter(self.messages(field)));
        let metadata = request.metadata_mut();
        metadata.insert("authorization", format!("Bearer {}", self.caller.token).parse().unwrap());
        metadata.insert("countersign-account", self.caller.account.parse().unwrap());
        if let Some(header) = header {
            metadata.insert("idempotency-key", header.parse().unwrap());
        }
        let mut grpc = Grpc::new(self.caller.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_str(&method_of(self.message).0).unwrap();
        // A stream of one message is what a call with one message is on the wire.
        let response = grpc.client_streaming(request, path, Raw).await?;
        let replayed = response.metadata().get("idempotency-replayed").is_some_and(|value| value == "true");
        Ok(Reply { bytes: response.into_inner(), replayed })
    }
}

/// Bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
