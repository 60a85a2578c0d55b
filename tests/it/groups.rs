//! Who acts when: groups in order, side by side inside, and groups of which not all are needed.

use countersign::v1::{
    CreateEnvelopeRequest, DeclineRecipientRequest, DelegateSigningRequest, Envelope, EnvelopeStatus, EventType,
    Person, Quorum, ReassignRecipientRequest, RecipientRole, RecipientStatus, ResendEnvelopeRequest, Routing,
    SignerServiceDownloadDocumentRequest,
};
use countersign_test_support::{Caller, Errors, Service};
use tonic::Code;

use crate::steps::{approve, early_token, kinds, people, progress, send, session, statuses, turn, until_status, view};

use RecipientRole::{Approver, Assistant, Cc, Signer, Viewer};

/// People with the groups that are given.
fn grouped(members: &[(RecipientRole, u32)], send: bool) -> CreateEnvelopeRequest {
    let roles: Vec<_> = members.iter().map(|(role, _)| *role).collect();
    let mut new = people(&roles, Routing::Groups, send);
    for (recipient, (_, group)) in new.recipients.iter_mut().zip(members) {
        recipient.group = *group;
    }
    new
}

/// Whose turn it is, as places in the envelope.
async fn due(sender: &Caller, envelope: &Envelope) -> Vec<usize> {
    let place = |id: &String| envelope.recipients.iter().position(|recipient| recipient.id == *id).unwrap();
    turn(sender, &envelope.id).await.recipient_ids.iter().map(place).collect()
}

async fn acts(sender: &Caller, envelope: &Envelope, index: usize) {
    let signer = sender.signer_of(&envelope.id, &envelope.recipients[index].id).await.unwrap();
    if envelope.recipients[index].role() == Approver {
        approve(&signer, envelope, vec![]).await.unwrap();
    } else {
        signer.sign(envelope).await.unwrap();
    }
}

/// S3.15: an approver without a group, then a pair, an approver of a group of their own with a reader, and a last signer.
#[tokio::test(flavor = "multi_thread")]
async fn groups_act_in_order_and_side_by_side_inside() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let members = [(Signer, 5), (Signer, 2), (Approver, 3), (Signer, 2), (Approver, 0), (Viewer, 3), (Viewer, 0)];
    let draft = sender.create(grouped(&members, false)).await.unwrap();
    assert!(due(&sender, &draft).await.is_empty(), "nobody's turn in a draft");
    let before = turn(&sender, &draft.id).await;
    assert_eq!(progress(&before), [(0, 1, 1, 0), (2, 2, 2, 0), (3, 1, 1, 0), (5, 1, 1, 0)]);
    let envelope = send(&sender, &draft.id).await.unwrap();
    use RecipientStatus::{Approved, Released as On, Signed, Waiting as No};
    assert_eq!(statuses(&envelope), [No, No, No, No, On, No, On]);
    assert_eq!(due(&sender, &envelope).await, [4]);
    let outcast = early_token(&service, &sender, &envelope, 5).await;
    assert_eq!(view(&outcast).await.unwrap_err().reason(), "NOT_YOUR_TURN", "readers of a later group");

    let steps = [
        (4, vec![1, 3], [No, On, No, On, Approved, No, On], (0, 1, 1, 1)),
        (3, vec![1], [No, On, No, Signed, Approved, No, On], (2, 2, 2, 1)),
        (1, vec![2], [No, Signed, On, Signed, Approved, On, On], (2, 2, 2, 2)),
        (2, vec![0], [On, Signed, Approved, Signed, Approved, On, On], (3, 1, 1, 1)),
        (0, vec![], [Signed, Signed, Approved, Signed, Approved, On, On], (5, 1, 1, 1)),
    ];
    for (index, next, expected, group) in steps {
        let early = early_token(&service, &sender, &envelope, 0).await;
        if index != 0 {
            assert_eq!(early.sign(&envelope).await.unwrap_err().reason(), "NOT_YOUR_TURN");
        }
        acts(&sender, &envelope, index).await;
        let now = sender.get(&envelope.id).await.unwrap();
        assert_eq!(statuses(&now), expected, "after {index}");
        assert_eq!(due(&sender, &envelope).await, next, "after {index}");
        let told = turn(&sender, &envelope.id).await;
        assert!(progress(&told).contains(&group), "{told:?}");
    }
    let done = until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
    let told = turn(&sender, &envelope.id).await;
    assert_eq!((told.revision, told.recipient_ids.len()), (done.revision, 0));
    assert!(told.groups.iter().all(|group| group.acted == group.needed));
}

/// Nobody's turn in what has ended.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_nobodys_turn_once_an_envelope_has_ended() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for end in ["void", "decline"] {
        let envelope = sender.create(people(&[Signer, Signer], Routing::Sequential, true)).await.unwrap();
        assert_eq!(due(&sender, &envelope).await, [0]);
        if end == "void" {
            sender.void(&envelope.id, "").await.unwrap();
        } else {
            let signer = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
            signer.decline("no").await.unwrap();
        }
        let told = turn(&sender, &envelope.id).await;
        assert!(told.recipient_ids.is_empty());
        assert_eq!(progress(&told), [(1, 1, 1, 0), (2, 1, 1, 0)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_groups_and_quorums_are_refused() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for (members, path) in [
        ([(Signer, 0), (Signer, 1)], "recipients[0].group"),
        ([(Signer, 101), (Signer, 1)], "recipients[0].group"),
        ([(Signer, 1), (Approver, 101)], "recipients[1].group"),
        ([(Signer, 1), (Cc, 1)], "recipients[1].group"),
    ] {
        let status = sender.create(grouped(&members, true)).await.unwrap_err();
        assert_eq!((status.reason().as_str(), status.fields()), ("INVALID_FIELD", vec![path.to_owned()]));
    }
    let mut new = people(&[Signer, Signer], Routing::Parallel, true);
    new.recipients[1].group = 2;
    assert_eq!(sender.create(new).await.unwrap_err().fields(), ["recipients[1].group"], "for ROUTING_GROUPS alone");
    let quorum = |group, needed| Quorum { group, needed };
    let mut new = grouped(&[(Signer, 1), (Signer, 1), (Viewer, 1)], true);
    for (quorums, path) in [
        (vec![quorum(1, 1), quorum(1, 2)], "quorums[1].group"),
        (vec![quorum(101, 1)], "quorums[0]"),
        (vec![quorum(1, 101)], "quorums[0]"),
    ] {
        new.quorums = quorums;
        assert_eq!(sender.create(new.clone()).await.unwrap_err().fields(), [path]);
    }
    // Recipients of a draft stay: a quorum that does not fit them is refused at once.
    for quorums in [vec![quorum(1, 3)], vec![quorum(1, 0)], vec![quorum(2, 1)], vec![quorum(1, 1), quorum(0, 1)]] {
        let last = quorums.len() - 1;
        new.quorums = quorums;
        assert_eq!(sender.create(new.clone()).await.unwrap_err().fields(), [format!("quorums[{last}].needed")]);
    }
}

/// Two of whom one is enough, the assistant of one of them, and a signer after them; the second has looked.
async fn either(sender: &Caller) -> (Envelope, Caller) {
    let mut new = grouped(&[(Signer, 1), (Signer, 1), (Assistant, 0), (Signer, 2)], true);
    new.recipients[2].assists_index = Some(1);
    new.quorums = vec![Quorum { group: 1, needed: 1 }];
    let envelope = sender.create(new).await.unwrap();
    let surplus = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
    view(&surplus).await.unwrap();
    (sender.get(&envelope.id).await.unwrap(), surplus)
}

/// T-21, D6: who is not needed owes nothing, and their link is dead: closed to read, NOT_NEEDED to act.
#[tokio::test(flavor = "multi_thread")]
async fn t21_who_is_not_needed_owes_nothing_any_more() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (envelope, surplus) = either(&sender).await;
    assert_eq!(envelope.quorums, [Quorum { group: 1, needed: 1 }]);
    assert_eq!(progress(&turn(&sender, &envelope.id).await), [(1, 2, 1, 0), (2, 1, 1, 0)]);
    assert_eq!(due(&sender, &envelope).await, [0, 1]);
    acts(&sender, &envelope, 0).await;
    let now = sender.get(&envelope.id).await.unwrap();
    use RecipientStatus::{NotNeeded, Released, Signed};
    assert_eq!(statuses(&now), [Signed, NotNeeded, NotNeeded, Released]);
    assert!(now.recipients[1].signed_at.is_none() && now.recipients[1].decline.is_none());
    assert_eq!(progress(&turn(&sender, &envelope.id).await), [(1, 2, 1, 1), (2, 1, 1, 0)]);
    assert_eq!(due(&sender, &envelope).await, [3]);
    use EventType::*;
    let told = kinds(&sender, &envelope.id).await;
    let expected = [RecipientSigned, RecipientNotNeeded, RecipientNotNeeded, RecipientReleased];
    assert_eq!(told[told.len() - 4..], expected);

    let closed = session(&surplus).await.unwrap_err();
    assert_eq!((closed.reason(), closed.fact("current_state")), ("SIGNING_CLOSED".into(), "PARTIALLY_SIGNED".into()));
    let read = SignerServiceDownloadDocumentRequest::default();
    assert_eq!(surplus.signer().download_document(read).await.unwrap_err().reason(), "SIGNING_CLOSED");
    let (envelope_id, recipient_id) = (envelope.id.clone(), envelope.recipients[1].id.clone());
    let link = sender.signer_of(&envelope_id, &recipient_id).await.unwrap_err();
    assert_eq!(link.reason(), "SIGNING_CLOSED");
    let person = Some(Person { name: "Other".into(), email: "other@example.com".into(), ..Default::default() });
    let delegate = DelegateSigningRequest { person: person.clone(), reason: String::new(), ..Default::default() };
    let on_behalf = DeclineRecipientRequest {
        envelope_id: envelope_id.clone(),
        recipient_id: recipient_id.clone(),
        ..Default::default()
    };
    let reassign = ReassignRecipientRequest {
        envelope_id: envelope_id.clone(),
        recipient_id: recipient_id.clone(),
        person,
        ..Default::default()
    };
    let resend = ResendEnvelopeRequest { envelope_id, recipient_ids: vec![recipient_id], ..Default::default() };
    let answers = [
        surplus.sign(&envelope).await,
        surplus.decline("no").await.map(drop),
        surplus.signer().delegate_signing(delegate).await.map(drop),
        sender.envelopes().decline_recipient(on_behalf).await.map(drop),
        sender.envelopes().reassign_recipient(reassign).await.map(drop),
        sender.envelopes().resend_envelope(resend).await.map(drop),
    ];
    for (index, answer) in answers.into_iter().enumerate() {
        let status = answer.expect_err(&format!("call {index}"));
        assert_eq!((status.code(), status.reason().as_str()), (Code::FailedPrecondition, "NOT_NEEDED"), "{index}");
        assert_eq!(status.fact("current_state"), "PARTIALLY_SIGNED");
    }
    assert_eq!(sender.get(&envelope.id).await.unwrap(), now);
    acts(&sender, &now, 3).await;
    let done = until_status(&sender, &envelope.id, EnvelopeStatus::Completed).await;
    assert_eq!(statuses(&done), [Signed, NotNeeded, NotNeeded, Signed]);
    let late = surplus.sign(&envelope).await.unwrap_err();
    assert_eq!((late.reason(), late.fact("current_state")), ("INVALID_STATE_TRANSITION".into(), "COMPLETED".into()));
}

/// D6, T-21: also for those who had looked before.
#[tokio::test(flavor = "multi_thread")]
async fn d6_who_is_not_needed_cannot_view_either() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (envelope, surplus) = either(&sender).await;
    acts(&sender, &envelope, 0).await;
    let view = view(&surplus).await.map(|shown| shown.subject).unwrap_err();
    assert_eq!(view.reason(), "NOT_NEEDED");
}

/// T-2, T-21: where one is enough, of two at once one wins and the other is told that they are not needed.
#[tokio::test(flavor = "multi_thread")]
async fn t21_of_two_at_once_one_is_needed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for round in 0..30 {
        let mut new = grouped(&[(Signer, 1), (Signer, 1), (Approver, 2)], true);
        new.quorums = vec![Quorum { group: 1, needed: 1 }];
        let envelope = sender.create(new).await.unwrap();
        let first = sender.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
        let second = sender.signer_of(&envelope.id, &envelope.recipients[1].id).await.unwrap();
        let (one, other) = tokio::join!(first.sign(&envelope), second.sign(&envelope));
        let lost = [one, other].into_iter().filter_map(Result::err).collect::<Vec<_>>();
        assert_eq!(lost.iter().map(Errors::reason).collect::<Vec<_>>(), ["NOT_NEEDED"], "round {round}");
        let now = sender.get(&envelope.id).await.unwrap();
        assert_eq!(now.recipients[2].status(), RecipientStatus::Released);
        assert_eq!(progress(&turn(&sender, &envelope.id).await), [(1, 2, 1, 1), (2, 1, 1, 0)]);
    }
}
