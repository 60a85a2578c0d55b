//! What a recipient's link shows and allows, and from where it is said to be used.

use countersign::v1::{
    ApproveRequest, CreateEnvelopeRequest, DelegateSigningRequest, Envelope, EventType, FieldEntry, FieldType,
    FieldValue, FillFieldsRequest, MarkViewedRequest, MuteRemindersRequest, NewField, NewRecipient, Participant,
    Person, RecipientRole, RecipientStatus, Routing, SignerServiceDownloadDocumentRequest, SigningSession, Transition,
    field_value,
};
use countersign_chassis::clock::Clock;
use countersign_envelope::config::Config;
use countersign_test_support::client::{request, signature};
use countersign_test_support::{Caller, Database, Errors as _, Service, Story, service};
use tonic::{Code, Request, Status};

fn person(name: &str, role: RecipientRole) -> NewRecipient {
    let email = format!("{}@example.com", name.to_lowercase());
    NewRecipient { name: name.into(), email, role: role.into(), ..NewRecipient::default() }
}

/// Two signers, and further people: an assistant is the first signer's.
fn cast(roles: &[RecipientRole]) -> CreateEnvelopeRequest {
    let mut new = request(2, Routing::Parallel, true);
    let mut text = NewField { r#type: FieldType::Text.into(), name: "text".into(), ..new.fields[0].clone() };
    text.placement.as_mut().unwrap().y_percent = 60.0;
    text.required = false;
    new.fields.extend([NewField { r#type: FieldType::Email.into(), name: "email".into(), ..text.clone() }, text]);
    for role in roles {
        let assists_index = (*role == RecipientRole::Assistant).then_some(0);
        new.recipients.push(NewRecipient { assists_index, ..person(&format!("{role:?}"), *role) });
    }
    new
}

async fn view(signer: &Caller) -> Result<SigningSession, Status> {
    Ok(signer.signer().mark_viewed(MarkViewedRequest { ..Default::default() }).await?.into_inner().session.unwrap())
}

/// No address stands in what was shown but the recipient's own.
fn no_foreign_address(mut session: SigningSession) {
    session.recipient.as_mut().unwrap().email.clear();
    let shown = format!("{session:?}");
    assert!(!shown.contains('@'), "{shown}");
}

/// S3.52: a session shows what its recipient needs, and nobody else's address or fields.
#[tokio::test(flavor = "multi_thread")]
async fn s3_52_a_session_shows_what_is_ones_own() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = cast(&[RecipientRole::Viewer, RecipientRole::Cc, RecipientRole::Assistant]);
    new.watchers = vec!["watcher@example.com".into()];
    new.message = "Please sign".into();
    let story = sender.story_of(new).await;
    let envelope = &story.envelope;
    let ids: Vec<_> = envelope.recipients.iter().map(|recipient| recipient.id.as_str()).collect();
    for (index, filler) in [(0, Some(0)), (1, Some(1)), (2, None), (4, Some(0))] {
        let session = story.signer(index).session().await.unwrap();
        let fields = envelope.fields.iter().filter(|it| filler.is_some_and(|at| it.recipient_id == ids[at]));
        let fields: Vec<_> = fields.cloned().collect();
        assert_eq!(session.fields, fields, "{index}");
        assert_eq!(session.recipient.as_ref().unwrap(), &envelope.recipients[index]);
        assert_eq!((&session.envelope_id, session.revision), (&envelope.id, envelope.revision));
        assert_eq!((session.subject.as_str(), session.message.as_str()), ("Agreement", "Please sign"));
        assert_eq!(session.documents, envelope.documents, "with their hashes");
        assert_eq!(session.documents[0].sha256.len(), 64);
        assert_eq!((session.expires_at, session.envelope_status()), (envelope.expires_at, envelope.status()));
        assert!(session.your_turn && session.consent_text.starts_with("I agree to sign"));
        let others =
            |it: &countersign::v1::Recipient| Participant { name: it.name.clone(), role: it.role, status: it.status };
        assert_eq!(session.participants, envelope.recipients.iter().map(others).collect::<Vec<_>>());
        no_foreign_address(session);
    }
    // Once signed.
    story.signer(0).sign(envelope).await.unwrap();
    let signed = story.signer(0).session().await.unwrap();
    assert!(!signed.your_turn && signed.allowed_transitions.is_empty());
    let waiting = story.signer(1).session().await.unwrap();
    assert_eq!(waiting.participants[0].status(), RecipientStatus::Signed, "others see who has acted");
    assert_eq!((waiting.revision, waiting.your_turn), (signed.revision, true));
    no_foreign_address(waiting);
}

/// S3.52: an assistant does not get to see their signer's address either, once it stands in a field.
#[tokio::test(flavor = "multi_thread")]
async fn s3_52_an_assistant_never_sees_the_signers_address() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story_of(cast(&[RecipientRole::Assistant])).await;
    no_foreign_address(story.signer(2).session().await.unwrap());
    story.signer(0).sign(&story.envelope).await.unwrap();
    match story.signer(2).session().await {
        Ok(session) => no_foreign_address(session),
        Err(status) => assert_eq!(status.reason(), "SIGNING_CLOSED", "or nothing at all"),
    }
}

/// What a recipient may try.
const TRIES: [Transition; 7] = [
    Transition::Sign,
    Transition::Approve,
    Transition::Decline,
    Transition::Fill,
    Transition::View,
    Transition::Delegate,
    Transition::Mute,
];

/// The call of a transition, with all that it carries right.
async fn attempt(caller: &Caller, envelope: &Envelope, transition: Transition) -> Result<(), Status> {
    let mut client = caller.signer();
    let given = signature(envelope);
    match transition {
        Transition::Sign => client.sign(given).await.map(drop),
        Transition::Approve => {
            let (seen_documents, seen_revision) = (given.seen_documents, given.seen_revision);
            client
                .approve(ApproveRequest { values: Vec::new(), seen_documents, seen_revision, ..Default::default() })
                .await
                .map(drop)
        }
        Transition::Decline => caller.decline("no").await.map(drop),
        Transition::Fill => {
            let field = envelope.fields.iter().find(|field| field.name == "text").unwrap();
            let value = Some(FieldValue { value: Some(field_value::Value::Text("x".into())) });
            let values = vec![FieldEntry { field_id: field.id.clone(), value }];
            client.fill_fields(FillFieldsRequest { values, ..Default::default() }).await.map(drop)
        }
        Transition::View => view(caller).await.map(drop),
        Transition::Mute => client.mute_reminders(MuteRemindersRequest::default()).await.map(drop),
        Transition::Delegate => {
            let person = Some(Person { name: "Dora".into(), email: "dora@example.com".into(), ..Default::default() });
            client
                .delegate_signing(DelegateSigningRequest { person, reason: String::new(), ..Default::default() })
                .await
                .map(drop)
        }
        _ => panic!("{transition:?} is no recipient's"),
    }
}

/// Where a recipient stands who looks at what they may do.
#[derive(Clone, Copy, Debug)]
enum Scene {
    Fresh(usize),
    Frozen,
    Approver,
    Viewed(usize),
    Signed,
    SignerHasSigned,
}

async fn play(sender: &Caller, scene: Scene) -> (Story, usize) {
    let mut new = cast(&[RecipientRole::Viewer, RecipientRole::Assistant]);
    new.delegations_max = 1;
    match scene {
        Scene::Frozen => {
            new.delegations_max = 0;
            new.decline_policy = Some(countersign::v1::DeclinePolicy { disabled: true, ..Default::default() });
        }
        Scene::Approver => new.recipients[2].role = RecipientRole::Approver.into(),
        _ => {}
    }
    let story = sender.story_of(new).await;
    let index = match scene {
        Scene::Fresh(index) => index,
        Scene::Frozen | Scene::Signed => 0,
        Scene::Approver => 2,
        Scene::Viewed(index) => view(story.signer(index)).await.map(|_| index).unwrap(),
        Scene::SignerHasSigned => 3,
    };
    if matches!(scene, Scene::Signed | Scene::SignerHasSigned) {
        story.signer(0).sign(&story.envelope).await.unwrap();
    }
    (story, index)
}

/// S2.57: what a session lists as allowed succeeds, and nothing else does.
#[tokio::test(flavor = "multi_thread")]
async fn s2_57_exactly_what_a_session_allows_succeeds() {
    use Scene::*;
    use Transition::{Approve, Decline, Delegate, Fill, Mute, Sign, View};
    let service = Service::start().await;
    let sender = service.account(false).await;
    let scenes: [(Scene, Vec<Transition>); 9] = [
        (Fresh(0), vec![Sign, Decline, View, Delegate, Mute]),
        (Fresh(2), vec![View]),
        (Fresh(3), vec![Fill, View]),
        (Frozen, vec![Sign, View, Mute]),
        (Approver, vec![Approve, Decline, View, Delegate, Mute]),
        (Viewed(0), vec![Sign, Decline, Delegate, Mute]),
        (Viewed(2), vec![]),
        (Signed, vec![]),
        (SignerHasSigned, vec![View]),
    ];
    for (scene, expected) in scenes {
        for transition in TRIES {
            let (story, index) = play(&sender, scene).await;
            let caller = story.signer(index);
            let session = caller.session().await.unwrap();
            let mut allowed: Vec<_> = session.allowed_transitions().collect();
            allowed.sort_by_key(|transition| TRIES.iter().position(|other| other == transition));
            assert_eq!(allowed, expected, "{scene:?}");
            let before = story.now().await;
            let answer = attempt(caller, &story.envelope, transition).await;
            if allowed.contains(&transition) {
                answer.unwrap_or_else(|status| panic!("{scene:?}: {transition:?} is allowed: {status:?}"));
                assert_eq!(story.now().await.revision, before.revision + 1, "{scene:?}: {transition:?}");
                continue;
            }
            assert_eq!(story.now().await, before, "{scene:?}: {transition:?} changed something");
            match answer {
                // Once, however often it is called.
                Ok(()) => assert!(matches!(scene, Viewed(_)) && transition == View, "{scene:?}: {transition:?}"),
                Err(status) => assert_ne!(status.code(), Code::Internal, "{scene:?}: {transition:?}"),
            }
        }
    }
}

/// T-47: following a link is not looking; saying that one looks counts once.
#[tokio::test(flavor = "multi_thread")]
async fn t47_only_a_person_views_and_only_once() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    let signer = story.signer(0);
    for _ in 0..3 {
        assert!(signer.session().await.unwrap().recipient.unwrap().viewed_at.is_none());
        let mut file = signer.signer().download_document(SignerServiceDownloadDocumentRequest::default()).await;
        while file.as_mut().unwrap().get_mut().message().await.unwrap().is_some() {}
    }
    assert_eq!(story.now().await, story.envelope, "reading is not an act");
    let (one, other) = tokio::join!(view(signer), view(signer));
    let viewed = one.unwrap().recipient.unwrap().viewed_at;
    assert!(viewed.is_some() && other.unwrap().recipient.unwrap().viewed_at == viewed);
    let third = view(signer).await.unwrap();
    assert_eq!((third.recipient.unwrap().viewed_at, third.revision), (viewed, story.envelope.revision + 1));
    let history = sender.history(&story.envelope.id).await.unwrap();
    let events: Vec<_> = history.iter().filter_map(|entry| entry.event.as_ref()).collect();
    let views: Vec<_> = events.iter().filter(|event| event.r#type() == EventType::RecipientViewed).collect();
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].recipient_id, story.envelope.recipients[0].id);
    assert_eq!(views[0].actor.as_ref().unwrap().id, story.envelope.recipients[0].id);
    assert_eq!(views[0].occurred_at, viewed);
}

/// S2.13: a link that has ended shows nothing any more, whatever its recipient had looked at before.
#[tokio::test(flavor = "multi_thread")]
async fn s2_13_an_ended_link_shows_nothing_to_who_has_viewed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    view(story.signer(0)).await.unwrap();
    sender.void(&story.envelope.id, "").await.unwrap();
    for signer in [1, 0] {
        assert_eq!(story.signer(signer).session().await.unwrap_err().reason(), "SIGNING_CLOSED");
        let late = view(story.signer(signer)).await.map(|session| session.subject);
        assert_eq!(late.map_err(|status| status.reason()), Err("INVALID_STATE_TRANSITION".into()), "{signer}");
    }
}

/// Says that one looks, through proxies, and what the history then knows of it: address and program.
async fn viewed_through(sender: &Caller, forwarded: &[&str], agent: Option<&str>) -> (String, String) {
    let story = sender.story(1, Routing::Parallel).await;
    let mut request = Request::new(MarkViewedRequest { ..Default::default() });
    for line in forwarded {
        request.metadata_mut().append("x-forwarded-for", line.parse().unwrap());
    }
    if let Some(agent) = agent {
        request.metadata_mut().append("x-forwarded-user-agent", agent.parse().unwrap());
    }
    story.signer(0).signer().mark_viewed(request).await.unwrap();
    let history = sender.history(&story.envelope.id).await.unwrap();
    let entry = history.last().unwrap();
    assert_eq!(entry.event.as_ref().unwrap().r#type(), EventType::RecipientViewed);
    (entry.client_ip.clone(), entry.user_agent.clone())
}

/// T-59: a trusted peer says where a person is; of several hops the last that is none of ours counts.
#[tokio::test(flavor = "multi_thread")]
async fn t59_a_trusted_peer_tells_address_and_program() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for (forwarded, client_ip) in [
        (vec![], ""),
        (vec!["203.0.113.9"], "203.0.113.9"),
        (vec!["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        (vec!["203.0.113.9,127.0.0.5"], "203.0.113.9"),
        (vec!["6.6.6.6, 203.0.113.9, 127.0.0.5, ::ffff:127.0.0.1"], "203.0.113.9"),
        (vec!["2001:DB8::7"], "2001:db8::7"),
        (vec!["::ffff:203.0.113.9"], "203.0.113.9"),
        (vec!["127.0.0.5"], ""),
        (vec!["unknown"], ""),
        (vec!["203.0.113.9, unknown"], ""),
    ] {
        assert_eq!(viewed_through(&sender, &forwarded, None).await, (client_ip.into(), "".into()), "{forwarded:?}");
    }
    let long = "Mozilla/5.10 ".repeat(40);
    for (agent, kept) in [(" Firefox/140 (X11) ", "Firefox/140 (X11)"), (long.as_str(), &long[..300])] {
        assert_eq!(viewed_through(&sender, &[], Some(agent)).await, (String::new(), kept.trim().into()));
    }
}

/// T-59: a proxy may add a line of its own instead of a word at the end: what stands in the first line, anybody can write.
#[tokio::test(flavor = "multi_thread")]
async fn t59_several_lines_of_hops_are_read_as_one() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (client_ip, _) = viewed_through(&sender, &["6.6.6.6", "203.0.113.9"], None).await;
    assert_eq!(client_ip, "203.0.113.9");
}

/// T-59: nobody else is believed.
#[tokio::test(flavor = "multi_thread")]
async fn t59_an_untrusted_peer_tells_nothing() {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let config = Config { trusted_peers: Vec::new(), ..service::config(&database, &documents) };
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    let told = viewed_through(&sender, &["203.0.113.9"], Some("Firefox/140")).await;
    assert_eq!(told, (String::new(), String::new()));
    assert_eq!(service.database.number("SELECT count(*) FROM event_particulars").await, 0);
}

/// T-70: the revision that was shown is named, and is one that was.
#[tokio::test(flavor = "multi_thread")]
async fn t70_a_signature_names_the_revision_that_was_seen() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    story.signer(1).sign(&story.envelope).await.unwrap();
    let now = story.now().await.revision;
    for seen_revision in [0, now + 1, u64::MAX] {
        let mut given = signature(&story.envelope);
        given.seen_revision = seen_revision;
        let status = story.signer(0).signer().sign(given).await.unwrap_err();
        let told = (status.code(), status.reason(), status.fields());
        assert_eq!(told, (Code::InvalidArgument, "INVALID_FIELD".into(), vec!["seen_revision".into()]));
    }
    story.signer(0).sign(&story.envelope).await.expect("an earlier one is good: nobody filled a field since");
}

/// T-55: a token opens its own envelope and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn t55_a_token_is_useless_elsewhere() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (own, other) = (sender.story(1, Routing::Parallel).await, sender.story(1, Routing::Parallel).await);
    let signer = own.signer(0);
    assert_eq!(signer.session().await.unwrap().envelope_id, own.envelope.id);
    assert_eq!(signer.sign(&other.envelope).await.unwrap_err().reason(), "DOCUMENT_CHANGED");
    let document_id = other.envelope.documents[0].id.clone();
    let foreign = SignerServiceDownloadDocumentRequest { document_id, ..Default::default() };
    assert_eq!(signer.signer().download_document(foreign).await.unwrap_err().reason(), "NOT_FOUND");
    let mut values = signature(&own.envelope);
    values.values.push(FieldEntry {
        field_id: other.envelope.fields[0].id.clone(),
        value: Some(FieldValue { value: Some(field_value::Value::Text("x".into())) }),
    });
    assert_eq!(signer.signer().sign(values).await.unwrap_err().fields(), ["values[0]"]);
    assert_eq!(signer.get(&own.envelope.id).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!((own.now().await, other.now().await), (own.envelope.clone(), other.envelope.clone()));
}
