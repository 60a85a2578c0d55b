//! Pictures of pages: for whom, of what, and how large.

use countersign::v1::{PagePicture, RenderPageRequest, Routing, SignerServiceRenderPageRequest};
use countersign_test_support::{Caller, Errors as _, Service, binary};
use tempfile::TempDir;
use tonic::{Code, Status};

pub async fn seen_by_sender(
    sender: &Caller,
    envelope_id: &str,
    page: u32,
    width_px: u32,
) -> Result<PagePicture, Status> {
    let request = RenderPageRequest { envelope_id: envelope_id.to_owned(), page, width_px, ..Default::default() };
    Ok(sender.envelopes().render_page(request).await?.into_inner().picture.unwrap())
}

async fn seen_by_signer(signer: &Caller, page: u32, width_px: u32) -> Result<PagePicture, Status> {
    let request = SignerServiceRenderPageRequest { page, width_px, ..Default::default() };
    Ok(signer.signer().render_page(request).await?.into_inner().picture.unwrap())
}

/// Width and height as the file says.
fn size(picture: &PagePicture) -> (u32, u32) {
    assert_eq!(&picture.png[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(picture.png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_drawn_for_who_may_see_them() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Sequential).await;
    let id = &story.envelope.id;
    let drawn = seen_by_sender(&sender, id, 1, 600).await.unwrap();
    assert_eq!(size(&drawn), (drawn.width_px, drawn.height_px));
    assert_eq!(drawn.width_px, 600);
    assert!((846..=850).contains(&drawn.height_px), "as high as an A4 page is: {}", drawn.height_px);
    assert_eq!(drawn.document_sha256, story.envelope.documents[0].sha256);
    assert_eq!(seen_by_signer(story.signer(0), 1, 600).await.unwrap(), drawn);
    assert_ne!(seen_by_signer(story.signer(0), 2, 600).await.unwrap().png, drawn.png);
    assert_eq!(seen_by_sender(&sender, id, 1, 0).await.unwrap().width_px, 1_000);

    for (page, width_px, field) in [(0, 0, "page"), (3, 0, "page"), (1, 2_001, "width_px")] {
        for refused in
            [seen_by_sender(&sender, id, page, width_px).await, seen_by_signer(story.signer(0), page, width_px).await]
        {
            let refused = refused.unwrap_err();
            assert_eq!((refused.code(), refused.fields()), (Code::InvalidArgument, vec![field.to_owned()]));
        }
    }
    let stranger = service.account(false).await;
    assert_eq!(seen_by_sender(&stranger, id, 1, 0).await.unwrap_err().code(), Code::NotFound);
    let next = sender.signer_of(id, &story.envelope.recipients[1].id).await;
    if let Ok(next) = next {
        assert_eq!(seen_by_signer(&next, 1, 0).await.unwrap_err().reason(), "NOT_YOUR_TURN");
    }
    story.signer(0).decline("").await.unwrap();
    assert_eq!(seen_by_signer(story.signer(0), 1, 0).await.unwrap_err().reason(), "SIGNING_CLOSED");
}

/// A service with two children at most, of which each is started by these commands first. They find `$0` in a folder that is
/// the test's own.
async fn scripted(commands: &str) -> (Service, TempDir) {
    let folder = TempDir::new().unwrap();
    let (script, program) = (folder.path().join("reader"), binary::path("countersign-envelope").await);
    let text =
        format!("#!/bin/sh\ncd \"${{0%/*}}\"\necho started >> log\n{commands}\nexec {} \"$@\"\n", program.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let database = countersign_test_support::Database::envelope().await;
    let documents = TempDir::new().unwrap();
    let mut config = countersign_test_support::service::config(&database, &documents);
    (config.paper_worker, config.paper_workers) = (Some(script), Some(2));
    let clock = countersign_chassis::clock::Clock::database();
    (Service::start_with(database, clock, documents, config).await, folder)
}

/// How many children there have been.
fn started(folder: &TempDir) -> usize {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default().lines().count()
}

/// Who asks for the same page at the same time gets the same picture, and so does who asks in vain.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_drawn_once_for_all_who_ask() {
    let (service, folder) = scripted("[ -e refuse ] && kill -XCPU $$").await;
    let sender = service.account(false).await;
    let envelope = sender.create(countersign_test_support::client::request(1, Routing::Parallel, true)).await.unwrap();
    let before = started(&folder);
    let asked = (0..8).map(|_| seen_by_sender(&sender, &envelope.id, 1, 300));
    let drawn: Vec<_> = futures_util::future::join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert!(drawn.iter().all(|picture| *picture == drawn[0]));
    assert_eq!(started(&folder), before + 1);
    std::fs::write(folder.path().join("refuse"), b"").unwrap();
    for _ in 0..3 {
        let refused = seen_by_sender(&sender, &envelope.id, 2, 300).await.unwrap_err();
        assert_eq!(refused.reason(), "PAGE_NOT_DRAWABLE");
    }
    assert_eq!(started(&folder), before + 2);
    std::fs::remove_file(folder.path().join("refuse")).unwrap();
    assert!(seen_by_sender(&sender, &envelope.id, 2, 301).await.is_ok());
}

/// However many pictures are asked for, there is a child for a document that comes in.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_leave_a_child_to_what_comes_in() {
    let waits = "/bin/mv token taken.$$ 2> /dev/null && while [ ! -e go ]; do /bin/sleep 0.05; done";
    let (service, folder) = scripted(waits).await;
    let sender = service.account(false).await;
    let new = countersign_test_support::client::request(1, Routing::Parallel, true);
    let envelope = sender.create(new.clone()).await.unwrap();
    let token = folder.path().join("token");
    let mut drawn = Vec::new();
    for width_px in [300, 301] {
        std::fs::write(&token, b"").unwrap();
        let (sender, id) = (sender.clone(), envelope.id.clone());
        drawn.push(tokio::spawn(async move { seen_by_sender(&sender, &id, 1, width_px).await }));
        for _ in 0..if width_px == 300 { 200 } else { 20 } {
            if !token.exists() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    assert!(token.exists(), "the second picture waits for the first");
    std::fs::remove_file(&token).unwrap();
    let mut other = new;
    let content = countersign_paper::samples::services_agreement().unwrap().bytes.clone();
    other.documents[0].source = Some(countersign::v1::document_source::Source::Content(content.into()));
    sender.create(other).await.unwrap();
    std::fs::write(folder.path().join("go"), b"").unwrap();
    for picture in drawn {
        picture.await.unwrap().unwrap();
    }
}

/// What was drawn once is there without a child.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_kept_for_a_while() {
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("reader");
    std::os::unix::fs::symlink(binary::path("countersign-envelope").await, &link).unwrap();
    let database = countersign_test_support::Database::envelope().await;
    let documents = TempDir::new().unwrap();
    let mut config = countersign_test_support::service::config(&database, &documents);
    config.paper_worker = Some(link.clone());
    let clock = countersign_chassis::clock::Clock::database();
    let service = Service::start_with(database, clock, documents, config).await;
    let sender = service.account(false).await;
    let envelope = sender.create(countersign_test_support::client::request(1, Routing::Parallel, true)).await.unwrap();
    let drawn = seen_by_sender(&sender, &envelope.id, 1, 300).await.unwrap();
    std::fs::remove_file(&link).unwrap();
    assert_eq!(seen_by_sender(&sender, &envelope.id, 1, 300).await.unwrap(), drawn);
    assert_eq!(seen_by_sender(&sender, &envelope.id, 2, 300).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(seen_by_sender(&sender, &envelope.id, 1, 301).await.unwrap_err().code(), Code::Unavailable);
}
