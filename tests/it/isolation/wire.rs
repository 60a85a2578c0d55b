//! Calls by descriptor: any request as a dynamic message, the whole answer as bytes.

use std::collections::BTreeMap;

use countersign_test_support::Caller;
use countersign_test_support::notifier::authorised;
use prost::Message as _;
use prost::bytes::Buf as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use serde_json::Value;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Messages of an answer that are kept; streams that never end are left after the first.
const MESSAGES_MAX: usize = 64;

/// Dynamic messages out, bytes in.
struct Raw;

impl Codec for Raw {
    type Encode = DynamicMessage;
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
    type Item = DynamicMessage;
    type Error = Status;
    fn encode(&mut self, item: DynamicMessage, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

/// All that a caller gets to see, but for the request id.
#[derive(Clone)]
pub struct Answer {
    pub code: Code,
    pub reason: String,
    pub facts: BTreeMap<String, String>,
    message: String,
    details: Vec<u8>,
    messages: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let details = String::from_utf8_lossy(&self.details);
        write!(f, "{:?} {:?} {details:?} {} messages", self.code, self.message, self.messages.len())
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        // Facts are a map: their order on the wire says nothing.
        let details = |answer: &Self| {
            let mut details = answer.details.clone();
            if answer.facts.len() > 1 {
                details.sort_unstable();
            }
            details
        };
        let said = |answer: &Self| (answer.code, answer.message.clone(), answer.facts.clone(), details(answer));
        said(self) == said(other) && self.messages == other.messages
    }
}

impl Answer {
    /// The same without what the caller had said: to hear that again tells nothing.
    #[must_use]
    pub fn without(mut self, said: &str) -> Self {
        self.message = self.message.replace(said, "");
        while let Some(at) = self.details.windows(said.len()).position(|window| window == said.as_bytes()) {
            self.details.drain(at..at + said.len());
        }
        self
    }

    /// The messages that came, as bytes.
    pub fn messages(&self) -> &[Vec<u8>] {
        &self.messages
    }

    /// The messages that came.
    pub fn read<M: prost::Message + Default>(&self) -> impl Iterator<Item = M> {
        self.messages.iter().map(|bytes| M::decode(bytes.as_slice()).unwrap())
    }

    /// The same without its messages.
    #[must_use]
    pub fn wordless(self) -> Self {
        Self { messages: Vec::new(), ..self }
    }

    /// Whether a text stands among the details.
    pub fn tells(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.details).contains(text)
    }

    fn of(status: Option<&Status>, messages: Vec<Vec<u8>>) -> Self {
        let Some(status) = status else {
            let (message, details, facts) = (String::new(), Vec::new(), BTreeMap::new());
            return Self { code: Code::Ok, reason: String::new(), facts, message, details, messages };
        };
        let mut details = status.details().to_vec();
        if let Some(info) = status.get_details_request_info() {
            let id = info.request_id.as_bytes();
            let at = details.windows(id.len()).position(|window| window == id).expect("the request id");
            details.drain(at..at + id.len());
        }
        let info = status.get_details_error_info();
        let (reason, facts) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        let (code, message) = (status.code(), status.message().to_owned());
        Self { code, reason, facts: facts.into_iter().collect(), message, details, messages }
    }
}

pub fn pool() -> DescriptorPool {
    DescriptorPool::decode(countersign::FILE_DESCRIPTOR_SET).unwrap()
}

pub fn service(name: &str) -> ServiceDescriptor {
    pool().get_service_by_name(&format!("countersign.v1.{name}")).unwrap()
}

pub fn method(service: &str, name: &str) -> MethodDescriptor {
    self::service(service).methods().find(|method| method.name() == name).unwrap()
}

/// A message as its JSON says.
pub fn message(kind: MessageDescriptor, json: &Value) -> DynamicMessage {
    let name = kind.full_name().to_owned();
    DynamicMessage::deserialize(kind, json.clone()).unwrap_or_else(|why| panic!("{name}: {why}: {json}"))
}

/// Makes a call. Every call is one of many answers here: on the wire one answer looks the same.
pub async fn call(channel: &Channel, caller: &Caller, method: &MethodDescriptor, request: &Value) -> Answer {
    let message = message(method.input(), request);
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("a connection");
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path: PathAndQuery = path.parse().unwrap();
    let mut request = authorised(caller, message);
    request.metadata_mut().insert("countersign-account", caller.account.parse().unwrap());
    let mut stream = match grpc.server_streaming(request, path, Raw).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Answer::of(Some(&status), Vec::new()),
    };
    let most = if method.name() == "WatchStatusChanges" { 1 } else { MESSAGES_MAX };
    let mut messages = Vec::new();
    while messages.len() < most {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => break,
            Err(status) => return Answer::of(Some(&status), messages),
        }
    }
    Answer::of(None, messages)
}
