//! What each role is asked to do, may do and may not.

use countersign::v1::{
    ActorType, Cause, CreateEnvelopeRequest, DeclineRecipientRequest, DelegateSigningRequest, EnvelopeStatus,
    EventType, FieldType, FieldValue, NewField, Person, RecipientRole, RecipientStatus, Routing,
    SignerServiceDownloadDocumentRequest, Transition, Validation, field_value,
};
use countersign_test_support::client::signature;
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::{Code, Status};

use crate::steps::{
    approve, count, early_token, entry, field, fill, kinds, people, send, session, statuses, text_of, turn,
    until_status, view,
};

use RecipientRole::{Approver, Assistant, Cc, Signer, Viewer};

async fn delegate(signer: &Caller) -> Result<(), Status> {
    let person = Some(Person { name: "Other".into(), email: "other@example.com".into(), ..Default::default() });
    let request = DelegateSigningRequest { person, reason: String::new(), ..Default::default() };
    signer.signer().delegate_signing(request).await.map(drop)
}

async fn download(signer: &Caller) -> Result<(), Status> {
    let request = SignerServiceDownloadDocumentRequest::default();
    signer.signer().download_document(request).await.map(drop)
}

/// S3.15, S3.98, T-19, C-15: the signer's credential is there, and is of no use until the approver has approved.
#[tokio::test(flavor = "multi_thread")]
async fn t19_signers_wait_for_their_approvers() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = people(&[Signer, Approver, Signer], Routing::Parallel, true);
    new.fields.push(NewField { required: true, ..field(FieldType::Text, 1, 5) });
    let envelope = sender.create(new).await.unwrap();
    let groups: Vec<_> = envelope.recipients.iter().map(|recipient| recipient.group).collect();
    assert_eq!(groups, [1, 0, 1]);
    use RecipientStatus::{Approved, Released, Signed, Waiting};
    assert_eq!(statuses(&envelope), [Waiting, Released, Waiting]);
    let link = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap_err();
    assert_eq!(link.reason(), "NOT_YOUR_TURN");
    let signer = early_token(&service, &sender, &envelope, 0).await;
    let answers = [
        session(&signer).await.map(drop),
        download(&signer).await,
        view(&signer).await.map(drop),
        signer.sign(&envelope).await,
        signer.decline("no").await.map(drop),
        delegate(&signer).await,
    ];
    for answer in answers {
        let status = answer.unwrap_err();
        assert_eq!((status.code(), status.reason().as_str()), (Code::FailedPrecondition, "NOT_YOUR_TURN"));
        assert_eq!(status.fact("current_state"), "SENT");
    }

    let approver = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
    let shown = session(&approver).await.unwrap();
    assert_eq!(
        shown.allowed_transitions().collect::<Vec<_>>(),
        [Transition::Approve, Transition::Decline, Transition::View, Transition::Mute]
    );
    assert_eq!(approver.sign(&envelope).await.unwrap_err().reason(), "ROLE_NOT_ALLOWED");
    let empty = approve(&approver, &envelope, vec![]).await.unwrap_err();
    assert_eq!((empty.reason().as_str(), empty.fields()), ("INVALID_FIELD", vec!["values".to_owned()]));
    let mine = envelope.fields.last().unwrap().id.as_str();
    approve(&approver, &envelope, vec![entry(mine, "Approved by finance")]).await.unwrap();
    let now = sender.get(&envelope.id).await.unwrap();
    assert_eq!((now.status(), now.first_signed_at), (EnvelopeStatus::Sent, None), "nobody has signed");
    assert_eq!(statuses(&now), [Released, Approved, Released]);
    assert!(now.recipients[1].signed_at.is_some());
    assert_eq!(text_of(now.fields.last().unwrap().value.as_ref()), "Approved by finance");
    assert_eq!(approve(&approver, &envelope, vec![]).await.unwrap_err().reason(), "ALREADY_ACTED");
    use EventType::*;
    let expected =
        [EnvelopeCreated, EnvelopeSent, RecipientReleased, RecipientApproved, RecipientReleased, RecipientReleased];
    assert_eq!(kinds(&sender, &envelope.id).await, expected);

    // The same credential is good now.
    assert_eq!(approve(&signer, &envelope, vec![]).await.unwrap_err().reason(), "ROLE_NOT_ALLOWED");
    signer.sign(&envelope).await.unwrap();
    let other = sender.signer_of(&envelope.id, &envelope.recipients[2].id).await.unwrap();
    other.sign(&envelope).await.unwrap();
    let done = until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
    assert_eq!(statuses(&done), [Signed, Approved, Signed]);
}

/// T-18: an approver's refusal is told apart, and ends what the signers never heard of.
#[tokio::test(flavor = "multi_thread")]
async fn t18_an_approvers_refusal_ends_the_envelope() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(people(&[Approver, Signer], Routing::Sequential, true)).await.unwrap();
    let approver = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    approver.decline("Too dear").await.unwrap();
    let now = sender.get(&envelope.id).await.unwrap();
    assert_eq!((now.status(), now.cause()), (EnvelopeStatus::Declined, Cause::ApprovalRefused));
    assert_eq!(
        (now.ended_by_recipient_id.as_str(), now.replacement_reason.as_str()),
        (now.recipients[0].id.as_str(), "Too dear")
    );
    assert!(now.recipients[1].released_at.is_none() && now.recipients[1].invited_at.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_approvers_alone_complete_an_envelope() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(people(&[Approver, Approver, Viewer], Routing::Parallel, true)).await.unwrap();
    for recipient in &envelope.recipients[..2] {
        let approver = sender.signer_of(&envelope.id, &recipient.id).await.unwrap();
        approve(&approver, &envelope, vec![]).await.unwrap();
    }
    let done = until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
    assert_eq!(statuses(&done)[..2], [RecipientStatus::Approved; 2]);
    assert!(done.first_signed_at.is_none() && done.all_acted_at.is_some());
    assert_eq!(done.documents[0].artifacts.len(), 2, "the signed document and the certificate");
    assert!(done.recipients.iter().all(|recipient| !recipient.not_effective));
    use EventType::*;
    let told = kinds(&sender, &envelope.id).await;
    assert_eq!(told[5..], [RecipientApproved, RecipientApproved, EnvelopeAllActed, EnvelopeCompleted]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t12_without_signer_and_approver_nothing_is_sent() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for roles in [vec![Cc], vec![Viewer], vec![Viewer, Cc, Cc]] {
        let refused = sender.create(people(&roles, Routing::Parallel, true)).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason().as_str()), (Code::FailedPrecondition, "ENVELOPE_INCOMPLETE"));
        let draft = sender.create(people(&roles, Routing::Parallel, false)).await.unwrap();
        let refused = send(&sender, &draft.id).await.unwrap_err();
        assert_eq!(refused.reason(), "ENVELOPE_INCOMPLETE");
        assert_eq!(refused.fact("allowed_transitions"), "DISCARD,UPDATE,REASSIGN");
    }
    // A signer needs a place for their signature.
    let mut new = people(&[Signer, Signer], Routing::Parallel, true);
    new.fields.pop();
    assert_eq!(sender.create(new).await.unwrap_err().reason(), "ENVELOPE_INCOMPLETE");
}

/// A good request, but for one more field of that type for somebody of that role.
fn with_field(role: RecipientRole, kind: FieldType) -> CreateEnvelopeRequest {
    let mut new = people(&[Signer, role], Routing::Parallel, true);
    if role == Assistant {
        new.recipients[1].assists_index = Some(0);
    }
    let mut more = field(kind, 1, 6);
    if kind == FieldType::Dropdown {
        more.validation = Some(Validation { options: vec!["a".into()], ..Validation::default() });
    }
    if kind == FieldType::Radio {
        more.validation = Some(Validation { group: "g".into(), ..Validation::default() });
    }
    new.fields.push(more);
    new
}

/// S3.13 to S3.18, S3.21, T-17: signers have all fields, approvers all but the signer's own hand, others none.
#[tokio::test(flavor = "multi_thread")]
async fn s3_13_roles_have_the_fields_that_they_can_fill() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for role in [Signer, Approver, Viewer, Cc, Assistant] {
        for kind in (1..=10).map(|kind| FieldType::try_from(kind).unwrap()) {
            let fits = match role {
                Signer => true,
                Approver => !matches!(kind, FieldType::Signature | FieldType::Initials),
                _ => false,
            };
            let answer = sender.create(with_field(role, kind)).await;
            match answer {
                Ok(envelope) => assert!(fits && envelope.status() == EnvelopeStatus::Sent, "{role:?} {kind:?}"),
                Err(status) => {
                    assert_eq!((fits, status.reason().as_str()), (false, "ENVELOPE_INCOMPLETE"), "{role:?} {kind:?}");
                }
            }
        }
    }
    let mut new = people(&[Signer, Approver, Assistant], Routing::Parallel, false);
    for (index, path) in [(None, "recipients[2].assists_index"), (Some(1), "recipients[2].assists_index")] {
        new.recipients[2].assists_index = index;
        assert_eq!(sender.create(new.clone()).await.unwrap_err().fields(), [path]);
    }
    new.recipients[2].assists_index = Some(0);
    new.recipients[1].assists_index = Some(0);
    assert_eq!(sender.create(new.clone()).await.unwrap_err().fields(), ["recipients[1].assists_index"]);
    new.recipients[1].assists_index = None;
    new.recipients[0].copy_on_send = true;
    assert_eq!(sender.create(new).await.unwrap_err().fields(), ["recipients[0].copy_on_send"]);
}

/// S3.16, T-17: reads, and does nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn t17_a_viewer_reads_and_does_not_act() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(people(&[Signer, Viewer], Routing::Parallel, true)).await.unwrap();
    assert_eq!(statuses(&envelope), [RecipientStatus::Released; 2]);
    let viewer = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
    let shown = session(&viewer).await.unwrap();
    assert!(shown.fields.is_empty());
    assert_eq!(shown.allowed_transitions().collect::<Vec<_>>(), [Transition::View]);
    assert_eq!(shown.participants.len(), 2);
    download(&viewer).await.unwrap();
    let seen = view(&viewer).await.unwrap();
    assert!(seen.recipient.unwrap().viewed_at.is_some() && seen.allowed_transitions.is_empty());
    let before = sender.get(&envelope.id).await.unwrap();
    let on_behalf = DeclineRecipientRequest {
        envelope_id: envelope.id.clone(),
        recipient_id: envelope.recipients[1].id.clone(),
        ..DeclineRecipientRequest::default()
    };
    let answers = [
        viewer.sign(&envelope).await,
        approve(&viewer, &envelope, vec![]).await.map(drop),
        viewer.decline("no").await.map(drop),
        fill(&viewer, vec![entry(&envelope.fields[0].id, "x")]).await.map(drop),
        delegate(&viewer).await,
        sender.envelopes().decline_recipient(on_behalf).await.map(drop),
    ];
    for answer in answers {
        let status = answer.unwrap_err();
        assert_eq!((status.code(), status.reason().as_str()), (Code::PermissionDenied, "ROLE_NOT_ALLOWED"));
        assert_eq!(status.fact("current_state"), "SENT");
    }
    assert_eq!(sender.get(&envelope.id).await.unwrap(), before);
    assert_eq!(turn(&sender, &envelope.id).await.recipient_ids, [envelope.recipients[0].id.as_str()]);
    let signer = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    signer.sign(&envelope).await.unwrap();
    until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
}

/// S3.17, S3.97, T-17: a copy, and no link; at the beginning only where the sender wants it.
#[tokio::test(flavor = "multi_thread")]
async fn s3_17_a_cc_has_no_session() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = people(&[Cc, Signer, Cc], Routing::Parallel, true);
    new.recipients[2].copy_on_send = true;
    let envelope = sender.create(new).await.unwrap();
    let released = [RecipientStatus::Waiting, RecipientStatus::Released, RecipientStatus::Released];
    assert_eq!(statuses(&envelope), released);
    assert_eq!(count(&sender, &envelope.id, EventType::RecipientReleased).await, 2);
    for index in [0, 2] {
        let recipient_id = envelope.recipients[index].id.clone();
        let cc = early_token(&service, &sender, &envelope, index).await;
        let on_behalf = DeclineRecipientRequest {
            envelope_id: envelope.id.clone(),
            recipient_id: recipient_id.clone(),
            ..DeclineRecipientRequest::default()
        };
        let answers = [
            sender.signer_of(&envelope.id, &recipient_id).await.map(drop),
            session(&cc).await.map(drop),
            download(&cc).await,
            view(&cc).await.map(drop),
            cc.sign(&envelope).await,
            approve(&cc, &envelope, vec![]).await.map(drop),
            cc.decline("no").await.map(drop),
            delegate(&cc).await,
            sender.envelopes().decline_recipient(on_behalf).await.map(drop),
        ];
        for (at, answer) in answers.into_iter().enumerate() {
            let status = answer.expect_err(&format!("call {at}"));
            assert_eq!((status.code(), status.reason().as_str()), (Code::PermissionDenied, "ROLE_NOT_ALLOWED"));
        }
    }
    assert_eq!(sender.get(&envelope.id).await.unwrap(), envelope);
    let signer = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
    signer.sign(&envelope).await.unwrap();
    until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
}

/// A signer with a title to be filled, another signer, and an assistant of the first.
fn assisted() -> CreateEnvelopeRequest {
    let mut new = people(&[Signer, Signer, Assistant], Routing::Parallel, true);
    new.recipients[2].assists_index = Some(0);
    let text = |recipient, line, name: &str| NewField { name: name.into(), ..field(FieldType::Text, recipient, line) };
    new.fields.push(NewField { required: true, ..text(0, 4, "title") });
    new.fields.push(text(0, 5, "city"));
    let value = Some(FieldValue { value: Some(field_value::Value::Text("2026".into())) });
    new.fields.push(NewField { read_only: true, value, ..text(0, 6, "year") });
    new.fields.push(text(1, 7, "elsewhere"));
    new
}

/// S3.18, T-20: fills the signer's fields; the signer sees it, may change it, and alone signs.
#[tokio::test(flavor = "multi_thread")]
async fn t20_an_assistant_fills_and_the_signer_decides() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(assisted()).await.unwrap();
    let (signer, assistant) = (&envelope.recipients[0], &envelope.recipients[2]);
    assert_eq!(assistant.assists_recipient_id, signer.id);
    let id = |name: &str| envelope.fields.iter().find(|field| field.name == name).unwrap().id.as_str();
    let helper = sender.signer_of(&envelope.id, &assistant.id).await.unwrap();
    let hand = sender.signer_of(&envelope.id, &signer.id).await.unwrap();
    let shown = session(&helper).await.unwrap();
    assert_eq!(shown.allowed_transitions().collect::<Vec<_>>(), [Transition::Fill, Transition::View]);
    assert_eq!(shown.fields.len(), 4);
    assert!(shown.fields.iter().all(|field| field.recipient_id == signer.id));
    let stale = session(&hand).await.unwrap().revision;

    let filled = fill(&helper, vec![entry(id("title"), "Director"), entry(id("city"), "Bonn")]).await.unwrap();
    assert_eq!(filled.revision, envelope.revision + 1);
    let history = sender.history(&envelope.id).await.unwrap();
    let event = history.last().unwrap().event.clone().unwrap();
    let actor = event.actor.unwrap();
    assert_eq!((actor.r#type(), actor.id), (ActorType::Recipient, assistant.id.clone()));
    assert_eq!(
        (EventType::try_from(event.r#type), event.recipient_id),
        (Ok(EventType::RecipientFilled), signer.id.clone())
    );
    let shown = session(&hand).await.unwrap();
    let holds = |name: &str| text_of(shown.fields.iter().find(|field| field.name == name).unwrap().value.as_ref());
    assert_eq!((holds("title"), holds("city"), holds("year")), ("Director", "Bonn", "2026"));

    // What was shown before is not what would be signed.
    let mut old = signature(&envelope);
    old.seen_revision = stale;
    let refused = hand.signer().sign(old).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::Aborted, "FIELDS_CHANGED"));
    assert_eq!((refused.fact("attempted_transition"), refused.fact("revision")), ("SIGN".into(), "2".into()));
    // What changes nothing of theirs does not trouble them, nor the other signer.
    let other = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
    other.sign(&envelope).await.unwrap();
    let mut act = signature(&envelope);
    act.seen_revision = shown.revision;
    act.values = vec![entry(id("title"), "Managing Director"), entry(id("city"), "")];
    hand.signer().sign(act).await.unwrap();
    let done = until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
    let value = |name: &str| text_of(done.fields.iter().find(|field| field.name == name).unwrap().value.as_ref());
    assert_eq!((value("title"), value("city"), value("year")), ("Managing Director", "", "2026"));
    assert_eq!(count(&sender, &envelope.id, EventType::RecipientFilled).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn t20_an_assistant_has_no_authority() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(assisted()).await.unwrap();
    let named = |name: &str| envelope.fields.iter().find(|field| field.name == name).unwrap().id.as_str();
    let (title, year, foreign) = (named("title"), named("year"), named("elsewhere"));
    let mark = envelope.fields[0].id.as_str();
    let helper = sender.signer_of(&envelope.id, &envelope.recipients[2].id).await.unwrap();
    for answer in [
        helper.sign(&envelope).await,
        approve(&helper, &envelope, vec![]).await.map(drop),
        helper.decline("no").await.map(drop),
        delegate(&helper).await,
    ] {
        assert_eq!(answer.unwrap_err().reason(), "ROLE_NOT_ALLOWED");
    }
    let hand = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    assert_eq!(fill(&hand, vec![entry(title, "x")]).await.unwrap_err().reason(), "ROLE_NOT_ALLOWED");
    for (values, path) in [
        (vec![entry(mark, "Person 0")], "values[0]"),
        (vec![entry(title, "x"), entry(year, "2027")], "values[1]"),
        (vec![entry(foreign, "x")], "values[0]"),
        (vec![entry(title, "x"), entry(title, "y")], "values[1]"),
        (vec![entry(title, &"x".repeat(501))], "values[0]"),
        (vec![entry("fld_1", "x")], "values[0].field_id"),
        (vec![], "values"),
    ] {
        let status = fill(&helper, values).await.unwrap_err();
        assert_eq!((status.reason().as_str(), status.fields()), ("INVALID_FIELD", vec![path.to_owned()]));
    }
    assert_eq!(sender.get(&envelope.id).await.unwrap(), envelope);
    // Emptied by an empty text, and then missing.
    fill(&helper, vec![entry(title, "Director")]).await.unwrap();
    fill(&helper, vec![entry(title, " ")]).await.unwrap();
    let now = sender.get(&envelope.id).await.unwrap();
    assert_eq!(hand.sign(&now).await.unwrap_err().fields(), ["values"]);
    let mut act = signature(&now);
    act.values = vec![entry(title, "Director")];
    hand.signer().sign(act).await.unwrap();
    // Too late for the assistant; the other signer is still asked.
    let late = fill(&helper, vec![entry(title, "x")]).await.unwrap_err();
    assert_eq!((late.reason(), late.fact("current_state")), ("ALREADY_ACTED".into(), "PARTIALLY_SIGNED".into()));
}

/// An assistant is asked with their signer, not before.
#[tokio::test(flavor = "multi_thread")]
async fn t20_an_assistant_waits_with_their_signer() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = people(&[Signer, Signer, Assistant], Routing::Sequential, true);
    new.recipients[2].assists_index = Some(1);
    new.fields.push(field(FieldType::Text, 1, 4));
    let envelope = sender.create(new).await.unwrap();
    let helper = early_token(&service, &sender, &envelope, 2).await;
    let values = || vec![entry(&envelope.fields[2].id, "x")];
    assert_eq!(fill(&helper, values()).await.unwrap_err().reason(), "NOT_YOUR_TURN");
    assert_eq!(session(&helper).await.unwrap_err().reason(), "NOT_YOUR_TURN");
    let first = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    first.sign(&envelope).await.unwrap();
    let now = sender.get(&envelope.id).await.unwrap();
    assert_eq!(statuses(&now)[1..], [RecipientStatus::Released; 2]);
    fill(&helper, values()).await.unwrap();
}

/// T-47: a link may be followed by machines; only the page's own word counts, and once.
#[tokio::test(flavor = "multi_thread")]
async fn t47_viewing_is_said_once_and_reading_says_nothing() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(people(&[Signer, Signer], Routing::Parallel, true)).await.unwrap();
    let signer = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    for _ in 0..3 {
        session(&signer).await.unwrap();
        download(&signer).await.unwrap();
    }
    assert_eq!(sender.get(&envelope.id).await.unwrap(), envelope, "reading is not an act");
    let (first, second) = tokio::join!(view(&signer), view(&signer));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.revision, second.revision), (envelope.revision + 1, envelope.revision + 1));
    let seen = sender.get(&envelope.id).await.unwrap();
    assert!(seen.recipients[0].viewed_at.is_some() && seen.recipients[1].viewed_at.is_none());
    view(&signer).await.unwrap();
    assert_eq!(sender.get(&envelope.id).await.unwrap(), seen);
    let history = sender.history(&envelope.id).await.unwrap();
    let event = history.last().unwrap().event.clone().unwrap();
    assert_eq!((history.len(), event.r#type()), (5, EventType::RecipientViewed));
    assert_eq!(event.recipient_id, envelope.recipients[0].id);
    assert_eq!(statuses(&seen), [RecipientStatus::Released; 2]);
    // Somebody who acts without having said so has acted all the same.
    let other = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
    other.sign(&envelope).await.unwrap();
    let late = view(&other).await.unwrap_err();
    assert_eq!((late.reason(), late.fact("attempted_transition")), ("ALREADY_ACTED".into(), "VIEW".into()));
}

/// D6: what ended with the envelope is ended for those too who had looked before.
#[tokio::test(flavor = "multi_thread")]
async fn d6_viewing_again_is_refused_once_the_link_has_ended() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.create(people(&[Signer, Viewer], Routing::Parallel, true)).await.unwrap();
    let mut tokens = Vec::new();
    for recipient in &envelope.recipients {
        let token = sender.signer_of(&envelope.id, &recipient.id).await.unwrap();
        view(&token).await.unwrap();
        tokens.push(token);
    }
    sender.void(&envelope.id, "").await.unwrap();
    for token in &tokens {
        assert_eq!(session(token).await.unwrap_err().reason(), "SIGNING_CLOSED");
        let view = view(token).await.map(|shown| shown.subject).unwrap_err();
        assert_eq!((view.reason(), view.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "VOIDED".into()));
    }
}
