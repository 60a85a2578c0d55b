//! Drafts: made, changed, thrown away, and frozen by sending.

use std::collections::{BTreeMap, BTreeSet};

use countersign::v1::{
    AddFieldsRequest, DeclineEffect, DeclinePolicy, DeclineRecipientRequest, DiscardEnvelopeRequest,
    DownloadDocumentRequest, Envelope, EnvelopeChanges, EnvelopeStatus, EventType, FieldType, Freshness,
    GetEnvelopeRequest, ListEnvelopesRequest, NewField, ReasonRule, RecipientStatus, RemoveFieldsRequest, Routing,
    SendEnvelopeRequest, UpdateEnvelopeRequest, VerifyHistoryRequest, WatchStart, WatchStatusChangesRequest,
    WhoseTurnRequest, watch_status_changes_response::Item,
};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Errors as _, Service};
use prost_types::{Duration, FieldMask};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use crate::steps::{ahead, count, field, kinds, later, send, statuses};

async fn add(sender: &Caller, id: &str, fields: Vec<NewField>) -> Result<Envelope, Status> {
    let request = AddFieldsRequest { envelope_id: id.to_owned(), fields, if_revision: 0, ..Default::default() };
    Ok(sender.envelopes().add_fields(request).await?.into_inner().envelope.unwrap())
}

async fn remove(sender: &Caller, id: &str, field_ids: &[&str]) -> Result<Envelope, Status> {
    let field_ids = field_ids.iter().map(|id| (*id).to_owned()).collect();
    let request = RemoveFieldsRequest { envelope_id: id.to_owned(), field_ids, if_revision: 0, ..Default::default() };
    Ok(sender.envelopes().remove_fields(request).await?.into_inner().envelope.unwrap())
}

async fn discard(sender: &Caller, id: &str) -> Result<(), Status> {
    let request = DiscardEnvelopeRequest { envelope_id: id.to_owned(), if_revision: 0, ..Default::default() };
    sender.envelopes().discard_envelope(request).await.map(drop)
}

async fn update(sender: &Caller, id: &str, changes: EnvelopeChanges, paths: &[&str]) -> Result<Envelope, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateEnvelopeRequest {
        envelope_id: id.to_owned(),
        changes: Some(changes),
        update_mask: Some(FieldMask { paths }),
        if_revision: 0,
        ..Default::default()
    };
    Ok(sender.envelopes().update_envelope(request).await?.into_inner().envelope.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_44_created_without_fields_it_is_a_draft() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(2, Routing::Parallel, false);
    new.fields.clear();
    let draft = sender.create(new.clone()).await.unwrap();
    assert_eq!((draft.status(), draft.revision), (EnvelopeStatus::Draft, 1));
    assert!(draft.dispatched_at.is_none() && draft.sent_at.is_none());
    assert_eq!(statuses(&draft), [RecipientStatus::Waiting; 2]);
    assert_eq!(kinds(&sender, &draft.id).await, [EventType::EnvelopeCreated]);
    let link = sender.signer_of(&draft.id, &draft.recipients[0].id).await.unwrap_err();
    assert_eq!((link.reason(), link.fact("current_state")), ("NOT_YOUR_TURN".into(), "DRAFT".into()));

    let early = send(&sender, &draft.id).await.unwrap_err();
    assert_eq!((early.code(), early.reason().as_str()), (Code::FailedPrecondition, "ENVELOPE_INCOMPLETE"));
    assert_eq!((early.fact("current_state"), early.fact("attempted_transition")), ("DRAFT".into(), "SEND".into()));
    assert_eq!(early.fact("allowed_transitions"), "DISCARD,UPDATE,REASSIGN", "SEND is not possible yet");
    assert_eq!(sender.get(&draft.id).await.unwrap().revision, 1);
    // Sent in the same breath it is refused as a whole.
    new.send = true;
    assert_eq!(sender.create(new).await.unwrap_err().reason(), "ENVELOPE_INCOMPLETE");
    assert_eq!(service.database.number("SELECT count(*) FROM envelope").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_49_created_with_fields_and_sent_it_never_is_a_draft() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let sent = sender.create(request(1, Routing::Parallel, true)).await.unwrap();
    assert_eq!((sent.status(), sent.revision), (EnvelopeStatus::Sent, 1));
    assert_eq!((sent.dispatched_at, sent.recipients[0].released_at), (sent.sent_at, sent.sent_at));
    use EventType::*;
    assert_eq!(kinds(&sender, &sent.id).await, [EnvelopeCreated, EnvelopeSent, RecipientReleased]);
    for entry in sender.history(&sent.id).await.unwrap() {
        assert_eq!(entry.event.unwrap().revision, 1, "one change");
    }
}

/// S3.22, S3.45, S3.46, C-16: bound by id, by address however it is spelt, or by place.
#[tokio::test(flavor = "multi_thread")]
async fn s3_45_fields_are_added_and_removed_in_a_draft() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(2, Routing::Parallel, false);
    new.fields.clear();
    let draft = sender.create(new).await.unwrap();
    let (first, second) = (draft.recipients[0].id.as_str(), draft.recipients[1].id.as_str());
    let to = |recipient: &str, line| NewField { recipient: recipient.into(), ..field(FieldType::Signature, 0, line) };
    let by_place = NewField { document_id: draft.documents[0].id.clone(), ..field(FieldType::Text, 1, 2) };
    let fields = vec![to(first, 0), to(" SIGNER1@EXAMPLE.com ", 1), by_place];
    let added = add(&sender, &draft.id, fields).await.unwrap();
    let bound: Vec<_> = added.fields.iter().map(|field| field.recipient_id.as_str()).collect();
    assert_eq!((bound, added.revision), (vec![first, second, second], 2));
    assert!(added.fields.iter().all(|field| field.document_id == draft.documents[0].id && field.id.len() > 4));

    // All or none.
    let unknown = "rcp_01h455vb4pex5vsknk084sn02q";
    for (bad, path) in [
        (to(unknown, 5), "fields[1].recipient"),
        (to("nobody@example.com", 5), "fields[1].recipient"),
        (field(FieldType::Text, 9, 5), "fields[1].recipient_index"),
        (NewField { document_id: "doc_1".into(), ..to(first, 5) }, "fields[1].document_id"),
        (NewField { document_index: 4, ..to(first, 5) }, "fields[1].document_index"),
        (NewField { placement: None, ..to(first, 5) }, "fields[1].placement"),
    ] {
        let status = add(&sender, &draft.id, vec![to(first, 4), bad]).await.unwrap_err();
        assert_eq!((status.reason().as_str(), status.fields()), ("INVALID_FIELD", vec![path.to_owned()]));
    }
    assert_eq!(add(&sender, &draft.id, vec![]).await.unwrap_err().fields(), ["fields"]);
    let many = add(&sender, &draft.id, vec![to(first, 0); 198]).await.unwrap_err();
    assert_eq!((many.reason(), many.fact("actual"), many.fact("allowed")), over("201", "200"));
    let mine = added.fields[2].id.as_str();
    let unknown = remove(&sender, &draft.id, &[mine, "fld_01h455vb4pex5vsknk084sn02q"]).await.unwrap_err();
    assert_eq!(unknown.reason(), "NOT_FOUND");
    assert_eq!(remove(&sender, &draft.id, &[]).await.unwrap_err().fields(), ["field_ids"]);
    assert_eq!(remove(&sender, &draft.id, &["doc_1"]).await.unwrap_err().fields(), ["field_ids[0]"]);
    assert_eq!(sender.get(&draft.id).await.unwrap(), added, "nothing of it happened");

    let fewer = remove(&sender, &draft.id, &[mine]).await.unwrap();
    assert_eq!((fewer.fields.as_slice(), fewer.revision), (&added.fields[..2], 3));
    let sent = send(&sender, &draft.id).await.unwrap();
    use EventType::*;
    let expected =
        [EnvelopeCreated, EnvelopeUpdated, EnvelopeUpdated, EnvelopeSent, RecipientReleased, RecipientReleased];
    assert_eq!(kinds(&sender, &sent.id).await, expected);
}

fn over(actual: &str, allowed: &str) -> (String, String, String) {
    ("OUT_OF_SCOPE_V1".into(), actual.into(), allowed.into())
}

/// C-16, T-22: an address that stands for two is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn c16_an_ambiguous_address_binds_nothing() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(2, Routing::Parallel, false);
    new.recipients[1].email = "SIGNER0@Example.com".into();
    let draft = sender.create(new.clone()).await.unwrap();
    let by_address = NewField { recipient: "signer0@example.com".into(), ..field(FieldType::Text, 0, 4) };
    let refused = add(&sender, &draft.id, vec![by_address.clone()]).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::InvalidArgument, "AMBIGUOUS_RECIPIENT"));
    assert_eq!(refused.fields(), ["fields[0].recipient"]);
    assert!(!refused.message().contains('@'));
    let by_id = NewField { recipient: draft.recipients[1].id.clone(), ..by_address.clone() };
    let added = add(&sender, &draft.id, vec![by_id]).await.unwrap();
    assert_eq!(added.fields[2].recipient_id, draft.recipients[1].id);
    new.fields.push(by_address.clone());
    assert_eq!(sender.create(new.clone()).await.unwrap_err().reason(), "AMBIGUOUS_RECIPIENT");
    new.recipients[1].email = "other@example.com".into();
    let bound = sender.create(new).await.unwrap();
    assert_eq!(bound.fields[2].recipient_id, bound.recipients[0].id, "S3.22");
}

/// S3.45, S3.46, S3.48.
#[tokio::test(flavor = "multi_thread")]
async fn s3_48_what_is_sent_is_frozen() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let sent = sender.create(request(1, Routing::Parallel, true)).await.unwrap();
    let id = sent.id.as_str();
    let changes = EnvelopeChanges { subject: "Other".into(), ..EnvelopeChanges::default() };
    let answers = [
        ("UPDATE", add(&sender, id, vec![field(FieldType::Text, 0, 3)]).await.map(drop)),
        ("UPDATE", remove(&sender, id, &[&sent.fields[0].id]).await.map(drop)),
        ("UPDATE", update(&sender, id, changes, &["subject"]).await.map(drop)),
        ("DISCARD", discard(&sender, id).await),
        ("SEND", send(&sender, id).await.map(drop)),
    ];
    for (attempted, answer) in answers {
        let status = answer.unwrap_err();
        assert_eq!((status.code(), status.reason().as_str()), (Code::FailedPrecondition, "INVALID_STATE_TRANSITION"));
        assert_eq!((status.fact("attempted_transition").as_str(), status.fact("revision").as_str()), (attempted, "1"));
        assert_eq!(status.fact("current_state"), "SENT");
        let allowed = status.fact("allowed_transitions");
        assert!(["UPDATE", "DISCARD", "SEND"].iter().all(|it| !allowed.split(',').any(|other| other == *it)));
    }
    assert_eq!(sender.get(id).await.unwrap(), sent);
}

/// What of an envelope a change can reach, one name and value each.
fn changeable(envelope: &Envelope) -> Vec<(&'static str, String)> {
    let metadata: BTreeSet<_> = envelope.metadata.iter().collect();
    let watchers: Vec<_> = envelope.watchers.iter().map(|watcher| watcher.email.as_str()).collect();
    vec![
        ("subject", envelope.subject.clone()),
        ("message", envelope.message.clone()),
        ("expires_at", format!("{:?}", envelope.expires_at)),
        ("external_reference", envelope.external_reference.clone()),
        ("metadata", format!("{metadata:?}")),
        ("watchers", format!("{watchers:?}")),
        ("scheduled_send_at", format!("{:?}", envelope.scheduled_send_at)),
        ("decline_policy", format!("{:?}", envelope.decline_policy)),
        ("delegations_max", envelope.delegations_max.to_string()),
        ("expiry_warning", format!("{:?}", envelope.expiry_warning)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_takes_what_its_mask_names() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let changes = EnvelopeChanges {
        subject: " New subject ".into(),
        message: "New\nmessage".into(),
        expires_at: Some(ahead(&service, chrono::TimeDelta::days(20))),
        external_reference: "PO-7".into(),
        metadata: BTreeMap::from([("order".into(), "7".into())]),
        watchers: vec!["w@example.com".into()],
        scheduled_send_at: Some(ahead(&service, chrono::TimeDelta::days(2))),
        decline_policy: Some(DeclinePolicy {
            disabled: true,
            reason: ReasonRule::Required.into(),
            effect: DeclineEffect::Continue.into(),
        }),
        delegations_max: 2,
        expiry_warning: Some(Duration { seconds: 7200, nanos: 0 }),
        ..Default::default()
    };
    let mut before = changeable(&draft);
    for index in 0..before.len() {
        let path = before[index].0;
        let now = update(&sender, &draft.id, changes.clone(), &[path]).await.unwrap();
        assert_eq!(now.revision, draft.revision + 1 + index as u64);
        let after = changeable(&now);
        for (at, (old, new)) in before.iter().zip(&after).enumerate() {
            assert_eq!(old == new, at != index, "{path}: {old:?} {new:?}");
        }
        before = after;
    }
    let now = sender.get(&draft.id).await.unwrap();
    assert_eq!((now.subject.as_str(), now.message.as_str()), ("New subject", "New\nmessage"));
    assert_eq!((now.decline_policy, now.delegations_max), (changes.decline_policy, 2));
    assert_eq!((now.scheduled_send_at, now.expires_at), (changes.scheduled_send_at, changes.expires_at));
    assert_eq!(count(&sender, &draft.id, EventType::EnvelopeUpdated).await, 10);

    // Several at once, back to what they are where nothing is said.
    let paths: Vec<_> = before.iter().map(|(path, _)| *path).filter(|path| *path != "subject").collect();
    let bare = update(&sender, &draft.id, EnvelopeChanges::default(), &paths).await.unwrap();
    assert_eq!(bare.revision, now.revision + 1);
    assert_eq!((bare.subject.as_str(), bare.message.as_str(), bare.delegations_max), ("New subject", "", 0));
    assert!(bare.metadata.is_empty() && bare.watchers.is_empty() && bare.scheduled_send_at.is_none());
    assert_eq!((bare.decline_policy, bare.expiry_warning), (draft.decline_policy, None));
    assert!(datetime(bare.expires_at) > datetime(later(draft.created_at, chrono::TimeDelta::days(89)).into()));
}

fn datetime(at: Option<prost_types::Timestamp>) -> (i64, i32) {
    at.map(|at| (at.seconds, at.nanos)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_update_is_refused_by_field_and_changes_nothing() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let good = EnvelopeChanges { subject: "Other".into(), ..EnvelopeChanges::default() };
    let bad = EnvelopeChanges {
        subject: "a\nb".into(),
        message: "x".repeat(2001),
        expires_at: Some(ahead(&service, chrono::TimeDelta::days(367))),
        external_reference: "x".repeat(201),
        metadata: BTreeMap::from([("k".repeat(41), "v".into())]),
        watchers: vec!["w@example.com".into(), "nobody".into()],
        scheduled_send_at: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        decline_policy: Some(DeclinePolicy { effect: 9, ..DeclinePolicy::default() }),
        delegations_max: 6,
        expiry_warning: Some(Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    for (changes, mask, field) in [
        (&good, "", "update_mask"),
        (&good, "nonsense", "update_mask"),
        (&good, "changes.subject", "update_mask"),
        (&good, "recipients", "update_mask"),
        (&good, "subject,routing", "update_mask"),
        (&bad, "subject", "changes.subject"),
        (&bad, "message", "changes.message"),
        (&bad, "expires_at", "changes.expires_at"),
        (&bad, "external_reference", "changes.external_reference"),
        (&bad, "metadata", "changes.metadata.key"),
        (&bad, "watchers", "changes.watchers[1]"),
        (&bad, "scheduled_send_at", "changes.scheduled_send_at"),
        (&bad, "decline_policy", "changes.decline_policy.effect"),
        (&bad, "delegations_max", "changes.delegations_max"),
        (&bad, "expiry_warning", "changes.expiry_warning"),
    ] {
        let paths: Vec<_> = mask.split(',').filter(|path| !path.is_empty()).collect();
        let status = update(&sender, &draft.id, changes.clone(), &paths).await.unwrap_err();
        assert_eq!((status.reason().as_str(), status.fields()), ("INVALID_FIELD", vec![field.to_owned()]), "{mask}");
    }
    let no_mask = UpdateEnvelopeRequest { envelope_id: draft.id.clone(), changes: Some(good), ..Default::default() };
    assert_eq!(sender.envelopes().update_envelope(no_mask).await.unwrap_err().fields(), ["update_mask"]);
    assert_eq!(sender.get(&draft.id).await.unwrap(), draft);
}

/// The sender's own words come back as given, to the last character that is allowed, and not one more is.
#[tokio::test(flavor = "multi_thread")]
async fn terms_round_trip_up_to_their_limits() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut full = request(1, Routing::Parallel, true);
    full.message = "ä".repeat(2000);
    full.external_reference = "ß".repeat(200);
    full.metadata = (0..50).map(|n| (format!("{n:0>39}ö"), "ü".repeat(500))).collect();
    full.watchers = (0..10).map(|n| format!("w{n}@example.com")).collect();
    full.delegations_max = 5;
    full.expiry_warning = Some(Duration { seconds: 30 * 86_400, nanos: 0 });
    let made = sender.create(full.clone()).await.unwrap();
    let read = sender.get(&made.id).await.unwrap();
    assert_eq!(read, made);
    assert_eq!((&read.message, &read.external_reference), (&full.message, &full.external_reference));
    assert_eq!((&read.metadata, read.expiry_warning), (&full.metadata, full.expiry_warning));
    let watchers: Vec<_> = read.watchers.iter().map(|watcher| watcher.email.clone()).collect();
    assert_eq!(watchers, full.watchers);
    assert!(read.watchers.iter().all(|watcher| watcher.id.starts_with("wch_")));
    let events = sender.history(&made.id).await.unwrap();
    let told = events[0].event.clone().unwrap().state.unwrap().watcher_ids;
    assert!(told.iter().eq(read.watchers.iter().map(|watcher| &watcher.id)));
    let list = sender.envelopes().list_envelopes(ListEnvelopesRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.envelopes[0].external_reference, full.external_reference);

    type Spoil = fn(&mut countersign::v1::CreateEnvelopeRequest);
    let cases: [(&str, Spoil); 12] = [
        ("message", |r| r.message.push('x')),
        ("external_reference", |r| r.external_reference.push('x')),
        ("external_reference", |r| r.external_reference = "a\u{0}b".into()),
        ("metadata", |r| drop(r.metadata.insert("one more".into(), String::new()))),
        ("metadata.key", |r| r.metadata = BTreeMap::from([(String::new(), "x".into())])),
        ("metadata.key", |r| r.metadata = BTreeMap::from([("k".repeat(41), "x".into())])),
        ("metadata.value", |r| r.metadata = BTreeMap::from([("k".into(), "v".repeat(501))])),
        ("watchers", |r| r.watchers.push("eleventh@example.com".into())),
        ("watchers[0]", |r| r.watchers[0] = "Ada <ada@example.com>".into()),
        ("delegations_max", |r| r.delegations_max = 6),
        ("expiry_warning", |r| r.expiry_warning = Some(Duration { seconds: 30 * 86_400 + 1, nanos: 0 })),
        ("expiry_warning", |r| r.expiry_warning = Some(Duration { seconds: 3599, nanos: 0 })),
    ];
    for (field, spoil) in cases {
        let mut bad = full.clone();
        spoil(&mut bad);
        let status = sender.create(bad).await.unwrap_err();
        assert_eq!((status.reason().as_str(), status.fields()), ("INVALID_FIELD", vec![field.to_owned()]));
    }
}

/// Two keys that come to the same once they are trimmed: told, or both kept, but not one of them lost.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_not_lost_where_keys_fall_together() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(1, Routing::Parallel, false);
    new.metadata = BTreeMap::from([("order".into(), "7".into()), (" order".into(), "8".into())]);
    match sender.create(new.clone()).await {
        Ok(draft) => assert_eq!(draft.metadata, new.metadata),
        Err(status) => assert_eq!(status.reason(), "INVALID_FIELD"),
    }
}

/// A stale revision stops every change of a draft; the right one lets it through.
#[tokio::test(flavor = "multi_thread")]
async fn a_draft_changes_only_at_the_revision_that_is_asked_for() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let first = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let changes = EnvelopeChanges { subject: "Second".into(), ..EnvelopeChanges::default() };
    let draft = update(&sender, &first.id, changes.clone(), &["subject"]).await.unwrap();
    let envelope_id = draft.id.clone();
    let mut client = sender.envelopes();
    for if_revision in [1, 3] {
        let update_mask = Some(FieldMask { paths: vec!["message".into()] });
        let envelope_id = || envelope_id.clone();
        let gone = DiscardEnvelopeRequest { envelope_id: envelope_id(), if_revision, ..Default::default() };
        let answers = [
            client
                .update_envelope(UpdateEnvelopeRequest {
                    envelope_id: envelope_id(),
                    changes: Some(changes.clone()),
                    update_mask,
                    if_revision,
                    ..Default::default()
                })
                .await
                .map(drop),
            client
                .add_fields(AddFieldsRequest {
                    envelope_id: envelope_id(),
                    fields: vec![field(FieldType::Text, 0, 3)],
                    if_revision,
                    ..Default::default()
                })
                .await
                .map(drop),
            client
                .remove_fields(RemoveFieldsRequest {
                    envelope_id: envelope_id(),
                    field_ids: vec![draft.fields[0].id.clone()],
                    if_revision,
                    ..Default::default()
                })
                .await
                .map(drop),
            client
                .send_envelope(SendEnvelopeRequest { envelope_id: envelope_id(), if_revision, ..Default::default() })
                .await
                .map(drop),
            client.discard_envelope(gone).await.map(drop),
        ];
        for answer in answers {
            let status = answer.unwrap_err();
            assert_eq!((status.code(), status.reason().as_str()), (Code::Aborted, "REVISION_MISMATCH"));
            assert_eq!((status.fact("revision"), status.fact("current_state")), ("2".into(), "DRAFT".into()));
        }
    }
    assert_eq!(sender.get(&draft.id).await.unwrap(), draft);
    assert_eq!(kinds(&sender, &draft.id).await.len(), 2);
    let request = SendEnvelopeRequest { envelope_id, if_revision: 2, ..Default::default() };
    assert_eq!(client.send_envelope(request).await.unwrap().into_inner().envelope.unwrap().revision, 3);
}

/// T-14, C-8: a draft is thrown away, not voided and not declined; and then there is nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn t14_a_discarded_draft_is_gone() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let start =
        WatchStatusChangesRequest { resume_token: String::new(), start: WatchStart::Now.into(), ..Default::default() };
    let mut stream = sender.envelopes().watch_status_changes(start).await.unwrap().into_inner();
    assert!(matches!(stream.next().await.unwrap().unwrap().item, Some(Item::Heartbeat(_))));
    let draft = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let kept = sender.create(request(1, Routing::Parallel, false)).await.unwrap();
    let decline = DeclineRecipientRequest {
        envelope_id: draft.id.clone(),
        recipient_id: draft.recipients[0].id.clone(),
        ..DeclineRecipientRequest::default()
    };
    let declined = sender.envelopes().decline_recipient(decline.clone()).await.unwrap_err();
    let voided = sender.void(&draft.id, "").await.unwrap_err();
    for (status, attempted) in [(declined, "DECLINE"), (voided, "VOID")] {
        assert_eq!((status.reason(), status.fact("current_state")), state("DRAFT"));
        assert_eq!(status.fact("attempted_transition"), attempted);
    }
    // So that it is remembered.
    let cached =
        GetEnvelopeRequest { envelope_id: draft.id.clone(), freshness: Freshness::Cached.into(), min_revision: 0 };
    sender.envelopes().get_envelope(cached.clone()).await.unwrap();
    discard(&sender, &draft.id).await.unwrap();

    let envelope_id = || draft.id.clone();
    let mut client = sender.envelopes();
    let changes = EnvelopeChanges { subject: "Other".into(), ..EnvelopeChanges::default() };
    let answers = [
        sender.get(&draft.id).await.map(drop),
        client.get_envelope(cached).await.map(drop),
        sender.history(&draft.id).await.map(drop),
        send(&sender, &draft.id).await.map(drop),
        discard(&sender, &draft.id).await,
        update(&sender, &draft.id, changes, &["subject"]).await.map(drop),
        add(&sender, &draft.id, vec![field(FieldType::Text, 0, 3)]).await.map(drop),
        sender.void(&draft.id, "").await.map(drop),
        client.decline_recipient(decline).await.map(drop),
        sender.signer_of(&draft.id, &draft.recipients[0].id).await.map(drop),
        client.whose_turn(WhoseTurnRequest { envelope_id: envelope_id() }).await.map(drop),
        client.verify_history(VerifyHistoryRequest { envelope_id: envelope_id() }).await.map(drop),
        client
            .download_document(DownloadDocumentRequest {
                envelope_id: envelope_id(),
                version: countersign::v1::DocumentVersion::Original.into(),
                ..DownloadDocumentRequest::default()
            })
            .await
            .map(drop),
    ];
    for (index, answer) in answers.into_iter().enumerate() {
        let status = answer.expect_err(&format!("call {index}"));
        assert_eq!((status.code(), status.reason().as_str()), (Code::NotFound, "NOT_FOUND"), "call {index}");
    }
    let list = client.list_envelopes(ListEnvelopesRequest::default()).await.unwrap().into_inner();
    let ids: Vec<_> = list.envelopes.into_iter().map(|envelope| envelope.id).collect();
    assert_eq!(ids, [kept.id]);
    loop {
        let message = tokio::time::timeout(std::time::Duration::from_secs(20), stream.next()).await.unwrap();
        let Some(Item::Event(event)) = message.unwrap().unwrap().item else { continue };
        if event.r#type() == EventType::EnvelopeDiscarded {
            assert_eq!((event.envelope_id, event.sequence, event.revision), (draft.id.clone(), 2, 2));
            break;
        }
    }
}

fn state(name: &str) -> (String, String) {
    ("INVALID_STATE_TRANSITION".into(), name.into())
}
