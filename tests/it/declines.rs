//! Refusals under every policy, and what they leave behind.

use countersign::v1::{
    Cause, CreateEnvelopeRequest, DeclineChannel, DeclineEffect, DeclinePolicy, Envelope, EnvelopeChanges,
    EnvelopeStatus, EventType, HistoryEntry, NewField, NewRecipient, Quorum, ReasonRule, RecipientRole,
    RecipientStatus, Routing, SendEnvelopeRequest, UpdateEnvelopeRequest,
};
use countersign_test_support::client::request;
use countersign_test_support::{Errors as _, Service, Story};
use tonic::Code;

use crate::doors::{by_user, decline_of, on_behalf, user};

fn policy(reason: ReasonRule, effect: DeclineEffect) -> DeclinePolicy {
    DeclinePolicy { disabled: false, reason: reason.into(), effect: effect.into() }
}

fn disabled() -> DeclinePolicy {
    DeclinePolicy { disabled: true, ..DeclinePolicy::default() }
}

/// A sent envelope's request under a policy.
fn under(policy: DeclinePolicy, signers: usize) -> CreateEnvelopeRequest {
    CreateEnvelopeRequest { decline_policy: Some(policy), ..request(signers, Routing::Parallel, true) }
}

fn kinds(history: &[HistoryEntry]) -> Vec<EventType> {
    history.iter().map(|entry| entry.event.as_ref().unwrap().r#type()).collect()
}

/// S4.10, S4.21, C-4, C-22: where refusing is switched off it is refused in the words of the contract, at every door.
#[tokio::test(flavor = "multi_thread")]
async fn s4_21_a_switched_off_refusal_is_refused_at_every_door() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story_of(under(disabled(), 1)).await;
    let (_, token) = user(&sender, "signer0@example.com").await;
    let session = story.signer(0).session().await.unwrap();
    assert!(session.decline_policy.unwrap().disabled);
    let refused = [
        story.signer(0).decline("no").await.unwrap_err(),
        on_behalf(&story, 0, "no", "by phone").await.unwrap_err(),
        by_user(&sender, &token, &story.signer(0).token, "no").await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!((status.code(), status.reason().as_str()), (Code::PermissionDenied, "DECLINE_NOT_ALLOWED"));
        assert_eq!(status.message(), "Refusing this document is not allowed.");
        assert_eq!((status.fact("http_status"), status.fact("current_state")), ("403".into(), "SENT".into()));
        assert_eq!(status.fact("attempted_transition"), "DECLINE");
        assert_eq!(status.fact("allowed_transitions"), "SIGN,VOID,VIEW,REASSIGN,EXTEND,MUTE", "no DECLINE among them");
        assert_eq!(status.fact("revision"), story.envelope.revision.to_string());
    }
    assert_eq!(story.now().await, story.envelope, "nothing happened");
    story.signer(0).sign(&story.envelope).await.expect("signing is as possible as before");
}

/// C-4: a recipient's own policy goes before the envelope's.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_recipients_own_policy_goes_first() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut off = under(disabled(), 2);
    off.recipients[1].decline_policy = Some(policy(ReasonRule::Required, DeclineEffect::Abort));
    let story = sender.story_of(off).await;
    assert_eq!(story.signer(0).decline("no").await.unwrap_err().reason(), "DECLINE_NOT_ALLOWED");
    assert_eq!(story.signer(1).decline("").await.unwrap_err().fields(), ["reason"]);
    story.signer(1).decline("no").await.unwrap();
    assert_eq!(story.now().await.status(), EnvelopeStatus::Declined);

    let mut on = request(2, Routing::Parallel, true);
    on.recipients[0].decline_policy = Some(disabled());
    let story = sender.story_of(on).await;
    assert_eq!(story.signer(0).decline("").await.unwrap_err().reason(), "DECLINE_NOT_ALLOWED");
    assert_eq!(on_behalf(&story, 0, "", "").await.unwrap_err().reason(), "DECLINE_NOT_ALLOWED");
    story.signer(1).decline("").await.unwrap();
}

/// C-5, S4.6, S4.7: what a reason has to be.
#[tokio::test(flavor = "multi_thread")]
async fn c5_a_reason_is_taken_as_the_policy_says() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let long = "x".repeat(2_001);
    let full = "x".repeat(2_000);
    let decomposed = "e\u{301}".repeat(2_000);
    let composed = "\u{e9}".repeat(2_000);
    let cases: [(ReasonRule, &str, Result<&str, ()>); 14] = [
        (ReasonRule::Disabled, "no", Err(())),
        (ReasonRule::Disabled, "", Ok("")),
        (ReasonRule::Disabled, " \u{7}\n ", Ok("")),
        (ReasonRule::Required, "", Err(())),
        (ReasonRule::Required, " \u{0}\t ", Err(())),
        (ReasonRule::Required, "no", Ok("no")),
        (ReasonRule::Optional, "", Ok("")),
        (ReasonRule::Optional, "no", Ok("no")),
        (ReasonRule::Unspecified, "", Ok("")),
        (ReasonRule::Optional, &long, Err(())),
        (ReasonRule::Optional, &full, Ok(&full)),
        (ReasonRule::Optional, &decomposed, Ok(&composed)),
        (ReasonRule::Optional, "  Cafe\u{301}\u{0}\u{1b}[31m\u{85} no\r\n\tnever  ", Ok("Caf\u{e9}[31m no\n\tnever")),
        (ReasonRule::Optional, "\u{7f}\u{9f}", Ok("")),
    ];
    for (rule, given, kept) in cases {
        let story = sender.story_of(under(policy(rule, DeclineEffect::Abort), 1)).await;
        let answer = story.signer(0).decline(given).await;
        let now = story.now().await;
        match kept {
            Ok(kept) => {
                assert!(!answer.unwrap(), "{rule:?} {given:?}");
                assert_eq!(decline_of(&now, 0), (DeclineChannel::SigningToken, kept.to_owned()), "{rule:?} {given:?}");
                let history = sender.history(&now.id).await.unwrap();
                assert_eq!(history[3].reason, kept);
            }
            Err(()) => {
                let status = answer.unwrap_err();
                assert_eq!((status.reason().as_str(), status.fields()), ("INVALID_FIELD", vec!["reason".to_owned()]));
                assert_eq!(now, story.envelope, "{rule:?}: nothing happened");
                assert_eq!(on_behalf(&story, 0, given, "").await.unwrap_err().fields(), ["reason"]);
                let (_, token) = user(&sender, "signer0@example.com").await;
                let third = by_user(&sender, &token, &story.signer(0).token, given).await.unwrap_err();
                assert_eq!(third.fields(), ["reason"]);
            }
        }
    }
    let story = sender.story(1, Routing::Parallel).await;
    assert_eq!(on_behalf(&story, 0, "no", &long).await.unwrap_err().fields(), ["evidence_note"]);
    assert_eq!(on_behalf(&story, 0, &long, &long).await.unwrap_err().fields(), ["reason", "evidence_note"]);
}

fn quorum(needed: u32, of: usize, effect: DeclineEffect) -> CreateEnvelopeRequest {
    let quorums = vec![Quorum { group: 1, needed }];
    CreateEnvelopeRequest { quorums, ..under(policy(ReasonRule::Optional, effect), of) }
}

/// C-4: with CONTINUE an envelope goes on as long as its quorum can be reached.
#[tokio::test(flavor = "multi_thread")]
async fn c4_an_envelope_goes_on_until_its_quorum_is_out_of_reach() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for (needed, of, refusals) in [(1, 2, 2), (2, 3, 2), (1, 3, 3)] {
        let story = sender.story_of(quorum(needed, of, DeclineEffect::Continue)).await;
        for index in 0..refusals - 1 {
            assert!(!story.signer(index).decline("not me").await.unwrap());
            let now = story.now().await;
            assert_eq!((now.status(), now.terminal), (EnvelopeStatus::Sent, false), "{needed} of {of}, {index}");
            assert_eq!(now.recipients[index].status(), RecipientStatus::Declined);
            assert!(!now.requires_replacement && now.cause() == Cause::Unspecified);
            assert!(story.signer(index).decline("again").await.unwrap(), "already");
            assert_eq!(story.signer(index).sign(&now).await.unwrap_err().reason(), "ALREADY_ACTED");
        }
        story.signer(refusals - 1).decline("nor me").await.unwrap();
        let now = story.now().await;
        assert_eq!((now.status(), now.cause()), (EnvelopeStatus::Declined, Cause::SignatureRefused));
        assert_eq!(now.ended_by_recipient_id, now.recipients[refusals - 1].id);
        assert_eq!(now.replacement_reason, "nor me", "S2.17: the reason of the refusal that ended it");
        assert!(now.recipients[refusals..].iter().all(|it| it.status() == RecipientStatus::ReleasedByDecline));
        let ends = kinds(&sender.history(&now.id).await.unwrap());
        assert_eq!(ends.iter().filter(|kind| **kind == EventType::RecipientDeclined).count(), refusals);
        assert_eq!(ends.iter().filter(|kind| **kind == EventType::EnvelopeDeclined).count(), 1);
    }
    // One refuses, the two others are enough.
    let story = sender.story_of(quorum(2, 3, DeclineEffect::Continue)).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.signer(1).decline("not me").await.unwrap();
    story.signer(2).sign(&story.envelope).await.unwrap();
    let done = story.until(EnvelopeStatus::Completed).await;
    let statuses: Vec<_> = done.recipients.iter().map(countersign::v1::Recipient::status).collect();
    assert_eq!(statuses, [RecipientStatus::Signed, RecipientStatus::Declined, RecipientStatus::Signed]);
    assert!(done.recipients.iter().all(|recipient| !recipient.not_effective));
}

/// C-4: where nobody can be spared CONTINUE ends it, and ABORT ends it whatever the quorum.
#[tokio::test(flavor = "multi_thread")]
async fn c4_continue_without_a_quorum_ends_the_envelope() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let continues = under(policy(ReasonRule::Optional, DeclineEffect::Continue), 2);
    for new in [continues, quorum(1, 3, DeclineEffect::Abort), quorum(1, 3, DeclineEffect::Unspecified)] {
        let story = sender.story_of(new).await;
        story.signer(1).decline("no").await.unwrap();
        let now = story.now().await;
        assert_eq!((now.status(), now.requires_replacement), (EnvelopeStatus::Declined, true));
        assert_eq!(now.recipients[0].status(), RecipientStatus::ReleasedByDecline);
    }
}

/// C-4: with RETURN_FOR_CORRECTION the sender finds a draft in the place of what was refused.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_refusal_returns_the_envelope_for_correction() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = under(policy(ReasonRule::Required, DeclineEffect::ReturnForCorrection), 2);
    new.external_reference = "Order 7".into();
    new.metadata.insert("order".into(), "7".into());
    let story = sender.story_of(new).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.signer(1).decline("Wrong amount").await.unwrap();
    let ended = story.now().await;
    assert_eq!((ended.status(), ended.requires_replacement), (EnvelopeStatus::Declined, false));
    assert_eq!(decline_of(&ended, 1).1, "Wrong amount");
    let draft = sender.get(&ended.replaced_by_envelope_id).await.unwrap();
    assert_eq!((draft.status(), draft.replaces_envelope_id.as_str()), (EnvelopeStatus::Draft, ended.id.as_str()));
    assert_eq!((&draft.subject, &draft.external_reference), (&ended.subject, &ended.external_reference));
    assert_eq!(draft.metadata, ended.metadata);
    for (new, old) in draft.recipients.iter().zip(&ended.recipients) {
        assert_eq!((&new.name, &new.email, new.group), (&old.name, &old.email, old.group));
        assert!(new.id != old.id && new.status() == RecipientStatus::Waiting && new.signed_at.is_none());
        assert!(new.decline.is_none());
    }
    assert_eq!(draft.documents[0].sha256, ended.documents[0].sha256);
    assert!(draft.fields.iter().all(|field| field.value.is_none()), "nothing of what people put in");
    let history = sender.history(&ended.id).await.unwrap();
    let replaced = history.iter().find(|it| it.event.as_ref().unwrap().r#type() == EventType::EnvelopeReplaced);
    assert_eq!(replaced.expect("envelope.replaced").replaced_by_envelope_id, draft.id);
    assert_eq!(kinds(&sender.history(&draft.id).await.unwrap()), [EventType::EnvelopeCreated]);

    let send = SendEnvelopeRequest { envelope_id: draft.id.clone(), if_revision: 0, ..Default::default() };
    let sent = sender.envelopes().send_envelope(send).await.unwrap().into_inner().envelope.unwrap();
    for recipient in &sent.recipients {
        sender.signer_of(&sent.id, &recipient.id).await.unwrap().sign(&sent).await.unwrap();
    }
    let second = Story { sender: sender.clone(), envelope: sent, signers: Vec::new() };
    second.until(EnvelopeStatus::Completed).await;
    assert_eq!(story.signer(0).sign(&ended).await.unwrap_err().fact("cause"), "SIGNATURE_REFUSED");
}

/// T-18: who was to approve refuses; the signers were never asked.
#[tokio::test(flavor = "multi_thread")]
async fn t18_an_approvers_refusal_has_a_cause_of_its_own() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(1, Routing::Parallel, true);
    new.recipients.push(NewRecipient {
        name: "Ada Approver".into(),
        email: "ada@example.com".into(),
        role: RecipientRole::Approver.into(),
        ..NewRecipient::default()
    });
    let story = sender.story_of(new).await;
    assert_eq!(story.envelope.recipients[0].status(), RecipientStatus::Waiting);
    story.signer(1).decline("Over budget").await.unwrap();
    let now = story.now().await;
    assert_eq!((now.status(), now.cause()), (EnvelopeStatus::Declined, Cause::ApprovalRefused));
    assert_eq!(now.ended_by_recipient_id, now.recipients[1].id);
    assert_eq!(now.recipients[0].status(), RecipientStatus::ReleasedByDecline);
    assert!(now.recipients[0].released_at.is_none() && now.recipients[0].invited_at.is_none());
    let history = sender.history(&now.id).await.unwrap();
    let of_signer: Vec<_> = history.iter().filter_map(|it| it.event.as_ref()).collect();
    let of_signer = of_signer.iter().filter(|event| event.recipient_id == now.recipients[0].id);
    let of_signer: Vec<_> = of_signer.map(|event| event.r#type()).collect();
    assert_eq!(of_signer, [EventType::RecipientReleasedByDecline], "never invited");
}

/// S2.17: who looks at what is to be replaced is told why.
#[tokio::test(flavor = "multi_thread")]
async fn s2_17_the_reason_stands_where_a_replacement_is_owed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    assert_eq!(story.envelope.replacement_reason, "");
    story.signer(0).decline("Clause 4").await.unwrap();
    let now = story.now().await;
    assert_eq!((now.requires_replacement, now.replacement_reason.as_str()), (true, "Clause 4"));
    let quiet = sender.story(1, Routing::Parallel).await;
    quiet.signer(0).decline("").await.unwrap();
    let now = quiet.now().await;
    assert_eq!((now.requires_replacement, now.replacement_reason.as_str()), (true, ""));
}

/// S4.10, C-4: what was sent is refused by the policy that it was sent with.
#[tokio::test(flavor = "multi_thread")]
async fn s4_10_the_policy_is_frozen_when_the_envelope_is_sent() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let update = |envelope: &Envelope, policy: DeclinePolicy| UpdateEnvelopeRequest {
        envelope_id: envelope.id.clone(),
        changes: Some(EnvelopeChanges { decline_policy: Some(policy), ..EnvelopeChanges::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["decline_policy".into()] }),
        if_revision: 0,
        ..Default::default()
    };
    let draft = sender.create(CreateEnvelopeRequest { send: false, ..under(disabled(), 1) }).await.unwrap();
    let open = policy(ReasonRule::Required, DeclineEffect::Continue);
    let changed = sender.envelopes().update_envelope(update(&draft, open)).await.unwrap().into_inner();
    assert_eq!(changed.envelope.unwrap().decline_policy.unwrap(), open, "a draft's can be changed");
    sender.envelopes().update_envelope(update(&draft, disabled())).await.unwrap();
    let send = SendEnvelopeRequest { envelope_id: draft.id.clone(), if_revision: 0, ..Default::default() };
    let sent = sender.envelopes().send_envelope(send).await.unwrap().into_inner().envelope.unwrap();
    let late = sender.envelopes().update_envelope(update(&sent, open)).await.unwrap_err();
    assert_eq!(late.reason(), "INVALID_STATE_TRANSITION");
    assert_eq!(late.fact("attempted_transition"), "UPDATE");
    let signer = sender.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap();
    assert_eq!(signer.decline("no").await.unwrap_err().reason(), "DECLINE_NOT_ALLOWED");
}

/// What a policy may not say is refused where it stands, and who cannot refuse has none.
#[tokio::test(flavor = "multi_thread")]
async fn c4_a_malformed_policy_is_refused_by_field() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let odd = DeclinePolicy { disabled: false, reason: 9, effect: 9 };
    let mut new = under(odd, 1);
    new.recipients[0].decline_policy = Some(odd);
    new.recipients.push(NewRecipient {
        name: "Vic".into(),
        email: "vic@example.com".into(),
        role: RecipientRole::Viewer.into(),
        decline_policy: Some(DeclinePolicy::default()),
        ..NewRecipient::default()
    });
    new.fields.push(NewField { r#type: 99, ..new.fields[0].clone() });
    let mut fields = sender.create(new).await.unwrap_err().fields();
    fields.sort();
    let expected = [
        "decline_policy.effect",
        "decline_policy.reason",
        "fields[1].type",
        "recipients[0].decline_policy.effect",
        "recipients[0].decline_policy.reason",
        "recipients[1].decline_policy",
    ];
    assert_eq!(fields, expected);
}
