//! Idempotency keys: whatever is sent again, cut or sent many times at once, is done once and answered once.
//!
//! Replies are compared as the bytes that came, below the clients that decode them.

pub mod calls;
mod crowd;
mod killed;
pub mod scene;
pub mod wire;

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta};
use countersign::v1::{
    Amount, CreateEnvelopeRequest, ExtendEnvelopeRequest, GrantCreditsRequest, Person, Routing, VoidEnvelopeRequest,
};
use countersign_chassis::wire::timestamp;
use countersign_test_support::{Errors as _, Service};
use tonic::Code;

use self::calls::every_call;
use self::scene::{Scene, broke, contents, effects};
use self::wire::{Call, Key, call, keyed_messages, method_of};
use crate::ledger::upload;

/// What is not kept, because it shows a secret once.
pub const SECRETS: [&str; 5] = [
    "CreateApiKeyRequest",
    "CreateUserTokenRequest",
    "CreateWebhookEndpointRequest",
    "RotateApiKeyRequest",
    "RotateWebhookSecretRequest",
];

/// C-30, D2, S1.27, S2.23: every call that takes a key, twice with the same one: done once, and answered with the same
/// bytes. A call that is new in the contract has to be added to the table.
#[tokio::test(flavor = "multi_thread")]
async fn c30_every_call_is_made_once_for_a_key() {
    let scene = Scene::set().await;
    let calls = every_call(&scene).await;
    let known: BTreeSet<_> = calls.iter().map(|call| call.message.to_owned()).collect();
    assert_eq!(known, keyed_messages(), "a call with a key that is not tried, or one that takes none any more");
    for (number, call) in calls.iter().enumerate() {
        let name = call.message;
        let key = format!("the {number}th key");
        let before = effects(contents(&scene).await);
        let first = call.send(Key::Field(&key)).await.unwrap_or_else(|status| panic!("{name}: {status:?}"));
        assert!(!first.replayed, "{name}: nothing came before it");
        let after = contents(&scene).await;
        assert_ne!(before, effects(after.clone()), "{name} changes something");
        for way in [Key::Field(&key), Key::Header(&key)] {
            let again = call.send(way).await;
            if SECRETS.contains(&name) {
                let status = again.err().unwrap_or_else(|| panic!("{name} showed its secret twice"));
                assert_eq!((status.code(), status.reason().as_str()), (Code::AlreadyExists, "SECRET_SHOWN_ONCE"));
                let id = status.fact("id");
                assert!(!id.is_empty() && first.holds(id.as_bytes()), "{name} names what it made: {id}");
            } else {
                let again = again.unwrap_or_else(|status| panic!("{name} again: {status:?}"));
                assert!(again.replayed, "{name} says that it is a reply to an earlier request");
                assert_eq!(again.bytes, first.bytes, "{name}: the reply is not the first, byte for byte");
            }
            assert_eq!(contents(&scene).await, after, "{name}: a repeat changes nothing");
        }
    }
}

/// C-30: whatever changes something takes a key.
#[test]
fn c30_every_change_takes_a_key() {
    let changes = countersign_envelope::rpc::access::TABLE.iter().filter(|access| access.changes);
    let changes: BTreeSet<String> = changes.map(|access| access.path.to_owned()).collect();
    let webhooks = countersign_notifier::rpc::access::TABLE.iter().filter(|access| access.changes);
    let webhooks = webhooks.map(|access| format!("/countersign.v1.WebhookService/{}", access.call));
    let taken: BTreeSet<String> = keyed_messages().iter().map(|message| method_of(message).0).collect();
    assert_eq!(taken, changes.into_iter().chain(webhooks).collect());
}

/// C-30: the same key for something else is refused, by whatever field it differs, and says when it was used.
#[tokio::test(flavor = "multi_thread")]
async fn c30_a_key_is_for_one_request() {
    let scene = Scene::set().await;
    let (one, other) = (scene.sent().await, scene.sent().await);
    let void = |id: &str, reason: &str| {
        let (envelope_id, reason) = (id.to_owned(), reason.to_owned());
        call!(scene.sender, VoidEnvelopeRequest { envelope_id, reason, ..Default::default() })
    };
    let first = void(&one.id, "wrong price").send(Key::Field("k")).await.unwrap();
    for different in [void(&one.id, "wrong prices"), void(&other.id, "wrong price"), void("no id", "wrong price")] {
        let status = different.send(Key::Field("k")).await.err().unwrap();
        assert_eq!((status.code(), status.reason().as_str()), (Code::AlreadyExists, "IDEMPOTENCY_MISMATCH"));
        assert_eq!(status.fact("http_status"), "409");
        let used_at: DateTime<chrono::Utc> = status.fact("key_used_at").parse().unwrap();
        assert_eq!(used_at, scene.service.clock.now());
    }
    assert_eq!(void(&one.id, "wrong price").send(Key::Field("k")).await.unwrap().bytes, first.bytes);
    assert!(scene.sender.get(&other.id).await.unwrap().voided_at.is_none());
    // Other bytes under the same name are another upload.
    let info = || countersign::v1::UploadInfo { name: "a.pdf".into(), ..Default::default() };
    let upload = |bytes: Vec<u8>| Call { chunk: Some(bytes), ..call!(scene.sender, UploadInfo info()) };
    let nda = countersign_test_support::client::pdf();
    let other = countersign_paper::samples::services_agreement().unwrap().bytes.clone();
    let kept = upload(nda.clone()).send(Key::Field("u")).await.unwrap();
    assert_eq!(upload(other).send(Key::Field("u")).await.err().unwrap().reason(), "IDEMPOTENCY_MISMATCH");
    assert_eq!(upload(nda).send(Key::Field("u")).await.unwrap().bytes, kept.bytes);
}

/// C-30, T-56: any 1 to 255 printable characters, as a field or as metadata; two that differ are none.
#[tokio::test(flavor = "multi_thread")]
async fn c30_a_key_is_printable_text() {
    let scene = Scene::set().await;
    let long = "k".repeat(255);
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    for key in ["decline-envelope-api-create-1", uuid, "~", " two words ", long.as_str()] {
        let create = call!(scene.sender, CreateEnvelopeRequest scene.form(false));
        let first = create.send(Key::Header(key)).await.unwrap();
        let again = create.send(Key::Field(key)).await.unwrap();
        assert!(again.replayed && again.bytes == first.bytes, "{key}");
    }
    let create = call!(scene.sender, CreateEnvelopeRequest scene.form(false));
    let over = "k".repeat(256);
    let bad = [
        Key::Field(&over),
        Key::Header(&over),
        Key::Field("é"),
        Key::Field("a\tb"),
        Key::Header(""),
        Key::Both("a", "b"),
    ];
    for key in bad {
        let status = create.send(key).await.err().unwrap();
        assert_eq!((status.code(), status.reason().as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{key:?}");
        assert_eq!(status.fields(), ["idempotency_key"]);
    }
}

/// D2, S1.44: what was refused may be sent again with the same key, and is then done.
#[tokio::test(flavor = "multi_thread")]
async fn d2_a_refused_request_leaves_its_key_free() {
    let scene = Scene::set().await;
    let sender = broke(&scene.service).await;
    let form = CreateEnvelopeRequest { documents: vec![upload(&sender).await], ..scene.form(false) };
    let draft = sender.create(form.clone()).await.unwrap();
    let send = call!(sender, SendEnvelopeRequest { envelope_id: draft.id.clone(), ..Default::default() });
    let create = call!(sender, CreateEnvelopeRequest CreateEnvelopeRequest { send: true, ..form });
    for _ in 0..2 {
        for call in [&send, &create] {
            assert_eq!(call.send(Key::Field("k")).await.err().unwrap().reason(), "INSUFFICIENT_CREDITS");
        }
    }
    assert_eq!(scene.service.database.number("SELECT count(*) FROM idempotency").await, 0);
    let amount = Some(Amount { unit: "CREDIT".into(), value: 2 });
    let mut operator = scene.service.operator(&sender.account).accounts();
    operator
        .grant_credits(GrantCreditsRequest { amount, idempotency_key: "grant".into(), ..Default::default() })
        .await
        .unwrap();
    for call in [&send, &create] {
        let first = call.send(Key::Field("k")).await.unwrap();
        let again = call.send(Key::Field("k")).await.unwrap();
        assert!(!first.replayed && again.replayed && first.bytes == again.bytes);
    }
}

/// T-56, S2.24: keys of another account, mode, call or recipient never meet; those of an account's keys do.
#[tokio::test(flavor = "multi_thread")]
async fn t56_keys_belong_to_the_account_the_mode_and_the_call() {
    let scene = Scene::set().await;
    let other = scene.service.account(false).await;
    let live = scene.service.key_of(&scene.sender, true).await;
    let mut ids = BTreeSet::new();
    for caller in [&scene.sender, &other, &live] {
        let form = CreateEnvelopeRequest { documents: vec![upload(caller).await], ..scene.form(false) };
        let made = call!(caller, CreateEnvelopeRequest form).send(Key::Field("k")).await.unwrap();
        assert!(!made.replayed);
        ids.insert(made.bytes);
    }
    assert_eq!(ids.len(), 3);
    let story = scene.sent().await;
    let envelope_id = story.id.clone();
    let people = [scene.signer(&story, 0).await, scene.signer(&story, 1).await];
    for person in &people {
        let viewed = call!(person, MarkViewedRequest::default()).send(Key::Field("k")).await.unwrap();
        assert!(!viewed.replayed);
    }
    let void = VoidEnvelopeRequest { envelope_id: envelope_id.clone(), ..Default::default() };
    let second = scene.service.key_of(&scene.sender, false).await;
    assert!(!call!(scene.sender, VoidEnvelopeRequest void.clone()).send(Key::Field("k")).await.unwrap().replayed);
    assert!(call!(second, VoidEnvelopeRequest void.clone()).send(Key::Field("k")).await.unwrap().replayed);
    // The operator's are the operator's.
    let operator = scene.service.operator(&scene.sender.account);
    let refused = call!(operator, VoidEnvelopeRequest void).send(Key::Field("k")).await.err().unwrap();
    assert_eq!(refused.reason(), "INVALID_STATE_TRANSITION");
}

/// C-30, D2: a key is kept for 48 hours; then it is free, and what was done is guarded by the rules alone.
#[tokio::test(flavor = "multi_thread")]
async fn c30_a_key_is_free_after_48_hours() {
    let scene = Scene::set().await;
    let draft = scene.sender.create(scene.form(false)).await.unwrap();
    let send = call!(scene.sender, SendEnvelopeRequest { envelope_id: draft.id, ..Default::default() });
    let create = call!(scene.sender, CreateEnvelopeRequest scene.form(true));
    let (sent, made) = (send.send(Key::Field("k")).await.unwrap(), create.send(Key::Field("k")).await.unwrap());
    scene.service.clock.advance(TimeDelta::hours(48) - TimeDelta::microseconds(1));
    assert_eq!(send.send(Key::Field("k")).await.unwrap().bytes, sent.bytes);
    assert_eq!(create.send(Key::Field("k")).await.unwrap().bytes, made.bytes);
    scene.service.clock.advance(TimeDelta::microseconds(1));
    assert_eq!(send.send(Key::Field("k")).await.err().unwrap().reason(), "INVALID_STATE_TRANSITION");
    let anew = create.send(Key::Field("k")).await.unwrap();
    assert!(!anew.replayed && anew.bytes != made.bytes);
    assert_eq!(create.send(Key::Field("k")).await.unwrap().bytes, anew.bytes);
}

/// T-72: the reply is that of then, whatever has become of the envelope since.
#[tokio::test(flavor = "multi_thread")]
async fn t72_a_repeat_after_the_end_is_answered_with_the_first_reply() {
    let scene = Scene::set().await;
    let draft = scene.sender.create(scene.form(false)).await.unwrap();
    let send = call!(scene.sender, SendEnvelopeRequest { envelope_id: draft.id.clone(), ..Default::default() });
    let sent = send.send(Key::Field("k")).await.unwrap();
    scene.sender.void(&draft.id, "").await.unwrap();
    let again = send.send(Key::Field("k")).await.unwrap();
    assert!(again.replayed && again.bytes == sent.bytes);
    assert_eq!(send.send(Key::Field("l")).await.err().unwrap().reason(), "INVALID_STATE_TRANSITION");
    // A token that dies with the act opens the reply, and nothing else.
    let story = scene.sent().await;
    let (passer, refuser) = (scene.signer(&story, 0).await, scene.signer(&story, 1).await);
    let person = Some(Person { name: "Heir".into(), email: "heir@example.com".into(), ..Default::default() });
    let pass = call!(passer, DelegateSigningRequest { person, ..Default::default() });
    let decline = call!(refuser, DeclineRequest { reason: "no".into(), ..Default::default() });
    let first = [pass.send(Key::Field("k")).await.unwrap(), decline.send(Key::Field("k")).await.unwrap()];
    scene.sender.void(&story.id, "").await.unwrap();
    let again = [pass.send(Key::Header("k")).await.unwrap(), decline.send(Key::Field("k")).await.unwrap()];
    assert!(first.iter().zip(&again).all(|(first, again)| again.replayed && first.bytes == again.bytes));
    assert_eq!(pass.send(Key::Field("l")).await.err().unwrap().reason(), "NOT_FOUND");
    assert!(call!(passer, ApproveRequest::default()).send(Key::Field("k")).await.is_err());
}

/// C-30: a call that had been made before with another key, or without, is answered as that, and its own key is kept.
#[tokio::test(flavor = "multi_thread")]
async fn c30_the_reply_to_what_had_been_done_is_kept_too() {
    let scene = Scene::set().await;
    let (sender, operator) = (&scene.sender, scene.service.operator(&scene.spare.account));
    let (story, ended) = (scene.sent().await, scene.sent().await);
    sender.void(&ended.id, "").await.unwrap();
    let envelope_id = story.id.clone();
    let first = &story.recipients[0];
    let person = Some(Person { name: first.name.clone(), email: first.email.clone(), ..Default::default() });
    let recipient_id = first.id.clone();
    let expires_at = story.expires_at;
    let spent = scene.service.key_of(sender, false).await;
    let key_id = scene.identity(&spent).await;
    let calls = [
        call!(
            sender,
            ReassignRecipientRequest { envelope_id: envelope_id.clone(), recipient_id, person, ..Default::default() }
        ),
        call!(sender, ExtendEnvelopeRequest { envelope_id, expires_at, ..Default::default() }),
        call!(scene.signer(&story, 1).await, DeclineRequest::default()),
        call!(scene.signer(&story, 2).await, MarkViewedRequest::default()),
        call!(sender, RevokeApiKeyRequest { key_id, ..Default::default() }),
        call!(operator, SuspendAccountRequest::default()),
        call!(sender, ReplaceEnvelopeRequest { envelope_id: ended.id.clone(), ..Default::default() }),
    ];
    for call in &calls {
        let name = call.message;
        call.send(Key::Field("first")).await.unwrap_or_else(|status| panic!("{name}: {status:?}"));
        let second = call.send(Key::Field("second")).await.unwrap();
        assert!(!second.replayed, "{name}");
        let third = call.send(Key::Field("second")).await.unwrap();
        assert_eq!(third.bytes, second.bytes, "{name}");
        assert!(third.replayed, "{name}: the reply to a request that changed nothing is kept too");
    }
}

/// C-30: a replacement that changes between two requests is not told anew.
#[tokio::test(flavor = "multi_thread")]
async fn c30_the_reply_about_a_replacement_is_that_of_then() {
    let scene = Scene::set().await;
    let ended = scene.sent().await;
    scene.sender.void(&ended.id, "").await.unwrap();
    let replace = call!(scene.sender, ReplaceEnvelopeRequest { envelope_id: ended.id, ..Default::default() });
    let first = replace.send(Key::Field("k")).await.unwrap();
    let made = first.decoded::<countersign::v1::ReplaceEnvelopeResponse>().envelope.unwrap();
    let changes = countersign::v1::ExtendEnvelopeRequest { envelope_id: made.id.clone(), ..Default::default() };
    let at = Some(timestamp(scene.service.clock.now() + TimeDelta::days(100)));
    let request = countersign::v1::SendEnvelopeRequest { envelope_id: made.id.clone(), ..Default::default() };
    scene.sender.envelopes().send_envelope(request).await.unwrap();
    scene.sender.envelopes().extend_envelope(ExtendEnvelopeRequest { expires_at: at, ..changes }).await.unwrap();
    let again = replace.send(Key::Field("k")).await.unwrap();
    assert!(again.replayed && again.bytes == first.bytes);
}

/// T-71: a call that is refused for its rate uses up no key.
#[tokio::test(flavor = "multi_thread")]
async fn t71_a_limited_call_uses_up_no_key() {
    let service = Service::start_at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()).await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    scene::slow(&service, &sender.account).await;
    let view = call!(story.signer(0), MarkViewedRequest::default());
    let mut limited = 0;
    for number in 0..4 {
        let key = format!("k{number}");
        match view.send(Key::Field(&key)).await {
            Ok(reply) => assert!(!reply.replayed),
            Err(status) => {
                assert_eq!(status.reason(), "RATE_LIMIT_EXCEEDED");
                limited += 1;
            }
        }
    }
    assert!(limited > 0);
    let kept = service.database.number("SELECT count(*) FROM idempotency").await;
    assert_eq!(kept, 4 - limited, "a refused call leaves nothing");
}
