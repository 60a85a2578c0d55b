//! What came of the demo, as data: the JSON document of `--json`, and what the text is made of.
//! Must never hold a secret: no key, no token, no link.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Everything that happened. There is none if anything unexpected did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Always true.
    pub ok: bool,
    /// Where the mails and the artefacts lie.
    pub folder: PathBuf,
    /// How long everything took, the start and the end of the stack included.
    pub took_ms: u64,
    /// One for each story.
    pub envelopes: Vec<PlayedEnvelope>,
    /// In the order in which they came.
    pub webhooks: Vec<Webhook>,
    /// In the order of their events.
    pub mails: Vec<SentMail>,
    /// What was downloaded.
    pub artefacts: Vec<Artefact>,
}

/// The envelope of a story.
#[derive(Debug, Serialize)]
pub struct PlayedEnvelope {
    /// What was played.
    pub story: &'static str,
    /// `env_…`
    pub id: String,
    /// What it is about.
    pub subject: String,
    /// `COMPLETED`, `DECLINED` or `VOIDED`.
    pub status: &'static str,
    /// Its history, oldest first.
    pub events: Vec<PlayedEvent>,
}

/// An event of an envelope.
#[derive(Debug, Serialize)]
pub struct PlayedEvent {
    /// 1, 2, 3 …
    pub sequence: u64,
    /// `evt_…`
    pub id: String,
    /// `recipient.signed`
    pub r#type: String,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// Whom it concerns.
    pub recipient: Option<String>,
    /// True: it came on the stream, in its place.
    pub streamed: bool,
}

/// A delivery of a webhook.
#[derive(Debug, Serialize)]
pub struct Webhook {
    /// The header `webhook-id`.
    pub webhook_id: String,
    /// `recipient.signed`
    pub r#type: String,
    /// The event in its body.
    pub event_id: String,
    /// The envelope in its body.
    pub envelope_id: String,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// How the signatures were found.
    pub signatures: Signatures,
}

/// Three looks at the signatures of a delivery.
#[derive(Debug, Serialize)]
pub struct Signatures {
    /// `webhook-signature`, by the documented recipe.
    pub standard: &'static str,
    /// `webhook-signature`, by the reference implementation of Standard Webhooks.
    pub standard_by_reference: &'static str,
    /// `Countersign-Signature`, by the documented recipe.
    pub countersign: &'static str,
}

/// A mail.
#[derive(Debug, Serialize)]
pub struct SentMail {
    /// `invitation`
    pub kind: String,
    /// The address.
    pub recipient: String,
    /// `rcp_…`
    pub recipient_id: String,
    /// The event upon which it was sent.
    pub event_id: String,
    /// What stands in its subject line.
    pub subject: String,
    /// Where it lies.
    pub file: PathBuf,
}

/// A downloaded document.
#[derive(Clone, Debug, Serialize)]
pub struct Artefact {
    /// Where it lies.
    pub path: PathBuf,
    /// Whose document.
    pub envelope_id: String,
    /// `SIGNED` or `DECLINED`.
    pub version: &'static str,
    /// In hexadecimal digits.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
}
