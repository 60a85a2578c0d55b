//! Reminders, and what else the service has to know so that the right people get the right mails.

mod bounces;
mod clocks;
mod many;
mod settings;

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::{
    ActorType, CreateEnvelopeRequest, Envelope, EventType, MuteRemindersRequest, RecipientRole,
    RemindRecipientsRequest, RemindRecipientsResponse, ReminderPolicy, Routing, VerifyHistoryRequest,
};
use countersign_chassis::wire::{datetime, timestamp};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Database, Errors as _, Service};
use tonic::Status;

use crate::steps::{early_token, epoch, kinds, people, until};

/// Past the first reminder of the usual policy, wherever in its quarter of an hour it is.
const FIRST: TimeDelta = TimeDelta::minutes(3 * 24 * 60 + 16);

/// A request that says nothing of reminders.
fn usual(signers: usize, routing: Routing) -> CreateEnvelopeRequest {
    CreateEnvelopeRequest { reminder_policy: None, ..request(signers, routing, true) }
}

/// A service whose own loop looks once a minute, so that a test's sweeper does what there is to do.
async fn idle(at: DateTime<Utc>) -> Service {
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = countersign_test_support::service::config(&database, &documents);
    config.sweep_ms = 60_000;
    let clock = countersign_chassis::clock::Clock::manual(at);
    Service::start_with(database, clock, documents, config).await
}

async fn remind(sender: &Caller, envelope: &Envelope, to: &[usize]) -> Result<RemindRecipientsResponse, Status> {
    let request = RemindRecipientsRequest {
        envelope_id: envelope.id.clone(),
        recipient_ids: to.iter().map(|index| envelope.recipients[*index].id.clone()).collect(),
        ..Default::default()
    };
    Ok(sender.envelopes().remind_recipients(request).await?.into_inner())
}

fn time(at: Option<prost_types::Timestamp>) -> Option<DateTime<Utc>> {
    at.map(|at| datetime(&at).unwrap())
}

/// How often each was reminded.
fn counts(envelope: &Envelope) -> Vec<u32> {
    envelope.recipients.iter().map(|recipient| recipient.reminders).collect()
}

/// S2.43, S2.44, S3.57, T-41, T-43: who owes an act is reminded by the account's or the usual policy, counted from when it
/// became their turn; after days in which nobody swept, once.
#[tokio::test(flavor = "multi_thread")]
async fn s3_57_who_owes_an_act_is_reminded() {
    let service = Service::start_at(epoch()).await;
    let sender = service.account(false).await;
    let sent = sender.create(usual(2, Routing::Sequential)).await.unwrap();
    let policy = sent.reminder_policy.unwrap();
    let three_days = Some(prost_types::Duration { seconds: 3 * 86_400, nanos: 0 });
    assert_eq!((policy.disabled, policy.at_most, policy.quiet_hours), (false, 5, None));
    assert_eq!((policy.first_after, policy.every), (three_days, three_days));
    let first = time(sent.recipients[0].next_reminder_at).unwrap();
    assert!((epoch() + TimeDelta::days(3)..epoch() + FIRST).contains(&first), "{first}");
    assert_eq!((sent.recipients[0].last_reminder_at, sent.recipients[1].next_reminder_at), (None, None));

    service.clock.advance(first - epoch());
    let now = until(&sender, &sent.id, "a reminder", |it| it.recipients[0].reminders == 1).await;
    assert_eq!(now.recipients[0].last_reminder_at, Some(timestamp(first)), "S2.43");
    assert!(time(now.recipients[0].next_reminder_at).unwrap() >= first + TimeDelta::days(3));
    let last = sender.history(&sent.id).await.unwrap().pop().unwrap().event.unwrap();
    assert_eq!((last.r#type(), last.actor.unwrap().r#type()), (EventType::RecipientReminderDue, ActorType::System));
    assert_eq!((&last.recipient_id, last.revision), (&sent.recipients[0].id, now.revision));

    service.clock.advance(TimeDelta::days(30));
    let now = until(&sender, &sent.id, "one more", |it| it.recipients[0].reminders == 2).await;
    assert_eq!(counts(&now), [2, 0], "T-43: ten were missed, one comes");
    let signer = sender.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap();
    signer.sign(&now).await.unwrap();
    let second = sender.get(&sent.id).await.unwrap();
    assert_eq!(second.recipients[0].next_reminder_at, None);
    let due = time(second.recipients[1].next_reminder_at).unwrap() - service.clock.now();
    assert!((TimeDelta::days(3)..FIRST).contains(&due), "T-41: {due}");
    service.clock.advance(FIRST);
    let now = until(&sender, &sent.id, "the next", |it| it.recipients[1].reminders == 1).await;
    assert_eq!(counts(&now), [2, 1]);
    use EventType::{RecipientReminderDue as Due, *};
    let told = kinds(&sender, &sent.id).await;
    assert_eq!(
        told,
        [EnvelopeCreated, EnvelopeSent, RecipientReleased, Due, Due, RecipientSigned, RecipientReleased, Due]
    );
    let verify = VerifyHistoryRequest { envelope_id: sent.id.clone() };
    assert!(sender.envelopes().verify_history(verify).await.unwrap().into_inner().intact);
}

/// T-42: five, by the usual policy, and none at or after the deadline; none where the sender wants none.
#[tokio::test(flavor = "multi_thread")]
async fn t42_reminders_come_to_an_end() {
    let service = idle(epoch()).await;
    let sender = service.account(false).await;
    let many = sender.create(usual(1, Routing::Parallel)).await.unwrap();
    let mut short = usual(1, Routing::Parallel);
    short.expires_at = Some(timestamp(epoch() + TimeDelta::days(7)));
    let short = sender.create(short).await.unwrap();
    let none = sender.create(request(1, Routing::Parallel, true)).await.unwrap();
    assert_eq!(none.recipients[0].next_reminder_at, None);
    let sweeper = many::sweeper(&service).await;
    for _ in 0..320 {
        sweeper.tick().await.unwrap();
        service.clock.advance(TimeDelta::hours(6));
    }
    let of = async |envelope: &Envelope| sender.get(&envelope.id).await.unwrap().recipients[0].clone();
    assert_eq!((of(&many).await.reminders, of(&many).await.next_reminder_at), (5, None));
    assert_eq!((of(&short).await.reminders, of(&none).await.reminders), (2, 0));
}

/// T-39: by hand at most once an hour, to those who owe an act and want it; it counts, and the next is put off.
#[tokio::test(flavor = "multi_thread")]
async fn t39_a_sender_reminds_by_hand() {
    let service = idle(epoch()).await;
    let sender = service.account(false).await;
    let roles = [RecipientRole::Signer, RecipientRole::Signer, RecipientRole::Viewer, RecipientRole::Cc];
    let new = CreateEnvelopeRequest { reminder_policy: None, ..people(&roles, Routing::Sequential, true) };
    let sent = sender.create(new).await.unwrap();
    let refused = async |to: &[usize]| remind(&sender, &sent, to).await.unwrap_err().reason();
    assert_eq!(refused(&[]).await, "RESEND_TOO_SOON");
    assert_eq!(refused(&[1]).await, "NOT_YOUR_TURN");
    assert_eq!(refused(&[2]).await, "ROLE_NOT_ALLOWED");
    assert_eq!(refused(&[3]).await, "ROLE_NOT_ALLOWED");
    service.clock.advance(TimeDelta::hours(1));
    let told = remind(&sender, &sent, &[0]).await.unwrap();
    let now = told.envelope.unwrap();
    assert_eq!((told.recipient_ids, counts(&now)), (vec![sent.recipients[0].id.clone()], vec![1, 0, 0, 0]));
    assert_eq!(now.recipients[0].last_reminder_at, Some(timestamp(service.clock.now())));
    let next = time(now.recipients[0].next_reminder_at).unwrap();
    assert!(next >= service.clock.now() + TimeDelta::days(3), "the clock starts anew");
    let entry = sender.history(&sent.id).await.unwrap().pop().unwrap();
    let event = entry.event.unwrap();
    assert_eq!((event.r#type(), event.actor.unwrap().r#type()), (EventType::RecipientReminderDue, ActorType::Sender));
    let soon = remind(&sender, &sent, &[]).await.unwrap_err();
    assert_eq!((soon.reason(), soon.fact("attempted_transition")), ("RESEND_TOO_SOON".into(), "REMIND".into()));

    let signer = sender.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap();
    let mute = async |caller: &Caller| caller.signer().mute_reminders(MuteRemindersRequest::default()).await;
    let own = mute(&signer).await.unwrap().into_inner().session.unwrap().recipient.unwrap();
    assert_eq!((own.reminders_muted_at, own.next_reminder_at), (Some(timestamp(service.clock.now())), None));
    let again = mute(&signer).await.unwrap().into_inner().session.unwrap();
    assert_eq!(again.revision, now.revision + 1, "once");
    let early = early_token(&service, &sender, &sent, 1).await;
    assert_eq!(mute(&early).await.unwrap_err().reason(), "NOT_YOUR_TURN");
    let reader = sender.signer_of(&sent.id, &sent.recipients[2].id).await.unwrap();
    assert_eq!(mute(&reader).await.unwrap_err().reason(), "ROLE_NOT_ALLOWED");
    service.clock.advance(FIRST + FIRST);
    assert_eq!(refused(&[0]).await, "REMINDERS_MUTED");
    assert_eq!(refused(&[]).await, "INVALID_STATE_TRANSITION", "there is nobody else");
    many::sweeper(&service).await.tick().await.unwrap();
    assert_eq!(counts(&sender.get(&sent.id).await.unwrap()), [1, 0, 0, 0]);
    signer.sign(&sent).await.unwrap();
    assert_eq!(refused(&[0]).await, "ALREADY_ACTED");
    assert_eq!(mute(&signer).await.unwrap_err().reason(), "ALREADY_ACTED");
    let stale = RemindRecipientsRequest { envelope_id: sent.id.clone(), if_revision: 1, ..Default::default() };
    service.clock.advance(TimeDelta::hours(1));
    assert_eq!(sender.envelopes().remind_recipients(stale).await.unwrap_err().reason(), "REVISION_MISMATCH");
    assert_eq!(remind(&sender, &sent, &[]).await.unwrap().recipient_ids, [sent.recipients[1].id.as_str()]);
    sender.void(&sent.id, "").await.unwrap();
    assert_eq!(refused(&[]).await, "INVALID_STATE_TRANSITION");
}

/// S2.44: a policy of one's own, also for a draft, and what it has to be like.
#[tokio::test(flavor = "multi_thread")]
async fn s2_44_a_reminder_policy_has_its_limits() {
    let service = idle(epoch()).await;
    let sender = service.account(false).await;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let hours = |from_minute, until_minute| Some(countersign::v1::QuietHours { from_minute, until_minute });
    let own = ReminderPolicy {
        disabled: false,
        first_after: seconds(3_600),
        every: seconds(90 * 86_400),
        at_most: 30,
        quiet_hours: hours(1_439, 0),
    };
    let with = |policy| CreateEnvelopeRequest { reminder_policy: Some(policy), ..request(1, Routing::Parallel, true) };
    assert_eq!(sender.create(with(own)).await.unwrap().reminder_policy, Some(own));
    for (wrong, field) in [
        (ReminderPolicy { first_after: seconds(3_599), ..own }, "first_after"),
        (ReminderPolicy { every: seconds(90 * 86_400 + 1), ..own }, "every"),
        (ReminderPolicy { every: Some(prost_types::Duration { seconds: 7_200, nanos: 1 }), ..own }, "every"),
        (ReminderPolicy { at_most: 31, ..own }, "at_most"),
        (ReminderPolicy { quiet_hours: hours(1_440, 0), ..own }, "quiet_hours.from_minute"),
        (ReminderPolicy { quiet_hours: hours(0, 1_440), ..own }, "quiet_hours.until_minute"),
        (ReminderPolicy { quiet_hours: hours(60, 60), ..own }, "quiet_hours.until_minute"),
    ] {
        let refused = sender.create(with(wrong)).await.unwrap_err();
        assert_eq!(refused.fields(), [format!("reminder_policy.{field}")], "{wrong:?}");
    }
}
