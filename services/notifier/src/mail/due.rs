//! Whether there still is a reason for a mail, by the envelope as it is at the moment of sending. Pure.

use chrono::{DateTime, Utc};
use countersign::v1::{Envelope, Recipient, RecipientRole, RecipientStatus};
use countersign_chassis::wire::datetime;
use prost_types::Timestamp;

use super::plan::{Mail, MailKind};

/// Whether a recipient still is to get it. Who had never been invited hears nothing of the end.
pub(super) fn is_due(mail: &Mail, envelope: &Envelope, recipient: &Recipient, now: DateTime<Utc>) -> bool {
    let is_newest = |at: Option<&Timestamp>| !is_before(mail, at.and_then(datetime));
    let is_released = recipient.status() == RecipientStatus::Released;
    // The deadline decides, though the envelope may not have been told yet.
    let is_open = is_released && envelope.expires_at.as_ref().and_then(datetime).is_none_or(|at| now < at);
    match mail.kind {
        // If there is a newer invitation, perhaps to somebody else in their place, then that one is on its way.
        MailKind::Invitation => is_open && is_newest(recipient.invited_at.as_ref()),
        MailKind::Copy => is_released && is_newest(recipient.invited_at.as_ref()),
        // A reminder that a newer one or an invitation has overtaken comes once, not twice. What came back since is not
        // followed by another; whoever asks for one after that means it.
        MailKind::Reminder => {
            is_open
                && recipient.reminders_muted_at.is_none()
                && is_newest(recipient.invited_at.as_ref())
                && is_newest(recipient.last_reminder_at.as_ref())
                && is_newest(recipient.bounced_at.as_ref())
        }
        // A deadline that was moved is warned of anew.
        MailKind::ExpiryWarning => {
            is_open && envelope.expiry_warned_at.is_some() && is_newest(envelope.expiry_warned_at.as_ref())
        }
        MailKind::FellThrough => {
            recipient.released_at.is_some() && (envelope.tell_acted_recipients || recipient.signed_at.is_none())
        }
        MailKind::Completed => recipient.role() != RecipientRole::Viewer || recipient.released_at.is_some(),
        MailKind::EndpointDisabled => false,
    }
}

/// True if the mail is about something earlier than that. In microseconds: the database keeps no more.
fn is_before(mail: &Mail, at: Option<DateTime<Utc>>) -> bool {
    at.is_some_and(|at| mail.occurred_at.timestamp_micros() < at.timestamp_micros())
}
