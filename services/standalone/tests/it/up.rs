//! `up`: what is kept over a restart.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use countersign::v1;
use countersign_standalone::client;
use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Program, command, open_folder, processes};

fn start(temporary: &Path, data: &str) -> Program {
    Program::start(temporary, &["up", "--data", data, "--envelope-port", "0", "--notifier-port", "0"])
}

fn last_word(line: &str) -> String {
    line.split_whitespace().last().unwrap().to_owned()
}

/// The address and the key that are shown.
fn shown(program: &Program) -> (String, String) {
    let address = last_word(&program.line_with("envelope service"));
    (format!("http://{address}"), last_word(&program.line_with("test key")))
}

/// The only envelope with its only recipient's link.
async fn look(url: &str, key: &str, envelope_id: &str) -> (v1::Envelope, String) {
    let mut client = client::envelopes(&client::connect(url).await.unwrap(), key).unwrap();
    let request = v1::GetEnvelopeRequest { envelope_id: envelope_id.to_owned(), ..Default::default() };
    let envelope = client.get_envelope(request).await.unwrap().into_inner().envelope.unwrap();
    let recipient_id = envelope.recipients[0].id.clone();
    let request = v1::GetSigningLinkRequest { envelope_id: envelope_id.to_owned(), recipient_id };
    let token = client.get_signing_link(request).await.unwrap().into_inner().token;
    (envelope, token)
}

async fn create(url: &str, key: &str, request: v1::CreateEnvelopeRequest) -> String {
    let mut client = client::envelopes(&client::connect(url).await.unwrap(), key).unwrap();
    client.create_envelope(request).await.unwrap().into_inner().envelope.unwrap().id
}

/// A request around the PDF of the printed session.
fn request(data: &Path) -> v1::CreateEnvelopeRequest {
    use base64::Engine as _;
    let file = std::fs::read(data.join("grpcurl/create-envelope.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let content = file["documents"][0]["content"].as_str().unwrap();
    let content = base64::engine::general_purpose::STANDARD.decode(content).unwrap();
    let source = Some(v1::document_source::Source::Content(content.into()));
    let (width_percent, height_percent) = (20.0, 5.0);
    let placement = v1::Placement { page: 1, x_percent: 10.0, y_percent: 80.0, width_percent, height_percent };
    v1::CreateEnvelopeRequest {
        subject: "Kept".to_owned(),
        documents: vec![v1::DocumentSource { name: "kept.pdf".to_owned(), source, ..Default::default() }],
        recipients: vec![v1::NewRecipient {
            name: "Helena Marsh".to_owned(),
            email: "helena@aldergate.example".to_owned(),
            ..Default::default()
        }],
        fields: vec![v1::NewField {
            r#type: v1::FieldType::Signature.into(),
            placement: Some(placement),
            ..Default::default()
        }],
        send: true,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_key_the_envelopes_and_the_links_over_a_restart() {
    let (temporary, data) = (open_folder(), open_folder());
    let folder = data.path().join("made/below");
    let folder_text = folder.to_str().unwrap();
    let first = start(temporary.path(), folder_text);
    let (url, key) = shown(&first);
    first.line_with("signed.pdf");
    let envelope_id = create(&url, &key, request(&folder)).await;
    let before = look(&url, &key, &envelope_id).await;

    let second = command(temporary.path(), &["up", "--data", folder_text]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let complained = String::from_utf8_lossy(&second.stderr);
    assert!(complained.contains("is in use by process"), "{complained}");

    first.signal(Signal::INT);
    assert_eq!(first.end().0.code(), Some(0));
    assert_eq!(processes(&folder), []);
    for name in ["keys.json", "demo-account.json"] {
        assert_eq!(folder.join(name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    for name in ["documents", "mail", "grpcurl"] {
        assert_eq!(folder.join(name).metadata().unwrap().permissions().mode() & 0o777, 0o700, "{name}");
    }

    let again = start(temporary.path(), folder_text);
    let (url, same_key) = shown(&again);
    assert_eq!(same_key, key);
    assert_eq!(look(&url, &key, &envelope_id).await, before);
    again.signal(Signal::TERM);
    assert_eq!(again.end().0.code(), Some(0));
    assert_eq!(processes(&folder), []);

    std::fs::remove_file(folder.join("keys.json")).unwrap();
    let without = command(temporary.path(), &["up", "--data", folder_text]).output().unwrap();
    let complained = String::from_utf8_lossy(&without.stderr);
    assert!(complained.contains("keys.json is missing"), "{complained}");
}

/// The README's session is the printed one.
#[test]
fn the_printed_session_works_as_printed() {
    if countersign_test_support::outside::program("grpcurl", "see https://github.com/fullstorydev/grpcurl").is_none() {
        return;
    }
    let (temporary, data) = (open_folder(), open_folder());
    let folder = data.path().join("it's an odd name");
    let program = start(temporary.path(), folder.to_str().unwrap());
    program.line_with("signed.pdf");
    let script = folder.join("grpcurl/session.sh");
    let output = std::process::Command::new("sh").arg("-e").arg(script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("ENVELOPE_STATUS_COMPLETED"), "{said}");
    assert!(std::fs::read(folder.join("grpcurl/signed.pdf")).unwrap().starts_with(b"%PDF-"));
    program.signal(Signal::INT);
    assert_eq!(program.end().0.code(), Some(0));
}
