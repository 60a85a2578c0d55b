//! Accounts, their keys and their ledger, as requests word them and as answers do.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use countersign::v1;
use countersign_chassis::wire::timestamp;

use super::notices::{brand, brand_of, locality, reminders, reminders_of};
use super::parse::Faults;
use super::people::address;
use super::render;
use super::terms::policy;
use crate::domain::account::{Account, ApiKey, Brand, Permission, Permissions, Settings};
use crate::domain::credit::{Amount, Billing, Charge, ChargeAt, RefundCause, RefundPolicy, RefundRule, Unit};
use crate::domain::keeping::Retention;
use crate::domain::limits::{
    AMOUNT_MAX, BASIS_POINTS, DRAFT_DAYS_MAX, Limits, PURGE_WARNING_DAYS_MAX, REFUND_RULES_MAX, RETENTION_DAYS_MAX,
};
use crate::domain::personal::Personal;
use crate::domain::reminder::ReminderPolicy;
use crate::store::LedgerEntry;

/// As many as there are fields to change.
const MASK_MAX: usize = 10;
/// The name of the policy that refunds what was voided before anybody had signed.
const VOID_UNSIGNED: &str = "void_unsigned";
/// The name of the policy that refunds every end but completion, up to a cap.
const TERMINAL_CAPPED: &str = "terminal_capped";

/// What a call changes about an account's settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    decline: Option<crate::domain::terms::DeclinePolicy>,
    tell_acted: Option<bool>,
    billing: Option<Billing>,
    limits: Option<Limits>,
    reminders: Option<ReminderPolicy>,
    brand: Option<Brand>,
    locale: Option<String>,
    zone: Option<Option<Tz>>,
    contact: Option<Option<Personal>>,
    retention: Option<Retention>,
}

impl Changes {
    /// Of `given` what `mask` names.
    pub fn read(given: Option<&v1::AccountSettings>, mask: &[String], faults: &mut Faults) -> Self {
        const IN: &str = "settings.";
        let mut changes = Self::default();
        if mask.is_empty() || mask.len() > MASK_MAX {
            faults.add("update_mask", format!("must name 1 to {MASK_MAX} fields"));
            return changes;
        }
        let none = v1::AccountSettings::default();
        let given = given.unwrap_or(&none);
        for path in mask {
            match path.as_str() {
                "decline_policy" => {
                    let given = given.decline_policy.unwrap_or_default();
                    changes.decline = Some(policy(&given, "settings.decline_policy", faults));
                }
                "tell_acted_recipients" => changes.tell_acted = Some(given.tell_acted_recipients),
                "billing" => changes.billing = billing(given.billing.as_ref(), faults),
                "limits" => changes.limits = Some(limits(&given.limits.unwrap_or_default(), faults)),
                "reminder_policy" => {
                    let given = given.reminder_policy.unwrap_or_default();
                    changes.reminders = Some(reminders(&given, "settings.reminder_policy", faults));
                }
                "brand" => changes.brand = Some(brand(given.brand.as_ref(), "settings.brand", faults)),
                "locale" => changes.locale = Some(locality(&given.locale, "", IN, faults).locale),
                "time_zone" => changes.zone = Some(locality("", &given.time_zone, IN, faults).zone),
                "retention" => changes.retention = Some(retention(&given.retention.unwrap_or_default(), faults)),
                "contact_email" => {
                    let email = Some(given.contact_email.as_str()).filter(|email| !email.is_empty());
                    changes.contact = Some(email.map(|email| address("settings.contact_email", email, faults)));
                }
                _ => faults.add("update_mask", "names something that `settings` does not have"),
            }
        }
        changes
    }

    pub fn apply(self, settings: &mut Settings) {
        fn set<T>(into: &mut T, from: Option<T>) {
            if let Some(from) = from {
                *into = from;
            }
        }
        set(&mut settings.decline, self.decline);
        set(&mut settings.tell_acted, self.tell_acted);
        set(&mut settings.billing, self.billing);
        set(&mut settings.limits, self.limits);
        set(&mut settings.reminders, self.reminders);
        set(&mut settings.brand, self.brand);
        set(&mut settings.locality.locale, self.locale);
        set(&mut settings.locality.zone, self.zone);
        set(&mut settings.contact, self.contact);
        set(&mut settings.retention, self.retention);
    }
}

fn retention(given: &v1::Retention, faults: &mut Faults) -> Retention {
    let usual = Retention::default();
    let mut days = |name: &str, given: u32, usual: u32, most: u32| {
        if given > most {
            faults.add(format!("settings.retention.{name}"), format!("must not be more than {most}"));
        }
        if given == 0 { usual } else { given.min(most) }
    };
    let short = |days: u32| u16::try_from(days).unwrap_or(u16::MAX);
    let (warning, draft) = (usual.warning_days.into(), usual.draft_days.into());
    Retention {
        days: days("days", given.days, usual.days, RETENTION_DAYS_MAX),
        warning_days: short(days("warning_days", given.warning_days, warning, PURGE_WARNING_DAYS_MAX.into())),
        draft_days: short(days("draft_days", given.draft_days, draft, DRAFT_DAYS_MAX.into())),
    }
}

/// An amount; at least `least`.
pub(super) fn amount(given: Option<&v1::Amount>, path: &str, least: u64, faults: &mut Faults) -> Amount {
    let none = Amount { unit: Unit::Credit, value: least };
    let Some(given) = given else {
        faults.add(path, "must be there");
        return none;
    };
    let value = u64::try_from(given.value).ok().filter(|value| (least..=AMOUNT_MAX).contains(value));
    if value.is_none() {
        faults.add(format!("{path}.value"), format!("must be {least} to {AMOUNT_MAX}"));
    }
    match given.unit.parse() {
        Ok(unit) => Amount { unit, value: value.unwrap_or(least) },
        Err(why) => {
            faults.add(format!("{path}.unit"), format!("{why}"));
            none
        }
    }
}

fn billing(given: Option<&v1::Billing>, faults: &mut Faults) -> Option<Billing> {
    const IN: &str = "settings.billing";
    let Some(given) = given else {
        faults.add(IN, "must be there");
        return None;
    };
    let charge_at = match v1::ChargeAt::try_from(given.charge_at) {
        Ok(v1::ChargeAt::Dispatch) => ChargeAt::Dispatch,
        Ok(v1::ChargeAt::Create) => ChargeAt::Create,
        Ok(v1::ChargeAt::Unspecified) | Err(_) => {
            faults.add(format!("{IN}.charge_at"), "must be DISPATCH or CREATE");
            ChargeAt::Dispatch
        }
    };
    let price = amount(given.price.as_ref(), &format!("{IN}.price"), 0, faults);
    let refund = refund_policy(given.refund_policy.as_ref(), &format!("{IN}.refund_policy"), faults);
    Some(Billing { charge_at, price, refund })
}

fn refund_policy(given: Option<&v1::RefundPolicy>, path: &str, faults: &mut Faults) -> RefundPolicy {
    let none = RefundPolicy { rules: Vec::new(), cap: None };
    let Some(given) = given else {
        faults.add(path, "must be there");
        return none;
    };
    let cap = given.cap.map(|cap| {
        u64::try_from(cap).ok().filter(|cap| *cap <= AMOUNT_MAX).unwrap_or_else(|| {
            faults.add(format!("{path}.cap"), format!("must be 0 to {AMOUNT_MAX}"));
            0
        })
    });
    if !given.preset.is_empty() && !given.rules.is_empty() {
        faults.add(format!("{path}.preset"), "must not be there together with `rules`");
    }
    match given.preset.as_str() {
        "" => {}
        VOID_UNSIGNED => return RefundPolicy { cap, ..RefundPolicy::void_unsigned() },
        TERMINAL_CAPPED => return RefundPolicy::terminal_capped(cap),
        _ => faults.add(format!("{path}.preset"), format!("must be {VOID_UNSIGNED} or {TERMINAL_CAPPED}")),
    }
    if given.rules.len() > REFUND_RULES_MAX {
        faults.add(format!("{path}.rules"), format!("must not be more than {REFUND_RULES_MAX}"));
        return none;
    }
    let rules = given.rules.iter().enumerate();
    RefundPolicy {
        rules: rules.map(|(index, rule)| self::rule(rule, &format!("{path}.rules[{index}]"), faults)).collect(),
        cap,
    }
}

fn rule(given: &v1::RefundRule, path: &str, faults: &mut Faults) -> RefundRule {
    let cause = match v1::RefundCause::try_from(given.cause) {
        Ok(v1::RefundCause::Declined) => RefundCause::Declined,
        Ok(v1::RefundCause::Voided) => RefundCause::Voided,
        Ok(v1::RefundCause::Expired) => RefundCause::Expired,
        Ok(v1::RefundCause::Unspecified) | Err(_) => {
            faults.add(format!("{path}.cause"), "must be DECLINED, VOIDED or EXPIRED");
            RefundCause::Voided
        }
    };
    let share = u16::try_from(given.share_basis_points).ok().filter(|share| (1..=BASIS_POINTS).contains(share));
    if share.is_none() {
        faults.add(format!("{path}.share_basis_points"), format!("must be 1 to {BASIS_POINTS}"));
    }
    let signed_max = given.signed_max.map(|most| u16::try_from(most).unwrap_or(u16::MAX));
    RefundRule { cause, signed_max, share_basis_points: share.unwrap_or(1) }
}

fn limits(given: &v1::Limits, faults: &mut Faults) -> Limits {
    let (usual, most) = (Limits::default(), Limits::ceiling());
    let mut limit = |name: &str, given: u64, usual: usize, most: usize| match usize::try_from(given) {
        Ok(0) => usual,
        Ok(given) if given <= most => given,
        _ => {
            faults.add(format!("settings.limits.{name}"), format!("must not be more than {most}"));
            usual
        }
    };
    macro_rules! sizes {
        ($($name:ident),+) => { $(let $name = limit(stringify!($name), given.$name.into(), usual.$name, most.$name);)+ };
    }
    sizes!(recipients_max, documents_max, fields_max, document_bytes_max, pages_max, note_chars_max);
    sizes!(metadata_max, metadata_value_chars_max, api_keys_max);
    let mut rate = |name: &str, given: u32, usual: u32, most: u32| {
        let rate = limit(name, given.into(), usual as usize, most as usize);
        u32::try_from(rate).unwrap_or(usual)
    };
    macro_rules! rates {
        ($($name:ident),+) => { $(let $name = rate(stringify!($name), given.$name, usual.$name, most.$name);)+ };
    }
    rates!(key_calls_per_second, key_calls_burst, signer_calls_per_minute, signer_calls_burst);
    rates!(retention_days_min, retention_days_max);
    if retention_days_min > retention_days_max {
        faults.add("settings.limits.retention_days_min", "must not be more than retention_days_max");
    }
    Limits {
        recipients_max,
        documents_max,
        fields_max,
        document_bytes_max,
        pages_max,
        note_chars_max,
        metadata_max,
        metadata_value_chars_max,
        key_calls_per_second,
        key_calls_burst,
        signer_calls_per_minute,
        signer_calls_burst,
        api_keys_max,
        retention_days_min,
        retention_days_max,
    }
}

/// What a key is to be used for. Nothing said: nothing chosen.
pub(super) fn permissions(given: &[i32], faults: &mut Faults) -> Permissions {
    let known = |number: &i32| Permission::ALL.into_iter().find(|it| *it as i32 == *number);
    if given.len() > Permission::ALL.len() || given.iter().any(|number| known(number).is_none()) {
        faults.add("scopes", "names something that the service does not know, or more than there is");
        return Permissions::default();
    }
    given.iter().filter_map(known).collect()
}

pub(super) fn scopes(permissions: Permissions) -> Vec<i32> {
    permissions.iter().map(|permission| permission as i32).collect()
}

fn when(at: Option<DateTime<Utc>>) -> Option<prost_types::Timestamp> {
    at.map(timestamp)
}

fn int8(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn account(account: &Account) -> v1::Account {
    let settings = &account.settings;
    v1::Account {
        id: account.id.to_string(),
        name: account.name.clone(),
        created_at: Some(timestamp(account.created_at)),
        suspended_at: when(account.suspended_at),
        revision: account.revision,
        settings: Some(v1::AccountSettings {
            decline_policy: Some(render::policy(&settings.decline)),
            tell_acted_recipients: settings.tell_acted,
            billing: Some(v1::Billing {
                charge_at: settings.billing.charge_at as i32,
                price: Some(amount_of(settings.billing.price)),
                refund_policy: Some(refund_policy_of(&settings.billing.refund)),
            }),
            limits: Some(limits_of(&settings.limits)),
            reminder_policy: Some(reminders_of(&settings.reminders)),
            brand: Some(brand_of(&settings.brand)),
            locale: settings.locality.locale.clone(),
            time_zone: settings.locality.zone_name().to_owned(),
            contact_email: settings.contact.as_ref().map(|it| it.reveal().to_owned()).unwrap_or_default(),
            retention: Some(v1::Retention {
                days: settings.retention.days,
                warning_days: settings.retention.warning_days.into(),
                draft_days: settings.retention.draft_days.into(),
            }),
        }),
    }
}

fn limits_of(limits: &Limits) -> v1::Limits {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    v1::Limits {
        recipients_max: count(limits.recipients_max),
        documents_max: count(limits.documents_max),
        fields_max: count(limits.fields_max),
        document_bytes_max: limits.document_bytes_max as u64,
        pages_max: count(limits.pages_max),
        note_chars_max: count(limits.note_chars_max),
        metadata_max: count(limits.metadata_max),
        metadata_value_chars_max: count(limits.metadata_value_chars_max),
        key_calls_per_second: limits.key_calls_per_second,
        key_calls_burst: limits.key_calls_burst,
        signer_calls_per_minute: limits.signer_calls_per_minute,
        signer_calls_burst: limits.signer_calls_burst,
        api_keys_max: count(limits.api_keys_max),
        retention_days_min: limits.retention_days_min,
        retention_days_max: limits.retention_days_max,
    }
}

pub(super) fn key(key: &ApiKey) -> v1::ApiKey {
    v1::ApiKey {
        id: key.id.to_string(),
        name: key.name.clone(),
        livemode: key.livemode,
        scopes: scopes(key.permissions),
        created_at: Some(timestamp(key.created_at)),
        expires_at: when(key.ends_at()),
        revoked_at: when(key.revoked_at),
        last_used_at: when(key.last_used_at),
        replaced_by_key_id: key.replaced_by.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn amount_of(amount: Amount) -> v1::Amount {
    v1::Amount { unit: amount.unit.to_string(), value: int8(amount.value) }
}

fn refund_policy_of(policy: &RefundPolicy) -> v1::RefundPolicy {
    let rule = |rule: &RefundRule| v1::RefundRule {
        cause: rule.cause as i32,
        signed_max: rule.signed_max.map(u32::from),
        share_basis_points: rule.share_basis_points.into(),
    };
    let rules = policy.rules.iter().map(rule).collect();
    v1::RefundPolicy { preset: String::new(), rules, cap: policy.cap.map(int8) }
}

pub(super) fn charge(charge: &Charge) -> v1::Charge {
    v1::Charge {
        amount: Some(amount_of(charge.amount)),
        charged_at: Some(timestamp(charge.at)),
        refund_policy: Some(refund_policy_of(&charge.refund)),
        refunded: charge.refunded.map(int8),
    }
}

pub(super) fn entry(entry: &LedgerEntry) -> v1::LedgerEntry {
    let (debit, credit) = entry.kind.sides();
    v1::LedgerEntry {
        id: entry.id.to_string(),
        kind: entry.kind as i32,
        debit: debit.into(),
        credit: credit.into(),
        amount: Some(amount_of(entry.amount)),
        balance_after: entry.balance_after,
        occurred_at: Some(timestamp(entry.occurred_at)),
        envelope_id: entry.envelope.map(|id| id.to_string()).unwrap_or_default(),
        reference: entry.reference.clone(),
    }
}
