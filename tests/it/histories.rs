//! Histories: who did what, for whom, through which door and why; nothing personal in what is hashed.

use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{
    ActorType, ApproveRequest, Cause, DeclineChannel, DeclineRecipientRequest, DelegateSigningRequest, Envelope,
    EnvelopeChanges, EnvelopeStatus, EventType, ExtendEnvelopeRequest, FieldEntry, FieldType, FieldValue,
    FillFieldsRequest, HistoryEntry, MarkViewedRequest, NewField, NewRecipient, Person, Quorum,
    ReassignRecipientRequest, RecipientRole, ReplaceEnvelopeRequest, ResendEnvelopeRequest, Routing,
    SendEnvelopeRequest, SignRequest, UpdateEnvelopeRequest, VerifyHistoryRequest, WatchStart,
    WatchStatusChangesRequest, field_value,
};
use countersign_chassis::wire::timestamp;
use countersign_test_support::client::{request, signature};
use countersign_test_support::{Caller, Errors as _, Service};
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tonic::Request;

/// Everything personal that the long story is told: none of it may be hashed or streamed.
const SECRETS: [&str; 24] = [
    "Anna Approver",
    "Sven Signer",
    "Rita Replaced",
    "Rolf Replacement",
    "Tara Third",
    "Fritz Fourth",
    "Asta Assistant",
    "Dora Delegate",
    "@example.com",
    "@elsewhere.example",
    "Rita has left",
    "Dora knows more",
    "Not like this",
    "Phone call of Monday",
    "Entered by Asta",
    "Changed by Dora",
    "D. Delegate",
    "203.0.113",
    "Firefox",
    "watcher@",
    "Secret subject",
    "Secret message",
    "Secret reference",
    "Preset by sender",
];

fn person(name: &str) -> NewRecipient {
    let email = format!("{}@example.com", name.to_lowercase().replace(' ', "."));
    NewRecipient { name: name.into(), email, ..NewRecipient::default() }
}

fn text(text: &str) -> Option<FieldValue> {
    Some(FieldValue { value: Some(field_value::Value::Text(text.into())) })
}

/// A call from a person's machine, as a trusted peer forwards it.
fn from<T>(message: T, client_ip: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-forwarded-for", client_ip.parse().unwrap());
    request.metadata_mut().insert("x-forwarded-user-agent", "Firefox/140".parse().unwrap());
    request
}

/// One story in which most of what can happen happens.
struct Long {
    service: Service,
    sender: Caller,
    id: String,
    /// The approver, the signer with an assistant, one who is replaced, two of the second group, the assistant.
    people: Vec<String>,
    replacement: String,
}

const APPROVER: usize = 0;
const SIGNER: usize = 1;
const REPLACED: usize = 2;
const THIRD: usize = 3;
const FOURTH: usize = 4;
const ASSISTANT: usize = 5;

impl Long {
    async fn signer(&self, index: usize) -> Caller {
        self.sender.signer_of(&self.id, &self.people[index]).await.unwrap()
    }

    async fn now(&self) -> Envelope {
        self.sender.get(&self.id).await.unwrap()
    }

    async fn until(&self, what: EventType) -> Vec<HistoryEntry> {
        for _ in 0..600 {
            let history = self.sender.history(&self.id).await.unwrap();
            if history.iter().any(|entry| entry.event.as_ref().unwrap().r#type() == what) {
                return history;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("waited for {what:?}");
    }

    /// A draft is changed, sent for later, and on its way.
    async fn begin() -> Self {
        let service = Service::start_at(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap()).await;
        let sender = service.account(false).await;
        let mut new = request(0, Routing::Groups, false);
        let roles = [(RecipientRole::Approver, 0), (RecipientRole::Signer, 1), (RecipientRole::Signer, 1)];
        let roles = roles.into_iter().chain([(RecipientRole::Signer, 2), (RecipientRole::Signer, 2)]);
        let roles = roles.chain([(RecipientRole::Assistant, 0)]);
        let names = ["Anna Approver", "Sven Signer", "Rita Replaced", "Tara Third", "Fritz Fourth", "Asta Assistant"];
        for (name, (role, group)) in names.into_iter().zip(roles) {
            let assists_index = (role == RecipientRole::Assistant).then_some(1);
            new.recipients.push(NewRecipient { role: role.into(), group, assists_index, ..person(name) });
        }
        let sample = request(1, Routing::Parallel, false).fields.remove(0);
        for recipient_index in 1..5 {
            new.fields.push(NewField { recipient_index, ..sample.clone() });
        }
        let field = NewField { r#type: FieldType::Text.into(), required: false, recipient_index: 1, ..sample };
        new.fields.push(NewField { value: text("Preset by sender"), ..field.clone() });
        new.fields.push(field);
        (new.subject, new.message) = ("Secret subject".into(), "Secret message".into());
        new.watchers = vec!["watcher@example.com".into()];
        new.quorums = vec![Quorum { group: 1, needed: 1 }];
        new.delegations_max = 1;
        new.scheduled_send_at = Some(timestamp(service.clock.now() + chrono::TimeDelta::hours(1)));
        let draft = sender.create(new).await.unwrap();
        let people = draft.recipients.iter().map(|recipient| recipient.id.clone()).collect();
        let long = Self { service, sender, id: draft.id, people, replacement: String::new() };
        let update = UpdateEnvelopeRequest {
            envelope_id: long.id.clone(),
            changes: Some(EnvelopeChanges { external_reference: "Secret reference".into(), ..Default::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["external_reference".into()] }),
            if_revision: 0,
            ..Default::default()
        };
        long.sender.envelopes().update_envelope(update).await.unwrap();
        let send = SendEnvelopeRequest { envelope_id: long.id.clone(), if_revision: 0, ..Default::default() };
        let sent = long.sender.envelopes().send_envelope(send).await.unwrap().into_inner().envelope.unwrap();
        assert_eq!(sent.status(), EnvelopeStatus::Pending);
        long.service.clock.advance(chrono::TimeDelta::hours(1));
        long.until(EventType::EnvelopeSent).await;
        long
    }

    /// The approver looks and approves; places change hands.
    async fn prepare(&self) {
        let approver = self.signer(APPROVER).await;
        approver.signer().mark_viewed(from(MarkViewedRequest { ..Default::default() }, "203.0.113.1")).await.unwrap();
        let given = signature(&self.now().await);
        let (seen_documents, seen_revision) = (given.seen_documents, given.seen_revision);
        let approve = ApproveRequest { values: Vec::new(), seen_documents, seen_revision, ..Default::default() };
        approver.signer().approve(from(approve, "203.0.113.2")).await.unwrap();
        let field = self.now().await.fields[5].id.clone();
        let fill = FillFieldsRequest {
            values: vec![FieldEntry { field_id: field, value: text("Entered by Asta") }],
            ..Default::default()
        };
        self.signer(ASSISTANT).await.signer().fill_fields(fill).await.unwrap();
        let reassign = ReassignRecipientRequest {
            envelope_id: self.id.clone(),
            recipient_id: self.people[REPLACED].clone(),
            person: Some(Person {
                name: "Rolf Replacement".into(),
                email: "rolf@elsewhere.example".into(),
                ..Default::default()
            }),
            reason: "Rita has left".into(),
            if_revision: 0,
            ..Default::default()
        };
        self.sender.envelopes().reassign_recipient(reassign).await.unwrap();
        let delegate = DelegateSigningRequest {
            person: Some(Person {
                name: "Dora Delegate".into(),
                email: "dora@elsewhere.example".into(),
                ..Default::default()
            }),
            reason: "Dora knows more".into(),
            ..Default::default()
        };
        self.signer(SIGNER).await.signer().delegate_signing(from(delegate, "203.0.113.3")).await.unwrap();
        self.service.clock.advance(chrono::TimeDelta::hours(2));
        let resend = ResendEnvelopeRequest {
            envelope_id: self.id.clone(),
            recipient_ids: vec![self.people[SIGNER].clone()],
            rotate: true,
            if_revision: 0,
            ..Default::default()
        };
        self.sender.envelopes().resend_envelope(resend).await.unwrap();
        let expires_at = Some(timestamp(self.service.clock.now() + chrono::TimeDelta::days(100)));
        let extend =
            ExtendEnvelopeRequest { envelope_id: self.id.clone(), expires_at, if_revision: 0, ..Default::default() };
        self.sender.envelopes().extend_envelope(extend).await.unwrap();
        self.service.clock.advance(chrono::TimeDelta::days(98));
        self.until(EventType::EnvelopeExpiring).await;
    }

    /// Signatures, and a refusal by phone; a draft in its place.
    async fn end(&mut self) {
        let envelope = self.now().await;
        let own = |name: &str, value: &str| FieldEntry { field_id: name.to_owned(), value: text(value) };
        let mark = own(&envelope.fields[0].id, "D. Delegate");
        let values = vec![mark, own(&envelope.fields[5].id, "Changed by Dora")];
        let sign = SignRequest { values, ..signature(&envelope) };
        self.signer(SIGNER).await.signer().sign(from(sign, "203.0.113.4")).await.unwrap();
        self.signer(THIRD).await.sign(&self.now().await).await.unwrap();
        let decline = DeclineRecipientRequest {
            envelope_id: self.id.clone(),
            recipient_id: self.people[FOURTH].clone(),
            reason: "Not like this".into(),
            evidence_note: "Phone call of Monday".into(),
            if_revision: 0,
            ..Default::default()
        };
        self.sender.envelopes().decline_recipient(decline).await.unwrap();
        self.until(EventType::EnvelopeArtifactReady).await;
        let replace = ReplaceEnvelopeRequest { envelope_id: self.id.clone(), if_revision: 0, ..Default::default() };
        let replacement = self.sender.envelopes().replace_envelope(replace).await.unwrap().into_inner();
        self.replacement = replacement.envelope.unwrap().id;
    }

    async fn whole() -> Self {
        let mut long = Self::begin().await;
        long.prepare().await;
        long.end().await;
        long
    }
}

/// What happens in the long story: what, to whom, by whom.
fn expected() -> Vec<(EventType, Option<usize>, ActorType)> {
    use ActorType::{Recipient, Sender, System};
    use EventType::*;
    vec![
        (EnvelopeCreated, None, Sender),
        (EnvelopeUpdated, None, Sender),
        (EnvelopeDispatched, None, Sender),
        (EnvelopeSent, None, System),
        (RecipientReleased, Some(APPROVER), System),
        (RecipientViewed, Some(APPROVER), Recipient),
        (RecipientApproved, Some(APPROVER), Recipient),
        (RecipientReleased, Some(SIGNER), Recipient),
        (RecipientReleased, Some(REPLACED), Recipient),
        (RecipientReleased, Some(ASSISTANT), Recipient),
        (RecipientFilled, Some(SIGNER), Recipient),
        (RecipientReassigned, Some(REPLACED), Sender),
        (RecipientDelegated, Some(SIGNER), Recipient),
        (RecipientResent, Some(SIGNER), Sender),
        (EnvelopeDeadlineChanged, None, Sender),
        (EnvelopeExpiring, None, System),
        (RecipientSigned, Some(SIGNER), Recipient),
        (RecipientNotNeeded, Some(REPLACED), Recipient),
        (RecipientReleased, Some(THIRD), Recipient),
        (RecipientReleased, Some(FOURTH), Recipient),
        (RecipientSigned, Some(THIRD), Recipient),
        (RecipientDeclined, Some(FOURTH), Sender),
        (EnvelopeDeclined, None, Sender),
        (RecipientReleasedByDecline, Some(ASSISTANT), Sender),
        (EnvelopeArtifactReady, None, System),
        (EnvelopeReplaced, None, Sender),
    ]
}

/// S2.16, C-3, T-73: the history of a long story says who did what for whom, in order, and is whole.
#[tokio::test(flavor = "multi_thread")]
async fn c3_a_history_tells_who_did_what_for_whom() {
    let long = Long::whole().await;
    let history = long.sender.history(&long.id).await.unwrap();
    let events: Vec<_> = history.iter().map(|entry| entry.event.clone().unwrap()).collect();
    let place = |id: &str| long.people.iter().position(|other| other == id);
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.r#type(), place(&event.recipient_id), event.actor.as_ref().unwrap().r#type()))
        .collect();
    assert_eq!(told, expected());
    for (index, event) in events.iter().enumerate() {
        assert_eq!((event.sequence, &event.envelope_id), (index as u64 + 1, &long.id));
        let before = index.checked_sub(1).map(|before| &events[before]);
        assert_eq!(event.prev_hash, before.map_or("0".repeat(64), |before| before.hash.clone()));
        let now = event.occurred_at.unwrap();
        let earlier = before.map_or(now, |before| before.occurred_at.unwrap());
        assert!((earlier.seconds, earlier.nanos) <= (now.seconds, now.nanos), "T-73: never before its predecessor");
        assert!(before.is_none_or(|before| before.revision <= event.revision && event.revision <= before.revision + 1));
        let actor = event.actor.as_ref().unwrap();
        match actor.r#type() {
            ActorType::Sender => assert!(actor.id.starts_with("key_")),
            ActorType::Recipient => assert!(place(&actor.id).is_some()),
            _ => assert_eq!(actor.id, ""),
        }
    }
    let by = |index: usize| place(&events[index].actor.as_ref().unwrap().id);
    assert_eq!((by(5), by(10), by(12), by(16)), (Some(APPROVER), Some(ASSISTANT), Some(SIGNER), Some(SIGNER)));
    assert_eq!((by(17), by(18)), (Some(SIGNER), Some(SIGNER)), "whose act had that effect");
    let verify = VerifyHistoryRequest { envelope_id: long.id.clone() };
    let verified = long.sender.envelopes().verify_history(verify).await.unwrap().into_inner();
    assert!(verified.intact && verified.first_bad_sequence == 0);
    assert_eq!((verified.intact_entries, &verified.head_hash), (26, &events[25].hash));
}

/// S2.16, T-59, T-70, C-3: an entry says why, through which door, from where, before and after, and what was seen.
#[tokio::test(flavor = "multi_thread")]
async fn s2_16_an_entry_tells_why_from_where_and_what_was_seen() {
    let long = Long::whole().await;
    let history = long.sender.history(&long.id).await.unwrap();
    let envelope = long.now().await;
    let person =
        |name: &str, email: &str| Some(Person { name: name.into(), email: email.into(), ..Default::default() });
    let (reassigned, delegated, resent) = (&history[11], &history[12], &history[13]);
    assert_eq!((reassigned.reason.as_str(), reassigned.link_rotated), ("Rita has left", true));
    assert_eq!(reassigned.before, person("Rita Replaced", "rita.replaced@example.com"));
    assert_eq!(reassigned.after, person("Rolf Replacement", "rolf@elsewhere.example"));
    assert_eq!((delegated.reason.as_str(), delegated.link_rotated), ("Dora knows more", true));
    assert_eq!(delegated.before, person("Sven Signer", "sven.signer@example.com"));
    assert_eq!(delegated.after, person("Dora Delegate", "dora@elsewhere.example"));
    assert!(resent.link_rotated && resent.before.is_none());
    let ips: Vec<_> = [5, 6, 12, 16].iter().map(|at| history[*at].client_ip.as_str()).collect();
    assert_eq!(ips, ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"]);
    assert!([5, 6, 12, 16].iter().all(|at| history[*at].user_agent == "Firefox/140"));
    assert!([0, 3, 10, 20].iter().all(|at| history[*at].client_ip.is_empty()), "nobody told");
    for (at, index) in [(6, APPROVER), (16, SIGNER), (20, THIRD)] {
        let entry = &history[at];
        assert_eq!(entry.seen_documents[0].sha256, envelope.documents[0].sha256, "{index}");
        assert_eq!(entry.seen_documents[0].document_id, envelope.documents[0].id);
        assert_eq!(entry.seen_revision, history[at - 1].event.as_ref().unwrap().revision);
    }
    let declined = &history[21];
    assert_eq!((declined.channel(), declined.reason.as_str()), (DeclineChannel::OnBehalf, "Not like this"));
    assert_eq!(declined.evidence_note, "Phone call of Monday");
    assert_eq!(history[25].replaced_by_envelope_id, long.replacement);
    let told = |entry: &&HistoryEntry| !entry.reason.is_empty() || entry.channel() != DeclineChannel::Unspecified;
    assert_eq!(history.iter().filter(told).count(), 3, "nothing where there is nothing to tell");
    let last = history[25].event.as_ref().unwrap().state.clone().unwrap();
    assert_eq!((last.status(), last.cause(), last.terminal), (EnvelopeStatus::Declined, Cause::SignatureRefused, true));
    assert_eq!(last.watcher_ids, [envelope.watchers[0].id.clone()]);
    assert!(history[15].event.as_ref().unwrap().state.as_ref().unwrap().cause() == Cause::Unspecified);
}

/// C-3, T-4: the operator and the service itself are named as who they are, and a taking back says why.
#[tokio::test(flavor = "multi_thread")]
async fn c3_the_operator_and_the_service_are_actors_too() {
    let service = Service::start_at(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap()).await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    let operator = service.operator(&sender.account);
    operator.void(&story.envelope.id, "Court order").await.unwrap();
    let entry = operator.history(&story.envelope.id).await.unwrap().pop().unwrap();
    let event = entry.event.unwrap();
    assert_eq!((event.r#type(), entry.reason.as_str()), (EventType::EnvelopeVoided, "Court order"));
    assert_eq!(event.actor.unwrap().r#type(), ActorType::Operator);
    assert_eq!(event.state.unwrap().cause(), Cause::Operator);
    let story = sender.story(1, Routing::Parallel).await;
    service.clock.advance(chrono::TimeDelta::days(90));
    story.until(EnvelopeStatus::Expired).await;
    let entry = sender.history(&story.envelope.id).await.unwrap().pop().unwrap();
    let event = entry.event.unwrap();
    assert_eq!((event.r#type(), event.actor.unwrap().r#type()), (EventType::EnvelopeExpired, ActorType::System));
    assert_eq!(event.state.unwrap().cause(), Cause::Deadline);
    let stranger = service.account(false).await;
    assert_eq!(stranger.history(&story.envelope.id).await.unwrap_err().reason(), "NOT_FOUND");
}

/// D4, T-57, T-58: nothing personal is in what is hashed for ever, nor on the stream.
#[tokio::test(flavor = "multi_thread")]
async fn d4_nothing_personal_is_hashed_or_streamed() {
    let long = Long::whole().await;
    let client = long.service.database.connect().await;
    let rows = client.query("SELECT record FROM event ORDER BY envelope_id, sequence", &[]).await.unwrap();
    assert_eq!(rows.len(), 27, "and the replacement's first");
    for row in rows {
        let record = String::from_utf8(row.get::<_, Vec<u8>>(0)).unwrap();
        for secret in SECRETS {
            assert!(!record.contains(secret), "{secret} in {record}");
        }
    }
    let watch = WatchStatusChangesRequest {
        resume_token: String::new(),
        start: WatchStart::Oldest.into(),
        ..Default::default()
    };
    let mut stream = long.sender.envelopes().watch_status_changes(watch).await.unwrap().into_inner();
    let mut events = 0;
    while events < 27 {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), stream.next()).await.expect("in time");
        let message = next.unwrap().unwrap();
        events += usize::from(matches!(message.item, Some(Item::Event(_))));
        let bytes = message.encode_to_vec();
        let shown = String::from_utf8_lossy(&bytes);
        for secret in SECRETS {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    // It is all told to the sender, so the search above would have found it.
    let history = long.sender.history(&long.id).await.unwrap();
    let told = format!("{history:?}{:?}", long.now().await);
    let absent: Vec<_> = SECRETS.into_iter().filter(|secret| !told.contains(secret)).collect();
    assert_eq!(absent, ["Entered by Asta"], "only what was written over");
}
