//! What a legal hold keeps: whatever is tried, and whatever becomes of what lies beside it.

use countersign::v1::document_source::Source;
use countersign::v1::{
    CreateEnvelopeRequest, DiscardEnvelopeRequest, DocumentSource, DocumentVersion, Envelope, EnvelopeStatus,
    ReplaceDocumentRequest, Routing,
};
use countersign_envelope::removal;
use countersign_test_support::client::{pdf, request};
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::Status;

use super::bytes::{Hands, upload};
use super::{
    DAY, TimeDelta, completed, download, erase, hold, is_intact, kept_for, let_loops_run, until_gone, until_purged,
    until_stored, until_warned,
};
use crate::downloads::data::data;
use crate::steps::{ahead, epoch, until_status};

fn from(source: Source) -> DocumentSource {
    DocumentSource { name: "lease.pdf".into(), source: Some(source), ..Default::default() }
}

async fn replace(sender: &Caller, draft: &Envelope, content: &[u8]) -> Result<Envelope, Status> {
    let request = ReplaceDocumentRequest {
        envelope_id: draft.id.clone(),
        document_id: draft.documents[0].id.clone(),
        document: Some(from(Source::Content(content.to_vec().into()))),
        ..Default::default()
    };
    Ok(sender.envelopes().replace_document(request).await?.into_inner().envelope.unwrap())
}

async fn discard(sender: &Caller, id: &str) -> Result<(), Status> {
    let request = DiscardEnvelopeRequest { envelope_id: id.into(), ..Default::default() };
    sender.envelopes().discard_envelope(request).await.map(drop)
}

/// Everything that removes has its turn, long after all times that there are.
async fn let_all_go(service: &Service) {
    service.clock.advance(DAY * 4_000);
    let_loops_run().await;
    service.clock.advance(TimeDelta::minutes(11));
    let hands = Hands::of(service).await;
    removal::look_for_orphans(&hands.store, &hands.blobs).await.unwrap();
    hands.remove().await;
    let_loops_run().await;
}

/// T-61, T-62: a held draft is neither discarded, by time or by request, nor is its document replaced; its bytes stay when
/// the upload by which they came has gone.
#[tokio::test(flavor = "multi_thread")]
async fn t61_a_held_draft_keeps_its_document() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let source = Source::UploadId(upload(&sender).await);
    let new = CreateEnvelopeRequest { documents: vec![from(source)], ..request(1, Routing::Parallel, false) };
    let draft = sender.create(new).await.unwrap();
    hold(&sender, &draft.id, true).await.unwrap();
    let held = sender.get(&draft.id).await.unwrap();
    let other = countersign_paper::samples::services_agreement().unwrap().bytes.clone();
    let refused =
        [discard(&sender, &draft.id).await.unwrap_err(), replace(&sender, &draft, &other).await.map(drop).unwrap_err()];
    for (refused, attempted) in refused.iter().zip(["DISCARD", "UPDATE"]) {
        let told = (refused.reason(), refused.fact("attempted_transition"));
        assert_eq!(told, ("LEGAL_HOLD".to_owned(), attempted.to_owned()));
    }
    assert_eq!(erase(&sender, &draft.id).await.unwrap_err().reason(), "INVALID_STATE_TRANSITION", "it is a draft");
    let_all_go(&service).await;
    assert_eq!(service.database.number("SELECT count(*) FROM upload").await, 0);
    assert_eq!(sender.get(&draft.id).await.unwrap(), held);
    assert_eq!(download(&sender, &draft.id, DocumentVersion::Original).await.unwrap(), pdf());
    hold(&sender, &draft.id, false).await.unwrap();
    replace(&sender, &draft, &other).await.unwrap();
    assert_eq!(download(&sender, &draft.id, DocumentVersion::Original).await.unwrap(), other);
    discard(&sender, &draft.id).await.unwrap();
    until_gone(&sender, &draft.id).await;
}

/// Four envelopes, of each end one; all are held, some before their end and one after its warning.
async fn held_ends(service: &Service, sender: &Caller) -> Vec<String> {
    let declined = sender.story_of(kept_for(8)).await;
    let voided = sender.create(kept_for(8)).await.unwrap().id;
    let expires = CreateEnvelopeRequest { expires_at: Some(ahead(service, DAY)), ..kept_for(8) };
    let expired = sender.create(expires).await.unwrap().id;
    for id in [&declined.envelope.id, &voided, &expired] {
        hold(sender, id, true).await.unwrap();
    }
    declined.signer(0).decline("No").await.unwrap();
    declined.until_artifact().await;
    sender.void(&voided, "typo").await.unwrap();
    let signed = completed(sender, kept_for(8)).await.id;
    service.clock.advance(DAY);
    until_status(sender, &expired, EnvelopeStatus::Expired).await;
    until_warned(sender, &signed).await;
    hold(sender, &signed, true).await.unwrap();
    vec![signed, declined.envelope.id.clone(), voided, expired]
}

/// T-61, T-60: whatever its end, and whether it was held before it or after the warning, a held content stays as it is when the
/// same bytes go elsewhere; it goes once the hold is lifted, and no other with it.
#[tokio::test(flavor = "multi_thread")]
async fn t61_what_is_held_stays_whatever_its_end() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let held = held_ends(&service, &sender).await;
    let free = sender.create(kept_for(8)).await.unwrap().id;
    sender.void(&free, "").await.unwrap();
    let mut before = Vec::new();
    for id in &held {
        before.push(sender.get(id).await.unwrap());
    }
    let_all_go(&service).await;
    until_purged(&sender, &free).await;
    let_all_go(&service).await;
    let by_hand = "UPDATE envelope SET purged_at = now() WHERE legal_hold_at IS NOT NULL";
    service.database.connect().await.execute(by_hand, &[]).await.expect_err("what is held cannot be purged");
    for (id, before) in held.iter().zip(&before) {
        assert_eq!(sender.get(id).await.unwrap(), *before);
        assert_eq!(download(&sender, id, DocumentVersion::Original).await.unwrap(), pdf());
        assert_eq!(erase(&sender, id).await.unwrap_err().reason(), "LEGAL_HOLD");
        assert!(is_intact(&sender, id).await);
    }
    let versions = [(&held[0], DocumentVersion::Signed), (&held[1], DocumentVersion::Declined)];
    for (id, version) in versions {
        assert!(!download(&sender, id, version).await.unwrap().is_empty());
    }
    data(&sender, &held[0]).await.unwrap();
    for (index, id) in held.iter().enumerate() {
        hold(&sender, id, false).await.unwrap();
        until_purged(&sender, id).await;
        let_all_go(&service).await;
        for other in &held[index + 1..] {
            assert_eq!(download(&sender, other, DocumentVersion::Original).await.unwrap(), pdf());
        }
    }
    until_stored(&service, 0).await;
}
