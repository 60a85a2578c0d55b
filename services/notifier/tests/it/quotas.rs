//! How many mails leave, what an owner hears of an endpoint, and what is forgotten.
//! Must never lose a mail that only has to wait.

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::{EnvelopeStatus, EventType, RecipientStatus};
use countersign_chassis::ticker::Progress;
use countersign_notifier::id::{AccountId, EndpointId, EnvelopeId};
use countersign_notifier::store::{MailRoom, Quota};
use futures_util::future::join_all;

use crate::letters::{headers, person, read, words};
use crate::mailserver::MailServer;
use crate::receiver::Receiver;
use crate::stand::Stand;

const PENDING: &str = "SELECT count(*) FROM mail WHERE state = 1";
const SENT: &str = "SELECT count(*) FROM mail WHERE state = 2";
const SUPPRESSED: &str = "SELECT count(*) FROM mail WHERE state = 3";

async fn posting_to(server: &MailServer, address_max: u32, account_max: u32) -> Stand {
    let url = server.url.clone();
    Stand::with(|config| {
        config.smtp_url = Some(url.as_str().into());
        config.mail.mail_address_hourly_max = address_max;
        config.mail.mail_account_hourly_max = account_max;
    })
    .await
}

/// Plans an invitation to that address, in an envelope of its own.
async fn invited(stand: &mut Stand, address: &str) {
    stand.envelope = EnvelopeId::new();
    let mut people = [person(1, "Ewa", RecipientStatus::Released, true)];
    people[0].email = address.to_owned();
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    stand.happens_among(EventType::RecipientReleased, &people, people.first());
    stand.follow().await;
}

/// Several at once, as in production, until nothing is due.
async fn post(stand: &Stand) {
    join_all((0..4).map(|_| stand.post_mails())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_flooded_and_nothing_is_lost() {
    let server = MailServer::start(None).await;
    let mut stand = posting_to(&server, 5, 1_000).await;
    for number in 0..12 {
        // However it is written, it is one mailbox.
        let address =
            if number % 2 == 0 { format!("Zoe+{number}@People.example") } else { "zoe@people.example".into() };
        invited(&mut stand, &address).await;
        invited(&mut stand, &format!("p{number}@people.example")).await;
    }
    post(&stand).await;
    let to_zoe = || server.taken().iter().filter(|mail| mail.to.to_lowercase().starts_with("zoe")).count();
    assert_eq!((to_zoe(), server.taken().len()), (5, 17), "others are not held up");
    stand.later(TimeDelta::minutes(59));
    post(&stand).await;
    assert_eq!(to_zoe(), 5, "not before the hour is over");
    for expected in [10, 12] {
        stand.later(TimeDelta::minutes(61));
        post(&stand).await;
        stand.later(TimeDelta::minutes(6));
        post(&stand).await;
        assert_eq!(to_zoe(), expected);
    }
    assert_eq!((stand.number(SENT).await, stand.number(PENDING).await), (24, 0));
    assert_eq!(stand.number("SELECT count(*) FROM mail WHERE attempts <> 1").await, 0, "waiting is no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_sends_very_many_waits_and_others_do_not() {
    let server = MailServer::start(None).await;
    let mut stand = posting_to(&server, 100, 6).await;
    for number in 0..10 {
        invited(&mut stand, &format!("p{number}@people.example")).await;
    }
    let first = stand.account;
    stand.account = AccountId::new();
    invited(&mut stand, "p0@people.example").await;
    post(&stand).await;
    assert_eq!(server.taken().len(), 7);
    let waiting = format!("SELECT count(*) FROM mail WHERE state = 1 AND account_id = '{}'", first.uuid());
    assert_eq!(stand.number(&waiting).await, 4);
    stand.later(TimeDelta::minutes(67));
    post(&stand).await;
    assert_eq!(server.taken().len(), 11);
}

/// What cannot leave costs the envelope service no question, and no document is fetched for it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_an_account_whose_hour_is_full() {
    let server = MailServer::start(None).await;
    let mut stand = posting_to(&server, 100, 2).await;
    for number in 0..6 {
        invited(&mut stand, &format!("p{number}@people.example")).await;
    }
    stand.post_mails().await;
    let asked = || stand.double.script().asked_by.len();
    assert_eq!((server.taken().len(), asked()), (2, 4), "a link and an envelope for each that left");
    stand.later(TimeDelta::minutes(66));
    stand.post_mails().await;
    assert_eq!((server.taken().len(), asked()), (4, 8));
    assert_eq!(stand.number("SELECT count(*) FROM mail WHERE state = 1 AND in_line").await, 2);
}

/// New mails do not take the room that others wait for.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_hour_leaves_in_the_order_of_its_plan() {
    let server = MailServer::start(None).await;
    let mut stand = posting_to(&server, 100, 2).await;
    for number in 0..6 {
        invited(&mut stand, &format!("p{number}@people.example")).await;
        stand.later(TimeDelta::seconds(1));
    }
    stand.post_mails().await;
    assert_eq!(server.taken().len(), 2);
    // There is room again just now, and those that wait for it come within five minutes.
    stand.later(TimeDelta::minutes(60));
    for number in 6..8 {
        invited(&mut stand, &format!("p{number}@people.example")).await;
        stand.later(TimeDelta::seconds(1));
    }
    for _ in 0..60 {
        stand.post_mails().await;
        stand.later(TimeDelta::minutes(5));
    }
    let order: Vec<_> = server.taken().iter().map(|mail| mail.to.clone()).collect();
    assert_eq!(order.len(), 8);
    for (hour, left) in order.chunks(2).enumerate() {
        let mut left: Vec<_> = left.iter().map(String::as_str).collect();
        left.sort_unstable();
        let [first, second] = [hour * 2, hour * 2 + 1].map(|number| format!("p{number}@people.example"));
        assert_eq!(left, [first, second], "{order:?}");
    }
}

/// A mail that is tried again is counted once: an outage of the server does not use up the hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_counted_once_however_often_it_is_tried() {
    let server = MailServer::start(Some("450 4.2.1 busy")).await;
    let mut stand = posting_to(&server, 2, 1_000).await;
    invited(&mut stand, "zoe@people.example").await;
    for _ in 0..3 {
        post(&stand).await;
        stand.later(TimeDelta::minutes(7));
    }
    server.rules(std::sync::Arc::new(|_, _, _| None));
    invited(&mut stand, "zoe@people.example").await;
    stand.later(TimeDelta::minutes(35));
    post(&stand).await;
    assert_eq!(server.taken().len(), 2);
}

/// Several processes at once, and not one mail more.
#[tokio::test(flavor = "multi_thread")]
async fn processes_together_keep_to_the_quota() {
    let mut stand = Stand::new().await;
    for _ in 0..40 {
        invited(&mut stand, "zoe@people.example").await;
    }
    let (store, now) = (&stand.notifier.store, stand.clock.now());
    let mut claims = Vec::new();
    for _ in 0..40 {
        claims.push(store.claim_mail(now, now + TimeDelta::minutes(5), true).await.unwrap().expect("due"));
    }
    let quota = Quota { address_max: 7, account_max: 9 };
    let asked = claims.iter().enumerate().map(|(index, claimed)| {
        let address = if index % 2 == 0 { [1; 32] } else { [2; 32] };
        async move { store.take_mail_quota(claimed, &[address], now, now, quota).await.unwrap() }
    });
    let rooms = join_all(asked).await;
    assert_eq!(rooms.iter().filter(|room| **room == MailRoom::Taken).count(), 9);
    let later = MailRoom::At(now + TimeDelta::hours(1));
    assert!(rooms.iter().all(|room| [MailRoom::Taken, later].contains(room)), "when there is room again");
}

/// An endpoint of the account that was disabled just now.
async fn disabled(stand: &Stand, livemode: bool, reason: i16) -> EndpointId {
    let receiver = Receiver::start([]).await;
    let endpoint = stand.endpoint(&receiver).await;
    let at = stand.clock.now().to_rfc3339();
    let id = endpoint.id.uuid();
    let account = stand.account.uuid();
    stand
        .sql(&format!(
            "UPDATE endpoint SET disabled_at = '{at}', disabled_reason = {reason}, livemode = {livemode} WHERE id = '{id}';
             INSERT INTO endpoint_notice (account_id, endpoint_id, livemode, disabled_at, reason)
             VALUES ('{account}', '{id}', {livemode}, '{at}', {reason})"
        ))
        .await;
    endpoint.id
}

fn contact(stand: &Stand, email: &str) {
    let settings = v1::AccountSettings { contact_email: email.to_owned(), locale: "de".into(), ..Default::default() };
    let account = v1::Account { name: "Quay Holding".to_owned(), settings: Some(settings), ..Default::default() };
    stand.double.script().accounts.insert(stand.account.to_string(), account);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_hears_once_that_an_endpoint_was_disabled() {
    for (reason, why) in [(1, "HTTP-Status 410"), (2, "mehrere Tage")] {
        let stand = Stand::new().await;
        contact(&stand, "ops@people.example");
        let endpoint = disabled(&stand, true, reason).await;
        assert_eq!(stand.notifier.mailer.notice().await.unwrap(), Progress::Busy);
        assert_eq!(stand.notifier.mailer.notice().await.unwrap(), Progress::Idle);
        stand.post_mails().await;
        let [file] = &stand.mail_files()[..] else { panic!("not one mail") };
        let bytes = std::fs::read(file).unwrap();
        let (mail, text) = (read(&bytes), words(&read(&bytes)));
        assert_eq!(crate::letters::addressee(&mail).1, "ops@people.example");
        assert!(mail.subject().unwrap().contains(&endpoint.to_string()));
        assert!(text.contains(why) && text.contains("Quay Holding"), "{text}");
        assert!(!text.contains("http://") && !text.contains("href") && !text.contains("whsec_"), "{text}");
        assert!(mail.message_id().unwrap().contains(&endpoint.to_string()));
        assert!(!headers(&mail).contains(&"list-unsubscribe".to_owned()));
        // As after a crash between the plan and its mark: the same mail is there already.
        stand.sql("UPDATE endpoint_notice SET mailed_at = NULL").await;
        stand.notifier.mailer.notice().await.unwrap();
        assert_eq!(stand.number("SELECT count(*) FROM mail").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_hears_nothing_without_a_reason() {
    // No address is given.
    let stand = Stand::new().await;
    contact(&stand, "");
    disabled(&stand, true, 1).await;
    stand.notifier.mailer.notice().await.unwrap();
    stand.post_mails().await;
    assert_eq!((stand.mail_files().len(), stand.number(SUPPRESSED).await), (0, 1));
    // It was enabled again meanwhile.
    let stand = Stand::new().await;
    contact(&stand, "ops@people.example");
    disabled(&stand, true, 1).await;
    stand.notifier.mailer.notice().await.unwrap();
    stand.sql("UPDATE endpoint SET disabled_at = NULL, disabled_reason = NULL").await;
    stand.post_mails().await;
    assert_eq!((stand.mail_files().len(), stand.number(SUPPRESSED).await), (0, 1));
    // One of test events is told of in the folder only.
    let server = MailServer::start(None).await;
    let stand = posting_to(&server, 10, 10).await;
    contact(&stand, "ops@people.example");
    disabled(&stand, false, 2).await;
    stand.notifier.mailer.notice().await.unwrap();
    stand.post_mails().await;
    assert_eq!((stand.mail_files().len(), server.taken().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_mails_are_forgotten_after_a_month_and_do_not_come_again() {
    let mut stand = Stand::new().await;
    invited(&mut stand, "p1@people.example").await;
    stand.post_mails().await;
    invited(&mut stand, "p2@people.example").await;
    let token = "SELECT count(*) FROM mail";
    stand.later(TimeDelta::days(29));
    assert_eq!(stand.notifier.mailer.forget().await.unwrap(), Progress::Idle);
    stand.later(TimeDelta::days(1) + TimeDelta::seconds(1));
    assert_eq!(stand.notifier.mailer.forget().await.unwrap(), Progress::Busy);
    assert_eq!((stand.number(token).await, stand.number(PENDING).await), (1, 1), "what waits is kept");
    // The feed starts over: what was forgotten is not planned again.
    stand.sql("DELETE FROM feed_partition").await;
    stand.follow().await;
    assert_eq!(stand.number(token).await, 1);
}
