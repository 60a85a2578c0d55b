//! Erasure on request.

use countersign::v1::{CreateApiKeyRequest, CreateEnvelopeRequest, DeleteEnvelopeContentRequest, EventType, Scope};
use countersign_chassis::clock::Clock;
use countersign_envelope::artifact::Press;
use countersign_test_support::service::config;
use countersign_test_support::{Database, Errors as _, Service};
use tonic::Code;

use super::{DocumentVersion, TimeDelta, completed, download, erase, hold, is_intact, kept_for, stored, until_stored};
use crate::steps::{count, epoch, executor};

/// C-26: an ended envelope's content goes at once; a repeat changes nothing; the same key is answered as before.
#[tokio::test(flavor = "multi_thread")]
async fn c26_content_is_deleted_on_request() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let stranger = service.account(false).await;
    let live = service.key_of(&sender, true).await;
    let open = sender.create(kept_for(30)).await.unwrap();
    let refused = erase(&sender, &open.id).await.unwrap_err();
    assert_eq!(
        (refused.reason(), refused.fact("attempted_transition")),
        ("INVALID_STATE_TRANSITION".into(), "PURGE".into())
    );
    let draft = sender.create(CreateEnvelopeRequest { send: false, ..kept_for(30) }).await.unwrap();
    assert_eq!(erase(&sender, &draft.id).await.unwrap_err().reason(), "INVALID_STATE_TRANSITION");
    let ended = completed(&sender, kept_for(30)).await;
    for other in [&stranger, &live] {
        assert_eq!(erase(other, &ended.id).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(hold(other, &ended.id, true).await.unwrap_err().code(), Code::NotFound);
    }
    let wordless = DeleteEnvelopeContentRequest { envelope_id: ended.id.clone(), ..Default::default() };
    assert_eq!(sender.envelopes().delete_envelope_content(wordless).await.unwrap_err().fields(), ["reason"]);
    let key = |scope: Scope| CreateApiKeyRequest { scopes: vec![scope.into()], ..Default::default() };
    for (scope, erases) in [(Scope::EnvelopesSend, false), (Scope::EnvelopesHold, false), (Scope::EnvelopesErase, true)]
    {
        let made = service.operator(&sender.account).accounts().create_api_key(key(scope)).await.unwrap().into_inner();
        let limited = sender.with_token(&made.secret);
        let held = hold(&limited, &ended.id, false).await;
        assert_eq!(held.is_ok(), scope == Scope::EnvelopesHold, "{scope:?}: {held:?}");
        let request = DeleteEnvelopeContentRequest {
            envelope_id: ended.id.clone(),
            reason: "Request 4711".into(),
            idempotency_key: "erase".into(),
            ..Default::default()
        };
        let answer = limited.envelopes().delete_envelope_content(request.clone()).await;
        if !erases {
            assert_eq!(answer.unwrap_err().reason(), "PERMISSION_DENIED");
            continue;
        }
        let first = answer.unwrap();
        let again = limited.envelopes().delete_envelope_content(request).await.unwrap();
        assert!(again.metadata().contains_key("idempotency-replayed"));
        assert_eq!(first.into_inner(), again.into_inner());
    }
    assert_eq!(erase(&service.operator(&sender.account), &ended.id).await.unwrap().subject, "", "nothing more to do");
    assert_eq!(count(&sender, &ended.id, EventType::EnvelopePurged).await, 1);
    let history = sender.history(&ended.id).await.unwrap();
    assert_eq!(history.last().unwrap().reason, "Request 4711");
    assert_eq!(history.last().unwrap().event.as_ref().unwrap().actor.as_ref().unwrap().r#type, 1);
    assert!(history.iter().rev().skip(1).all(|entry| entry.reason.is_empty() && entry.user_agent.is_empty()));
    assert!(is_intact(&sender, &ended.id).await);
}

/// C-26: who asks again with an old key is told that the reply is gone, and nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn c26_kept_replies_go_with_the_content() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let new = CreateEnvelopeRequest { idempotency_key: "made once".into(), ..kept_for(30) };
    let story = sender.story_of(new.clone()).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.until_artifact().await;
    assert_eq!(sender.create(new.clone()).await.unwrap(), story.envelope, "the kept reply");
    erase(&sender, &story.envelope.id).await.unwrap();
    assert_eq!(sender.create(new).await.unwrap_err().reason(), "CONTENT_PURGED");
    assert_eq!(service.database.number("SELECT count(*) FROM envelope").await, 1, "nothing is made again");
}

/// T-60: a request does not wait for the evidence of a refusal, and evidence that comes too late is not taken; its bytes go with
/// all others, not a day later.
#[tokio::test(flavor = "multi_thread")]
async fn t60_a_late_artefact_job_brings_nothing_back() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let settings = countersign_envelope::config::Config { sweep_ms: 60_000, ..config(&database, &documents) };
    let service = Service::start_with(database, Clock::manual(epoch()), documents, settings).await;
    let sender = service.account(false).await;
    // No process takes this job up: its documents cannot be read for now.
    let hidden = tempfile::tempdir().unwrap();
    let story = sender.story_of(kept_for(30)).await;
    let (folder, away) = (service.documents.path(), hidden.path().join("documents"));
    std::fs::rename(folder, &away).unwrap();
    std::fs::create_dir(folder).unwrap();
    story.signer(0).decline("No").await.unwrap();
    assert!(story.now().await.purge_at.is_some());
    erase(&sender, &story.envelope.id).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::rename(&away, folder).unwrap();
    assert_eq!(service.database.number("SELECT count(*) FROM artifact_job").await, 0);
    // One who had claimed it before the purge goes on all the same.
    let client = service.database.connect().await;
    let claim = "INSERT INTO artifact_job (account_id, envelope_id, version, due_at) SELECT account_id, id, 3, $1 FROM envelope";
    // When the service's own loop does not take it yet.
    let now = service.clock.now() + TimeDelta::hours(1);
    client.execute(claim, &[&now]).await.unwrap();
    let executor = executor(&service).await;
    let blobs = countersign_envelope::blobs::Blobs::local(service.documents.path()).unwrap();
    let job = executor.store().claim_jobs(now, now + TimeDelta::minutes(2), 1).await.unwrap().remove(0);
    let press = Press { executor: executor.clone(), blobs: blobs.clone(), sealer: None };
    press.one(&job).await.unwrap();
    let left = story.now().await;
    assert!(left.purged_at.is_some() && left.documents[0].artifacts.is_empty());
    assert_eq!(download(&sender, &left.id, DocumentVersion::Declined).await.unwrap_err().reason(), "CONTENT_PURGED");
    assert!(stored(&service) > 1, "it stored what it had made");
    service.clock.advance(TimeDelta::minutes(10));
    while countersign_envelope::removal::tick(executor.store(), &blobs).await.unwrap()
        == countersign_chassis::ticker::Progress::Busy
    {}
    until_stored(&service, 0).await;
}

/// T-60, T-61: a backup from before the purges brings their contents back to the database; the list that was kept outside has
/// them purged again, but for what is held by now.
#[tokio::test(flavor = "multi_thread")]
async fn t60_a_restore_does_not_undo_a_purge() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (first, second) = (completed(&sender, kept_for(30)).await, completed(&sender, kept_for(30)).await);
    let untouched = completed(&sender, kept_for(30)).await;
    let open = sender.create(kept_for(30)).await.unwrap();
    let held = completed(&sender, kept_for(30)).await;
    hold(&sender, &held.id, true).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("purged");
    // As a database of an hour later would say.
    let lines = [&first, &second, &open, &held].map(|it| format!("{} {} 2026-11-21T10:00:00Z\n", it.account_id, it.id));
    let unknown = format!("{} env_01h455vb4pex5vsknk084sn02q\n", sender.account);
    std::fs::write(&list, lines.concat() + &unknown).unwrap();
    let (config, keys) = (service.database.config(), countersign_test_support::service::keys());
    for _ in 0..2 {
        let (done, left) = countersign_envelope::serve::purge_again(&config, &keys, &list).await.unwrap();
        let kept = [(&open.id, "it has not ended yet"), (&held.id, "a legal hold keeps it")];
        assert_eq!((done, left), (3, kept.map(|(id, why)| format!("{id}: {why}")).to_vec()));
    }
    for id in [&first.id, &second.id] {
        assert!(sender.get(id).await.unwrap().purged_at.is_some() && is_intact(&sender, id).await);
        assert_eq!(count(&sender, id, EventType::EnvelopePurged).await, 1);
    }
    assert_eq!(sender.get(&untouched.id).await.unwrap(), untouched);
    assert!(!download(&sender, &held.id, DocumentVersion::Signed).await.unwrap().is_empty());
    let mut printed = Vec::new();
    countersign_envelope::serve::list_purged(&config, |line| printed.push(line)).await.unwrap();
    let ids: Vec<_> = printed.iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(ids, [second.id, first.id], "the latest first");
    std::fs::write(&list, "nonsense\n").unwrap();
    countersign_envelope::serve::purge_again(&config, &keys, &list).await.unwrap_err();
}
