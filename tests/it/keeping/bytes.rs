//! Bytes that several need, bytes that nobody needs, and processes that end in between.

use countersign::v1::document_source::Source;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{
    CreateEnvelopeRequest, DocumentSource, ReplaceDocumentRequest, Routing, UploadDocumentRequest, UploadInfo,
};
use countersign_chassis::clock::Clock;
use countersign_chassis::keys::sha256;
use countersign_chassis::ticker::Progress;
use countersign_envelope::blobs::Blobs;
use countersign_envelope::config::Config;
use countersign_envelope::store::Store;
use countersign_envelope::{keep, removal};
use countersign_test_support::client::{pdf, request};
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Service};

use super::{
    DAY, DocumentVersion, TimeDelta, completed, download, erase, kept_for, stored, until_purged, until_stored,
};
use crate::intake::markers::{marked, paper};
use crate::steps::{epoch, executor};

/// A service whose loops do nothing by themselves.
pub async fn idle() -> Service {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let settings = Config { sweep_ms: 60_000, ..config(&database, &documents) };
    Service::start_with(database, Clock::manual(epoch()), documents, settings).await
}

pub struct Hands {
    pub store: Store,
    pub blobs: Blobs,
}

impl Hands {
    pub async fn of(service: &Service) -> Self {
        let blobs = Blobs::local(service.documents.path()).unwrap();
        Self { store: executor(service).await.store().clone(), blobs }
    }

    /// Removes all that is due.
    pub async fn remove(&self) {
        while removal::tick(&self.store, &self.blobs).await.unwrap() == Progress::Busy {}
    }
}

async fn voided(sender: &Caller) -> String {
    let id = sender.create(kept_for(30)).await.unwrap().id;
    sender.void(&id, "").await.unwrap();
    id
}

pub async fn upload(sender: &Caller) -> String {
    upload_of(sender, "lease.pdf", pdf()).await
}

async fn upload_of(sender: &Caller, name: &str, content: Vec<u8>) -> String {
    let info = UploadInfo { name: name.into(), ..UploadInfo::default() };
    let parts = [Part::Info(info), Part::Chunk(content.into())].map(|part| UploadDocumentRequest { part: Some(part) });
    sender.envelopes().upload_document(futures_util::stream::iter(parts)).await.unwrap().into_inner().upload_id
}

/// S3.9, T-60: the same bytes are stored once for everybody, and go when the last envelope of anybody lets them go.
#[tokio::test(flavor = "multi_thread")]
async fn s3_9_bytes_that_others_need_stay() {
    let service = Service::start_at(epoch()).await;
    let (one, other) = (service.account(false).await, service.account(true).await);
    let (first, second) = (voided(&one).await, voided(&one).await);
    let others = voided(&other).await;
    assert_eq!(stored(&service), 1);
    for id in [&first, &second] {
        erase(&one, id).await.unwrap();
        service.clock.advance(TimeDelta::minutes(11));
        super::let_loops_run().await;
        assert_eq!(stored(&service), 1);
    }
    assert_eq!(download(&other, &others, DocumentVersion::Original).await.unwrap(), pdf());
    erase(&other, &others).await.unwrap();
    assert_eq!(stored(&service), 1, "for those who are reading");
    service.clock.advance(TimeDelta::minutes(11));
    until_stored(&service, 0).await;
    // The same bytes again, as if they had never been there.
    let again = voided(&one).await;
    assert_eq!(download(&one, &again, DocumentVersion::Original).await.unwrap(), pdf());
}

/// T-62: an upload can be used for a week; what was made of it stays. One by which a purged document came goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn t62_uploads_have_a_lifetime() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let by_upload = |id: &str| CreateEnvelopeRequest {
        documents: vec![DocumentSource {
            markers: false,
            name: String::new(),
            source: Some(Source::UploadId(id.to_owned())),
        }],
        ..kept_for(30)
    };
    let unused = upload(&sender).await;
    service.clock.advance(DAY * 6);
    let used = upload(&sender).await;
    let envelope = completed(&sender, by_upload(&used)).await;
    sender.create(by_upload(&unused)).await.expect("after six days");
    service.clock.advance(DAY + TimeDelta::seconds(1));
    super::let_loops_run().await;
    assert_eq!(sender.create(by_upload(&unused)).await.unwrap_err().code(), tonic::Code::NotFound);
    let again = sender.create(by_upload(&used)).await.expect("the other is younger");
    service.clock.advance(DAY * 6);
    super::let_loops_run().await;
    assert_eq!(service.database.number("SELECT count(*) FROM upload").await, 0);
    assert_eq!(download(&sender, &again.id, DocumentVersion::Original).await.unwrap(), pdf());
    let fresh = upload(&sender).await;
    let another = completed(&sender, by_upload(&fresh)).await;
    erase(&sender, &envelope.id).await.unwrap();
    assert_eq!(service.database.number("SELECT count(*) FROM upload").await, 1, "it came later");
    erase(&sender, &another.id).await.unwrap();
    assert_eq!(service.database.number("SELECT count(*) FROM upload").await, 0);
}

/// T-60: wherever a process ends, the next one goes on; bytes are never gone before the purge is committed.
#[tokio::test(flavor = "multi_thread")]
async fn t60_a_purge_that_is_cut_anywhere_is_done_by_the_next() {
    let service = idle().await;
    let sender = service.account(false).await;
    let hands = Hands::of(&service).await;
    let (now, digest) = (|| service.clock.now(), sha256(&pdf()));
    let id = voided(&sender).await;
    hands.remove().await;
    assert_eq!(stored(&service), 1);
    erase(&sender, &id).await.unwrap();
    // Cut after the commit: the bytes are there, and nobody shows them; they go when they are due, not before.
    hands.remove().await;
    assert_eq!(stored(&service), 1);
    service.clock.advance(TimeDelta::minutes(11));
    // Cut after the claim.
    let lease = now() + TimeDelta::seconds(120);
    assert_eq!(hands.store.claim_removals(now(), lease, 9).await.unwrap(), [digest]);
    assert_eq!(hands.store.claim_removals(now(), lease, 9).await.unwrap(), [[0; 32]; 0], "one at a time");
    service.clock.advance(TimeDelta::seconds(121));
    // Cut after they were condemned, before they were removed; whose claim is over condemns nothing.
    let later = now() + TimeDelta::seconds(120);
    assert_eq!(hands.store.claim_removals(now(), later, 9).await.unwrap(), [digest]);
    assert!(!hands.store.condemn(&digest, lease, now()).await.unwrap());
    assert!(hands.store.condemn(&digest, later, now()).await.unwrap());
    assert_eq!(stored(&service), 1);
    service.clock.advance(TimeDelta::seconds(121));
    // Cut after they were removed, before that was taken down.
    let last = now() + TimeDelta::seconds(120);
    assert_eq!(hands.store.claim_removals(now(), last, 9).await.unwrap(), [digest]);
    assert!(hands.store.condemn(&digest, last, now()).await.unwrap());
    hands.blobs.delete(&digest).await.unwrap();
    service.clock.advance(TimeDelta::seconds(121));
    hands.remove().await;
    assert_eq!(service.database.number("SELECT count(*) FROM blob_removal WHERE removed_at IS NULL").await, 0);
    service.clock.advance(DAY * 2);
    hands.remove().await;
    assert_eq!(service.database.number("SELECT count(*) FROM blob_removal").await, 0);
}

/// T-60: whoever needs condemned bytes stores them again, whatever had become of them.
#[tokio::test(flavor = "multi_thread")]
async fn t60_condemned_bytes_come_back_for_who_needs_them() {
    let service = idle().await;
    let sender = service.account(false).await;
    let hands = Hands::of(&service).await;
    let (now, digest) = (|| service.clock.now(), sha256(&pdf()));
    for removed in [false, true] {
        let id = voided(&sender).await;
        erase(&sender, &id).await.unwrap();
        service.clock.advance(TimeDelta::minutes(11));
        let lease = now() + TimeDelta::seconds(120);
        assert_eq!(hands.store.claim_removals(now(), lease, 9).await.unwrap(), [digest]);
        assert!(hands.store.condemn(&digest, lease, now()).await.unwrap());
        // By hand nobody names them.
        let client = service.database.connect().await;
        let upload =
            "INSERT INTO upload SELECT account_id, gen_random_uuid(), false, '', $1, 1, 1, now() FROM envelope LIMIT 1";
        client.execute(upload, &[&digest.to_vec()]).await.expect_err("condemned");
        hands.blobs.delete(&digest).await.unwrap();
        if removed {
            hands.store.removed(&digest, lease, now()).await.unwrap();
        } else {
            // Whoever removed them ended before saying so.
            service.clock.advance(TimeDelta::seconds(121));
        }
        let again = sender.create(kept_for(30)).await.unwrap();
        assert_eq!(download(&sender, &again.id, DocumentVersion::Original).await.unwrap(), pdf());
        hands.remove().await;
        assert_eq!(download(&sender, &again.id, DocumentVersion::Original).await.unwrap(), pdf());
        sender.void(&again.id, "").await.unwrap();
        erase(&sender, &again.id).await.unwrap();
        service.clock.advance(TimeDelta::minutes(11));
        hands.remove().await;
        assert_eq!(stored(&service), 0);
    }
    // What somebody has been at since is not let go.
    let id = voided(&sender).await;
    erase(&sender, &id).await.unwrap();
    service.clock.advance(TimeDelta::minutes(11));
    let lease = now() + TimeDelta::seconds(1);
    hands.store.claim_removals(now(), lease, 9).await.unwrap();
    assert!(hands.store.condemn(&digest, lease, now()).await.unwrap());
    let grave = hands.store.grave(&digest).await.unwrap().unwrap();
    hands.store.removed(&digest, lease, now()).await.unwrap();
    hands.store.exhume(&digest, grave).await.unwrap();
    assert!(hands.store.grave(&digest).await.unwrap().is_some());
}

/// S3.9: bytes of documents that were replaced, and of calls that failed after storing them, are found after a day; what
/// somebody may be about to name is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn s3_9_bytes_that_nobody_names_are_found() {
    let service = idle().await;
    let sender = service.account(false).await;
    let hands = Hands::of(&service).await;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let other = countersign_paper::samples::services_agreement().unwrap().bytes.clone();
    let replace = ReplaceDocumentRequest {
        envelope_id: draft.id.clone(),
        document_id: draft.documents[0].id.clone(),
        document: Some(DocumentSource {
            markers: false,
            name: "b.pdf".into(),
            source: Some(Source::Content(other.clone().into())),
        }),
        ..Default::default()
    };
    sender.envelopes().replace_document(replace).await.unwrap();
    hands.blobs.put("left by a call that was cut".into()).await.unwrap();
    std::fs::write(service.documents.path().join("README"), "not ours").unwrap();
    let unused =
        upload_of(&sender, "unused.pdf", countersign_paper::samples::rotated_scan().unwrap().bytes.clone()).await;
    let done = completed(&sender, kept_for(30)).await;
    let all = stored(&service);
    // The clock of files is this machine's, which stands before the test's.
    service.clock.advance(-(service.clock.now() - chrono::Utc::now()));
    removal::look_for_orphans(&hands.store, &hands.blobs).await.unwrap();
    hands.remove().await;
    assert_eq!(stored(&service), all, "too fresh");
    service.clock.advance(TimeDelta::hours(25));
    removal::look_for_orphans(&hands.store, &hands.blobs).await.unwrap();
    hands.remove().await;
    assert_eq!(stored(&service), all - 1, "one was left; the others somebody needs");
    assert_eq!(download(&sender, &draft.id, DocumentVersion::Original).await.unwrap(), other);
    assert!(!download(&sender, &done.id, DocumentVersion::Signed).await.unwrap().is_empty());
    let by_upload = DocumentSource { markers: false, name: String::new(), source: Some(Source::UploadId(unused)) };
    let by_upload = sender.create(CreateEnvelopeRequest { documents: vec![by_upload], ..kept_for(30) }).await.unwrap();
    assert!(!download(&sender, &by_upload.id, DocumentVersion::Original).await.unwrap().is_empty());
    assert!(service.documents.path().join("README").exists());
}

/// T-62: what is due is found by every replica and done once.
#[tokio::test(flavor = "multi_thread")]
async fn t62_many_replicas_purge_once() {
    let service = idle().await;
    let sender = service.account(false).await;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(voided(&sender).await);
    }
    service.clock.advance(DAY * 24);
    let executor = executor(&service).await;
    for days in [0, 7] {
        service.clock.advance(DAY * days);
        let ticks = (0..4).map(|_| keep::tick(&executor, DAY * 7));
        futures_util::future::try_join_all(ticks).await.unwrap();
    }
    for id in &ids {
        until_purged(&sender, id).await;
    }
    let twice = "SELECT count(*) FROM (SELECT FROM event WHERE kind IN (37, 38) GROUP BY envelope_id, kind HAVING count(*) > 1) t";
    assert_eq!(service.database.number(twice).await, 0);
    assert_eq!(service.database.number("SELECT count(*) FROM event WHERE kind IN (37, 38)").await, 24);
}

/// S3.9, T-60: what came goes with what was made of it, and not before; the upload of it goes too.
#[tokio::test(flavor = "multi_thread")]
async fn s3_9_what_came_goes_with_what_was_made_of_it() {
    let service = idle().await;
    let sender = service.account(false).await;
    let hands = Hands::of(&service).await;
    let bytes = paper("{{signature:Buyer}}");
    let source = Source::UploadId(upload_of(&sender, "marked.pdf", bytes.clone()).await);
    let done = completed(&sender, CreateEnvelopeRequest { retention_days: 30, ..marked(source, true) }).await;
    let document = &done.documents[0];
    assert_ne!(document.sha256, document.original_sha256);
    service.database.connect().await.execute("DELETE FROM upload", &[]).await.unwrap();
    removal::look_for_orphans(&hands.store, &hands.blobs).await.unwrap();
    hands.remove().await;
    assert_eq!(download(&sender, &done.id, DocumentVersion::Original).await.unwrap(), bytes, "the envelope needs it");
    service.clock.advance(TimeDelta::seconds(1));
    let again = upload_of(&sender, "marked.pdf", bytes.clone()).await;
    erase(&sender, &done.id).await.unwrap();
    service.clock.advance(TimeDelta::minutes(11));
    hands.remove().await;
    assert_eq!(stored(&service), 1, "the upload came later");
    let source = Source::UploadId(again);
    sender.create(CreateEnvelopeRequest { retention_days: 30, ..marked(source, true) }).await.expect("and can be used");
}
