//! What a sender sets, as requests word it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1;
use countersign_chassis::wire::datetime;

use super::notices::{reminders, webhook_url};
use super::parse::Faults;
use super::people::address;
use crate::domain::account::Settings;
use crate::domain::id::WatcherId;
use crate::domain::limits::{
    DELEGATIONS_MAX, EXPIRY_DAYS_DEFAULT, EXPIRY_DAYS_MAX, EXPIRY_SECONDS_MIN, EXTERNAL_REFERENCE_CHARS_MAX, GROUP_MAX,
    Limits, METADATA_KEY_CHARS_MAX, SUBJECT_CHARS_MAX, WARNING_DAYS_DEFAULT, WARNING_DAYS_MAX, WATCHERS_MAX,
};
use crate::domain::terms::{Changes, DeclineEffect, DeclinePolicy, Quorum, ReasonRule, Routing, Terms, Watcher};
use crate::execute::new_id;

/// As many as there are fields to change.
const MASK_MAX: usize = 13;

/// The terms of a new envelope.
pub(super) fn terms(
    request: &v1::CreateEnvelopeRequest,
    settings: &Settings,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Terms {
    Terms {
        subject: faults.line("subject", &request.subject, true, SUBJECT_CHARS_MAX),
        message: faults.note("message", &request.message),
        external_reference: reference(&request.external_reference, "", faults),
        metadata: metadata(&request.metadata, "", &settings.limits, faults),
        watchers: watchers(&request.watchers, "", now, faults),
        routing: routing(request.routing, faults),
        quorums: quorums(&request.quorums, faults),
        scheduled_send_at: schedule(request.scheduled_send_at.as_ref(), "", faults),
        decline: request
            .decline_policy
            .as_ref()
            .map_or(settings.decline, |given| policy(given, "decline_policy", faults)),
        delegations_max: delegations(request.delegations_max, "", faults),
        expiry_warning: match &request.expiry_warning {
            None => Some(TimeDelta::days(WARNING_DAYS_DEFAULT)),
            Some(given) => warning(given, "", faults),
        },
        tell_acted: settings.tell_acted,
        reminders: match &request.reminder_policy {
            None => settings.reminders,
            Some(given) => reminders(given, "reminder_policy", faults),
        },
        locality: settings.locality.clone(),
        webhook_url: webhook_url(&request.webhook_url, "", faults),
    }
}

/// A change of a draft: of `changes` what `mask` names.
pub(super) fn changes(
    given: &v1::EnvelopeChanges,
    mask: &[String],
    settings: &Settings,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Changes {
    const IN: &str = "changes.";
    let mut changes = Changes::default();
    if mask.is_empty() || mask.len() > MASK_MAX {
        faults.add("update_mask", format!("must name 1 to {MASK_MAX} fields"));
        return changes;
    }
    for path in mask {
        match path.as_str() {
            "subject" => {
                changes.subject = Some(faults.line("changes.subject", &given.subject, true, SUBJECT_CHARS_MAX));
            }
            "message" => changes.message = Some(faults.note("changes.message", &given.message)),
            "expires_at" => {
                changes.expires_at = Some(deadline(given.expires_at.as_ref(), "changes.expires_at", now, faults));
            }
            "external_reference" => {
                changes.external_reference = Some(reference(&given.external_reference, IN, faults));
            }
            "metadata" => changes.metadata = Some(metadata(&given.metadata, IN, &settings.limits, faults)),
            "watchers" => changes.watchers = Some(watchers(&given.watchers, IN, now, faults)),
            "scheduled_send_at" => {
                changes.scheduled_send_at = Some(schedule(given.scheduled_send_at.as_ref(), IN, faults));
            }
            "decline_policy" => {
                let given = given.decline_policy.unwrap_or_default();
                changes.decline = Some(policy(&given, "changes.decline_policy", faults));
            }
            "delegations_max" => changes.delegations_max = Some(delegations(given.delegations_max, IN, faults)),
            "expiry_warning" => {
                let given = given.expiry_warning.unwrap_or_default();
                changes.expiry_warning = Some(warning(&given, IN, faults));
            }
            "reminder_policy" => {
                changes.reminders = Some(match &given.reminder_policy {
                    None => settings.reminders,
                    Some(given) => reminders(given, "changes.reminder_policy", faults),
                });
            }
            "webhook_url" => changes.webhook_url = Some(webhook_url(&given.webhook_url, IN, faults)),
            "retention_days" => {
                changes.retention_days = Some(retention_days(given.retention_days, IN, settings, faults));
            }
            _ => faults.add("update_mask", "names something that `changes` does not have"),
        }
    }
    changes
}

/// For how long a content is kept; as the account says where nothing is given. The operator's limits hold for both.
pub(super) fn retention_days(given: u32, within: &str, settings: &Settings, faults: &mut Faults) -> u32 {
    let Limits { retention_days_min: min, retention_days_max: max, .. } = settings.limits;
    match given {
        0 => settings.retention.days.max(min).min(max),
        days if (min..=max).contains(&days) => days,
        _ => {
            faults.add(format!("{within}retention_days"), format!("must be 0, or {min} to {max}"));
            max
        }
    }
}

/// A deadline; the usual one where none is given.
pub(super) fn deadline(
    asked: Option<&prost_types::Timestamp>,
    path: &str,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> DateTime<Utc> {
    let Some(asked) = asked else { return now + TimeDelta::days(EXPIRY_DAYS_DEFAULT) };
    let (first, last) = (now + TimeDelta::seconds(EXPIRY_SECONDS_MIN), now + TimeDelta::days(EXPIRY_DAYS_MAX));
    match instant(asked) {
        Some(at) if first <= at && at <= last => at,
        Some(_) => {
            faults.add(path, format!("must be {EXPIRY_SECONDS_MIN} seconds to {EXPIRY_DAYS_MAX} days ahead"));
            now
        }
        None => {
            faults.add(path, "is not a time");
            now
        }
    }
}

/// A time to the microsecond: Postgres keeps no more, and the history must say the same.
pub(super) fn instant(given: &prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(datetime(given)?.timestamp_micros())
}

fn reference(given: &str, within: &str, faults: &mut Faults) -> String {
    faults.line(format!("{within}external_reference"), given, false, EXTERNAL_REFERENCE_CHARS_MAX)
}

pub(super) fn metadata(
    given: &BTreeMap<String, String>,
    within: &str,
    limits: &Limits,
    faults: &mut Faults,
) -> BTreeMap<String, String> {
    let path = format!("{within}metadata");
    if given.len() > limits.metadata_max {
        faults.add(&path, format!("must not have more than {} entries", limits.metadata_max));
        return BTreeMap::new();
    }
    let mut metadata = BTreeMap::new();
    for (key, value) in given {
        // The key itself may be anything: it is not repeated in an error.
        let key = faults.line(format!("{path}.key"), key, true, METADATA_KEY_CHARS_MAX);
        let value = faults.line(format!("{path}.value"), value, false, limits.metadata_value_chars_max);
        if metadata.insert(key, value).is_some() {
            faults.add(&path, "has two keys that are the same once they are trimmed and normalised");
        }
    }
    metadata
}

fn watchers(given: &[String], within: &str, now: DateTime<Utc>, faults: &mut Faults) -> Vec<Watcher> {
    if given.len() > WATCHERS_MAX {
        faults.add(format!("{within}watchers"), format!("must not be more than {WATCHERS_MAX}"));
        return Vec::new();
    }
    let watcher = |(index, email): (usize, &String)| Watcher {
        id: WatcherId::from_uuid(new_id(now)),
        email: address(format!("{within}watchers[{index}]"), email, faults),
    };
    given.iter().enumerate().map(watcher).collect()
}

fn routing(given: i32, faults: &mut Faults) -> Routing {
    match v1::Routing::try_from(given) {
        Ok(v1::Routing::Unspecified | v1::Routing::Parallel) => Routing::Parallel,
        Ok(v1::Routing::Sequential) => Routing::Sequential,
        Ok(v1::Routing::Groups) => Routing::Groups,
        Err(_) => {
            faults.add("routing", "is not a value that the service knows");
            Routing::Parallel
        }
    }
}

/// Whether a group has as many as its quorum needs shows when the envelope is sent.
fn quorums(given: &[v1::Quorum], faults: &mut Faults) -> Vec<Quorum> {
    let mut quorums: Vec<Quorum> = Vec::new();
    for (index, given) in given.iter().enumerate() {
        let number = |number: u32| u16::try_from(number).ok().filter(|number| u32::from(*number) <= GROUP_MAX);
        let (Some(group), Some(needed)) = (number(given.group), number(given.needed)) else {
            faults.add(format!("quorums[{index}]"), format!("must hold numbers of at most {GROUP_MAX}"));
            continue;
        };
        if quorums.iter().any(|other| other.group == group) {
            faults.add(format!("quorums[{index}].group"), "has a quorum already");
        }
        quorums.push(Quorum { group, needed });
    }
    quorums
}

fn schedule(given: Option<&prost_types::Timestamp>, within: &str, faults: &mut Faults) -> Option<DateTime<Utc>> {
    let at = instant(given?);
    if at.is_none() {
        faults.add(format!("{within}scheduled_send_at"), "is not a time");
    }
    at
}

/// A decline policy.
pub(super) fn policy(given: &v1::DeclinePolicy, path: &str, faults: &mut Faults) -> DeclinePolicy {
    let reason = match v1::ReasonRule::try_from(given.reason) {
        Ok(v1::ReasonRule::Unspecified | v1::ReasonRule::Optional) => ReasonRule::Optional,
        Ok(v1::ReasonRule::Disabled) => ReasonRule::Disabled,
        Ok(v1::ReasonRule::Required) => ReasonRule::Required,
        Err(_) => {
            faults.add(format!("{path}.reason"), "is not a value that the service knows");
            ReasonRule::Optional
        }
    };
    let effect = match v1::DeclineEffect::try_from(given.effect) {
        Ok(v1::DeclineEffect::Unspecified | v1::DeclineEffect::Abort) => DeclineEffect::Abort,
        Ok(v1::DeclineEffect::Continue) => DeclineEffect::Continue,
        Ok(v1::DeclineEffect::ReturnForCorrection) => DeclineEffect::ReturnForCorrection,
        Err(_) => {
            faults.add(format!("{path}.effect"), "is not a value that the service knows");
            DeclineEffect::Abort
        }
    };
    DeclinePolicy { enabled: !given.disabled, reason, effect }
}

fn delegations(given: u32, within: &str, faults: &mut Faults) -> u16 {
    if given > DELEGATIONS_MAX {
        faults.add(format!("{within}delegations_max"), format!("must be 0 to {DELEGATIONS_MAX}"));
    }
    u16::try_from(given).unwrap_or(u16::MAX)
}

/// How long before the deadline to warn; zero: never.
fn warning(given: &prost_types::Duration, within: &str, faults: &mut Faults) -> Option<TimeDelta> {
    let seconds = TimeDelta::try_seconds(given.seconds);
    match seconds.filter(|_| given.nanos == 0) {
        Some(before) if before.is_zero() => None,
        Some(before) if TimeDelta::hours(1) <= before && before <= TimeDelta::days(WARNING_DAYS_MAX) => Some(before),
        _ => {
            let why = format!("must be zero, or whole seconds from one hour to {WARNING_DAYS_MAX} days");
            faults.add(format!("{within}expiry_warning"), why);
            None
        }
    }
}
