//! The envelopes from which the walk starts.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::envelope::Envelope;
use countersign_envelope::domain::recipient::Role::{Approver, Assistant, Cc, Signer, Viewer};
use countersign_envelope::domain::reminder::ReminderPolicy;
use countersign_envelope::domain::terms::DeclineEffect::{Abort, Continue, ReturnForCorrection};
use countersign_envelope::domain::terms::ReasonRule::{Disabled, Optional, Required};

use crate::shape::{draft, policy, rcp, start, unread, with_effect, with_quorum};

/// When a scheduled envelope is to be sent.
pub fn schedule() -> DateTime<Utc> {
    start() + TimeDelta::days(1)
}

/// How long before the deadline people are warned.
pub fn warning() -> TimeDelta {
    TimeDelta::days(3)
}

fn changed(mut envelope: Envelope, change: impl FnOnce(&mut Envelope)) -> Envelope {
    change(&mut envelope);
    envelope
}

/// Each role, quorum, policy, way of waiting and number of delegations is in one of them at least. The largest is the
/// last, from which the walk begins.
pub fn small() -> Vec<Envelope> {
    vec![
        // Nobody who signs or approves.
        draft(&[(Viewer, 1), (Cc, 1), (Viewer, 2)]),
        // No place to sign.
        changed(draft(&[(Signer, 1)]), |it| it.fields.clear()),
        copies(),
        sequential(),
        scheduled(),
        mixed(),
        approvers(),
        reading(),
        excepted(),
        reminded(),
        assisted(),
    ]
}

/// An approver and then a signer, who are reminded at most twice.
fn reminded() -> Envelope {
    changed(draft(&[(Approver, 1), (Signer, 2)]), |it| {
        let (first_after, every) = (TimeDelta::hours(20), TimeDelta::days(10));
        it.terms.reminders = ReminderPolicy { enabled: true, first_after, every, at_most: 2, quiet: None };
    })
}

/// Signers one after another, who may pass their place on once and are warned.
fn sequential() -> Envelope {
    changed(draft(&[(Signer, 1), (Signer, 2)]), |it| {
        it.terms.delegations_max = 1;
        it.terms.expiry_warning = Some(warning());
    })
}

/// An approver, then one of two signers; sent later.
fn scheduled() -> Envelope {
    changed(with_quorum(draft(&[(Approver, 1), (Signer, 2), (Signer, 2)]), 2, 1), |it| {
        it.terms.scheduled_send_at = Some(schedule());
        it.terms.decline = policy(true, Required, Continue);
    })
}

/// A signer, then another or an approver.
fn mixed() -> Envelope {
    with_effect(with_quorum(draft(&[(Signer, 1), (Approver, 2), (Signer, 2)]), 2, 1), Continue)
}

/// One of two signers, and the assistant of the first.
fn assisted() -> Envelope {
    changed(with_quorum(draft(&[(Signer, 1), (Signer, 1), (Assistant, 1)]), 1, 1), |it| {
        it.terms.decline = policy(true, Optional, Continue);
    })
}

/// A document that is still being read, a time to be sent, and an assistant of the second signer.
fn reading() -> Envelope {
    changed(draft(&[(Signer, 1), (Assistant, 1), (Signer, 2)]), |it| {
        it.recipients[1].assists = Some(rcp(2));
        it.documents.push(unread(1));
        it.terms.scheduled_send_at = Some(schedule());
        it.terms.decline = policy(true, Optional, Abort);
    })
}

/// Approvers alone, and a reader who comes with the second.
fn approvers() -> Envelope {
    changed(draft(&[(Approver, 1), (Approver, 2), (Viewer, 2)]), |it| it.terms.delegations_max = 1)
}

/// Copies at the beginning and at the end; a refusal returns it to the sender.
fn copies() -> Envelope {
    changed(draft(&[(Signer, 1), (Cc, 1), (Cc, 2)]), |it| {
        it.recipients[1].copy_on_send = true;
        it.terms.decline = policy(true, Disabled, ReturnForCorrection);
    })
}

/// Refusing is not allowed but to one.
fn excepted() -> Envelope {
    changed(draft(&[(Signer, 1), (Signer, 1), (Viewer, 1)]), |it| {
        it.terms.decline = policy(false, Optional, Abort);
        it.recipients[1].decline = Some(policy(true, Required, Abort));
    })
}
