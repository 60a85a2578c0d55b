//! What the sender sets, as JSON: read and written with its envelope, never searched.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::corrupt;
use super::notices::{LocalityJson, RemindersJson, locality_in, locality_json, reminders_json, reminders_of};
use crate::domain::field::{Field, Rules, Value, decimal};
use crate::domain::id::WatcherId;
use crate::domain::personal::Personal;
use crate::domain::terms::{DeclineEffect, DeclinePolicy, Quorum, ReasonRule, Routing, Terms, Watcher};

#[derive(Serialize, Deserialize)]
struct TermsJson {
    message: String,
    routing: u8,
    watchers: Vec<(WatcherId, String)>,
    quorums: Vec<(u16, u16)>,
    decline: PolicyJson,
    delegations_max: u16,
    expiry_warning_seconds: Option<i64>,
    tell_acted: bool,
    reminders: RemindersJson,
    locality: LocalityJson,
    webhook_url: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PolicyJson {
    enabled: bool,
    reason: u8,
    effect: u8,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct RulesJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset_checked: Option<bool>,
}

/// Serialising structs of strings and numbers cannot fail.
pub(super) fn json(value: impl Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

pub(super) fn policy_json(policy: &DeclinePolicy) -> PolicyJson {
    PolicyJson { enabled: policy.enabled, reason: policy.reason as u8, effect: policy.effect as u8 }
}

pub(super) fn policy_of(row: &PolicyJson) -> QueryResult<DeclinePolicy> {
    let reason = [ReasonRule::Disabled, ReasonRule::Optional, ReasonRule::Required];
    let effect = [DeclineEffect::Abort, DeclineEffect::Continue, DeclineEffect::ReturnForCorrection];
    Ok(DeclinePolicy {
        enabled: row.enabled,
        reason: reason.into_iter().find(|it| *it as u8 == row.reason).ok_or_else(|| corrupt("reason rule"))?,
        effect: effect.into_iter().find(|it| *it as u8 == row.effect).ok_or_else(|| corrupt("decline effect"))?,
    })
}

pub(super) fn decline_policy(policy: Option<&DeclinePolicy>) -> Option<Json> {
    policy.map(|policy| json(policy_json(policy)))
}

pub(super) fn decline_policy_of(row: Option<Json>) -> QueryResult<Option<DeclinePolicy>> {
    let read = |row| serde_json::from_value(row).map_err(|_| corrupt("decline policy"));
    row.map(|row| policy_of(&read(row)?)).transpose()
}

pub(super) fn terms(terms: &Terms) -> Json {
    json(TermsJson {
        message: terms.message.clone(),
        routing: terms.routing as u8,
        watchers: terms.watchers.iter().map(|it| (it.id, it.email.reveal().to_owned())).collect(),
        quorums: terms.quorums.iter().map(|it| (it.group, it.needed)).collect(),
        decline: policy_json(&terms.decline),
        delegations_max: terms.delegations_max,
        expiry_warning_seconds: terms.expiry_warning.map(|it| it.num_seconds()),
        tell_acted: terms.tell_acted,
        reminders: reminders_json(&terms.reminders),
        locality: locality_json(&terms.locality),
        webhook_url: terms.webhook_url.clone(),
    })
}

pub(super) fn metadata(terms: &Terms) -> Json {
    json(&terms.metadata)
}

/// The terms from their columns.
pub(super) fn terms_of(
    row: Json,
    subject: String,
    external_reference: String,
    metadata: Json,
    scheduled_send_at: Option<DateTime<Utc>>,
) -> QueryResult<Terms> {
    let row: TermsJson = serde_json::from_value(row).map_err(|_| corrupt("terms"))?;
    let routings = [Routing::Parallel, Routing::Sequential, Routing::Groups];
    let watcher = |(id, email)| Watcher { id, email: Personal::new(email) };
    Ok(Terms {
        subject,
        message: row.message,
        external_reference,
        metadata: serde_json::from_value(metadata).map_err(|_| corrupt("metadata"))?,
        watchers: row.watchers.into_iter().map(watcher).collect(),
        routing: routings.into_iter().find(|it| *it as u8 == row.routing).ok_or_else(|| corrupt("routing"))?,
        quorums: row.quorums.into_iter().map(|(group, needed)| Quorum { group, needed }).collect(),
        scheduled_send_at,
        decline: policy_of(&row.decline)?,
        delegations_max: row.delegations_max,
        expiry_warning: row.expiry_warning_seconds.map(TimeDelta::seconds),
        tell_acted: row.tell_acted,
        reminders: reminders_of(&row.reminders),
        locality: locality_in(row.locality)?,
        webhook_url: row.webhook_url,
    })
}

/// What the sender says of a field's value: what it has to be like, and what it is at first. None where it is nothing.
pub(super) fn rules(field: &Field) -> Option<Json> {
    let rules = &field.rules;
    let (preset_text, preset_checked) = match &field.preset {
        Some(Value::Text(text)) => (Some(text.reveal().to_owned()), None),
        Some(Value::Checked(checked)) => (None, Some(*checked)),
        // The sender fills no signature in.
        Some(Value::Drawn(_)) | None => (None, None),
    };
    let row = RulesJson {
        pattern: rules.pattern.clone(),
        min_length: rules.min_length,
        max_length: rules.max_length,
        min: rules.min.map(|it| it.to_string()),
        max: rules.max.map(|it| it.to_string()),
        options: rules.options.clone(),
        group: rules.group.clone(),
        preset_text,
        preset_checked,
    };
    (row != RulesJson::default()).then(|| json(row))
}

pub(super) fn rules_of(row: Option<Json>) -> QueryResult<(Rules, Option<Value>)> {
    let Some(row) = row else { return Ok((Rules::default(), None)) };
    let row: RulesJson = serde_json::from_value(row).map_err(|_| corrupt("rules"))?;
    let number = |text: String| decimal(&text).ok_or_else(|| corrupt("rules"));
    let preset = match (row.preset_text, row.preset_checked) {
        (Some(text), _) => Some(Value::Text(Personal::new(text))),
        (None, checked) => checked.map(Value::Checked),
    };
    let rules = Rules {
        pattern: row.pattern,
        min_length: row.min_length,
        max_length: row.max_length,
        min: row.min.map(number).transpose()?,
        max: row.max.map(number).transpose()?,
        options: row.options,
        group: row.group,
    };
    Ok((rules, preset))
}
