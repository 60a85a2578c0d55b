//! What the notifier counts of its own business: how far behind the feed it is, webhooks and mails and what becomes of them. The
//! chassis counts the calls.
//!
//! Never an id, an account, an address or a host as an attribute.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign_chassis::clock::Clock;
use countersign_chassis::metrics::{CALL_SECONDS, counter, gauge, meter, seconds};
use countersign_chassis::ticker::Progress;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};

use crate::mail::plan::MailKind;
use crate::store::{Disabled, MailSettled, Store};

struct Instruments {
    attempts: Histogram<f64>,
    disabled: Counter<u64>,
    mails: Counter<u64>,
    pending: Gauge<f64>,
    lag: Gauge<f64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| Instruments {
    attempts: seconds(
        "countersign.webhook.attempt.duration",
        "Attempts at webhooks by what came of them.",
        &CALL_SECONDS,
    ),
    disabled: counter("countersign.webhook.endpoints.disabled", "{endpoint}", "Endpoints that were switched off."),
    mails: counter("countersign.mails", "{mail}", "Mails by what came of them, at each try."),
    pending: gauge("countersign.deliveries.pending", "{delivery}", "What is still to be delivered."),
    lag: gauge("countersign.delivery.lag", "s", "How long the oldest has been due that nothing holds back."),
});

/// Up to when each partition that this process follows has been seen.
static SEEN: LazyLock<Mutex<HashMap<u8, DateTime<Utc>>>> = LazyLock::new(Mutex::default);

/// The classes of what comes of an attempt without an answer, as the contract words them.
const FAILURES: [&str; 7] =
    ["timeout", "tls", "no_connection", "name_not_found", "address_not_allowed", "broken_answer", "broken_header"];
const KINDS: [MailKind; 7] = [
    MailKind::Invitation,
    MailKind::FellThrough,
    MailKind::Completed,
    MailKind::Copy,
    MailKind::ExpiryWarning,
    MailKind::Reminder,
    MailKind::EndpointDisabled,
];
const OUTCOMES: [&str; 7] = ["sent", "suppressed", "dead", "bounced", "reported", "too_large", "again"];

/// Lets what is counted be there before it first happens.
pub fn declare(clock: &Clock) {
    let it = &*INSTRUMENTS;
    for reason in [Disabled::Gone, Disabled::Failing] {
        it.disabled.add(0, &[why(reason)]);
    }
    for kind in KINDS {
        OUTCOMES.iter().for_each(|outcome| it.mails.add(0, &mail(kind, outcome)));
    }
    let clock = clock.clone();
    meter()
        .f64_observable_gauge("countersign.feed.lag")
        .with_unit("s")
        .with_description("How far behind the feed this process is in the partitions that it follows.")
        .with_callback(move |observer| {
            let now = clock.now();
            for (partition, seen) in SEEN.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let partition = KeyValue::new("countersign.feed.partition", i64::from(*partition));
                observer.observe((now - *seen).to_std().unwrap_or_default().as_secs_f64(), &[partition]);
            }
        })
        .build();
}

/// This process follows these partitions, and no others any more.
pub fn follows(partitions: &[u8], now: DateTime<Utc>) {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.retain(|partition, _| partitions.contains(partition));
    for partition in partitions {
        seen.entry(*partition).or_insert(now);
    }
}

/// What happened in a partition up to then is planned for.
pub fn reached(partition: u8, at: DateTime<Utc>) {
    if let Some(seen) = SEEN.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&partition) {
        *seen = at;
    }
}

/// An attempt at a webhook took so long and came to an answer, or to none and why.
pub fn attempted(took: Duration, status: Option<u16>, failure: Option<&'static str>) {
    let outcome = match status {
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..=599) => "5xx",
        Some(_) => "other_status",
        None => failure.filter(|failure| FAILURES.contains(failure)).unwrap_or("other"),
    };
    INSTRUMENTS.attempts.record(took.as_secs_f64(), &[KeyValue::new("countersign.outcome", outcome)]);
}

/// An endpoint was switched off.
pub fn disabled(reason: Disabled) {
    INSTRUMENTS.disabled.add(1, &[why(reason)]);
}

fn why(reason: Disabled) -> KeyValue {
    let reason = match reason {
        Disabled::Gone => "gone",
        Disabled::Failing => "failing",
    };
    KeyValue::new("countersign.reason", reason)
}

/// A try at a mail came to that.
pub fn mailed(kind: MailKind, settled: MailSettled) {
    let outcome = match settled {
        MailSettled::Sent => "sent",
        MailSettled::Suppressed => "suppressed",
        MailSettled::Dead => "dead",
        MailSettled::Bounced(_) => "bounced",
        MailSettled::Reported => "reported",
        MailSettled::TooLarge => "too_large",
        MailSettled::Again { .. } => "again",
    };
    INSTRUMENTS.mails.add(1, &mail(kind, outcome));
}

fn mail(kind: MailKind, outcome: &'static str) -> [KeyValue; 2] {
    [KeyValue::new("countersign.mail.kind", kind.name()), KeyValue::new("countersign.outcome", outcome)]
}

/// Looks at what waits.
pub async fn look(store: &Store) -> anyhow::Result<Progress> {
    let now = store.clock().now();
    for (channel, queue) in [("webhook", store.webhooks_waiting(now).await?), ("mail", store.mails_waiting(now).await?)]
    {
        let of = [KeyValue::new("countersign.channel", channel)];
        let late = queue.due_since.map_or(0.0, |due| (now - due).to_std().unwrap_or_default().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "counts stop far below")]
        INSTRUMENTS.pending.record(queue.pending as f64, &of);
        INSTRUMENTS.lag.record(late, &of);
    }
    Ok(Progress::Idle)
}
