//! Documents leave sealed, by a key and a timestamping authority of `openssl`; what becomes of them is found, by this
//! service and by programs that know nothing of it.

use std::time::Duration;

use countersign::v1::{
    CertificateTrust, DocumentVersion, DownloadDocumentRequest, EnvelopeStatus, LaterChanges, Routing, SealLevel,
    SealVerdict, SignatureFault, VerifyDocumentRequest, VerifyDocumentResponse,
};
use countersign_chassis::clock::Clock;
use countersign_envelope::seal::SealConfig;
use countersign_paper::{Mark, MarkContent, StampOptions, samples, stamp};
use countersign_test_support::client::pdf;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Errors as _, Service, Story};
use sha2::{Digest as _, Sha256};
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::authority::{Answer, Authority};
use crate::judges;
use crate::pki::{Pki, openssl};
use crate::responder::Responder;

/// Bytes of one message.
const CHUNK_BYTES: usize = 256 * 1024;

/// A key of `openssl`, with that authority if there is one.
pub fn settings(tsa: Option<&Authority>) -> SealConfig {
    let pki = Pki::get().path();
    let key = openssl(pki, &["pkcs8", "-topk8", "-nocrypt", "-in", "rsa.key"]);
    let certificates = ["rsa.pem", "issuer.pem"].map(|name| std::fs::read(pki.join(name)).unwrap());
    let path = pki.join("seal.pem");
    std::fs::write(&path, [&key[..], &certificates.concat()].concat()).unwrap();
    SealConfig {
        seal_pkcs12: Some(path),
        seal_tsa_urls: tsa.map(|tsa| tsa.url.parse().unwrap()).into_iter().collect(),
        seal_trust: Some(pki.join("root.pem")),
        ..SealConfig::default()
    }
}

pub async fn start(tsa: Option<&Authority>) -> Service {
    start_sealing(settings(tsa)).await
}

async fn start_sealing(seal: SealConfig) -> Service {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let config = countersign_envelope::config::Config { seal, ..config(&database, &documents) };
    Service::start_with(database, Clock::database(), documents, config).await
}

async fn download(story: &Story, version: DocumentVersion) -> Vec<u8> {
    let envelope_id = story.envelope.id.clone();
    let request = DownloadDocumentRequest { envelope_id, version: version.into(), ..Default::default() };
    let mut stream = story.sender.envelopes().download_document(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(countersign::v1::document_part::Part::Chunk(chunk)) = message.part.unwrap().part {
            bytes.extend_from_slice(&chunk);
        }
    }
    bytes
}

async fn verify(caller: &Caller, bytes: &[u8]) -> Result<VerifyDocumentResponse, Status> {
    let chunks: Vec<VerifyDocumentRequest> =
        bytes.chunks(CHUNK_BYTES).map(|chunk| VerifyDocumentRequest { chunk: chunk.to_vec().into() }).collect();
    Ok(caller.envelopes().verify_document(tokio_stream::iter(chunks)).await?.into_inner())
}

async fn signed(sender: &Caller) -> Story {
    let story = sender.story(1, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.until(EnvelopeStatus::Completed).await;
    story
}

async fn declined(sender: &Caller) -> Story {
    let story = sender.story(1, Routing::Parallel).await;
    story.signer(0).decline("Not these terms").await.unwrap();
    story
}

/// S4.11, S4.19: what was signed and what was refused leave sealed, and others can tell.
#[tokio::test(flavor = "multi_thread")]
async fn s4_19_final_documents_leave_sealed() {
    let service = start(None).await;
    let sender = service.account(false).await;
    let (completed, refused) = (signed(&sender).await, declined(&sender).await);
    refused.until_artifact().await;
    let mut files = Vec::new();
    for (story, version) in [(&completed, DocumentVersion::Signed), (&refused, DocumentVersion::Declined)] {
        let document = &story.now().await.documents[0];
        let file = download(story, version).await;
        assert!(file.starts_with(&pdf()), "the original is its beginning");
        let artifact = &document.artifacts[0];
        assert_eq!((artifact.seal_level(), &artifact.sha256), (SealLevel::Basic, &hex::encode(Sha256::digest(&file))));
        let said = verify(&sender, &file).await.unwrap();
        assert_eq!((said.verdict(), said.sha256), (SealVerdict::Intact, artifact.sha256.clone()));
        let known = said.document.unwrap();
        assert_eq!((known.envelope_id, &known.document_id), (story.envelope.id.clone(), &document.id));
        assert_eq!(known.version, i32::from(version));
        let [signature] = said.signatures.as_slice() else { panic!("{:?}", said.signatures) };
        assert!(signature.is_ours && signature.is_intact && signature.covers_whole_file);
        assert_eq!(signature.later_changes(), LaterChanges::None);
        let signer = signature.signer.clone().unwrap();
        assert_eq!(
            (signer.trust(), signer.subject.as_str()),
            (CertificateTrust::Trusted, "CN=rsa,O=Countersign tests")
        );
        assert!(signature.timestamped_at.is_none());
        files.push(file);
    }
    // The history tells it, too.
    let history = sender.history(&completed.envelope.id).await.unwrap();
    let last = history.last().unwrap().event.as_ref().unwrap().state.clone().unwrap();
    assert_eq!(last.documents[0].artifacts[0].seal_level(), SealLevel::Basic);
    for said in judges::pyhanko(&files).into_iter().flatten() {
        assert_eq!(said, ["valid trusted ENTIRE_FILE NONE unstamped"]);
    }
    for file in &files {
        assert!(judges::pdfsig_holds(file).unwrap_or(true), "{:?}", judges::pdfsig(file));
        assert_eq!(judges::qpdf(file).unwrap_or_default(), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_a_sealed_document_is_told() {
    let service = start(None).await;
    let sender = service.account(false).await;
    let file = download(&signed(&sender).await, DocumentVersion::Signed).await;
    let content = MarkContent::Text("another price".into());
    let mark = Mark { page: 1, x_pct: 10.0, y_pct: 10.0, width_pct: 30.0, height_pct: 10.0, content };
    let drawn = stamp(&file, &[mark], &StampOptions::default()).unwrap();
    let said = verify(&sender, &drawn).await.unwrap();
    assert_eq!((said.verdict(), said.document), (SealVerdict::Changed, None));
    let signature = &said.signatures[0];
    assert!(signature.is_ours && !signature.is_intact && !signature.covers_whole_file);
    assert_eq!((signature.later_changes(), signature.signed_bytes), (LaterChanges::Other, file.len() as u64));
    let mut flipped = file.clone();
    let at = flipped.windows(4).rposition(|window| window == b"(D:2").unwrap() + 3;
    flipped[at] = b'3';
    let said = verify(&sender, &flipped).await.unwrap();
    assert_eq!((said.verdict(), said.signatures[0].is_ours), (SealVerdict::Changed, false));
    assert_eq!(said.signatures[0].fault(), SignatureFault::ContentChanged);
    let plain = verify(&sender, &pdf()).await.unwrap();
    assert_eq!((plain.verdict(), plain.signatures.len()), (SealVerdict::NotSealed, 0));
    // A seal of somebody else is a signature, but none of ours.
    let stranger = Pki::get().sealer("stranger");
    let base = samples::nda().unwrap().bytes;
    let unsealed = countersign_paper::seal(&base, &stranger.identity, &Default::default()).unwrap();
    let said = verify(&sender, &stranger.finish(unsealed).whole(&base)).await.unwrap();
    assert_eq!((said.verdict(), said.signatures[0].is_intact), (SealVerdict::NotSealed, true));
    assert_eq!(said.signatures[0].signer.as_ref().unwrap().trust(), CertificateTrust::UnknownIssuer);
}

/// A seal is told to everybody, whose document it is only to the account and the mode that it is of.
#[tokio::test(flavor = "multi_thread")]
async fn t39_whose_document_it_is_is_told_to_its_account_alone() {
    let service = start(None).await;
    let (sender, other) = (service.account(false).await, service.account(false).await);
    let file = download(&signed(&sender).await, DocumentVersion::Signed).await;
    let live = service.key_of(&sender, true).await;
    for stranger in [&other, &live] {
        let said = verify(stranger, &file).await.unwrap();
        assert_eq!((said.verdict(), said.document), (SealVerdict::Intact, None));
    }
    assert!(verify(&sender, &file).await.unwrap().document.is_some());
    // Recipients have no business here.
    let story = sender.story(1, Routing::Parallel).await;
    assert_eq!(verify(story.signer(0), &file).await.unwrap_err().reason(), "PERMISSION_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_at_is_refused_by_name() {
    let service = start(None).await;
    let sender = service.account(false).await;
    assert_eq!(verify(&sender, b"PK\x03\x04").await.unwrap_err().reason(), "UNREADABLE_DOCUMENT");
    assert_eq!(verify(&sender, b"").await.unwrap_err().reason(), "UNREADABLE_DOCUMENT");
    let large = verify(&sender, &vec![b' '; 34 * 1024 * 1024]).await.unwrap_err();
    assert_eq!((large.reason().as_str(), large.fact("limit").as_str()), ("OUT_OF_SCOPE_V1", "document_bytes_max"));
}

/// Foreign files are read in a child: without one they are not read at all.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_strangers_are_not_read_by_the_service() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let config = config(&database, &documents);
    let config = countersign_envelope::config::Config { paper_worker: Some("/nowhere/at/all".into()), ..config };
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    assert_eq!(verify(&sender, &pdf()).await.unwrap_err().reason(), "UNAVAILABLE");
}

/// Whoever sends a file slowly keeps nobody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn slow_callers_take_no_turn() {
    let service = start(None).await;
    let sender = service.account(false).await;
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let mut envelopes = sender.envelopes();
            let first = VerifyDocumentRequest { chunk: pdf()[..100].to_vec().into() };
            let chunks = tokio_stream::iter([first]).chain(tokio_stream::pending());
            tokio::spawn(async move { envelopes.verify_document(chunks).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let prompt = tokio::time::timeout(Duration::from_secs(15), verify(&sender, &pdf())).await;
    assert_eq!(prompt.expect("it waits for the others").unwrap().verdict(), SealVerdict::NotSealed);
    assert!(slow.iter().all(|call| !call.is_finished()));
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Whose documents take long keeps nobody else waiting.
#[tokio::test(flavor = "multi_thread")]
async fn slow_documents_keep_no_others_waiting() {
    let authority = Authority::start(Answer::Slow).await;
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut seal = settings(Some(&authority));
    // The second time it is asked it answers.
    seal.seal_tsa_urls.extend(seal.seal_tsa_urls.clone());
    let config = countersign_envelope::config::Config { seal, ..config(&database, &documents) };
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    let (slow, quick) = (sender.story(1, Routing::Parallel).await, sender.story(1, Routing::Parallel).await);
    slow.signer(0).sign(&slow.envelope).await.unwrap();
    while authority.asked() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    authority.tell(Answer::Right);
    quick.signer(0).sign(&quick.envelope).await.unwrap();
    quick.until(EnvelopeStatus::Completed).await;
    assert_ne!(slow.now().await.status(), EnvelopeStatus::Completed, "it came first and is not done yet");
    slow.until(EnvelopeStatus::Completed).await;
}

/// D10: an authority that is down keeps the artefact waiting and nothing else; it appears once when the authority is back.
#[tokio::test(flavor = "multi_thread")]
async fn d10_documents_wait_for_their_timestamp_and_appear_once() {
    let authority = Authority::start(Answer::Failing).await;
    let service = start(Some(&authority)).await;
    let sender = service.account(false).await;
    let story = declined(&sender).await;
    assert_eq!(story.now().await.status(), EnvelopeStatus::Declined);
    for _ in 0..200 {
        if authority.asked() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(authority.asked() >= 2, "it is tried again");
    assert!(story.now().await.documents[0].artifacts.is_empty());
    authority.tell(Answer::Right);
    let artifacts = &story.until_artifact().await.documents[0].artifacts;
    let made: Vec<_> = artifacts.iter().map(|artifact| (artifact.version(), artifact.seal_level())).collect();
    let both = [DocumentVersion::Declined, DocumentVersion::Certificate];
    assert_eq!(made, both.map(|version| (version, SealLevel::Timestamped)));
    let file = download(&story, DocumentVersion::Declined).await;
    let said = verify(&sender, &file).await.unwrap();
    assert!(said.signatures[0].timestamped_at.is_some());
    assert_eq!(said.signatures[0].timestamp_authority.clone().unwrap().trust(), CertificateTrust::Trusted);
    for said in judges::pyhanko(&[file]).into_iter().flatten() {
        assert_eq!(said, ["valid trusted ENTIRE_FILE NONE stamped"]);
    }
}

/// The blocks of a page that are in that language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    page.split(&open).skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

/// What somebody has who checks a document.
async fn folder_of(story: &Story, pki: &Pki) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("document.pdf"), download(story, DocumentVersion::Signed).await).unwrap();
    std::fs::copy(pki.path().join("root.pem"), folder.path().join("ca.pem")).unwrap();
    folder
}

/// What the page tells people to type says what the page says.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_check_a_seal() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sealing.md")).unwrap();
    let (commands, answers) = (blocks(&page, "sh"), blocks(&page, "text"));
    assert_eq!((commands.len(), answers.len()), (4, 4));
    let service = start(None).await;
    let plain = folder_of(&signed(&service.account(false).await).await, Pki::get()).await;
    let responder = Responder::start().await;
    let service = start_sealing(responder.config()).await;
    let sender = service.account(false).await;
    let story = signed(&sender).await;
    let artifacts = story.now().await.documents[0].artifacts.clone();
    assert!(artifacts.iter().all(|artifact| artifact.seal_level() == SealLevel::LongTerm), "{artifacts:?}");
    let long_term = folder_of(&story, &responder.revocable().pki).await;
    let said = verify(&sender, &std::fs::read(long_term.path().join("document.pdf")).unwrap()).await.unwrap();
    assert_eq!((said.verdict(), said.signatures[0].later_changes()), (SealVerdict::Intact, LaterChanges::None));
    for (commands, answer) in commands.iter().zip(answers) {
        let program = ["pdfsig", "pyhanko", "openssl"].into_iter().find(|program| commands.contains(program)).unwrap();
        if !judges::works("sh", &["-c", &format!("command -v {program}")], &format!("{program} is needed")) {
            continue;
        }
        let folder = if commands.contains("DocumentSecurityStore") { &long_term } else { &plain };
        let output = std::process::Command::new("bash")
            .args(["-euo", "pipefail", "-c", commands])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{commands}: {said}");
        for line in answer.lines() {
            assert!(said.contains(line), "{commands}: {line} is not in {said}");
        }
    }
}
