//! A session for grpcurl that works as printed, and the file with the envelope that it creates.
//! Must never need a program besides a shell, grpcurl and what every system has.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::v1;
use countersign::v1::document_source::Source;
use countersign_paper::samples;
use serde_json::{Value, json};

use crate::contracts::{CONSENT, inline, request, sample};
use crate::stack::make_private;

/// What is printed; `{…}` is filled in.
const SCRIPT: &str = include_str!("session.sh");
const FOLDER: &str = "grpcurl";
const SCRIPT_FILE: &str = "session.sh";
/// The script names it too.
const ENVELOPE_FILE: &str = "create-envelope.json";

/// A session, ready to paste.
pub(super) struct Session {
    pub script: String,
    /// Holds the script too.
    pub file: PathBuf,
}

impl Session {
    /// Writes the files of the session into a folder of the data folder.
    pub async fn prepare(data: &Path, address: &str, api_key: &str) -> Result<Self> {
        let folder = data.join(FOLDER);
        // The key is in the script.
        make_private(&folder)?;
        let scan = sample(samples::rotated_scan).await?;
        let request = request(&scan, &CONSENT, v1::Routing::Parallel, inline(&scan));
        write(&folder.join(ENVELOPE_FILE), &format!("{:#}\n", as_json(&request)))?;
        let script = SCRIPT
            .replace("{folder}", &quoted(&folder.to_string_lossy()))
            .replace("{key}", api_key)
            .replace("{address}", address);
        let file = folder.join(SCRIPT_FILE);
        write(&file, &script)?;
        Ok(Self { script, file })
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// For a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The request in the JSON that grpcurl reads.
fn as_json(request: &v1::CreateEnvelopeRequest) -> Value {
    let document = |document: &v1::DocumentSource| {
        let content = match &document.source {
            Some(Source::Content(content)) => STANDARD.encode(content),
            Some(Source::UploadId(_) | Source::Url(_)) | None => String::new(),
        };
        json!({ "name": document.name, "content": content })
    };
    let recipient = |recipient: &v1::NewRecipient| {
        let role = recipient.role().as_str_name();
        json!({ "name": recipient.name, "email": recipient.email, "role": role, "label": recipient.label })
    };
    let field = |field: &v1::NewField| {
        let placement = field.placement.unwrap_or_default();
        json!({
            "type": field.r#type().as_str_name(),
            "recipientIndex": field.recipient_index,
            "documentIndex": field.document_index,
            "placement": {
                "page": placement.page,
                "xPercent": placement.x_percent,
                "yPercent": placement.y_percent,
                "widthPercent": placement.width_percent,
                "heightPercent": placement.height_percent,
            },
            "required": field.required,
            "name": field.name,
        })
    };
    json!({
        "subject": request.subject,
        "message": request.message,
        "routing": request.routing().as_str_name(),
        "send": request.send,
        "recipients": request.recipients.iter().map(recipient).collect::<Vec<_>>(),
        "fields": request.fields.iter().map(field).collect::<Vec<_>>(),
        "documents": request.documents.iter().map(document).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_odd_folders_are_quoted_and_those_survive_a_shell() {
        assert_eq!(quoted("/var/lib/countersign"), "/var/lib/countersign");
        assert_eq!(quoted("/tmp/it's mine"), r"'/tmp/it'\''s mine'");
    }

    #[test]
    fn every_call_of_the_script_is_in_the_contract() {
        let contract = String::from_utf8_lossy(countersign::FILE_DESCRIPTOR_SET);
        let calls: Vec<_> = SCRIPT.split_whitespace().filter_map(|word| word.strip_prefix("countersign.v1.")).collect();
        assert_eq!(calls.len(), 8);
        for name in calls.iter().flat_map(|call| call.split(['/', '.'])) {
            assert!(contract.contains(name), "{name}");
        }
        assert!(SCRIPT.contains(ENVELOPE_FILE));
    }
}
