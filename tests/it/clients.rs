//! Clients that are not ours: grpcurl through reflection, and a Python client generated from the protos.

use std::path::Path;
use std::process::{Command, Output};

use countersign_test_support::outside::{program, python_module};
use countersign_test_support::{Caller, Service};

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A session as a Python service would have it: create, link, session, sign, history, stream, download, and an error.
const PYTHON: &str = r"
import hashlib, sys, time
import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2
from countersign.v1 import envelope_service_pb2 as api, envelope_service_pb2_grpc as api_grpc
from countersign.v1 import signer_service_pb2 as sign, signer_service_pb2_grpc as sign_grpc
from countersign.v1 import envelope_pb2, field_pb2, document_pb2, event_pb2

address, key, file = sys.argv[1:4]
channel = grpc.insecure_channel(address)
bearer = lambda token: (('authorization', 'Bearer ' + token),)
envelopes, signers = api_grpc.EnvelopeServiceStub(channel), sign_grpc.SignerServiceStub(channel)
pdf = open(file, 'rb').read()
created = envelopes.CreateEnvelope(api.CreateEnvelopeRequest(
    subject='Agreement',
    documents=[api.DocumentSource(name='nda.pdf', content=pdf)],
    recipients=[api.NewRecipient(name='Ada Lovelace', email='ada@example.com')],
    fields=[api.NewField(type=field_pb2.FIELD_TYPE_SIGNATURE, placement=field_pb2.Placement(
        page=1, x_percent=10, y_percent=10, width_percent=30, height_percent=6))],
    send=True,
), metadata=bearer(key)).envelope
assert created.status == envelope_pb2.ENVELOPE_STATUS_SENT, created
link = envelopes.GetSigningLink(api.GetSigningLinkRequest(
    envelope_id=created.id, recipient_id=created.recipients[0].id), metadata=bearer(key))
session = signers.GetSigningSession(sign.GetSigningSessionRequest(), metadata=bearer(link.token)).session
assert session.documents[0].sha256 == hashlib.sha256(pdf).hexdigest()
signers.Sign(sign.SignRequest(consent=True, seen_revision=session.revision, seen_documents=[
    document_pb2.SeenDocument(document_id=d.id, sha256=d.sha256) for d in session.documents]), metadata=bearer(link.token))
stream = envelopes.WatchStatusChanges(
    api.WatchStatusChangesRequest(start=api.WATCH_START_OLDEST), metadata=bearer(key), timeout=30)
for message in stream:
    if message.event.type == event_pb2.EVENT_TYPE_ENVELOPE_COMPLETED:
        break
stream.cancel()
parts = list(envelopes.DownloadDocument(api.DownloadDocumentRequest(envelope_id=created.id), metadata=bearer(key)))
signed = b''.join(part.part.chunk for part in parts)
assert hashlib.sha256(signed).hexdigest() == parts[0].part.info.sha256
history = envelopes.ListEvents(api.ListEventsRequest(envelope_id=created.id), metadata=bearer(key)).entries
assert [entry.event.sequence for entry in history] == list(range(1, 7)), history
try:
    envelopes.VoidEnvelope(api.VoidEnvelopeRequest(envelope_id=created.id), metadata=bearer(key))
    raise SystemExit('a completed envelope was voided')
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    raw = dict(error.trailing_metadata())['grpc-status-details-bin']
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(raw).details[0].Unpack(info)
    assert info.reason == 'INVALID_STATE_TRANSITION' and info.metadata['current_state'] == 'COMPLETED', info
print('done')
";

/// Generates the Python client into a folder.
pub fn generated(out: &Path) {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut protoc = Command::new("python3");
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
    protoc.arg(format!("--python_out={}", out.display())).arg(format!("--grpc_python_out={}", out.display()));
    for file in std::fs::read_dir(proto.join("countersign/v1")).unwrap() {
        protoc.arg(file.unwrap().path());
    }
    let generated = protoc.output().unwrap();
    assert!(generated.status.success(), "{}", text(&generated));
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_6_a_generated_python_client_plays_the_main_job() {
    if !python_module("grpc_tools, google.rpc", "pip install grpcio grpcio-tools googleapis-common-protos") {
        return;
    }
    let service = Service::start().await;
    let sender = service.account(false).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    generated(out);
    let file = out.join("nda.pdf");
    std::fs::write(&file, countersign_test_support::client::pdf()).unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON, &service.address, &sender.token]).arg(&file).env("PYTHONPATH", out);
    let played = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    assert!(played.status.success() && text(&played).contains("done"), "{}", text(&played));
}

/// A call by grpcurl, as JSON.
async fn grpcurl(caller: &Caller, address: &str, method: &str, request: serde_json::Value) -> serde_json::Value {
    let grpcurl = program("grpcurl", "see https://github.com/fullstorydev/grpcurl").unwrap();
    let mut command = Command::new(grpcurl);
    command.args(["-plaintext", "-H", &format!("authorization: Bearer {}", caller.token), "-d", &request.to_string()]);
    command.args([address, &format!("countersign.v1.{method}")]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{method}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The README's session: reflection is enough, no file of ours is needed.
#[tokio::test(flavor = "multi_thread")]
async fn s1_6_grpcurl_plays_the_main_job_by_reflection() {
    if program("grpcurl", "see https://github.com/fullstorydev/grpcurl").is_none() {
        return;
    }
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender
        .create(countersign_test_support::client::request(1, countersign::v1::Routing::Parallel, true))
        .await
        .unwrap();
    let (id, recipient) = (envelope.id.clone(), envelope.recipients[0].id.clone());
    let call = |caller: &Caller, method: &'static str, request: serde_json::Value| {
        let (caller, address) = (caller.clone(), service.address.clone());
        async move { grpcurl(&caller, &address, method, request).await }
    };
    let link = serde_json::json!({ "envelopeId": id, "recipientId": recipient });
    let link = call(&sender, "EnvelopeService/GetSigningLink", link).await;
    let signer = sender.with_token(link["token"].as_str().unwrap());
    let session = call(&signer, "SignerService/GetSigningSession", serde_json::json!({})).await;
    let document = &session["session"]["documents"][0];
    let seen = serde_json::json!([{ "documentId": document["id"], "sha256": document["sha256"] }]);
    let sign =
        serde_json::json!({ "consent": true, "seenDocuments": seen, "seenRevision": session["session"]["revision"] });
    call(&signer, "SignerService/Sign", sign).await;
    let get = call(&sender, "EnvelopeService/GetEnvelope", serde_json::json!({ "envelopeId": id })).await;
    assert_eq!(get["envelope"]["recipients"][0]["status"], "RECIPIENT_STATUS_SIGNED");
    // Health tells of each service by name.
    let mut command = Command::new(program("grpcurl", "").unwrap());
    command.args(["-plaintext", "-d", r#"{"service": "countersign.v1.SignerService"}"#, &service.address]);
    command.arg("grpc.health.v1.Health/Check");
    let health = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(text(&health).contains("SERVING"), "{}", text(&health));
    // Errors are legible: their details are known to reflection.
    let mut command = Command::new(program("grpcurl", "").unwrap());
    command.args([
        "-plaintext",
        "-H",
        &format!("authorization: Bearer {}", sender.token),
        "-d",
        "{}",
        &service.address,
    ]);
    command.arg("countersign.v1.EnvelopeService/GetEnvelope");
    let refused = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(!refused.status.success());
    let told = text(&refused);
    assert!(told.contains("INVALID_FIELD") && told.contains("envelope_id"), "{told}");
}
