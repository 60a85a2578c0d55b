//! What matters to notices, as requests word it and as answers do: languages and time zones, reminders, brands, addresses
//! of the web. Whether an address may be reached is not decided here: who connects to it decides.

use chrono::TimeDelta;
use countersign::v1;
use url::Url;

use super::parse::Faults;
use crate::domain::account::Brand;
use crate::domain::limits::{
    BRAND_CHARS_MAX, DAY_MINUTES, LOCALE_CHARS_MAX, REMINDER_DAYS_MAX, REMINDERS_MAX, URL_BYTES_MAX,
};
use crate::domain::locality::Locality;
use crate::domain::reminder::{QuietHours, ReminderPolicy};

/// A language and a time zone, either of which may be empty; `within` ends in a dot, or is empty.
pub(super) fn locality(locale: &str, zone: &str, within: &str, faults: &mut Faults) -> Locality {
    let (locale, zone) = (locale.trim(), zone.trim());
    if !locale.is_empty() && !is_tag(locale) {
        let why = format!("must be a language tag (BCP 47) of at most {LOCALE_CHARS_MAX} characters");
        faults.add(format!("{within}locale"), why);
    }
    let known = zone.parse().ok();
    if !zone.is_empty() && known.is_none() {
        faults.add(format!("{within}time_zone"), "must be a time zone of the IANA database");
    }
    Locality { locale: locale.to_owned(), zone: known }
}

/// By its form alone: whether there are texts in that language is another question.
fn is_tag(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    let is_language = (2..=8).contains(&language.len()) && language.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    tag.len() <= LOCALE_CHARS_MAX && is_language && parts.all(is_part)
}

/// A reminder policy.
pub(super) fn reminders(given: &v1::ReminderPolicy, path: &str, faults: &mut Faults) -> ReminderPolicy {
    let usual = ReminderPolicy::default();
    let mut wait = |name: &str, given: Option<&prost_types::Duration>, usual: TimeDelta| {
        let Some(given) = given else { return usual };
        let wait = TimeDelta::try_seconds(given.seconds).filter(|_| given.nanos == 0);
        let bounds = TimeDelta::hours(1)..=TimeDelta::days(REMINDER_DAYS_MAX);
        wait.filter(|wait| bounds.contains(wait)).unwrap_or_else(|| {
            let why = format!("must be whole seconds from one hour to {REMINDER_DAYS_MAX} days");
            faults.add(format!("{path}.{name}"), why);
            usual
        })
    };
    let first_after = wait("first_after", given.first_after.as_ref(), usual.first_after);
    let every = wait("every", given.every.as_ref(), usual.every);
    let at_most = match given.at_most {
        0 => usual.at_most,
        given => u16::try_from(given).ok().filter(|_| given <= REMINDERS_MAX).unwrap_or_else(|| {
            faults.add(format!("{path}.at_most"), format!("must be at most {REMINDERS_MAX}"));
            usual.at_most
        }),
    };
    let quiet = given.quiet_hours.and_then(|hours| quiet(hours, &format!("{path}.quiet_hours"), faults));
    ReminderPolicy { enabled: !given.disabled, first_after, every, at_most, quiet }
}

fn quiet(given: v1::QuietHours, path: &str, faults: &mut Faults) -> Option<QuietHours> {
    let mut minute = |name: &str, given: u32| {
        let minute = u16::try_from(given).ok().filter(|_| given < DAY_MINUTES);
        if minute.is_none() {
            faults.add(format!("{path}.{name}"), format!("must be 0 to {}", DAY_MINUTES - 1));
        }
        minute
    };
    let (from, until) = (minute("from_minute", given.from_minute), minute("until_minute", given.until_minute));
    let (from_minute, until_minute) = (from?, until?);
    if from_minute == until_minute {
        faults.add(format!("{path}.until_minute"), "must not be equal to `from_minute`");
        return None;
    }
    Some(QuietHours { from_minute, until_minute })
}

pub(super) fn reminders_of(policy: &ReminderPolicy) -> v1::ReminderPolicy {
    let wait = |wait: TimeDelta| Some(prost_types::Duration { seconds: wait.num_seconds(), nanos: 0 });
    v1::ReminderPolicy {
        disabled: !policy.enabled,
        first_after: wait(policy.first_after),
        every: wait(policy.every),
        at_most: policy.at_most.into(),
        quiet_hours: policy.quiet.map(|quiet| v1::QuietHours {
            from_minute: quiet.from_minute.into(),
            until_minute: quiet.until_minute.into(),
        }),
    }
}

/// How mails look.
pub(super) fn brand(given: Option<&v1::Brand>, path: &str, faults: &mut Faults) -> Brand {
    let Some(given) = given else { return Brand::default() };
    let color = given.color.trim().to_ascii_lowercase();
    let digits = color.strip_prefix('#').unwrap_or_default();
    if !color.is_empty() && (digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        faults.add(format!("{path}.color"), "must be # and six hexadecimal digits");
    }
    let logo_url = given.logo_url.trim();
    if !logo_url.is_empty() && !is_address(logo_url, &["https"]) {
        let why = format!("must be an https:// address of at most {URL_BYTES_MAX} octets, without a user");
        faults.add(format!("{path}.logo_url"), why);
    }
    Brand {
        name: faults.line(format!("{path}.name"), &given.name, false, BRAND_CHARS_MAX),
        color,
        logo_url: logo_url.to_owned(),
    }
}

pub(super) fn brand_of(brand: &Brand) -> v1::Brand {
    v1::Brand { name: brand.name.clone(), color: brand.color.clone(), logo_url: brand.logo_url.clone() }
}

/// Where events are posted; empty: nowhere.
pub(super) fn webhook_url(given: &str, within: &str, faults: &mut Faults) -> String {
    let url = given.trim();
    if !url.is_empty() && (!is_address(url, &["https", "http"]) || url.contains('#')) {
        let why = format!(
            "must be an absolute http:// or https:// address of at most {URL_BYTES_MAX} octets, without user and fragment"
        );
        faults.add(format!("{within}webhook_url"), why);
    }
    url.to_owned()
}

/// An absolute address of one of these schemes, without a user, and without anything that readers of it leave out.
fn is_address(text: &str, schemes: &[&str]) -> bool {
    let plain =
        text.len() <= URL_BYTES_MAX && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    plain
        && Url::parse(text).is_ok_and(|url| {
            let user = !url.username().is_empty() || url.password().is_some();
            schemes.contains(&url.scheme()) && text.contains("://") && url.has_host() && !user
        })
}
