//! Lies about sequences, to see that the checks are not empty: each must be told.

use std::time::Duration;

use countersign::v1::EventType;

use super::check::may_be_repeated;
use super::plan::What;
use super::run::{Record, Trace};

/// A lie: `None` if the sequence gives no occasion for it.
type Lie = fn(&Trace) -> Option<Trace>;

/// All of them, by name.
pub const LIES: [(&str, Lie); 9] = [
    ("an accepted call was refused", refused),
    ("a refused call was accepted", accepted),
    ("a refusal told another revision", another_revision),
    ("a refusal had another reason", another_reason),
    ("a refusal allowed something else", another_way_out),
    ("a call was over before another, later in the history, began", too_late),
    ("an event is missing", missing),
    ("an event concerns somebody else", somebody_else),
    ("a recipient stands elsewhere at the end", elsewhere),
];

fn with(trace: &Trace, is: impl Fn(&Record) -> bool, change: impl Fn(&mut Record)) -> Option<Trace> {
    let mut trace = trace.clone();
    change(trace.records.iter_mut().find(|record| is(record))?);
    Some(trace)
}

/// Accepted, and a change of its own beyond doubt.
fn changed(record: &Record) -> bool {
    let repeatable = matches!(record.what, What::View(..) | What::Extend(_) | What::Replace | What::Mute(..));
    record.answer.as_ref().is_ok_and(|done| !repeatable && done.already != Some(true))
}

/// Refused by the rules, with all that a refusal tells.
fn told(record: &Record) -> bool {
    record.answer.as_ref().is_err_and(|refused| refused.revision.is_some())
}

fn refused(trace: &Trace) -> Option<Trace> {
    let other = trace.records.iter().find(|record| told(record))?.answer.clone();
    with(trace, changed, |record| record.answer = other.clone())
}

fn accepted(trace: &Trace) -> Option<Trace> {
    let other = trace.records.iter().find(|record| changed(record))?.answer.clone();
    // What may have been done before could have been accepted all the same.
    let never = |record: &Record| told(record) && !may_be_repeated(&record.what);
    with(trace, never, |record| record.answer = other.clone())
}

fn change(trace: &Trace, change: impl Fn(&mut super::run::Refused)) -> Option<Trace> {
    with(trace, told, |record| change(record.answer.as_mut().unwrap_err()))
}

fn another_revision(trace: &Trace) -> Option<Trace> {
    change(trace, |refused| refused.revision = refused.revision.map(|revision| revision + 100))
}

fn another_reason(trace: &Trace) -> Option<Trace> {
    change(trace, |refused| {
        let reason = if refused.reason == "NOT_NEEDED" { "ALREADY_ACTED" } else { "NOT_NEEDED" };
        reason.clone_into(&mut refused.reason);
    })
}

fn another_way_out(trace: &Trace) -> Option<Trace> {
    change(trace, |refused| refused.allowed.push_str("COMPLETE"))
}

/// The maker of the first change is said to have begun after all others had ended.
fn too_late(trace: &Trace) -> Option<Trace> {
    let mut made: Vec<_> = trace.records.iter().filter(|record| changed(record)).collect();
    made.retain(|record| record.answer.as_ref().unwrap().revision.is_some());
    made.sort_by_key(|record| record.answer.as_ref().unwrap().revision);
    let [first, .., _] = made.as_slice() else { return None };
    let end = trace.records.iter().map(|record| record.end).max()?;
    with(
        trace,
        |record| record.tag == first.tag,
        |record| {
            record.start = end + Duration::from_millis(1);
            record.end = record.start + Duration::from_millis(1);
        },
    )
}

fn missing(trace: &Trace) -> Option<Trace> {
    let mut trace = trace.clone();
    let index = trace.history.iter().position(|entry| entry.revision > trace.start.revision)?;
    trace.history.remove(index);
    Some(trace)
}

fn somebody_else(trace: &Trace) -> Option<Trace> {
    let mut trace = trace.clone();
    let [first, second, ..] = trace.start.recipients.as_slice() else { return None };
    let acts = [EventType::RecipientSigned, EventType::RecipientApproved].map(i32::from);
    let mut acted = trace.history.iter_mut().filter(|entry| acts.contains(&entry.kind));
    let entry = acted.find(|entry| entry.revision > trace.start.revision)?;
    entry.recipient = if entry.recipient == first.id { second.id.clone() } else { first.id.clone() };
    Some(trace)
}

fn elsewhere(trace: &Trace) -> Option<Trace> {
    let mut trace = trace.clone();
    let recipient = trace.last.as_mut()?.recipients.first_mut()?;
    recipient.status = if recipient.status == 1 { 2 } else { 1 };
    Some(trace)
}
