//! Settings of accounts and charges of envelopes, as JSON: read and written as a whole, never searched.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::corrupt;
use super::notices::{LocalityJson, RemindersJson, locality_in, locality_json, reminders_json, reminders_of};
use super::terms::{PolicyJson, json, policy_json, policy_of};
use crate::domain::account::{Brand, Settings};
use crate::domain::credit::{Amount, Billing, Charge, ChargeAt, RefundPolicy};
use crate::domain::keeping::Retention;
use crate::domain::limits::Limits;
use crate::domain::personal::Personal;

#[derive(Serialize, Deserialize)]
struct SettingsJson {
    decline: PolicyJson,
    tell_acted: bool,
    charge_at: u8,
    unit: String,
    price: u64,
    refund: RefundPolicy,
    limits: Limits,
    reminders: RemindersJson,
    brand_name: String,
    brand_color: String,
    brand_logo_url: String,
    locality: LocalityJson,
    contact: String,
    #[serde(default)]
    retention: Retention,
}

#[derive(Serialize, Deserialize)]
struct ChargeJson {
    unit: String,
    value: u64,
    at: DateTime<Utc>,
    refund: RefundPolicy,
    refunded: Option<u64>,
}

pub(super) fn settings(settings: &Settings) -> Json {
    let billing = &settings.billing;
    json(SettingsJson {
        decline: policy_json(&settings.decline),
        tell_acted: settings.tell_acted,
        charge_at: billing.charge_at as u8,
        unit: billing.price.unit.to_string(),
        price: billing.price.value,
        refund: billing.refund.clone(),
        limits: settings.limits.clone(),
        reminders: reminders_json(&settings.reminders),
        brand_name: settings.brand.name.clone(),
        brand_color: settings.brand.color.clone(),
        brand_logo_url: settings.brand.logo_url.clone(),
        locality: locality_json(&settings.locality),
        contact: settings.contact.as_ref().map(|it| it.reveal().to_owned()).unwrap_or_default(),
        retention: settings.retention,
    })
}

pub(super) fn settings_of(row: Json) -> QueryResult<Settings> {
    let row: SettingsJson = serde_json::from_value(row).map_err(|_| corrupt("settings"))?;
    let known = [ChargeAt::Dispatch, ChargeAt::Create];
    Ok(Settings {
        decline: policy_of(&row.decline)?,
        tell_acted: row.tell_acted,
        billing: Billing {
            charge_at: known.into_iter().find(|it| *it as u8 == row.charge_at).ok_or_else(|| corrupt("charge_at"))?,
            price: amount(&row.unit, row.price)?,
            refund: row.refund,
        },
        limits: row.limits,
        reminders: reminders_of(&row.reminders),
        brand: Brand { name: row.brand_name, color: row.brand_color, logo_url: row.brand_logo_url },
        locality: locality_in(row.locality)?,
        contact: (!row.contact.is_empty()).then(|| Personal::new(row.contact)),
        retention: row.retention,
    })
}

pub(super) fn amount(unit: &str, value: u64) -> QueryResult<Amount> {
    Ok(Amount { unit: unit.parse().map_err(|_| corrupt("unit"))?, value })
}

pub(super) fn charge(charge: Option<&Charge>) -> Option<Json> {
    charge.map(|charge| {
        json(ChargeJson {
            unit: charge.amount.unit.to_string(),
            value: charge.amount.value,
            at: charge.at,
            refund: charge.refund.clone(),
            refunded: charge.refunded,
        })
    })
}

pub(super) fn charge_of(row: Option<Json>) -> QueryResult<Option<Charge>> {
    let Some(row) = row else { return Ok(None) };
    let row: ChargeJson = serde_json::from_value(row).map_err(|_| corrupt("charge"))?;
    let amount = amount(&row.unit, row.value)?;
    Ok(Some(Charge { amount, at: row.at, refund: row.refund, refunded: row.refunded }))
}
