//! How long contents are kept: by the calls of the contract, by a clock that is moved over years, and by the loops as they run.

mod bytes;
mod erasure;
mod held;
mod race;

use std::time::Duration;

use chrono::TimeDelta;
use countersign::v1::{
    AccountSettings, CreateEnvelopeRequest, DeleteEnvelopeContentRequest, DocumentVersion, DownloadDocumentRequest,
    Envelope, EnvelopeChanges, EnvelopeStatus, EventType, Limits, ListEnvelopesRequest, ReplaceEnvelopeRequest,
    Retention, Routing, SetLegalHoldRequest, UpdateAccountSettingsRequest, UpdateEnvelopeRequest,
    UpdateRetentionRequest, VerifyHistoryRequest,
};
use countersign_chassis::wire::timestamp;
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::Status;

use crate::downloads::data::data;
use crate::pictures::seen_by_sender;
use crate::steps::{count, epoch, kinds, later, until, until_status};

pub const DAY: TimeDelta = TimeDelta::days(1);

/// A request whose content is kept for so many days.
pub fn kept_for(days: u32) -> CreateEnvelopeRequest {
    CreateEnvelopeRequest { retention_days: days, ..request(1, Routing::Parallel, true) }
}

pub async fn hold(by: &Caller, id: &str, hold: bool) -> Result<Envelope, Status> {
    let request = SetLegalHoldRequest { envelope_id: id.into(), hold, reason: "Case 12".into(), ..Default::default() };
    Ok(by.envelopes().set_legal_hold(request).await?.into_inner().envelope.unwrap())
}

pub async fn erase(by: &Caller, id: &str) -> Result<Envelope, Status> {
    let request =
        DeleteEnvelopeContentRequest { envelope_id: id.into(), reason: "Request 4711".into(), ..Default::default() };
    Ok(by.envelopes().delete_envelope_content(request).await?.into_inner().envelope.unwrap())
}

pub async fn retain(by: &Caller, id: &str, retention_days: u32) -> Result<Envelope, Status> {
    let request = UpdateRetentionRequest { envelope_id: id.into(), retention_days, ..Default::default() };
    Ok(by.envelopes().update_retention(request).await?.into_inner().envelope.unwrap())
}

pub async fn download(by: &Caller, id: &str, version: DocumentVersion) -> Result<Vec<u8>, Status> {
    let request = DownloadDocumentRequest { envelope_id: id.into(), version: version.into(), ..Default::default() };
    let mut stream = by.envelopes().download_document(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        if let Some(countersign::v1::document_part::Part::Chunk(chunk)) = message.part.and_then(|part| part.part) {
            bytes.extend_from_slice(&chunk);
        }
    }
    Ok(bytes)
}

pub async fn completed(sender: &Caller, request: CreateEnvelopeRequest) -> Envelope {
    let story = sender.story_of(request).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.until(EnvelopeStatus::Completed).await
}

pub async fn until_purged(sender: &Caller, id: &str) -> Envelope {
    until(sender, id, "the purge", |envelope| envelope.purged_at.is_some()).await
}

async fn until_warned(sender: &Caller, id: &str) {
    for _ in 0..400 {
        if count(sender, id, EventType::EnvelopePurgeDue).await > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited for the warning of {id}");
}

/// Lets the loops look a few times.
pub async fn let_loops_run() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}

pub async fn is_intact(sender: &Caller, id: &str) -> bool {
    let request = VerifyHistoryRequest { envelope_id: id.to_owned() };
    sender.envelopes().verify_history(request).await.unwrap().into_inner().intact
}

/// How many documents are stored.
pub fn stored(service: &Service) -> usize {
    let folders = std::fs::read_dir(service.documents.path()).unwrap().map(|it| it.unwrap().path());
    let files = folders.filter(|path| path.is_dir()).map(|folder| std::fs::read_dir(folder).unwrap().count());
    files.sum()
}

/// S3.8, S3.9, C-26: for as long as the sender says, announced once, then gone but for what proves that it was.
#[tokio::test(flavor = "multi_thread")]
async fn s3_9_the_completed_pdf_is_kept_for_its_days_and_then_purged() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let before = completed(&sender, kept_for(30)).await;
    let id = before.id.as_str();
    assert_eq!(before.purge_at, Some(later(before.completed_at, DAY * 30)));
    assert_eq!((before.retention_days, before.purged_at), (30, None));
    let replacing = sender.create(kept_for(30)).await.unwrap();
    sender.void(&replacing.id, "typo").await.unwrap();
    service.clock.advance(DAY * 23);
    until_warned(&sender, id).await;
    assert!(!download(&sender, id, DocumentVersion::Signed).await.unwrap().is_empty());
    assert!(seen_by_sender(&sender, id, 1, 300).await.is_ok() && data(&sender, id).await.is_ok());
    service.clock.advance(DAY * 7 - TimeDelta::seconds(1));
    let_loops_run().await;
    assert_eq!(sender.get(id).await.unwrap().purged_at, None);
    service.clock.advance(TimeDelta::seconds(1));
    let left = until_purged(&sender, id).await;
    assert_eq!(left.purged_at, Some(timestamp(service.clock.now())));
    assert_eq!((left.purge_at, left.subject.as_str(), left.status), (None, "", before.status));
    assert_eq!((left.completed_at, &left.documents[0].sha256), (before.completed_at, &before.documents[0].sha256));
    assert_eq!(left.documents[0].artifacts, before.documents[0].artifacts);
    assert_eq!((left.recipients[0].name.as_str(), left.recipients[0].email.as_str()), ("", ""));
    assert_eq!(left.recipients[0].signed_at, before.recipients[0].signed_at);
    for version in [DocumentVersion::Signed, DocumentVersion::Original, DocumentVersion::Declined] {
        assert_eq!(download(&sender, id, version).await.unwrap_err().reason(), "CONTENT_PURGED");
    }
    assert_eq!(seen_by_sender(&sender, id, 1, 300).await.unwrap_err().reason(), "CONTENT_PURGED");
    assert_eq!(data(&sender, id).await.unwrap_err().reason(), "CONTENT_PURGED");
    until_purged(&sender, &replacing.id).await;
    let replace = ReplaceEnvelopeRequest { envelope_id: replacing.id.clone(), ..Default::default() };
    assert_eq!(sender.envelopes().replace_envelope(replace).await.unwrap_err().reason(), "CONTENT_PURGED");
    assert!(is_intact(&sender, id).await && is_intact(&sender, &replacing.id).await);
    let happened = kinds(&sender, id).await;
    assert_eq!(happened[happened.len() - 2..], [EventType::EnvelopePurgeDue, EventType::EnvelopePurged]);
    let page = sender.envelopes().list_envelopes(ListEnvelopesRequest::default()).await.unwrap().into_inner();
    let subjects: Vec<_> = page.envelopes.iter().map(|it| it.subject.as_str()).collect();
    assert_eq!(subjects, ["", ""], "they stay in lists, without what they were about");
    // T-60: whoever was reading has the time to; then the bytes are gone.
    let_loops_run().await;
    assert!(stored(&service) > 0);
    service.clock.advance(TimeDelta::minutes(10));
    until_stored(&service, 0).await;
    service.clock.advance(DAY * 365 * 20);
    let_loops_run().await;
    assert_eq!(sender.get(id).await.unwrap(), left, "nothing more happens to it");
}

pub async fn until_stored(service: &Service, count: usize) {
    for _ in 0..200 {
        if stored(service) == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} are stored instead of {count}", stored(service));
}

/// T-62: every end counts, from its own instant; a draft that nobody touches is discarded, and what it held goes too.
#[tokio::test(flavor = "multi_thread")]
async fn t62_every_end_counts_and_drafts_have_a_lifetime() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let declined = sender.story_of(kept_for(10)).await;
    declined.signer(0).decline("No").await.unwrap();
    declined.until_artifact().await;
    let voided = sender.create(kept_for(20)).await.unwrap().id;
    sender.void(&voided, "").await.unwrap();
    let expires = CreateEnvelopeRequest { expires_at: Some(crate::steps::ahead(&service, DAY)), ..kept_for(30) };
    let expired = sender.create(expires).await.unwrap().id;
    let open = sender.create(kept_for(1)).await.unwrap().id;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    service.clock.advance(DAY);
    until_status(&sender, &expired, EnvelopeStatus::Expired).await;
    service.clock.advance(DAY * 9);
    until_purged(&sender, &declined.envelope.id).await;
    assert_eq!(sender.get(&voided).await.unwrap().purged_at, None);
    service.clock.advance(DAY * 10);
    until_purged(&sender, &voided).await;
    assert_eq!(sender.get(&expired).await.unwrap().purged_at, None);
    service.clock.advance(DAY * 11);
    until_purged(&sender, &expired).await;
    let touch = UpdateEnvelopeRequest {
        envelope_id: draft.id.clone(),
        changes: Some(EnvelopeChanges { subject: "Still needed".into(), retention_days: 5, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["subject".into(), "retention_days".into()] }),
        ..Default::default()
    };
    let touched = sender.envelopes().update_envelope(touch).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!((touched.retention_days, touched.purge_at), (5, None));
    assert_eq!(sender.get(&open).await.unwrap().purged_at, None, "what goes on is kept");
    service.clock.advance(DAY * 89);
    let_loops_run().await;
    sender.get(&draft.id).await.expect("it was touched 89 days ago");
    service.clock.advance(DAY);
    until_gone(&sender, &draft.id).await;
    let left = "SELECT count(*) FROM recipient r JOIN envelope e ON e.id = r.envelope_id \
                WHERE e.discarded_at IS NOT NULL AND r.name <> ''";
    let_loops_run().await;
    assert_eq!(service.database.number(left).await, 1, "as long as replies tell of it");
    service.clock.advance(DAY * 2);
    for _ in 0..100 {
        if service.database.number(left).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(service.database.number(left).await, 0);
}

async fn until_gone(sender: &Caller, id: &str) {
    for _ in 0..200 {
        if sender.get(id).await.is_err_and(|status| status.code() == tonic::Code::NotFound) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited for the end of a draft");
}

async fn set(service: &Service, account: &str, settings: AccountSettings, path: &str) -> Result<(), Status> {
    let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let request = UpdateAccountSettingsRequest { settings: Some(settings), update_mask, ..Default::default() };
    service.operator(account).accounts().update_account_settings(request).await.map(drop)
}

/// S3.8, C-26: the account says what holds where a sender says nothing, the operator within which bounds; it is frozen with the
/// envelope.
#[tokio::test(flavor = "multi_thread")]
async fn c26_the_account_and_the_operator_set_the_frame() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let usual = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    assert_eq!(usual.retention_days, 3_650);
    let retention = Retention { days: 100, warning_days: 0, draft_days: 2 };
    set(&service, &sender.account, AccountSettings { retention: Some(retention), ..Default::default() }, "retention")
        .await
        .unwrap();
    let limits = Limits { retention_days_min: 30, retention_days_max: 400, ..Limits::default() };
    set(&service, &sender.account, AccountSettings { limits: Some(limits), ..Default::default() }, "limits")
        .await
        .unwrap();
    let wrong = Limits { retention_days_min: 30, retention_days_max: 29, ..Limits::default() };
    let refused =
        set(&service, &sender.account, AccountSettings { limits: Some(wrong), ..Default::default() }, "limits");
    assert_eq!(refused.await.unwrap_err().fields(), ["settings.limits.retention_days_min"]);
    let too_long = Retention { days: 36_501, ..Retention::default() };
    let refused = set(
        &service,
        &sender.account,
        AccountSettings { retention: Some(too_long), ..Default::default() },
        "retention",
    );
    assert_eq!(refused.await.unwrap_err().fields(), ["settings.retention.days"]);
    service.clock.advance(TimeDelta::seconds(10));
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    assert_eq!(draft.retention_days, 100);
    for outside in [29, 401, 36_501, u32::MAX] {
        assert_eq!(sender.create(kept_for(outside)).await.unwrap_err().fields(), ["retention_days"]);
        assert_eq!(retain(&sender, &draft.id, outside).await.unwrap_err().fields(), ["retention_days"]);
    }
    assert_eq!(retain(&sender, &draft.id, 400).await.unwrap().retention_days, 400);
    assert_eq!(retain(&sender, &draft.id, 0).await.unwrap().retention_days, 100, "as the account says");
    service.clock.advance(DAY * 2);
    until_gone(&sender, &draft.id).await;
    assert_eq!(sender.get(&usual.id).await.unwrap().retention_days, 3_650, "what it was made with");
}

/// T-61, C-26: a hold wins over the time; once it is lifted, the time that has passed counts. It needs its own scope.
#[tokio::test(flavor = "multi_thread")]
async fn t61_a_hold_wins_over_time_and_request() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let operator = service.operator(&sender.account);
    let envelope = completed(&sender, kept_for(8)).await;
    let id = envelope.id.as_str();
    let held = hold(&sender, id, true).await.unwrap();
    assert_eq!(held.legal_hold_since, Some(timestamp(service.clock.now())));
    assert_eq!(hold(&operator, id, true).await.unwrap().revision, held.revision, "it is held already");
    service.clock.advance(DAY * 4_000);
    let_loops_run().await;
    for by in [&sender, &operator] {
        let refused = erase(by, id).await.unwrap_err();
        assert_eq!((refused.reason(), refused.fact("current_state")), ("LEGAL_HOLD".into(), "COMPLETED".into()));
    }
    let history = sender.history(id).await.unwrap();
    let last: Vec<_> = history.iter().rev().take(3).map(|entry| entry.event.clone().unwrap().r#type()).collect();
    let refused = EventType::EnvelopeErasureRefused;
    assert_eq!(last, [refused, refused, EventType::EnvelopeRetentionChanged]);
    assert_eq!(history.last().unwrap().reason, "Request 4711");
    let set = &history[history.len() - 3];
    assert_eq!((set.reason.as_str(), set.changed.clone()), ("Case 12", vec!["legal_hold".to_owned()]));
    assert!(set.event.as_ref().unwrap().state.as_ref().unwrap().legal_hold);
    assert!(!download(&sender, id, DocumentVersion::Signed).await.unwrap().is_empty());
    hold(&operator, id, false).await.unwrap();
    until_purged(&sender, id).await;
    assert_eq!(count(&sender, id, EventType::EnvelopePurgeDue).await, 1);
    assert_eq!(hold(&sender, id, true).await.unwrap_err().reason(), "CONTENT_PURGED");
    assert_eq!(retain(&sender, id, 9).await.unwrap_err().reason(), "CONTENT_PURGED");
    assert!(is_intact(&sender, id).await);
    let client = service.database.connect().await;
    let by_hand = "UPDATE envelope SET legal_hold_at = now() WHERE purged_at IS NOT NULL";
    client.execute(by_hand, &[]).await.expect_err("what is purged cannot be held");
    client.execute("UPDATE envelope SET purged_at = NULL", &[]).await.expect_err("a purge is for ever");
}
