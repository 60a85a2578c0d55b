//! Reminders: when, to whom, how often, and never twice for one occasion.

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;
use countersign_envelope::domain::command::Command;
use countersign_envelope::domain::envelope::{Cause, Envelope};
use countersign_envelope::domain::event::EventType;
use countersign_envelope::domain::id::RecipientId;
use countersign_envelope::domain::personal::Personal;
use countersign_envelope::domain::recipient::Role::{Approver, Assistant, Cc, Signer, Viewer};
use countersign_envelope::domain::refusal::Why;
use countersign_envelope::domain::reminder::{Notices, QuietHours, ReminderPolicy, due};
use proptest::prelude::*;

use crate::play::Play;
use crate::shape::{assign, bounce, deadline, draft, rcp, start, uuid};

const LATE: TimeDelta = TimeDelta::minutes(15);

fn days(days: i64) -> TimeDelta {
    TimeDelta::days(days)
}

fn reminded(mut envelope: Envelope) -> Envelope {
    envelope.terms.reminders = ReminderPolicy::default();
    envelope
}

fn next(play: &Play, index: u128) -> Option<DateTime<Utc>> {
    play.envelope.reminder_of(play.envelope.recipient(rcp(index)).unwrap())
}

/// Whom the service reminds now.
fn prompted(play: &mut Play) -> Vec<RecipientId> {
    let before = play.history.len();
    play.tries(&Command::Prompt);
    let events = &play.history[before..];
    assert!(events.iter().all(|event| event.kind == EventType::RecipientReminderDue));
    events.iter().map(|event| event.recipient.unwrap()).collect()
}

/// T-41: counted from when it became this person's turn, not from the sending.
#[test]
fn t41_the_first_reminder_counts_from_the_release() {
    let mut play = Play::sent(reminded(draft(&[(Signer, 1), (Signer, 2)])));
    assert_eq!(next(&play, 1), None, "not their turn");
    play.wait(days(20));
    play.signs(rcp(0));
    let first = next(&play, 1).unwrap();
    assert!((play.now + days(3)..=play.now + days(3) + LATE).contains(&first), "{first}");
    assert_eq!(prompted(&mut play), []);
    play.now = first - TimeDelta::microseconds(1);
    assert_eq!(prompted(&mut play), []);
    play.now = first;
    assert_eq!(prompted(&mut play), [rcp(1)]);
    let notices = play.envelope.recipients[1].notices;
    assert_eq!((notices.reminders, notices.last_reminder_at), (1, Some(first)));
}

/// T-39: only to those who owe an act, whose turn it is, whose mails arrive and who want them.
#[test]
fn t39_nobody_else_is_reminded() {
    let people = [(Signer, 1), (Approver, 1), (Viewer, 1), (Cc, 1), (Assistant, 1), (Signer, 1), (Signer, 2)];
    let mut first = reminded(draft(&people));
    first.recipients[3].copy_on_send = true;
    let all = [rcp(0), rcp(1), rcp(5)];
    let later = |change: &dyn Fn(&mut Play)| {
        let mut play = Play::sent(first.clone());
        change(&mut play);
        play.wait(days(4));
        prompted(&mut play)
    };
    assert_eq!(later(&|_| ()), all);
    assert_eq!(later(&|play| drop(play.signs(rcp(0)))), [rcp(1), rcp(5)]);
    assert_eq!(later(&|play| drop(play.approves(rcp(1)))), [rcp(0), rcp(5)]);
    assert_eq!(later(&|play| drop(play.done(&Command::Mute { recipient: rcp(0) }))), [rcp(1), rcp(5)]);
    assert_eq!(later(&|play| drop(play.done(&bounce(rcp(5), "person5@example.com")))), [rcp(0), rcp(1)]);
    assert_eq!(later(&|play| drop(play.declines(rcp(0)))), []);
    assert_eq!(later(&|play| drop(play.done(&Command::Void { cause: Cause::Sender, reason: None }))), []);
    let mut done = Play::sent(reminded(draft(&[(Signer, 1)])));
    done.signs(rcp(0));
    done.wait(days(4));
    assert_eq!((prompted(&mut done), done.envelope.reminder_at()), (Vec::new(), None), "while it is sealed");
    let mut draft = Play::new(first);
    draft.wait(days(4));
    assert_eq!((prompted(&mut draft), draft.envelope.reminder_at()), (Vec::new(), None));
}

/// T-43: after weeks away one reminder, and the next is counted from it.
#[test]
fn t43_what_was_missed_collapses_into_one() {
    let mut play = Play::sent(reminded(draft(&[(Signer, 1)])));
    play.wait(days(40));
    assert_eq!(prompted(&mut play), [rcp(0)]);
    assert_eq!(prompted(&mut play), []);
    let again = next(&play, 0).unwrap();
    assert!((play.now + days(3)..=play.now + days(3) + LATE).contains(&again), "{again}");
}

/// T-42, S2.44: as many as the policy says, and none where it says none.
#[test]
fn t42_reminders_end_with_the_policy() {
    let mut envelope = reminded(draft(&[(Signer, 1)]));
    envelope.terms.reminders = ReminderPolicy { at_most: 3, every: days(1), ..ReminderPolicy::default() };
    let mut play = Play::sent(envelope.clone());
    let mut issued = 0;
    while play.now < deadline() {
        issued += prompted(&mut play).len();
        play.wait(TimeDelta::hours(6));
    }
    assert_eq!((issued, next(&play, 0)), (3, None));
    envelope.terms.reminders.enabled = false;
    let mut play = Play::sent(envelope);
    play.wait(days(30));
    assert_eq!((prompted(&mut play), next(&play, 0)), (Vec::new(), None));
}

/// None at the deadline or after it; moved away, it lets the next one come.
#[test]
fn t46_no_reminder_at_the_deadline() {
    let mut envelope = reminded(draft(&[(Signer, 1)]));
    envelope.expires_at = start() + days(3);
    let mut play = Play::sent(envelope);
    assert_eq!(next(&play, 0), None);
    play.done(&Command::Extend { expires_at: start() + days(4) });
    assert!(next(&play, 0).is_some_and(|at| at < start() + days(4)));
}

/// T-39, T-40: an invitation that goes out again counts as one reminder, and the clock starts anew.
#[test]
fn t40_a_resend_counts_and_restarts_the_clock() {
    let mut play = Play::sent(reminded(draft(&[(Signer, 1), (Viewer, 1)])));
    let first = next(&play, 0).unwrap();
    play.now = first - TimeDelta::hours(1);
    play.done(&Command::Resend { recipients: Vec::new(), rotate: false });
    assert_eq!(play.envelope.recipients[0].notices.reminders, 1);
    assert_eq!(play.envelope.recipients[1].notices, Notices::default(), "a reader owes nothing");
    play.now = first;
    assert_eq!(prompted(&mut play), []);
    assert!(next(&play, 0).is_some_and(|at| at >= first - TimeDelta::hours(1) + days(3)));
}

/// By hand: as often as the sender likes, once an hour, also past the policy's number; not to who wants none.
#[test]
fn t39_a_reminder_by_hand_is_hourly_and_not_capped() {
    let remind = |ids: &[u128]| Command::Remind { recipients: ids.iter().map(|id| rcp(*id)).collect() };
    let mut play = Play::sent(reminded(draft(&[(Signer, 1), (Signer, 1), (Signer, 2), (Viewer, 1)])));
    let hour = TimeDelta::hours(1);
    assert_eq!(play.refused(&remind(&[])), Why::TooSoon(start() + hour));
    assert_eq!(play.refused(&remind(&[0])), Why::TooSoon(start() + hour));
    assert_eq!(play.refused(&remind(&[2])), Why::NotYourTurn);
    assert_eq!(play.refused(&remind(&[3])), Why::Role);
    assert_eq!(play.refused(&remind(&[42])), Why::NoSuchRecipient);
    for _ in 0..10 {
        play.wait(hour);
        assert_eq!(play.done(&remind(&[0])), [EventType::RecipientReminderDue]);
        assert_eq!(play.refused(&remind(&[0])), Why::TooSoon(play.now + hour));
    }
    assert_eq!((play.envelope.recipients[0].notices.reminders, next(&play, 0)), (10, None), "they count");
    play.done(&Command::Mute { recipient: rcp(1) });
    play.wait(hour);
    assert_eq!(play.refused(&remind(&[0, 1])), Why::Muted);
    assert_eq!(play.done(&remind(&[])), [EventType::RecipientReminderDue], "who wants none is left out");
    play.again(&Command::Mute { recipient: rcp(1) });
    assert_eq!(play.refused(&Command::Mute { recipient: rcp(2) }), Why::NotYourTurn);
    assert_eq!(play.refused(&Command::Mute { recipient: rcp(3) }), Why::Role);
    // A resend is no reminder, and an hour after one it may come though they are muted.
    play.wait(hour);
    play.done(&Command::Resend { recipients: vec![rcp(1)], rotate: false });
    assert_eq!(play.refused(&remind(&[1])), Why::Muted);
    play.signs(rcp(0));
    assert_eq!(play.refused(&remind(&[0])), Why::AlreadyActed);
    assert_eq!(play.refused(&Command::Mute { recipient: rcp(0) }), Why::AlreadyActed);
}

/// What belongs to an address stays with it: a new spelling of the name, or another time zone, undoes neither an opt-out nor
/// the mark that mails come back. Somebody else begins anew.
#[test]
fn t39_an_opt_out_stays_with_its_address() {
    let mut play = Play::sent(reminded(draft(&[(Signer, 1)])));
    play.done(&Command::Mute { recipient: rcp(0) });
    play.done(&bounce(rcp(0), "person0@example.com"));
    let before = play.envelope.recipients[0].notices;
    let mut same = assign(rcp(0), "heir");
    same.person.email = Personal::new(" Person0@EXAMPLE.com ".to_owned());
    play.done(&Command::Reassign(same));
    let kept = play.envelope.recipients[0].notices;
    assert_eq!((kept.muted_at, kept.bounced_at, kept.reminders), (before.muted_at, before.bounced_at, 0));
    assert_eq!(next(&play, 0), None);
    play.done(&Command::Reassign(assign(rcp(0), "other")));
    assert_eq!(play.envelope.recipients[0].notices, Notices::default());
    assert!(next(&play, 0).is_some());
}

/// T-40: a reminder that came by itself does not keep the sender from replacing a link; an invitation of the last hour does.
#[test]
fn t40_a_reminder_does_not_hold_up_a_new_link() {
    let mut play = Play::sent(reminded(draft(&[(Signer, 1)])));
    play.now = next(&play, 0).unwrap();
    assert_eq!(prompted(&mut play), [rcp(0)]);
    let rotate = Command::Resend { recipients: vec![rcp(0)], rotate: true };
    play.wait(TimeDelta::minutes(1));
    play.done(&rotate);
    assert_eq!(play.refused(&rotate), Why::TooSoon(play.now + TimeDelta::hours(1)));
}

/// A bounce counts once, for the address that the mail went to; a new person starts anew.
#[test]
fn a_bounce_is_of_an_address_and_counts_once() {
    let mut play = Play::new(reminded(draft(&[(Signer, 1), (Signer, 2)])));
    assert_eq!(play.refused(&bounce(rcp(0), "person0@example.com")), Why::State);
    play.done(&Command::Send);
    assert_eq!(play.refused(&bounce(rcp(42), "x@example.com")), Why::NoSuchRecipient);
    play.again(&bounce(rcp(0), "somebody@example.com"));
    play.again(&bounce(rcp(1), "person1@example.com"));
    assert_eq!(play.done(&bounce(rcp(0), "person0@example.com")), [EventType::RecipientBounced]);
    play.again(&bounce(rcp(0), "person0@example.com"));
    assert_eq!(next(&play, 0), None);
    play.wait(days(1));
    play.done(&Command::Reassign(assign(rcp(0), "heir")));
    assert_eq!(play.envelope.recipients[0].notices, Notices::default());
    assert!(next(&play, 0).is_some_and(|at| at >= play.now + days(3)), "T-41: counted from the new release");
    play.again(&bounce(rcp(0), "person0@example.com"));
    play.done(&bounce(rcp(0), "heir@example.org"));
    play.done(&Command::Void { cause: Cause::Sender, reason: None });
    play.again(&bounce(rcp(1), "person1@example.com"));
}

/// D8: a clock that jumps by an hour either way at any time of the day, over the edges of quiet hours too, brings nothing
/// twice: what is next is counted from what was issued.
#[test]
fn d8_a_clock_that_jumps_reminds_nobody_twice() {
    let hour = TimeDelta::hours(1);
    for jump in [hour, -hour] {
        let mut envelope = reminded(draft(&[(Signer, 1)]));
        envelope.terms.reminders.first_after = hour;
        envelope.terms.reminders.every = hour * 2;
        envelope.terms.reminders.at_most = 30;
        envelope.terms.reminders.quiet = Some(QuietHours { from_minute: 20 * 60, until_minute: 8 * 60 });
        let mut play = Play::sent(envelope);
        let mut issued = Vec::new();
        for minutes in 0..3 * 24 * 6 {
            let true_time = start() + TimeDelta::minutes(i64::from(minutes) * 10);
            for now in [true_time, true_time + jump, true_time] {
                play.now = now;
                if !prompted(&mut play).is_empty() {
                    issued.push(now);
                }
            }
        }
        assert!(issued.len() >= 12, "{issued:?}");
        for pair in issued.windows(2) {
            assert!(pair[1] - pair[0] >= hour * 2, "{pair:?}");
        }
        let quiet = |at: &DateTime<Utc>| !(8..20).contains(&at.hour());
        assert!(!issued.iter().any(quiet), "{issued:?}");
    }
}

/// What is overdue in quiet hours waits for their end, by the clock where the recipient is.
#[test]
fn what_is_overdue_waits_for_the_end_of_quiet_hours() {
    let mut envelope = reminded(draft(&[(Signer, 1)]));
    envelope.terms.reminders.quiet = Some(QuietHours { from_minute: 20 * 60, until_minute: 8 * 60 });
    envelope.recipients[0].person.locality.zone = Some(Tz::America__New_York);
    let mut play = Play::sent(envelope);
    // 3 February 2027, 02:30 in New York; it was due on 18 January.
    play.now = at("2027-02-03T07:30:00Z");
    assert!(next(&play, 0).is_some_and(|due| due < play.now));
    assert_eq!(prompted(&mut play), []);
    let own = &play.envelope.recipients[0];
    assert_eq!(play.envelope.reminder_from(own, play.now), Some(at("2027-02-03T13:00:00Z")));
    play.now = at("2027-02-03T13:00:00Z");
    assert_eq!(prompted(&mut play), [rcp(0)]);
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// D8: days on which a clock is set, and the leap day.
#[test]
fn d8_quiet_hours_end_by_the_clock_of_that_day() {
    let hours = |from_minute, until_minute| QuietHours { from_minute, until_minute };
    for (quiet, zone, asked, end) in [
        // 02:00 becomes 03:00: there is no 02:30 on that day.
        (hours(22 * 60, 150), "America/New_York", "2027-03-14T05:00:00Z", "2027-03-14T07:00:00Z"),
        // 02:00 becomes 01:00: the first 01:30 counts, the second hour is quiet for half of it again.
        (hours(22 * 60, 90), "America/New_York", "2027-11-07T04:00:00Z", "2027-11-07T05:30:00Z"),
        (hours(22 * 60, 90), "America/New_York", "2027-11-07T06:00:00Z", "2027-11-07T06:30:00Z"),
        // By half an hour, and by none.
        (hours(60, 150), "Australia/Lord_Howe", "2027-10-02T15:15:00Z", "2027-10-02T15:30:00Z"),
        (hours(60, 150), "UTC", "2028-02-29T01:00:00Z", "2028-02-29T02:30:00Z"),
        (hours(23 * 60, 60), "UTC", "2028-02-28T23:30:00Z", "2028-02-29T01:00:00Z"),
        (hours(23 * 60, 60), "Asia/Kathmandu", "2028-02-29T18:00:00Z", "2028-02-29T19:15:00Z"),
        // All day but for a minute that this day does not have.
        (hours(121, 120), "America/New_York", "2027-03-14T05:00:00Z", "2027-03-15T06:00:00Z"),
    ] {
        let zone: Tz = zone.parse().unwrap();
        assert_eq!(quiet.end(at(asked), zone), at(end), "{quiet:?} {zone} {asked}");
        assert_eq!(quiet.end(at(end), zone), at(end), "what is not quiet has ended");
    }
}

/// Quarters of hours and odd minutes, north and south, and none.
const ZONES: [&str; 10] = [
    "Europe/Lisbon",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "America/Santiago",
    "Pacific/Chatham",
    "UTC",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The end is the first minute that is not quiet; nothing is ever due in quiet hours.
    #[test]
    fn quiet_hours_end_at_the_first_minute_that_is_not_quiet(
        zone in proptest::sample::select(&ZONES[..]),
        minute in 0_i64..6_000_000,
        second in 0_i64..60,
        from_minute in 0_u16..1_440,
        length in 1_u16..1_440,
        reminders in 0_u16..5,
        whose in 1_u128..1_000,
    ) {
        let zone: Tz = zone.parse().unwrap();
        let quiet = QuietHours { from_minute, until_minute: (from_minute + length) % 1_440 };
        let asked = at("2026-01-01T00:00:00Z") + TimeDelta::minutes(minute) + TimeDelta::seconds(second);
        let end = quiet.end(asked, zone);
        let mut look = asked;
        while quiet.hold(look, zone) {
            // To the next full minute.
            look = DateTime::from_timestamp(look.timestamp() / 60 * 60 + 60, 0).unwrap();
        }
        prop_assert_eq!(end, look);

        let policy = ReminderPolicy { quiet: Some(quiet), ..ReminderPolicy::default() };
        let notices = Notices { reminders, last_reminder_at: (reminders > 0).then_some(asked), ..Notices::default() };
        let whose = RecipientId::from_uuid(uuid(whose));
        let first = due(&policy, whose, asked, &notices, zone).unwrap();
        prop_assert!(!quiet.hold(first, zone), "{first} is quiet");
        prop_assert!(first >= asked + policy.every);
        prop_assert_eq!(due(&policy, whose, asked, &notices, zone), Some(first), "whoever asks");
    }

    /// Spread over a tenth of the interval, at most a quarter of an hour, and by nothing else than who and which.
    #[test]
    fn reminders_are_spread(hours in 1_i64..200, whose in 1_u128..u128::MAX) {
        let interval = TimeDelta::hours(hours);
        let policy = ReminderPolicy { first_after: interval, every: interval, ..ReminderPolicy::default() };
        let whose = RecipientId::from_uuid(uuid(whose));
        let late = due(&policy, whose, start(), &Notices::default(), Tz::UTC).unwrap() - start() - interval;
        prop_assert!(TimeDelta::zero() <= late && late <= (interval / 10).min(LATE), "{late}");
    }
}

/// All who were released in one second are not reminded in one second.
#[test]
fn a_herd_is_spread() {
    let policy = ReminderPolicy::default();
    let late = |whose: u128| {
        let whose = RecipientId::from_uuid(uuid(whose));
        due(&policy, whose, start(), &Notices::default(), Tz::UTC).unwrap() - start() - days(3)
    };
    let early = (1..=1_000).filter(|whose| late(*whose) < LATE / 2).count();
    assert!((400..=600).contains(&early), "{early} in the first half");
}
