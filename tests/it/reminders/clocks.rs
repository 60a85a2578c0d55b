//! Reminders by a clock that is set, jumps and stands still.

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use countersign::v1::{EventType, QuietHours, ReminderPolicy, Routing};
use countersign_test_support::client::request;

use super::{counts, idle, time};
use crate::reminders::many::sweeper;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The time of day in New York, in minutes, by the rule of 2028: summer time from 12 March, 07:00 UTC.
fn minute_in_new_york(at_utc: DateTime<Utc>) -> u32 {
    let hours = if at_utc < at("2028-03-12T07:00:00Z") { 5 } else { 4 };
    let local = at_utc - TimeDelta::hours(hours);
    local.hour() * 60 + local.minute()
}

/// D8: over a leap day and the beginning of summer time, by a clock that goes forth and back by an hour at every step: once a
/// day, never twice, never in quiet hours.
#[tokio::test(flavor = "multi_thread")]
async fn d8_a_stepping_clock_brings_nothing_twice() {
    let start = at("2028-02-26T15:00:00Z");
    let service = idle(start).await;
    let sender = service.account(false).await;
    let day = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
    let mut new = request(1, Routing::Parallel, true);
    let quiet_hours = Some(QuietHours { from_minute: 22 * 60, until_minute: 8 * 60 + 30 });
    new.reminder_policy =
        Some(ReminderPolicy { first_after: day, every: day, at_most: 30, quiet_hours, disabled: false });
    new.recipients[0].time_zone = "America/New_York".into();
    let sent = sender.create(new).await.unwrap();
    let sweeper = sweeper(&service).await;
    let hour = TimeDelta::hours(1);
    for step in 0..(20 * 24 * 2) {
        for jump in [hour, -hour - hour, hour] {
            sweeper.tick().await.unwrap();
            service.clock.advance(jump);
        }
        sweeper.tick().await.unwrap();
        service.clock.advance(TimeDelta::minutes(if step % 2 == 0 { 31 } else { 29 }));
    }
    let history = sender.history(&sent.id).await.unwrap();
    let events = history.into_iter().map(|entry| entry.event.unwrap());
    let reminders = events.filter(|event| event.r#type() == EventType::RecipientReminderDue);
    let issued: Vec<_> = reminders.map(|event| time(event.occurred_at).unwrap()).collect();
    assert_eq!(counts(&sender.get(&sent.id).await.unwrap()), [u32::try_from(issued.len()).unwrap()]);
    assert!((16..=20).contains(&issued.len()), "about once a day: {issued:?}");
    for pair in issued.windows(2) {
        assert!(pair[1] - pair[0] >= TimeDelta::days(1), "twice within a day: {pair:?}");
    }
    for one in &issued {
        assert!((8 * 60 + 30..22 * 60).contains(&minute_in_new_york(*one)), "in quiet hours: {one}");
    }
    let leap = at("2028-02-29T00:00:00Z")..at("2028-03-01T12:00:00Z");
    assert!(issued.iter().any(|one| leap.contains(one)), "the leap day is a day");
    service.stop().await;
}

/// What is overdue in quiet hours is not looked for again and again, but at their end.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_end_of_quiet_hours_is_looked_for_then() {
    let service = idle(at("2027-01-15T12:00:00Z")).await;
    let sender = service.account(false).await;
    let mut new = request(1, Routing::Parallel, true);
    let quiet_hours = Some(QuietHours { from_minute: 20 * 60, until_minute: 8 * 60 });
    new.reminder_policy = Some(ReminderPolicy { quiet_hours, ..ReminderPolicy::default() });
    new.recipients[0].time_zone = "Asia/Kathmandu".into();
    let sent = sender.create(new).await.unwrap();
    // 03:45 there, days after it was due.
    service.clock.advance(at("2027-01-20T22:00:00Z") - service.clock.now());
    let sweeper = sweeper(&service).await;
    sweeper.tick().await.unwrap();
    assert_eq!(counts(&sender.get(&sent.id).await.unwrap()), [0]);
    let looked_for = "SELECT extract(epoch FROM reminder_at)::bigint FROM envelope";
    let end = at("2027-01-21T02:15:00Z");
    assert_eq!(service.database.number(looked_for).await, end.timestamp());
    service.clock.advance(end - service.clock.now());
    sweeper.tick().await.unwrap();
    assert_eq!(counts(&sender.get(&sent.id).await.unwrap()), [1]);
    service.stop().await;
}
