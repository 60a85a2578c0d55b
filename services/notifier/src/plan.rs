//! What follows from an event: which endpoints get it and who gets a mail. Pure: no clock, no database, no network.

use std::fmt;

use chrono::{DateTime, Utc};
use countersign::v1::{Event, EventType, RecipientRole, RecipientState, RecipientStatus, WebhookPayload};
use countersign_chassis::wire::datetime;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::id::{AccountId, EndpointId, EnvelopeId, EventId, RecipientId, WatcherId};

/// An endpoint that wants the events of its account and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Whose.
    pub account: AccountId,
    /// Which.
    pub endpoint: EndpointId,
    /// Of live envelopes or of test ones.
    pub livemode: bool,
    /// Since when it listens.
    pub since: DateTime<Utc>,
}

/// A webhook to be posted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Delivery {
    pub account: AccountId,
    pub endpoint: EndpointId,
    pub event: EventId,
    pub envelope: EnvelopeId,
    pub sequence: u64,
    pub body: Vec<u8>,
}

/// Why somebody gets a mail. The numbers are those of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// It is their turn; holds their link.
    Invitation = 1,
    /// The envelope ended without completion.
    FellThrough = 2,
    /// The envelope is completed; holds the signed documents.
    Completed = 3,
    /// A copy to look at while others act; holds the original documents and no link.
    Copy = 4,
    /// The deadline is near; holds their link again.
    ExpiryWarning = 5,
}

impl MailKind {
    /// Its name in files and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::FellThrough => "fell_through",
            Self::Completed => "completed",
            Self::Copy => "copy",
            Self::ExpiryWarning => "expiry_warning",
        }
    }
}

/// Who gets a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// A recipient.
    Recipient(RecipientId),
    /// An address that is told how the envelope ends.
    Watcher(WatcherId),
}

impl fmt::Display for Addressee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipient(id) => id.fmt(f),
            Self::Watcher(id) => id.fmt(f),
        }
    }
}

/// A mail to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Mail {
    pub account: AccountId,
    pub event: EventId,
    pub envelope: EnvelopeId,
    pub addressee: Addressee,
    pub kind: MailKind,
    pub livemode: bool,
    /// When that happened which it is about: who is told of something newer is not told of this any more.
    pub occurred_at: DateTime<Utc>,
}

/// What follows from an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Webhooks.
    pub deliveries: Vec<Delivery>,
    /// Mails.
    pub mails: Vec<Mail>,
}

/// Why an event cannot be planned. It is a defect of a service, not of a caller.
#[derive(Debug, thiserror::Error)]
pub enum Unplannable {
    /// An id is none.
    #[error("malformed {0} in the event")]
    Id(&'static str),
    /// It has no time.
    #[error("no time in the event")]
    Time,
    /// The event cannot be written as JSON.
    #[error("the event cannot be written as JSON: {0}")]
    Json(String),
}

/// Plans an event.
pub fn plan(event: &Event, listeners: &[Listener]) -> Result<Plan, Unplannable> {
    let account: AccountId = event.account_id.parse().map_err(|_| Unplannable::Id("account_id"))?;
    let id: EventId = event.id.parse().map_err(|_| Unplannable::Id("id"))?;
    let envelope: EnvelopeId = event.envelope_id.parse().map_err(|_| Unplannable::Id("envelope_id"))?;
    let mut plan = Plan::default();
    if event.r#type() == EventType::Unspecified {
        // Of a newer contract: whoever does not know a type passes it over.
        return Ok(plan);
    }
    let occurred_at = event.occurred_at.as_ref().and_then(datetime).ok_or(Unplannable::Time)?;
    let wanting = |listener: &&Listener| {
        listener.account == account && listener.livemode == event.livemode && listener.since <= occurred_at
    };
    let mut wanting = listeners.iter().filter(wanting).peekable();
    if wanting.peek().is_some() {
        let body = body(event)?;
        plan.deliveries.extend(wanting.map(|listener| Delivery {
            account,
            endpoint: listener.endpoint,
            event: id,
            envelope,
            sequence: event.sequence,
            body: body.clone(),
        }));
    }
    let livemode = event.livemode;
    plan.mails.extend(mails(event)?.into_iter().map(|(addressee, kind)| Mail {
        account,
        event: id,
        envelope,
        addressee,
        kind,
        livemode,
        occurred_at,
    }));
    Ok(plan)
}

/// Who gets a mail. Whether somebody had been invited at all shows when the mail is written: those who had not are spared.
fn mails(event: &Event) -> Result<Vec<(Addressee, MailKind)>, Unplannable> {
    match event.r#type() {
        EventType::RecipientReleased | EventType::RecipientDelegated | EventType::RecipientResent => {
            invitation(event).map(|mail| vec![mail])
        }
        // Whoever gets the place before its turn is invited when the turn comes.
        EventType::RecipientReassigned if concerned(event).is_some_and(is_released) => {
            invitation(event).map(|mail| vec![mail])
        }
        EventType::EnvelopeExpiring => {
            those(event, |it| is_released(it) && owes(it), MailKind::ExpiryWarning).collect()
        }
        EventType::EnvelopeCompleted => told(event, hears_of_completion, MailKind::Completed),
        EventType::EnvelopeDeclined | EventType::EnvelopeVoided | EventType::EnvelopeExpired => {
            told(event, hears_of_failure, MailKind::FellThrough)
        }
        EventType::Unspecified
        | EventType::EnvelopeCreated
        | EventType::EnvelopeUpdated
        | EventType::EnvelopeDiscarded
        | EventType::EnvelopeDispatched
        | EventType::EnvelopeDocumentReady
        | EventType::EnvelopeDocumentFailed
        | EventType::EnvelopeSent
        | EventType::EnvelopeDeadlineChanged
        | EventType::EnvelopeAllActed
        | EventType::EnvelopeArtifactReady
        | EventType::EnvelopeReplaced
        | EventType::RecipientViewed
        | EventType::RecipientFilled
        | EventType::RecipientApproved
        | EventType::RecipientSigned
        | EventType::RecipientNotNeeded
        | EventType::RecipientReassigned
        | EventType::RecipientDeclined
        | EventType::RecipientReleasedByDecline
        | EventType::RecipientReminderDue
        | EventType::RecipientBounced
        | EventType::RecipientMuted
        | EventType::EndpointTest
        | EventType::EndpointDisabled => Ok(Vec::new()),
    }
}

/// The mail that says that it is somebody's turn. Who only gets copies has no session: they get the documents instead.
fn invitation(event: &Event) -> Result<(Addressee, MailKind), Unplannable> {
    let copied = concerned(event).is_some_and(|it| it.role() == RecipientRole::Cc);
    let kind = if copied { MailKind::Copy } else { MailKind::Invitation };
    Ok((recipient(&event.recipient_id)?, kind))
}

/// The mails of an end: to those recipients, and to all watchers.
fn told(
    event: &Event,
    hears: fn(&RecipientState) -> bool,
    kind: MailKind,
) -> Result<Vec<(Addressee, MailKind)>, Unplannable> {
    let watchers = event.state.iter().flat_map(|state| &state.watcher_ids);
    let watcher = |id: &String| id.parse().map(Addressee::Watcher).map_err(|_| Unplannable::Id("watcher_ids"));
    those(event, hears, kind).chain(watchers.map(|id| Ok((watcher(id)?, kind)))).collect()
}

fn those(
    event: &Event,
    test: fn(&RecipientState) -> bool,
    kind: MailKind,
) -> impl Iterator<Item = Result<(Addressee, MailKind), Unplannable>> {
    let recipients = event.state.iter().flat_map(|state| &state.recipients);
    recipients.filter(move |it| test(it)).map(move |it| Ok((recipient(&it.id)?, kind)))
}

fn recipient(id: &str) -> Result<Addressee, Unplannable> {
    id.parse().map(Addressee::Recipient).map_err(|_| Unplannable::Id("recipient_id"))
}

/// The recipient whom the event concerns, as it left them.
fn concerned(event: &Event) -> Option<&RecipientState> {
    event.state.as_ref()?.recipients.iter().find(|it| it.id == event.recipient_id)
}

fn is_released(it: &RecipientState) -> bool {
    it.status() == RecipientStatus::Released
}

/// True if the envelope waits for them: not for those who only read or help.
fn owes(it: &RecipientState) -> bool {
    matches!(it.role(), RecipientRole::Unspecified | RecipientRole::Signer | RecipientRole::Approver)
}

fn hears_of_completion(it: &RecipientState) -> bool {
    matches!(it.status(), RecipientStatus::Signed | RecipientStatus::Approved)
        || matches!(it.role(), RecipientRole::Cc | RecipientRole::Viewer)
}

/// The one who refused knows, and who is not needed any more had nothing to do with the end. At
/// `envelope.declined` siblings are still to be released, event by event.
fn hears_of_failure(it: &RecipientState) -> bool {
    !matches!(it.status(), RecipientStatus::Declined | RecipientStatus::NotNeeded)
}

/// The bytes of a webhook: the payload in proto3's canonical JSON.
fn body(event: &Event) -> Result<Vec<u8>, Unplannable> {
    static POOL: std::sync::OnceLock<Option<DescriptorPool>> = std::sync::OnceLock::new();
    let json = |why: &str| Unplannable::Json(why.to_owned());
    let pool = POOL.get_or_init(|| DescriptorPool::decode(countersign::FILE_DESCRIPTOR_SET).ok());
    let pool = pool.as_ref().ok_or_else(|| json("no descriptors"))?;
    let descriptor = pool.get_message_by_name("countersign.v1.WebhookPayload").ok_or_else(|| json("no payload"))?;
    let payload =
        WebhookPayload { r#type: event.r#type().dotted(), timestamp: event.occurred_at, data: Some(event.clone()) };
    let dynamic = DynamicMessage::decode(descriptor, payload.encode_to_vec().as_slice())
        .map_err(|error| json(&error.to_string()))?;
    let mut bytes = Vec::new();
    dynamic
        .serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &SerializeOptions::new())
        .map_err(|error| json(&error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use countersign::v1::EnvelopeState;

    use super::*;

    fn event(kind: EventType, statuses: &[RecipientStatus]) -> Event {
        let signers: Vec<_> = statuses.iter().map(|status| (RecipientRole::Signer, *status)).collect();
        event_among(kind, &signers)
    }

    /// It concerns the first of them.
    fn event_among(kind: EventType, people: &[(RecipientRole, RecipientStatus)]) -> Event {
        let recipient = |(index, (role, status)): (usize, &(RecipientRole, RecipientStatus))| RecipientState {
            id: RecipientId::from_uuid(uuid::Uuid::from_u128(index as u128)).to_string(),
            role: (*role).into(),
            status: (*status).into(),
            ..RecipientState::default()
        };
        let recipients = people.iter().enumerate().map(recipient).collect();
        Event {
            id: EventId::from_uuid(uuid::Uuid::from_u128(7)).to_string(),
            r#type: kind.into(),
            account_id: AccountId::from_uuid(uuid::Uuid::from_u128(1)).to_string(),
            envelope_id: EnvelopeId::from_uuid(uuid::Uuid::from_u128(2)).to_string(),
            recipient_id: RecipientId::from_uuid(uuid::Uuid::from_u128(0)).to_string(),
            livemode: true,
            sequence: 3,
            occurred_at: Some(countersign_chassis::wire::timestamp(DateTime::UNIX_EPOCH)),
            state: Some(EnvelopeState { recipients, ..EnvelopeState::default() }),
            ..Event::default()
        }
    }

    fn all() -> impl Iterator<Item = EventType> {
        (1..).map_while(|number| EventType::try_from(number).ok())
    }

    fn listener(account: u128, livemode: bool) -> Listener {
        Listener {
            account: AccountId::from_uuid(uuid::Uuid::from_u128(account)),
            endpoint: EndpointId::from_uuid(uuid::Uuid::from_u128(account + 100)),
            livemode,
            since: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn s1_31_endpoints_of_the_account_and_mode_get_the_event() {
        let listeners = [listener(1, true), listener(1, false), listener(9, true)];
        let event = event(EventType::EnvelopeDeclined, &[]);
        let plan = plan(&event, &listeners).unwrap();
        assert_eq!(plan.deliveries.len(), 1);
        assert_eq!(plan.deliveries[0].endpoint, listeners[0].endpoint);
        assert_eq!(plan, super::plan(&event, &listeners).unwrap(), "the same again: bodies are frozen");
        let body: serde_json::Value = serde_json::from_slice(&plan.deliveries[0].body).unwrap();
        assert_eq!((body["type"].as_str(), body["data"]["sequence"].as_str()), (Some("envelope.declined"), Some("3")));
        assert_eq!(body["data"]["type"], "EVENT_TYPE_ENVELOPE_DECLINED");
    }

    /// S2.10, S2.13: pending siblings are told, and by default those who signed; the one who refused is not.
    #[test]
    fn s2_10_those_who_must_know_get_a_mail() {
        use RecipientStatus::{Declined, Released, ReleasedByVoid, Signed, Waiting};
        let count = |kind, statuses: &[RecipientStatus]| {
            let mails = plan(&event(kind, statuses), &[]).unwrap().mails;
            mails.iter().map(|mail| mail.kind).collect::<Vec<_>>()
        };
        assert_eq!(count(EventType::RecipientReleased, &[Released, Waiting]), [MailKind::Invitation]);
        assert_eq!(count(EventType::EnvelopeCompleted, &[Signed, Signed]), [MailKind::Completed; 2]);
        assert_eq!(count(EventType::EnvelopeDeclined, &[Signed, Declined, Released]), [MailKind::FellThrough; 2]);
        assert_eq!(count(EventType::EnvelopeVoided, &[ReleasedByVoid; 3]), [MailKind::FellThrough; 3]);
        assert_eq!(count(EventType::RecipientSigned, &[Signed, Released]), []);
        assert_eq!(count(EventType::EnvelopeCreated, &[Waiting]), []);
    }

    /// The mails to people of these roles: at which place in the list, and which.
    fn mails_among(kind: EventType, people: &[(RecipientRole, RecipientStatus)]) -> Vec<(usize, MailKind)> {
        let event = event_among(kind, people);
        let place = |addressee| {
            let recipients = event.state.iter().flat_map(|state| &state.recipients);
            recipients.map(|it| &it.id).position(|id| *id == format!("{addressee}")).unwrap()
        };
        plan(&event, &[]).unwrap().mails.iter().map(|mail| (place(mail.addressee), mail.kind)).collect()
    }

    #[test]
    fn whose_turn_it_is_is_invited_and_who_is_copied_gets_a_copy() {
        use RecipientRole::{Approver, Assistant, Cc, Signer, Unspecified, Viewer};
        use RecipientStatus::Released;
        for role in [Unspecified, Signer, Approver, Viewer, Assistant] {
            for kind in [EventType::RecipientReleased, EventType::RecipientResent, EventType::RecipientDelegated] {
                let mails = mails_among(kind, &[(role, Released), (Signer, Released)]);
                assert_eq!(mails, [(0, MailKind::Invitation)], "{role:?} {kind:?}");
            }
        }
        assert_eq!(mails_among(EventType::RecipientReleased, &[(Cc, Released)]), [(0, MailKind::Copy)]);
    }

    #[test]
    fn t25_who_gets_a_place_is_invited_if_it_is_its_turn() {
        use RecipientRole::{Cc, Signer};
        use RecipientStatus::{Released, Waiting};
        let mails = |role, status| mails_among(EventType::RecipientReassigned, &[(role, status), (Signer, Released)]);
        assert_eq!(mails(Signer, Released), [(0, MailKind::Invitation)]);
        assert_eq!(mails(Cc, Released), [(0, MailKind::Copy)]);
        assert_eq!(mails(Signer, Waiting), []);
        assert_eq!(mails(Cc, Waiting), []);
    }

    #[test]
    fn who_still_owes_an_act_is_warned() {
        use RecipientRole::{Approver, Assistant, Cc, Signer, Viewer};
        use RecipientStatus::{Approved, Released, Signed, Waiting};
        let people = [
            (Signer, Released),
            (Approver, Released),
            (Viewer, Released),
            (Cc, Released),
            (Assistant, Released),
            (Signer, Waiting),
            (Signer, Signed),
            (Approver, Approved),
        ];
        let warned = [(0, MailKind::ExpiryWarning), (1, MailKind::ExpiryWarning)];
        assert_eq!(mails_among(EventType::EnvelopeExpiring, &people), warned);
    }

    #[test]
    fn s2_10_an_end_is_told_by_role() {
        use RecipientRole::{Approver, Assistant, Cc, Signer, Viewer};
        use RecipientStatus::{Approved, Declined, NotNeeded, Released, ReleasedByDecline, Signed, Waiting};
        let people = [
            (Signer, Signed),
            (Approver, Approved),
            (Cc, Waiting),
            (Viewer, Released),
            (Signer, NotNeeded),
            (Assistant, Released),
        ];
        let told = [0, 1, 2, 3].map(|place| (place, MailKind::Completed));
        assert_eq!(mails_among(EventType::EnvelopeCompleted, &people), told);
        let people = [(Approver, Declined), (Signer, NotNeeded), (Cc, Waiting), (Assistant, ReleasedByDecline)];
        for kind in [EventType::EnvelopeDeclined, EventType::EnvelopeVoided, EventType::EnvelopeExpired] {
            assert_eq!(mails_among(kind, &people), [2, 3].map(|place| (place, MailKind::FellThrough)));
        }
    }

    #[test]
    fn watchers_are_told_of_every_end_and_of_nothing_else() {
        let watcher = WatcherId::from_uuid(uuid::Uuid::from_u128(5));
        let told = |kind| {
            let mut event = event(kind, &[]);
            event.state.as_mut().unwrap().watcher_ids = vec![watcher.to_string()];
            let mails = plan(&event, &[]).unwrap().mails;
            mails
                .into_iter()
                .filter(|mail| mail.addressee == Addressee::Watcher(watcher))
                .map(|mail| mail.kind)
                .collect()
        };
        for kind in all() {
            let expected = match kind {
                EventType::EnvelopeCompleted => vec![MailKind::Completed],
                EventType::EnvelopeDeclined | EventType::EnvelopeVoided | EventType::EnvelopeExpired => {
                    vec![MailKind::FellThrough]
                }
                _ => Vec::new(),
            };
            let told: Vec<_> = told(kind);
            assert_eq!(told, expected, "{kind:?}");
        }
    }

    #[test]
    fn every_event_is_posted() {
        assert_eq!(all().count(), 27);
        for kind in all() {
            let plan = plan(&event(kind, &[RecipientStatus::Released]), &[listener(1, true)]).unwrap();
            assert_eq!(plan.deliveries.len(), 1, "{kind:?}");
        }
    }

    #[test]
    fn of_most_events_nobody_gets_a_mail() {
        for kind in [
            EventType::EnvelopeCreated,
            EventType::EnvelopeUpdated,
            EventType::EnvelopeDiscarded,
            EventType::EnvelopeDispatched,
            EventType::EnvelopeDocumentReady,
            EventType::EnvelopeDocumentFailed,
            EventType::EnvelopeDeadlineChanged,
            EventType::EnvelopeReplaced,
            EventType::RecipientViewed,
            EventType::RecipientFilled,
            EventType::RecipientApproved,
            EventType::RecipientNotNeeded,
        ] {
            assert_eq!(plan(&event(kind, &[RecipientStatus::Released]), &[]).unwrap().mails, [], "{kind:?}");
        }
    }
}
