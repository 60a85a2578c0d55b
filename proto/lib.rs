//! The contract of Countersign: messages, clients and servers generated from `proto/`, and [`follow`], which keeps up with the
//! status stream. Nothing else.
//!
//! ```
//! use countersign::v1::{EventType, GetEnvelopeRequest};
//! let envelope_id = "env_01h455vb4pex5vsknk084sn02q".into();
//! let request = GetEnvelopeRequest { envelope_id, ..GetEnvelopeRequest::default() };
//! assert_eq!(EventType::EnvelopeDeclined.dotted(), "envelope.declined");
//! # let _ = request;
//! ```

pub mod follow;

/// Version 1.
pub mod v1 {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("countersign.v1");
}

/// All files of the contract as an encoded `google.protobuf.FileDescriptorSet`, comments included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

impl v1::EventType {
    /// The name that webhooks use: `envelope.declined`.
    pub fn dotted(self) -> String {
        let name = self.as_str_name().trim_start_matches("EVENT_TYPE_").to_lowercase();
        name.replacen('_', ".", 1)
    }
}
