//! What must hold of every history, said without the rules that made it.

use std::collections::{BTreeMap, BTreeSet};

use countersign::v1::{EnvelopeStatus, EventType, RecipientRole, RecipientStatus};

use super::history::{Entry, Person};
use super::run::Trace;

const TERMINAL: [EnvelopeStatus; 4] =
    [EnvelopeStatus::Completed, EnvelopeStatus::Declined, EnvelopeStatus::Voided, EnvelopeStatus::Expired];

fn kind(entry: &Entry) -> EventType {
    EventType::try_from(entry.kind).unwrap()
}

fn role(person: &Person) -> RecipientRole {
    RecipientRole::try_from(person.role).unwrap()
}

fn standing(person: &Person) -> RecipientStatus {
    RecipientStatus::try_from(person.status).unwrap()
}

fn status(entry: &Entry) -> EnvelopeStatus {
    EnvelopeStatus::try_from(entry.status).unwrap()
}

fn is_end(kind: EventType) -> bool {
    use EventType::{EnvelopeCompleted, EnvelopeDeclined, EnvelopeExpired, EnvelopeVoided};
    matches!(kind, EnvelopeCompleted | EnvelopeDeclined | EnvelopeExpired | EnvelopeVoided)
}

fn acted(person: &Person) -> bool {
    matches!(standing(person), RecipientStatus::Signed | RecipientStatus::Approved)
}

fn is_open(person: &Person) -> bool {
    matches!(standing(person), RecipientStatus::Waiting | RecipientStatus::Released)
}

/// Checks them all.
pub fn check(trace: &Trace) -> Result<(), String> {
    order(&trace.history)?;
    end(&trace.history)?;
    people(&trace.history)?;
    turns(trace)?;
    answers(trace)?;
    facts(trace)
}

/// Sequences and revisions without a gap, times that do not go back.
fn order(history: &[Entry]) -> Result<(), String> {
    let sequences = history.iter().map(|entry| entry.sequence);
    hold!(sequences.eq(1..=history.len() as u64), "a gap in the history");
    hold!(history[0].revision == 1, "begins with revision {}", history[0].revision);
    for pair in history.windows(2) {
        let grown = pair[1].revision - pair[0].revision;
        hold!(grown <= 1, "no revision between {} and {}", pair[0].revision, pair[1].revision);
        hold!(pair[0].at <= pair[1].at, "{} precedes its predecessor", pair[1].sequence);
        hold!(grown == 1 || pair[0].at == pair[1].at, "one change, two times: {}", pair[1].sequence);
    }
    Ok(())
}

/// One end at most, and nothing of weight after it.
fn end(history: &[Entry]) -> Result<(), String> {
    use EventType as E;
    let ends: Vec<&Entry> = history.iter().filter(|entry| is_end(kind(entry))).collect();
    hold!(ends.len() <= 1, "{} ends", ends.len());
    let last_act = history.iter().find(|entry| kind(entry) == E::EnvelopeAllActed);
    for entry in history {
        let terminal = TERMINAL.contains(&status(entry));
        let ended = ends.first().is_some_and(|end| end.sequence <= entry.sequence);
        hold!(terminal == ended, "{:?} at {}", status(entry), entry.sequence);
        if let Some(end) = ends.first().filter(|end| end.sequence < entry.sequence) {
            let same_change = end.revision == entry.revision && kind(end) == E::EnvelopeDeclined;
            let after = match kind(entry) {
                E::EnvelopeArtifactReady => kind(end) == E::EnvelopeDeclined,
                E::EnvelopeReplaced => kind(end) != E::EnvelopeCompleted,
                E::RecipientReleasedByDecline => same_change,
                _ => false,
            };
            hold!(after, "{:?} after {:?}", kind(entry), kind(end));
            hold!(entry.status == end.status, "{:?} after {:?}", status(entry), status(end));
        }
        if last_act.is_some_and(|last| last.sequence < entry.sequence) {
            hold!(kind(entry) == E::EnvelopeCompleted, "{:?} after the last act", kind(entry));
        }
    }
    let discarded = history.iter().position(|entry| kind(entry) == E::EnvelopeDiscarded);
    hold!(discarded.is_none_or(|at| at + 1 == history.len()), "something after it was thrown away");
    Ok(())
}

/// Signs or approves.
fn gates(person: &Person) -> bool {
    matches!(role(person), RecipientRole::Signer | RecipientRole::Approver)
}

/// Everybody acts or refuses once at most, in their turn, and what was signed stays signed.
fn people(history: &[Entry]) -> Result<(), String> {
    use EventType as E;
    let mut done: BTreeMap<&str, EventType> = BTreeMap::new();
    for pair in history.windows(2) {
        let (before, entry) = (&pair[0], &pair[1]);
        let find = |at: &'_ Entry| at.people.iter().find(|person| person.id == entry.recipient).cloned();
        if matches!(kind(entry), E::RecipientSigned | E::RecipientApproved | E::RecipientDeclined) {
            let earlier = done.insert(&entry.recipient, kind(entry));
            hold!(earlier.is_none(), "{} did {:?} after {earlier:?}", entry.recipient, kind(entry));
        }
        if let (Some(was), Some(is)) = (find(before), find(entry)) {
            let right = match kind(entry) {
                E::RecipientSigned => role(&is) == RecipientRole::Signer && was.status == 2 && is.status == 3,
                E::RecipientApproved => role(&is) == RecipientRole::Approver && was.status == 2 && is.status == 8,
                E::RecipientDeclined => is_open(&was) && standing(&is) == RecipientStatus::Declined,
                E::RecipientReleased => was.status == 1 && is.status == 2,
                E::RecipientNotNeeded => is_open(&was) && standing(&is) == RecipientStatus::NotNeeded,
                E::RecipientReleasedByDecline => is_open(&was) && is.status == 5,
                E::RecipientViewed | E::RecipientFilled | E::RecipientDelegated | E::RecipientResent => {
                    was.status == 2 && is.status == 2
                }
                E::RecipientReminderDue | E::RecipientMuted => was.status == 2 && is.status == 2 && gates(&is),
                E::RecipientReassigned => is_open(&was) && was.status == is.status,
                other => return Err(format!("{other:?} concerns a recipient")),
            };
            hold!(right, "{:?}: {was:?}, then {is:?}", kind(entry));
        }
        for (was, is) in before.people.iter().zip(&entry.people) {
            let settled = !is_open(was);
            hold!(was.id == is.id && was.role == is.role && was.group == is.group, "{was:?} became {is:?}");
            hold!(!settled || was.status == is.status, "{was:?} became {is:?}");
            hold!(acted(is) || !is.not_effective, "{is:?}");
            let fell = TERMINAL.contains(&status(entry)) && status(entry) != EnvelopeStatus::Completed;
            hold!(!acted(is) || is.not_effective == fell, "{is:?} in {:?}", status(entry));
        }
    }
    Ok(())
}

/// Counted anew after each change: whose turn it is, and whether all is done.
fn turns(trace: &Trace) -> Result<(), String> {
    let gates = |it: &&Person| matches!(role(it), RecipientRole::Signer | RecipientRole::Approver);
    let mut all_acted = false;
    for (index, entry) in trace.history.iter().enumerate() {
        all_acted |= kind(entry) == EventType::EnvelopeAllActed;
        let whole = trace.history.get(index + 1).is_none_or(|next| next.revision != entry.revision);
        let live = [EnvelopeStatus::Sent, EnvelopeStatus::PartiallySigned].contains(&status(entry));
        if TERMINAL.contains(&status(entry)) && whole {
            let completed = status(entry) == EnvelopeStatus::Completed;
            hold!(completed == all_acted, "{:?} though all_acted is {all_acted}", status(entry));
            let stuck = entry.people.iter().filter(|it| is_open(it) && (!completed || gates(it))).count();
            hold!(stuck == 0, "{stuck} stuck open: {:?}", entry.people);
        }
        if !live {
            let early = entry.people.iter().any(|it| it.status == 2) && !TERMINAL.contains(&status(entry));
            hold!(!early, "asked before it was sent: {:?}", entry.people);
        }
        if !whole || !live {
            continue;
        }
        let groups: BTreeSet<u32> = entry.people.iter().filter(gates).map(|it| it.group).collect();
        let lacking = |group: &u32| {
            let members = || entry.people.iter().filter(gates).filter(|it| it.group == *group);
            let quorum = trace.start.quorums.iter().find(|quorum| quorum.group == *group);
            let needed = quorum.map_or_else(|| members().count(), |quorum| quorum.needed as usize);
            let (done, able) = (members().filter(|it| acted(it)).count(), members().filter(|it| is_open(it)).count());
            (done < needed).then_some(done + able >= needed)
        };
        let turn = groups.iter().find(|group| lacking(group).is_some()).copied();
        hold!(turn.is_none() == all_acted, "group {turn:?} lacks acts, all_acted is {all_acted}");
        hold!(groups.iter().all(|group| lacking(group) != Some(false)), "nobody is left to act: {:?}", entry.people);
        for person in entry.people.iter().filter(gates).filter(|it| is_open(it)) {
            let expected = if Some(person.group) == turn { 2 } else { 1 };
            hold!(person.status == expected, "{person:?} when it is the turn of {turn:?}");
            hold!(lacking(&person.group).is_some(), "{person:?} is not needed");
        }
    }
    Ok(())
}

/// Who comes too late is told so: no way out of an end.
fn answers(trace: &Trace) -> Result<(), String> {
    for record in &trace.records {
        let Err(refused) = &record.answer else { continue };
        hold!(!refused.reason.is_empty(), "{}: {refused:?}", record.tag);
        hold!(!["UNAVAILABLE", "INTERNAL"].contains(&refused.reason.as_str()), "{}: {refused:?}", record.tag);
        let terminal = ["COMPLETED", "DECLINED", "VOIDED", "EXPIRED"].contains(&refused.current.as_str());
        hold!(!terminal || refused.allowed.is_empty(), "{}: {refused:?}", record.tag);
        let Some(revision) = refused.revision else { continue };
        let then = trace.history.iter().rfind(|entry| entry.revision == revision);
        let then = then.map(|entry| status(entry).as_str_name().trim_start_matches("ENVELOPE_STATUS_"));
        hold!(then == Some(refused.current.as_str()), "{}: {refused:?}, in the history {then:?}", record.tag);
    }
    Ok(())
}

/// One terminal fact at most; the status follows from the facts.
fn facts(trace: &Trace) -> Result<(), String> {
    let Some(last) = &trace.last else { return Ok(()) };
    let terminal = [last.completed_at, last.declined_at, last.voided_at, last.expired_at];
    hold!(terminal.iter().flatten().count() <= 1, "{terminal:?}");
    let progress = [last.dispatched_at, last.sent_at, last.first_signed_at].map(|at| at.is_some());
    let status = rule(progress, terminal.map(|at| at.is_some()));
    hold!(last.status == status, "{:?}, but the facts say {status}", last.status());
    hold!(last.terminal == terminal.iter().any(Option::is_some), "terminal");
    hold!(last.status == trace.history.last().unwrap().status, "{:?}", last.status());
    for person in &last.recipients {
        let acted = [RecipientStatus::Signed, RecipientStatus::Approved].contains(&person.status());
        hold!(acted == person.signed_at.is_some(), "{person:?}");
        hold!((person.status() == RecipientStatus::Declined) == person.decline.is_some(), "{person:?}");
    }
    Ok(())
}

/// The status by the facts: how far it got, and how it ended (completed, declined, voided, expired).
pub fn rule(progress: [bool; 3], ends: [bool; 4]) -> i32 {
    let ended = [5, 6, 7, 8].into_iter().zip(ends).find(|(_, is)| *is);
    let got = [4, 3, 2].into_iter().zip(progress.into_iter().rev()).find(|(_, is)| *is);
    ended.or(got).map_or(1, |(status, _)| status)
}
