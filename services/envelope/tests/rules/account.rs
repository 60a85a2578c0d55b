//! What an account's keys may do, until when, and what it counts in.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::account::{ApiKey, Permission, Permissions, Settings};
use countersign_envelope::domain::credit::{Amount, Billing, ChargeAt, RefundPolicy, Unit};
use countersign_envelope::domain::id::KeyId;
use countersign_envelope::domain::limits::Limits;

#[test]
fn s1_40_units_are_credits_or_currencies() {
    for (text, unit) in [("CREDIT", Unit::Credit), ("EUR", Unit::Currency(*b"EUR")), ("JPY", Unit::Currency(*b"JPY"))] {
        assert_eq!((text.parse::<Unit>().unwrap(), unit.to_string().as_str()), (unit, text));
    }
    for text in ["", "credit", "Eur", "EU", "EURO", "E R", "CREDITS", "ÉUR"] {
        assert!(text.parse::<Unit>().is_err(), "{text}");
    }
}

#[test]
fn s1_38_permissions_are_a_set() {
    use Permission::{EnvelopesRead, EventsRead, WebhooksWrite};
    let (none, all) = (Permissions::default(), Permissions::all());
    let some: Permissions = [WebhooksWrite, EnvelopesRead].into_iter().collect();
    assert_eq!(some.iter().collect::<Vec<_>>(), [EnvelopesRead, WebhooksWrite]);
    assert!(some.has(EnvelopesRead) && some.has(WebhooksWrite) && !some.has(EventsRead));
    assert!(none.is_empty() && !some.is_empty() && none.iter().next().is_none());
    assert_eq!(all.iter().collect::<Vec<_>>(), Permission::ALL);
    assert!(all.covers(some) && some.covers(some) && some.covers(none) && !some.covers(all) && !none.covers(some));
    let one: Permissions = [EventsRead].into_iter().collect();
    assert!(!some.covers(one) && !one.covers(some));
    let twice: Permissions = [EventsRead, EventsRead].into_iter().collect();
    assert_eq!(twice, one, "named twice is named once");
    let mut names: Vec<_> = Permission::ALL.iter().map(|it| it.name()).collect();
    assert!(names.iter().all(|name| name.split_once('.').is_some_and(|(of, what)| !of.is_empty() && !what.is_empty())));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Permission::ALL.len());
}

fn key(expires: Option<i64>, overlap: Option<i64>, revoked: bool) -> ApiKey {
    let at = |hours: i64| DateTime::<Utc>::UNIX_EPOCH + TimeDelta::hours(hours);
    ApiKey {
        id: KeyId::new(),
        name: String::new(),
        livemode: true,
        permissions: Permissions::all(),
        created_at: at(0),
        expires_at: expires.map(at),
        overlap_until: overlap.map(at),
        revoked_at: revoked.then(|| at(0)),
        last_used_at: None,
        replaced_by: None,
    }
}

/// The first of its ends counts, and at that instant it is over.
#[test]
fn s1_49_a_key_ends_with_the_first_of_its_ends() {
    for (expires, overlap, end) in [
        (None, None, None),
        (Some(5), None, Some(5)),
        (None, Some(3), Some(3)),
        (Some(5), Some(3), Some(3)),
        (Some(2), Some(3), Some(2)),
    ] {
        let key = key(expires, overlap, false);
        let at = end.map(|hours| DateTime::<Utc>::UNIX_EPOCH + TimeDelta::hours(hours));
        assert_eq!(key.ends_at(), at);
        let now = at.unwrap_or(DateTime::<Utc>::UNIX_EPOCH);
        assert_eq!(key.is_usable(now), end.is_none());
        assert!(key.is_usable(now - TimeDelta::microseconds(1)));
    }
    let revoked = key(None, None, true);
    assert!(!revoked.is_usable(revoked.created_at), "revoked is revoked, whatever its ends");
}

/// S1.40, C-18: what holds for an account for which nothing was set; no usual value is above what may be asked for.
#[test]
fn c18_the_usual_settings() {
    let settings = Settings::default();
    assert!(settings.tell_acted);
    let price = Amount { unit: Unit::Credit, value: 1 };
    let billing = Billing { charge_at: ChargeAt::Dispatch, price, refund: RefundPolicy::void_unsigned() };
    assert_eq!(settings.billing, billing);
    let (usual, ceiling) = (Limits::default(), Limits::ceiling());
    assert_eq!((usual.recipients_max, usual.documents_max, usual.fields_max, usual.pages_max), (10, 10, 200, 500));
    assert_eq!(usual.document_bytes_max, 26_214_400);
    let numbers = |limits: &Limits| serde_json::to_value(limits).unwrap().as_object().unwrap().clone();
    let ceiling = numbers(&ceiling);
    for (name, value) in numbers(&usual).into_iter().filter(|(name, _)| name != "retention_days_max") {
        assert!(value.as_u64() < ceiling[&name].as_u64(), "{name}");
    }
}
