//! Who gets a mail after an event. Pure: no clock, no database, no network.

use std::fmt;

use chrono::{DateTime, Utc};
use countersign::v1::{Event, EventType, RecipientRole, RecipientState, RecipientStatus};

use crate::event::{Head, Unplannable};
use crate::id::{AccountId, EndpointId, EnvelopeId, EventId, RecipientId, WatcherId};

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
    /// They still owe what they were invited to; holds their link again.
    Reminder = 6,
    /// A webhook endpoint of the account gets nothing any more; to whom the account names for such things.
    EndpointDisabled = 7,
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
            Self::Reminder => "reminder",
            Self::EndpointDisabled => "endpoint_disabled",
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
    /// Whom the account names for what befalls this endpoint.
    Contact(EndpointId),
}

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// An envelope.
    Envelope(EnvelopeId),
    /// A webhook endpoint.
    Endpoint(EndpointId),
}

impl fmt::Display for Addressee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipient(id) => id.fmt(f),
            Self::Watcher(id) => id.fmt(f),
            Self::Contact(id) => id.fmt(f),
        }
    }
}

/// A mail to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the table")]
pub struct Mail {
    pub account: AccountId,
    pub event: EventId,
    pub about: About,
    pub addressee: Addressee,
    pub kind: MailKind,
    pub livemode: bool,
    /// When that happened which it is about: who is told of something newer is not told of this any more.
    pub occurred_at: DateTime<Utc>,
}

/// The mails of an event.
pub fn plan(event: &Event, head: Head) -> Result<Vec<Mail>, Unplannable> {
    let Head { account, event: id, envelope, livemode, occurred_at } = head;
    let about = About::Envelope(envelope);
    let mail = |(addressee, kind)| Mail { account, event: id, about, addressee, kind, livemode, occurred_at };
    Ok(mails(event)?.into_iter().map(mail).collect())
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
        EventType::RecipientReminderDue if concerned(event).is_some_and(|it| is_released(it) && owes(it)) => {
            Ok(vec![(recipient(&event.recipient_id)?, MailKind::Reminder)])
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
        | EventType::EnvelopePurgeDue
        | EventType::EnvelopePurged
        | EventType::EnvelopeRetentionChanged
        | EventType::EnvelopeErasureRefused
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::head;
    use crate::event::samples::{all, event, event_among};

    fn planned(event: &Event) -> Vec<Mail> {
        plan(event, head(event).unwrap().unwrap()).unwrap()
    }

    /// S2.10, S2.13: pending siblings are told, and by default those who signed; the one who refused is not.
    #[test]
    fn s2_10_those_who_must_know_get_a_mail() {
        use RecipientStatus::{Declined, Released, ReleasedByVoid, Signed, Waiting};
        let count = |kind, statuses: &[RecipientStatus]| {
            let mails = planned(&event(kind, statuses));
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
        planned(&event).iter().map(|mail| (place(mail.addressee), mail.kind)).collect()
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
            let mails = planned(&event);
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
            assert_eq!(planned(&event(kind, &[RecipientStatus::Released])), [], "{kind:?}");
        }
    }

    #[test]
    fn t39_only_who_owes_an_act_in_turn_is_reminded() {
        use RecipientRole::{Approver, Assistant, Cc, Signer, Viewer};
        use RecipientStatus::{Approved, Declined, NotNeeded, Released, Signed, Waiting};
        let reminded =
            |role, status| mails_among(EventType::RecipientReminderDue, &[(role, status), (Signer, Released)]);
        for role in [Signer, Approver] {
            assert_eq!(reminded(role, Released), [(0, MailKind::Reminder)]);
            for status in [Waiting, Signed, Approved, Declined, NotNeeded] {
                assert_eq!(reminded(role, status), [], "{status:?}");
            }
        }
        for role in [Viewer, Cc, Assistant] {
            assert_eq!(reminded(role, Released), [], "{role:?}");
        }
    }

    /// The table of notices tells what this planner does, for every type of the contract.
    #[test]
    fn the_table_of_notices_is_true() {
        use crate::mail::notice::{Notice, notice};
        for kind in all().chain([EventType::Unspecified]) {
            let mut planned_kinds = Vec::new();
            for role in [RecipientRole::Signer, RecipientRole::Approver, RecipientRole::Cc, RecipientRole::Viewer] {
                for status in (1..).map_while(|number| RecipientStatus::try_from(number).ok()) {
                    let event = event_among(kind, &[(role, status)]);
                    let mails = head(&event).unwrap().map(|head| plan(&event, head).unwrap()).unwrap_or_default();
                    planned_kinds.extend(mails.iter().map(|mail| mail.kind));
                }
            }
            let expected = match notice(kind) {
                Notice::Mails(kinds) => kinds,
                Notice::Nothing(_) => &[],
            };
            assert!(expected.iter().all(|kind| planned_kinds.contains(kind)), "{kind:?}: not all of {expected:?}");
            assert!(planned_kinds.iter().all(|kind| expected.contains(kind)), "{kind:?}: more than {expected:?}");
        }
    }
}
