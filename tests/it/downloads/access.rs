//! Who gets which version in which state: all of them, in one table.

use chrono::TimeDelta;
use countersign::v1::{
    CreateApiKeyRequest, DocumentVersion, Envelope, EnvelopeStatus, RecipientRole, Routing, Scope,
    SignerServiceDownloadDocumentRequest,
};
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::Code;

use super::{of, whole};
use crate::steps::{ahead, approve, early_token, epoch, people};

use EnvelopeStatus::{Completed, Declined, Draft, Expired, PartiallySigned, Pending, Sent, Voided};
use RecipientRole::{Approver, Cc, Signer, Viewer};

const STATES: [EnvelopeStatus; 8] = [Draft, Pending, Sent, PartiallySigned, Completed, Declined, Voided, Expired];
const VERSIONS: [DocumentVersion; 5] = [
    DocumentVersion::Unspecified,
    DocumentVersion::Original,
    DocumentVersion::Signed,
    DocumentVersion::Declined,
    DocumentVersion::Certificate,
];

/// An envelope in a state, and its people with their tokens, by role.
struct Scene {
    envelope: Envelope,
    people: Vec<(&'static str, Caller)>,
}

/// Two signers, an approver, a viewer and somebody who gets a copy.
async fn scene(service: &Service, sender: &Caller, state: EnvelopeStatus) -> Scene {
    let roles = [Signer, Signer, Approver, Viewer, Cc];
    let mut new = people(&roles, Routing::Parallel, state != Draft);
    if state == Pending {
        new.scheduled_send_at = Some(ahead(service, TimeDelta::days(10)));
    }
    if state == Expired {
        new.expires_at = Some(ahead(service, TimeDelta::days(2)));
    }
    let mut envelope = sender.create(new).await.unwrap();
    let mut people = Vec::new();
    for (index, role) in ["signer", "other", "approver", "viewer", "copy"].into_iter().enumerate() {
        // They have one from the beginning, whether or not it was ever sent to them.
        people.push((role, early_token(service, sender, &envelope, index).await));
    }
    if matches!(state, Draft | Pending) {
        return Scene { envelope, people };
    }
    approve(&people[2].1, &envelope, Vec::new()).await.unwrap();
    envelope = sender.get(&envelope.id).await.unwrap();
    match state {
        PartiallySigned => people[0].1.sign(&envelope).await.unwrap(),
        Completed => {
            people[0].1.sign(&envelope).await.unwrap();
            let now = sender.get(&envelope.id).await.unwrap();
            people[1].1.sign(&now).await.unwrap();
        }
        Declined => {
            people[0].1.decline("No").await.unwrap();
        }
        Voided => {
            sender.void(&envelope.id, "").await.unwrap();
        }
        _ => {}
    }
    Scene { envelope, people }
}

/// What the sender gets: the names of the answer, or of the refusal.
fn expected(state: EnvelopeStatus, version: DocumentVersion) -> &'static str {
    match (version, state) {
        (DocumentVersion::Original, _) => "nda.pdf",
        (DocumentVersion::Unspecified | DocumentVersion::Signed, Completed) => "nda-signed.pdf",
        (DocumentVersion::Declined, Declined) => "nda-declined.pdf",
        (DocumentVersion::Certificate, Completed | Declined) => "nda-certificate.pdf",
        _ => "VERSION_NOT_AVAILABLE",
    }
}

/// What a person gets with their link.
fn expected_of_person(role: &str, state: EnvelopeStatus, version: DocumentVersion) -> &'static str {
    match (state, version, role) {
        (Draft | Pending | Sent | PartiallySigned, _, "copy") => "ROLE_NOT_ALLOWED",
        (Draft | Pending, _, _) => "NOT_YOUR_TURN",
        (Completed | Declined | Voided | Expired, _, _) => "SIGNING_CLOSED",
        (_, DocumentVersion::Unspecified | DocumentVersion::Original, _) => "nda.pdf",
        _ => "VERSION_NOT_AVAILABLE",
    }
}

async fn got(caller: &Caller, envelope: &Envelope, version: DocumentVersion) -> String {
    match whole(caller, of(envelope, version)).await {
        Ok((info, _)) => info.name,
        Err(status) => status.reason(),
    }
}

async fn got_by_link(caller: &Caller, version: DocumentVersion) -> String {
    let request = SignerServiceDownloadDocumentRequest { version: version.into(), ..Default::default() };
    match caller.signer().download_document(request).await {
        Ok(answer) => {
            let first = answer.into_inner().message().await.unwrap().unwrap().part.unwrap().part.unwrap();
            let countersign::v1::document_part::Part::Info(info) = first else { panic!("{first:?}") };
            info.name
        }
        Err(status) => status.reason(),
    }
}

/// Puts in whatever is not there: artefacts of all versions in all states. That there is one is not that it is given out.
async fn with_all_versions(service: &Service) {
    let put = "INSERT INTO artifact (account_id, envelope_id, document_id, version, sha256, size_bytes, seal, is_bare, created_at)
               SELECT account_id, envelope_id, id, version, sha256, size_bytes, 1, false, now() FROM document, generate_series(2, 4) version
               ON CONFLICT DO NOTHING";
    service.database.connect().await.batch_execute(put).await.unwrap();
}

/// S3.77, S3.79, S3.80, S4.19, C-25, S1.37: every version in every state for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn c25_everybody_gets_what_is_theirs_in_every_state() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let stranger = service.account(false).await;
    let live = service.key_of(&sender, true).await;
    let key = CreateApiKeyRequest { scopes: vec![Scope::EnvelopesWrite.into()], ..Default::default() };
    let writer = service.operator(&sender.account).accounts().create_api_key(key).await.unwrap().into_inner();
    let writer = sender.with_token(&writer.secret);
    let mut scenes = Vec::new();
    for state in STATES {
        scenes.push((state, scene(&service, &sender, state).await));
    }
    let ended = [Completed, Declined, Voided];
    for (state, scene) in &scenes {
        let story = countersign_test_support::Story {
            sender: sender.clone(),
            envelope: scene.envelope.clone(),
            signers: Vec::new(),
        };
        if ended.contains(state) {
            story.until(*state).await;
        }
        if matches!(state, Completed | Declined) {
            story.until_artifact().await;
        }
    }
    with_all_versions(&service).await;
    // The deadline of one passes; all others have theirs in months.
    let expiring = &scenes.last().unwrap().1.envelope;
    service.clock.advance(TimeDelta::hours(48));
    let story =
        countersign_test_support::Story { sender: sender.clone(), envelope: expiring.clone(), signers: Vec::new() };
    story.until(Expired).await;
    for (state, Scene { envelope, people }) in &scenes {
        for version in VERSIONS {
            let what = format!("{version:?} when {state:?}");
            let own = expected(*state, version);
            assert_eq!(got(&sender, envelope, version).await, own, "{what}: the sender");
            let notifier = service.notifier(&sender.account);
            assert_eq!(got(&notifier, envelope, version).await, own, "{what}: the notifier");
            assert_eq!(got(&stranger, envelope, version).await, "NOT_FOUND", "{what}: another account");
            assert_eq!(got(&live, envelope, version).await, "NOT_FOUND", "{what}: the other mode");
            let others = service.notifier(&stranger.account);
            assert_eq!(got(&others, envelope, version).await, "NOT_FOUND", "{what}: the notifier for another");
            assert_eq!(got(&writer, envelope, version).await, "PERMISSION_DENIED", "{what}: a key without the scope");
            let operator = service.operator(&sender.account);
            assert_eq!(got(&operator, envelope, version).await, "PERMISSION_DENIED", "{what}: the operator");
            let nobody = sender.with_token("nobody's");
            assert_eq!(got(&nobody, envelope, version).await, "AUTHENTICATION_REQUIRED", "{what}: nobody");
            for (role, person) in people {
                assert_eq!(got(person, envelope, version).await, "PERMISSION_DENIED", "{what}: the {role} as a sender");
                let own = expected_of_person(role, *state, version);
                assert_eq!(got_by_link(person, version).await, own, "{what}: the {role}");
            }
            assert_eq!(got_by_link(&sender, version).await, "PERMISSION_DENIED", "{what}: the sender as a signer");
        }
        let mut unknown = of(envelope, DocumentVersion::Original);
        unknown.version = 99;
        let refused = whole(&sender, unknown).await.unwrap_err();
        assert_eq!((refused.reason().as_str(), refused.fields()), ("INVALID_FIELD", vec!["version".to_owned()]));
    }
}

/// S3.79: the refusal says where the envelope stands; between the last act and its documents there are none.
#[tokio::test(flavor = "multi_thread")]
async fn s3_79_the_signed_version_waits_for_completion() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    let refused = whole(&sender, of(&story.envelope, DocumentVersion::Signed)).await.unwrap_err();
    assert_eq!((refused.code(), refused.fact("current_state").as_str()), (Code::FailedPrecondition, "SENT"));
    // The store does not take the artefacts: the envelope is being sealed for as long as that lasts.
    let away = super::stores::Away::of(&service);
    story.signer(0).sign(&story.envelope).await.unwrap();
    assert!(story.now().await.all_acted_at.is_some());
    for version in [DocumentVersion::Signed, DocumentVersion::Declined, DocumentVersion::Certificate] {
        let refused = whole(&sender, of(&story.envelope, version)).await.unwrap_err();
        assert_eq!(refused.reason(), "VERSION_NOT_AVAILABLE");
    }
    away.end();
    story.until(Completed).await;
    whole(&sender, of(&story.envelope, DocumentVersion::Signed)).await.unwrap();
}
