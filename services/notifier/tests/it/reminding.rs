//! Reminders, and how mails look: whether there still is a reason is asked at the moment of sending, in the recipient's
//! language and by their clocks, under the account's brand.
//! Must never remind somebody who has acted, is muted, or whose turn is over.

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::{EnvelopeStatus, EventType, RecipientRole, RecipientStatus};
use countersign_chassis::wire::timestamp;

use crate::letters::{addressee, headers, person, read, with_role, words};
use crate::stand::Stand;

const SUPPRESSED: &str = "SELECT count(*) FROM mail WHERE state = 3";

/// A recipient who was reminded just now for the second time, and the event that says so; the mail is planned, not sent.
async fn reminded(stand: &Stand, role: RecipientRole) -> (v1::Recipient, String) {
    let mut people = [with_role(person(1, "Ewa", RecipientStatus::Released, true), role)];
    people[0].invited_at = Some(timestamp(stand.clock.now() - TimeDelta::days(3)));
    people[0].last_reminder_at = Some(timestamp(stand.clock.now()));
    people[0].reminders = 2;
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    let deadline = stand.clock.now() + TimeDelta::days(30);
    stand.envelope_changes(|envelope| envelope.expires_at = Some(timestamp(deadline)));
    let event = stand.happens_among(EventType::RecipientReminderDue, &people, people.first());
    stand.follow().await;
    let [recipient] = people;
    (recipient, event)
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_57_a_reminder_holds_the_link_and_says_how_often() {
    for (role, subject, owed) in [
        (RecipientRole::Signer, "Reminder, please sign: ", "your signature"),
        (RecipientRole::Approver, "Reminder, please approve: ", "your approval"),
    ] {
        let stand = Stand::new().await;
        let (recipient, event) = reminded(&stand, role).await;
        stand.envelope_changes(|envelope| {
            envelope.expires_at = "2031-07-03T23:05:00Z".parse().ok().map(timestamp);
            envelope.recipients[0].time_zone = "Europe/Lisbon".to_owned();
            envelope.message = "Not again".to_owned();
        });
        stand.post_mails().await;
        let bytes = stand.mail(&event, &recipient, "reminder").expect("the reminder");
        let (mail, text) = (read(&bytes), words(&read(&bytes)));
        assert_eq!(mail.subject().unwrap(), format!("{subject}Lease of 12 Quay Street"));
        assert!(text.contains("This is reminder no. 2.") && text.contains(owed), "{text}");
        assert!(text.contains("4 July 2031, 00:05 (Europe/Lisbon, UTC+1)"), "{text}");
        assert!(text.contains(&format!("#cst_{}", recipient.id)) && !text.contains("Not again"), "{text}");
        assert!(text.contains("no more reminders"), "{text}");
        assert!(!headers(&mail).contains(&"list-unsubscribe".to_owned()), "nobody was named who reads it");
    }
}

/// What happened between the event and the mail.
type Meanwhile = (&'static str, fn(&Stand, &mut v1::Envelope));

#[tokio::test(flavor = "multi_thread")]
async fn t38_t39_a_reminder_without_a_reason_is_not_sent() {
    let meanwhile: [Meanwhile; 10] = [
        ("signed", |_, it| it.recipients[0].status = RecipientStatus::Signed.into()),
        ("declined", |_, it| it.recipients[0].status = RecipientStatus::Declined.into()),
        ("voided", |_, it| it.recipients[0].status = RecipientStatus::ReleasedByVoid.into()),
        ("not needed", |_, it| it.recipients[0].status = RecipientStatus::NotNeeded.into()),
        ("not in turn", |_, it| it.recipients[0].status = RecipientStatus::Waiting.into()),
        ("muted", |stand, it| it.recipients[0].reminders_muted_at = Some(timestamp(stand.clock.now()))),
        ("came back", |stand, it| it.recipients[0].bounced_at = Some(timestamp(stand.clock.now()))),
        ("invited again", |stand, it| it.recipients[0].invited_at = Some(timestamp(stand.clock.now()))),
        ("reminded again", |stand, it| it.recipients[0].last_reminder_at = Some(timestamp(stand.clock.now()))),
        ("late", |stand, it| it.expires_at = Some(timestamp(stand.clock.now()))),
    ];
    for (what, change) in meanwhile {
        let stand = Stand::new().await;
        reminded(&stand, RecipientRole::Signer).await;
        stand.later(TimeDelta::seconds(1));
        stand.envelope_changes(|envelope| change(&stand, envelope));
        stand.post_mails().await;
        assert_eq!((stand.mail_files().len(), stand.number(SUPPRESSED).await), (0, 1), "{what}");
    }
    // The envelope ended: there is no link any more.
    let stand = Stand::new().await;
    reminded(&stand, RecipientRole::Signer).await;
    stand.double.script().links.clear();
    stand.post_mails().await;
    assert_eq!((stand.mail_files().len(), stand.number(SUPPRESSED).await), (0, 1));
}

/// Mail came back earlier, and the sender asks for a reminder all the same: it is tried.
#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_by_hand_is_tried_though_an_earlier_mail_came_back() {
    let stand = Stand::new().await;
    let (recipient, event) = reminded(&stand, RecipientRole::Signer).await;
    stand.envelope_changes(|envelope| {
        envelope.recipients[0].bounced_at = Some(timestamp(stand.clock.now() - TimeDelta::hours(1)));
    });
    stand.post_mails().await;
    assert!(stand.is_mailed(&event, &recipient, "reminder"));
}

/// After days of standing still all reminders of that time are there at once: the newest is sent.
#[tokio::test(flavor = "multi_thread")]
async fn t43_of_several_reminders_one_is_sent() {
    let stand = Stand::new().await;
    for _ in 0..4 {
        reminded(&stand, RecipientRole::Signer).await;
        stand.later(TimeDelta::days(3));
    }
    let people = stand.double.script().envelopes[&stand.envelope.to_string()].recipients.clone();
    let event = stand.happens_among(EventType::RecipientReminderDue, &people, people.first());
    let now = timestamp(stand.clock.now());
    stand.envelope_changes(|envelope| envelope.recipients[0].last_reminder_at = Some(now));
    stand.follow().await;
    stand.post_mails().await;
    assert!(stand.is_mailed(&event, &people[0], "reminder"));
    assert_eq!(stand.mail_files().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_reminders_can_write_to_an_address_that_opens_nothing() {
    let stand = Stand::with(|config| config.mail.unsubscribe_mailto = Some("stop@countersign.example".into())).await;
    let (recipient, event) = reminded(&stand, RecipientRole::Signer).await;
    stand.post_mails().await;
    let raw = String::from_utf8(stand.mail(&event, &recipient, "reminder").unwrap()).unwrap();
    let head = raw.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
    let header = head.lines().find_map(|line| line.strip_prefix("List-Unsubscribe: ")).expect("the header");
    assert_eq!(header, format!("<mailto:stop@countersign.example?subject={}>", recipient.id));
    assert!(!head.contains("cst_") && !head.contains("One-Click"), "{head}");
}

/// An account with a brand, an address for what goes wrong, and a language.
fn branded(stand: &Stand, name: &str) {
    let brand = v1::Brand {
        name: name.to_owned(),
        color: "#ffcc00".to_owned(),
        logo_url: "https://quay.example.com/logo.png".to_owned(),
    };
    let settings = v1::AccountSettings {
        brand: Some(brand),
        locale: "fr".to_owned(),
        time_zone: "Europe/Paris".to_owned(),
        ..Default::default()
    };
    let account = v1::Account { name: "Quay Holding".to_owned(), settings: Some(settings), ..Default::default() };
    stand.double.script().accounts.insert(stand.account.to_string(), account);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_in_the_recipients_language_under_the_accounts_brand() {
    for (locale, subject, lang) in [
        ("pt-BR", "Lembrete, para assinar: ", "pt"),
        ("", "Rappel, à signer : ", "fr"),
        ("ja", "Reminder, please ", "en"),
    ] {
        let stand = Stand::new().await;
        branded(&stand, "Quay & Söhne");
        let (recipient, event) = reminded(&stand, RecipientRole::Signer).await;
        stand.envelope_changes(|envelope| envelope.recipients[0].locale = locale.to_owned());
        stand.post_mails().await;
        let bytes = stand.mail(&event, &recipient, "reminder").unwrap();
        let mail = read(&bytes);
        assert!(mail.subject().unwrap().starts_with(subject), "{:?}", mail.subject());
        let html = mail.body_html(0).unwrap();
        assert!(html.contains(&format!("<html lang=\"{lang}\"")) && html.contains("#ffcc00"), "{html}");
        assert!(html.contains("<img src=\"https:&#x2f;&#x2f;quay.example.com&#x2f;logo.png\" alt=\"Quay &amp; S"));
        assert!(html.contains("Europe/Paris") || html.contains("Europe&#x2f;Paris"), "the account's clocks: {html}");
        let from = mail.from().unwrap().first().unwrap();
        assert_eq!(from.name(), Some("Quay & Söhne via Countersign"));
        assert_eq!(from.address(), Some("no-reply@countersign.example"));
        assert_eq!(addressee(&mail).1, "p1@people.example");
        assert!(mail.reply_to().is_none());
        let automatic = mail.header("Auto-Submitted").unwrap().as_text().unwrap();
        assert_eq!(automatic, "auto-generated");
    }
}

/// A brand is from outside like any other text.
#[tokio::test(flavor = "multi_thread")]
async fn t57_a_brand_does_no_harm() {
    let logos = ["javascript:alert(1)", "http://elsewhere.example/dot.png", "https://a:b@elsewhere.example/dot.png"];
    for ((name, from), logo) in [
        ("Evil\r\nBcc: all@elsewhere.example", "Countersign"),
        ("ceo@bank.example", "Countersign"),
        ("\u{202E}knaB\u{202C} <b>", "knaB <b> via Countersign"),
        ("=?utf-8?q?Bank?=", "= ?utf-8?q?Bank?= via Countersign"),
        (&"x".repeat(5_000), &format!("{} via Countersign", "x".repeat(100))),
        ("", "Quay Holding via Countersign"),
    ]
    .into_iter()
    .zip(logos.into_iter().cycle())
    {
        let stand = Stand::new().await;
        branded(&stand, name);
        let ill = |account: &mut v1::Account| {
            let brand = account.settings.as_mut().unwrap().brand.as_mut().unwrap();
            brand.color = "red;background:url(https://elsewhere.example)".to_owned();
            brand.logo_url = logo.to_owned();
        };
        stand.double.script().accounts.values_mut().for_each(ill);
        let (recipient, event) = reminded(&stand, RecipientRole::Signer).await;
        stand.post_mails().await;
        let bytes = stand.mail(&event, &recipient, "reminder").unwrap();
        let mail = read(&bytes);
        let raw = String::from_utf8_lossy(&bytes).into_owned();
        let head = raw.split("\r\n\r\n").next().unwrap();
        assert!(head.is_ascii() && head.lines().all(|line| line.len() <= 998), "{head}");
        assert!(!headers(&mail).contains(&"bcc".to_owned()), "{head}");
        assert_eq!(mail.from().unwrap().first().unwrap().name(), Some(from), "{head}");
        let html = mail.body_html(0).unwrap();
        assert!(!html.contains("<b>") && !html.contains("url(") && !html.contains("<img"), "{html}");
        assert!(!html.contains("javascript") && html.contains("#1d4ed8"), "{html}");
    }
}

/// Names that would turn a line around, end a header or hide in one.
#[tokio::test(flavor = "multi_thread")]
async fn t57_headers_hold_one_line_of_each_name() {
    for name in [
        "a\r\nBcc: x@elsewhere.example",
        "a\nBcc: x@elsewhere.example",
        "a\rBcc: x@elsewhere.example",
        "a\0b",
        "a\u{85}Bcc: x@elsewhere.example\u{2028}c",
        "=?utf-8?q?=0D=0ABcc=3A_x=40elsewhere.example?=",
        "\u{202E}moc.elpmaxe@x\u{202C}",
        &"long ".repeat(2_000),
        &"語".repeat(3_000),
        "\"; <x@elsewhere.example>, (",
        "שלום",
    ] {
        let stand = Stand::new().await;
        let people = [person(1, name, RecipientStatus::Released, true)];
        stand.envelope_is(EnvelopeStatus::Sent, &people);
        stand.envelope_changes(|envelope| envelope.subject = name.to_owned());
        let event = stand.happens_among(EventType::RecipientReleased, &people, people.first());
        stand.follow().await;
        stand.post_mails().await;
        let bytes = stand.mail(&event, &people[0], "invitation").expect("the mail");
        let mail = read(&bytes);
        let raw = String::from_utf8_lossy(&bytes).into_owned();
        let head = raw.split("\r\n\r\n").next().unwrap();
        assert!(head.is_ascii() && head.lines().all(|line| line.len() <= 998), "{head}");
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{head:?}");
        assert!(!headers(&mail).contains(&"bcc".to_owned()), "{head}");
        assert_eq!(addressee(&mail).1, "p1@people.example", "{head}");
        assert!(!mail.subject().unwrap().contains(['\u{202E}', '\r', '\n', '\0']), "{head}");
        assert!(!words(&mail).contains(['\u{202E}', '\0', '\u{2028}']), "{name:?}");
    }
}
