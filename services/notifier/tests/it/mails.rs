//! Mails: the right words to the right people, asked anew at the moment of sending, and nothing of them in the log.
//! Must never find anybody's address or link anywhere but in their own mail.

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::{EnvelopeStatus, EventType, RecipientStatus};
use mail_parser::MimeHeaders as _;

use crate::letters::{PERSONAL, REASON, addressee, headers, is_tidy, person, read};
use crate::mailserver::MailServer;
use crate::stand::{SERVICE_TOKEN, Stand, logged};

const PENDING: &str = "SELECT count(*) FROM mail WHERE state = 1";
const SENT: &str = "SELECT count(*) FROM mail WHERE state = 2";
const SUPPRESSED: &str = "SELECT count(*) FROM mail WHERE state = 3";

/// One recipient whose turn it is, and the event that says so.
async fn invited(stand: &Stand, name: &str) -> (v1::Recipient, String) {
    let people = [person(1, name, RecipientStatus::Released, true)];
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    let event = stand.happens_among(EventType::RecipientReleased, &people, people.first());
    stand.follow().await;
    let [recipient] = people;
    (recipient, event)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_holds_the_link_and_nothing_of_it_stays_elsewhere() {
    let stand = Stand::new().await;
    let (recipient, event) = invited(&stand, "Jürgen Weißkopf").await;
    stand.post_mails().await;
    let bytes = stand.mail(&event, &recipient, "invitation").expect("the mail");
    let mail = read(&bytes);
    assert_eq!(addressee(&mail), ("Jürgen Weißkopf".to_owned(), "p1@people.example".to_owned()));
    assert!(mail.subject().unwrap().contains("Lease of 12 Quay Street"));
    let link = format!("https://sign.example.com/s#cst_{}", recipient.id);
    let text = mail.body_text(0).unwrap();
    assert!(text.split_whitespace().any(|word| word == link), "the link stands alone in the text: {text}");
    let html = mail.body_html(0).unwrap();
    assert!(html.contains("href=") && html.contains(&format!("cst_{}", recipient.id)));
    let id = mail.message_id().unwrap();
    assert!(id.contains(&event) && id.contains(&recipient.id) && id.ends_with("@countersign.example"), "{id}");
    assert!(is_tidy(stand.mail_folder()));
    let account = stand.account.to_string();
    assert!(
        stand.double.script().asked_by.iter().all(|by| *by == (format!("Bearer {SERVICE_TOKEN}"), account.clone()))
    );
    let kept = "SELECT count(*) FROM mail WHERE mail::text LIKE ANY (ARRAY['%people.' || 'example%', '%cst' || '\\_%', '%Wei_kopf%'])";
    assert_eq!(stand.number(kept).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_not_sent_once_there_is_no_reason_any_more() {
    for now in [RecipientStatus::Signed, RecipientStatus::Declined, RecipientStatus::ReleasedByVoid] {
        let stand = Stand::new().await;
        invited(&stand, "Ewa").await;
        stand.envelope_changes(|envelope| envelope.recipients[0].status = now.into());
        stand.post_mails().await;
        assert_eq!((stand.mail_files().len(), stand.number(SUPPRESSED).await), (0, 1), "{now:?}");
    }
    // The envelope ends between the two questions: the link has ended.
    let stand = Stand::new().await;
    invited(&stand, "Ewa").await;
    stand.double.script().links.clear();
    stand.post_mails().await;
    assert_eq!((stand.mail_files().len(), stand.number(SUPPRESSED).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_knew_hear_of_a_decline_and_nobody_else() {
    let stand = Stand::new().await;
    let people = [
        person(1, "Signed Already", RecipientStatus::Signed, true),
        person(2, "Callum Drever", RecipientStatus::Declined, true),
        person(3, "Was Invited", RecipientStatus::ReleasedByDecline, true),
        person(4, "Never Invited", RecipientStatus::ReleasedByDecline, false),
    ];
    stand.envelope_is(EnvelopeStatus::Declined, &people);
    let event = stand.happens_among(EventType::EnvelopeDeclined, &people, None);
    stand.follow().await;
    stand.post_mails().await;
    let told = people.each_ref().map(|recipient| stand.is_mailed(&event, recipient, "fell_through"));
    assert_eq!(told, [true, false, true, false]);
    assert_eq!(stand.mail_files().len(), 2);
    for recipient in [&people[0], &people[2]] {
        let bytes = stand.mail(&event, recipient, "fell_through").unwrap();
        let mail = read(&bytes);
        let text = format!("{}{}", mail.body_text(0).unwrap(), mail.body_html(0).unwrap());
        assert!(text.contains("declined") && text.contains("Lease of 12 Quay Street"));
        assert!(!text.contains(REASON) && !text.contains("Callum") && !text.contains("cst_"), "{text}");
        assert_eq!(addressee(&mail).1, recipient.email);
    }
}

/// The state of `envelope.declined` does not say who had been invited: it may show siblings as still RELEASED or WAITING.
#[tokio::test(flavor = "multi_thread")]
async fn who_had_been_waiting_never_hears_of_the_end() {
    for (kind, status, word) in [
        (EventType::EnvelopeDeclined, EnvelopeStatus::Declined, "declined"),
        (EventType::EnvelopeVoided, EnvelopeStatus::Voided, "sender"),
        (EventType::EnvelopeExpired, EnvelopeStatus::Expired, "deadline"),
    ] {
        let stand = Stand::new().await;
        let people = [
            person(1, "Released", RecipientStatus::Released, true),
            person(2, "Waiting", RecipientStatus::Waiting, false),
        ];
        stand.envelope_is(status, &people);
        let event = stand.happens_among(kind, &people, None);
        stand.follow().await;
        stand.post_mails().await;
        let bytes = stand.mail(&event, &people[0], "fell_through").expect("told");
        assert!(read(&bytes).body_text(0).unwrap().contains(word), "{kind:?}");
        assert!(!stand.is_mailed(&event, &people[1], "fell_through"), "{kind:?}");
    }
}

/// An envelope that everybody has signed, with its document.
async fn completed(stand: &Stand, size_bytes: u64) -> (v1::Recipient, String) {
    let people = [person(1, "Helena Marsh", RecipientStatus::Signed, true)];
    stand.envelope_is(EnvelopeStatus::Completed, &people);
    let version = v1::DocumentVersion::Signed.into();
    let document = v1::Document {
        id: "doc_01h455vb4pex5vsknk084sn02q".to_owned(),
        name: "Vertrag über \"Kähne\".pdf".to_owned(),
        artifacts: vec![v1::Artifact { version, size_bytes, ..Default::default() }],
        ..Default::default()
    };
    stand
        .double
        .script()
        .documents
        .insert((document.id.clone(), v1::DocumentVersion::Signed), b"%PDF-1.7 signed".repeat(9_000));
    stand.envelope_changes(|envelope| envelope.documents.push(document));
    let event = stand.happens_among(EventType::EnvelopeCompleted, &people, None);
    stand.follow().await;
    stand.post_mails().await;
    let [recipient] = people;
    (recipient, event)
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_documents_come_with_the_mail_that_all_is_done() {
    let stand = Stand::new().await;
    let (recipient, event) = completed(&stand, 135_000).await;
    let bytes = stand.mail(&event, &recipient, "completed").expect("the mail");
    let mail = read(&bytes);
    assert_eq!(mail.attachment_count(), 1);
    let attachment = mail.attachment(0).unwrap();
    assert_eq!(attachment.contents(), b"%PDF-1.7 signed".repeat(9_000));
    assert_eq!(attachment.content_type().unwrap().c_type, "application");
    assert!(attachment.attachment_name().unwrap().contains("über"));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_too_large_for_a_mail_are_not_fetched() {
    let stand = Stand::new().await;
    let (recipient, event) = completed(&stand, 7 * 1024 * 1024 + 1).await;
    let bytes = stand.mail(&event, &recipient, "completed").expect("the mail");
    assert_eq!(read(&bytes).attachment_count(), 0);
}

/// What is said to be small need not be.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_larger_than_was_said_is_not_taken_in() {
    let stand = Stand::new().await;
    stand.double.script().swell = true;
    let (recipient, event) = completed(&stand, 1_000).await;
    assert!(!stand.is_mailed(&event, &recipient, "completed"));
    assert_eq!((stand.number(PENDING).await, stand.number("SELECT sum(attempts) FROM mail").await), (1, 1));
}

/// Half of a contract is not sent, also if the stream says that it was all.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_was_cut_is_not_sent() {
    let stand = Stand::new().await;
    stand.double.script().cut = true;
    let (recipient, event) = completed(&stand, 135_000).await;
    assert!(!stand.is_mailed(&event, &recipient, "completed"));
    assert_eq!((stand.number(PENDING).await, stand.number("SELECT sum(attempts) FROM mail").await), (1, 1));
}

/// The mail about an envelope whose words somebody means ill with.
async fn injected(name: &str) -> (Stand, String, v1::Recipient) {
    let stand = Stand::new().await;
    let people = [person(1, name, RecipientStatus::Released, true)];
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    stand.envelope_changes(|envelope| {
        envelope.subject = "Hello\r\nX-Injected: yes\r\n\r\nbody <script>alert(1)</script> 日本".to_owned();
        envelope.message = "<img src=x> {{ name }} \" ' &".to_owned();
    });
    let event = stand.happens_among(EventType::RecipientReleased, &people, people.first());
    stand.follow().await;
    let [recipient] = people;
    (stand, event, recipient)
}

fn expect_harmless(bytes: &[u8]) {
    let raw = String::from_utf8_lossy(bytes).into_owned();
    let head = raw.split("\r\n\r\n").next().unwrap();
    let mail = read(bytes);
    let names = headers(&mail);
    assert!(!names.iter().any(|name| ["bcc", "x-injected", "cc"].contains(&name.as_str())), "{head}");
    let starts = |line: &str| line.to_lowercase().starts_with("bcc:") || line.starts_with("X-Injected");
    assert!(!head.lines().any(starts), "{head}");
    assert_eq!(addressee(&mail).1, "p1@people.example");
    let html = mail.body_html(0).unwrap();
    assert!(!html.contains("<script>") && !html.contains("<img") && !html.contains("<b>"), "{html}");
    assert!(mail.body_text(0).unwrap().contains("{{ name }}"), "the sender's braces are text");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_from_outside_stays_text() {
    for name in
        ["Eve \"Q\" <b> \\ O'Neill, Esq.", "Ève, <all@elsewhere.example>", "日本 太郎; Bcc: x@elsewhere.example"]
    {
        let (stand, event, recipient) = injected(name).await;
        stand.post_mails().await;
        expect_harmless(&stand.mail(&event, &recipient, "invitation").expect("the mail"));
    }
}

/// The envelope service takes no such name, but what it says is still from outside: a task that panics ends the process,
/// and the mail is there again after every start.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_break_in_a_name_does_no_harm() {
    let (stand, event, recipient) = injected("Eve\r\nBcc: all@elsewhere.example\r\n<b>").await;
    let mailer = stand.notifier.mailer.clone();
    let sent = tokio::spawn(async move { mailer.tick().await }).await;
    assert!(sent.is_ok(), "the mail loop panicked");
    if let Some(mail) = stand.mail(&event, &recipient, "invitation") {
        expect_harmless(&mail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_sent_twice_lies_in_the_folder_once() {
    let stand = Stand::new().await;
    let (recipient, event) = invited(&stand, "Ewa").await;
    stand.post_mails().await;
    // As after a kill between the file and the record of it.
    stand.sql("UPDATE mail SET state = 1, next_at = created_at, lease_until = NULL").await;
    stand.post_mails().await;
    assert_eq!(stand.mail_files().len(), 1);
    assert!(stand.is_mailed(&event, &recipient, "invitation"));
    assert_eq!(stand.number(SENT).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn test_mails_never_go_to_the_mail_server() {
    let server = MailServer::start(None).await;
    let url = server.url.clone();
    for folder in [true, false] {
        let stand = Stand::with(|config| {
            config.smtp_url = Some(url.as_str().into());
            config.mail_folder = config.mail_folder.take().filter(|_| folder);
        })
        .await;
        let people = [person(1, "Ewa", RecipientStatus::Released, true)];
        stand.envelope_is(EnvelopeStatus::Sent, &people);
        stand.happens_among(EventType::RecipientReleased, &people, people.first());
        stand.double.script().feed[0].livemode = false;
        stand.envelope_changes(|envelope| envelope.livemode = false);
        stand.follow().await;
        stand.post_mails().await;
        assert_eq!(stand.mail_files().len(), usize::from(folder));
        assert_eq!(stand.number(SUPPRESSED).await, i64::from(!folder));
    }
    assert!(server.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn live_mails_go_to_the_mail_server() {
    let server = MailServer::start(None).await;
    let stand = Stand::with(|config| config.smtp_url = Some(server.url.as_str().into())).await;
    invited(&stand, "Ewa Kowalczyk").await;
    stand.post_mails().await;
    let [taken] = &server.taken()[..] else { panic!("not one mail") };
    assert_eq!(addressee(&read(taken.text.as_bytes())).1, "p1@people.example");
    assert_eq!((stand.mail_files().len(), stand.number(SENT).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_logged_whatever_fails() {
    // The server's words quote the address, the way real ones do.
    for (refusal, waiting) in [("450 4.2.1 busy, try later:", 1), ("550 5.1.1 no such user:", 0)] {
        let server = MailServer::start(Some(refusal)).await;
        let stand = Stand::with(|config| config.smtp_url = Some(server.url.as_str().into())).await;
        invited(&stand, "Zanzibar Quill").await;
        stand.post_mails().await;
        assert_eq!(stand.number(PENDING).await, waiting, "tried again later, unless for good");
        stand.later(TimeDelta::minutes(10));
        stand.double.script().away = true;
        stand.post_mails().await;
    }
    let stand = Stand::new().await;
    invited(&stand, "Zanzibar Quill").await;
    stand.envelope_changes(|envelope| envelope.recipients[0].email = "not an address @people.example".to_owned());
    stand.post_mails().await;
    let logged = logged();
    assert!(logged.contains("the mail server has not taken a mail"), "the log is caught");
    let told: Vec<_> = logged.lines().filter(|line| PERSONAL.iter().any(|word| line.contains(word))).collect();
    assert!(told.is_empty(), "{told:#?}");
    assert!(!logged.contains(SERVICE_TOKEN) && !logged.contains("whsec_"), "a secret is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_is_final() {
    let server = MailServer::start(Some("550 5.1.1 no such user:")).await;
    let stand = Stand::with(|config| config.smtp_url = Some(server.url.as_str().into())).await;
    invited(&stand, "Ewa").await;
    stand.post_mails().await;
    assert_eq!(stand.number("SELECT count(*) FROM mail WHERE state = 6").await, 1);
}

/// An envelope service that is away for half a minute must not cost an invitation five.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_of_the_envelope_service_delays_little() {
    let stand = Stand::new().await;
    invited(&stand, "Ewa").await;
    stand.double.script().away = true;
    for _ in 0..6 {
        stand.post_mails().await;
        stand.later(TimeDelta::seconds(6));
    }
    stand.double.script().away = false;
    for _ in 0..6 {
        stand.post_mails().await;
        stand.later(TimeDelta::seconds(6));
    }
    assert_eq!(stand.number(SENT).await, 1);
}

/// An outage of days is not asked about every few seconds: each pause is a twentieth of the mail's age, up to ten minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_outage_is_asked_about_less_and_less() {
    let stand = Stand::new().await;
    invited(&stand, "Ewa").await;
    stand.double.script().away = true;
    for (age, pause) in [(TimeDelta::seconds(30), 5), (TimeDelta::minutes(10), 30), (TimeDelta::days(1), 600)] {
        let now = stand.clock.now();
        let (born, due) = ((now - age).to_rfc3339(), now.to_rfc3339());
        stand.sql(&format!("UPDATE mail SET created_at = '{born}', next_at = '{due}'")).await;
        stand.post_mails().await;
        let waits = format!("SELECT extract(epoch FROM next_at - '{due}')::bigint FROM mail WHERE state = 1");
        assert_eq!(stand.number(&waits).await, pause, "at the age of {age}");
    }
}

/// A signing link must not cross the network in the clear because a parameter was forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_elsewhere_needs_tls() {
    let stand = Stand::new().await;
    let mut config = stand.config.clone();
    config.smtp_url = Some("smtp://mail.elsewhere.example:25".into());
    assert!(countersign_notifier::mail::Outbox::new(&config).is_err());
}
