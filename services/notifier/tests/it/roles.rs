//! Mails by role: who is asked for what, who gets a copy, who is warned, who is told though nobody asked them, and that
//! whoever has lost a place hears nothing of it.
//! Must never find a link in a mail to somebody who has no session.

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1;
use countersign::v1::{Cause, DocumentVersion, EnvelopeStatus, EventType, RecipientRole, RecipientStatus};
use countersign_chassis::wire::timestamp;
use countersign_notifier::id::WatcherId;

use crate::letters::{addressee, headers, person, read, with_role, words};
use crate::stand::Stand;

const SUPPRESSED: &str = "SELECT count(*) FROM mail WHERE state = 3";
const ORIGINAL: &[u8] = b"%PDF-1.7 original";
const SIGNED: &[u8] = b"%PDF-1.7 signed";

/// A document of that size, in both versions.
fn has_document(stand: &Stand, size_bytes: u64) {
    let signed = v1::Artifact { version: DocumentVersion::Signed.into(), size_bytes, ..Default::default() };
    let document = v1::Document {
        id: "doc_01h455vb4pex5vsknk084sn02q".to_owned(),
        name: "Lease.pdf".to_owned(),
        size_bytes,
        artifacts: vec![signed],
        ..Default::default()
    };
    for (version, bytes) in [(DocumentVersion::Original, ORIGINAL), (DocumentVersion::Signed, SIGNED)] {
        stand.double.script().documents.insert((document.id.clone(), version), bytes.to_vec());
    }
    stand.envelope_changes(|envelope| envelope.documents.push(document));
}

/// The envelope is watched from that address.
fn is_watched(stand: &Stand) -> String {
    let id = WatcherId::new().to_string();
    let watcher = v1::Watcher { id: id.clone(), email: "watcher@people.example".to_owned() };
    stand.envelope_changes(|envelope| envelope.watchers.push(watcher));
    id
}

/// Plans and sends all that follows.
async fn settle(stand: &Stand) {
    stand.follow().await;
    stand.post_mails().await;
}

fn at(text: &str) -> Option<DateTime<Utc>> {
    text.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_asked_for_what_is_theirs() {
    for (role, subject, asked, power) in [
        (RecipientRole::Signer, "Please sign: ", "asked you to sign “", "can sign in your name"),
        (RecipientRole::Approver, "Please approve: ", "asked you to approve “", "can approve in your name"),
        (RecipientRole::Viewer, "Please read: ", "asked you to read “", "can read the documents"),
        (RecipientRole::Assistant, "Please fill in: ", "fields to prepare for the signer", "can fill in fields"),
    ] {
        let stand = Stand::new().await;
        let people = [with_role(person(1, "Ewa", RecipientStatus::Released, true), role)];
        stand.envelope_is(EnvelopeStatus::Sent, &people);
        let event = stand.happens_among(EventType::RecipientReleased, &people, people.first());
        settle(&stand).await;
        let bytes = stand.mail(&event, &people[0], "invitation").expect("the mail");
        let mail = read(&bytes);
        let text = words(&mail);
        assert_eq!(mail.subject().unwrap(), format!("{subject}Lease of 12 Quay Street"));
        assert!(text.contains(asked) && text.contains(power), "{text}");
        assert!(text.contains(&format!("#cst_{}", people[0].id)), "{text}");
        let asks = |text: &str| [" sign ", " sign:", "and sign"].iter().any(|word| text.contains(word));
        assert_eq!(asks(&text) || asks(mail.subject().unwrap()), role == RecipientRole::Signer, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_holds_the_originals_and_no_link() {
    for (size, attached) in [(1_000, 1), (7 * 1024 * 1024 + 1, 0)] {
        let stand = Stand::new().await;
        let people = [with_role(person(1, "Ada Copy", RecipientStatus::Released, true), RecipientRole::Cc)];
        stand.envelope_is(EnvelopeStatus::Sent, &people);
        has_document(&stand, size);
        stand.envelope_changes(|envelope| envelope.message = "For your <b>files</b>".to_owned());
        let event = stand.happens_among(EventType::RecipientReleased, &people, people.first());
        settle(&stand).await;
        let bytes = stand.mail(&event, &people[0], "copy").expect("the copy");
        let mail = read(&bytes);
        let text = words(&mail);
        assert_eq!((stand.mail_files().len(), mail.attachment_count()), (1, attached));
        if let Some(attachment) = mail.attachment(0) {
            assert_eq!(attachment.contents(), ORIGINAL);
        }
        assert!(mail.subject().unwrap().contains("Lease of 12 Quay Street"));
        assert!(mail.body_text(0).unwrap().contains("For your <b>files</b>"));
        assert!(
            !text.contains("cst_") && !text.contains("href") && !mail.body_html(0).unwrap().contains("<b>"),
            "{text}"
        );
    }
}

/// The most that is attached still fits into what servers take by default: 10,240,000 bytes.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_copy_is_not_too_large_for_a_usual_server() {
    const LARGEST: usize = 7 * 1024 * 1024;
    let stand = Stand::new().await;
    let people = [with_role(person(1, "Ada Copy", RecipientStatus::Released, true), RecipientRole::Cc)];
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    has_document(&stand, LARGEST as u64);
    for bytes in stand.double.script().documents.values_mut() {
        *bytes = vec![b'%'; LARGEST];
    }
    let event = stand.happens_among(EventType::RecipientReleased, &people, people.first());
    settle(&stand).await;
    let bytes = stand.mail(&event, &people[0], "copy").expect("the copy");
    assert_eq!(read(&bytes).attachment_count(), 1);
    assert!(bytes.len() < 10_240_000, "{}", bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_owe_an_act_are_warned_with_their_link() {
    let stand = Stand::new().await;
    let people = [
        person(1, "Signs", RecipientStatus::Released, true),
        with_role(person(2, "Approves", RecipientStatus::Released, true), RecipientRole::Approver),
        with_role(person(3, "Reads", RecipientStatus::Released, true), RecipientRole::Viewer),
        person(4, "Signed", RecipientStatus::Signed, true),
        person(5, "Waits", RecipientStatus::Waiting, false),
        person(6, "Signs meanwhile", RecipientStatus::Released, true),
    ];
    stand.envelope_is(EnvelopeStatus::PartiallySigned, &people);
    let now = stand.clock.now();
    stand.envelope_changes(|envelope| {
        envelope.expires_at = at("2031-02-03T04:05:00Z").map(timestamp);
        envelope.expiry_warned_at = Some(timestamp(now));
        envelope.message = "Not again".to_owned();
    });
    let event = stand.happens_among(EventType::EnvelopeExpiring, &people, None);
    stand.follow().await;
    stand.envelope_changes(|envelope| envelope.recipients[5].status = RecipientStatus::Signed.into());
    stand.post_mails().await;
    let warned = people.each_ref().map(|recipient| stand.is_mailed(&event, recipient, "expiry_warning"));
    assert_eq!(warned, [true, true, false, false, false, false]);
    for (recipient, owed) in [(&people[0], "your signature"), (&people[1], "your approval")] {
        let bytes = stand.mail(&event, recipient, "expiry_warning").unwrap();
        let text = words(&read(&bytes));
        assert!(text.contains("3 February 2031, 04:05 (UTC)") && text.contains(owed), "{text}");
        assert!(text.contains(&format!("#cst_{}", recipient.id)) && !text.contains("Not again"), "{text}");
    }
}

/// Whoever got more time is not told that it runs out.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_warned_of_a_deadline_that_was_moved() {
    let stand = Stand::new().await;
    let people = [person(1, "Ewa", RecipientStatus::Released, true)];
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    stand.happens_among(EventType::EnvelopeExpiring, &people, None);
    settle(&stand).await;
    assert_eq!((stand.mail_files().len(), stand.number(SUPPRESSED).await), (0, 1));
}

/// An envelope at its end among people of all roles.
async fn ends(stand: &Stand, kind: EventType, status: EnvelopeStatus, people: &[v1::Recipient]) -> (String, String) {
    stand.envelope_is(status, people);
    has_document(stand, 1_000);
    let watcher = is_watched(stand);
    let event = stand.happens_among(kind, people, None);
    settle(stand).await;
    (event, watcher)
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_10_a_completion_is_told_to_those_who_acted_and_those_who_read() {
    let stand = Stand::new().await;
    let people = [
        person(1, "Signed", RecipientStatus::Signed, true),
        with_role(person(2, "Approved", RecipientStatus::Approved, true), RecipientRole::Approver),
        with_role(person(3, "Copied at the end", RecipientStatus::Waiting, false), RecipientRole::Cc),
        with_role(person(4, "Could read", RecipientStatus::Released, true), RecipientRole::Viewer),
        with_role(person(5, "Could not yet read", RecipientStatus::Waiting, false), RecipientRole::Viewer),
        person(6, "Not needed", RecipientStatus::NotNeeded, true),
        with_role(person(7, "Helped", RecipientStatus::Released, true), RecipientRole::Assistant),
    ];
    let (event, watcher) = ends(&stand, EventType::EnvelopeCompleted, EnvelopeStatus::Completed, &people).await;
    let told = people.each_ref().map(|recipient| stand.is_mailed(&event, recipient, "completed"));
    assert_eq!(told, [true, true, true, true, false, false, false]);
    assert_eq!(stand.mail_files().len(), 5, "and the watcher");
    let bytes = stand.mail(&event, &people[2], "completed").unwrap();
    assert_eq!(read(&bytes).attachment(0).unwrap().contents(), SIGNED);
    let bytes = stand.mail_to(&event, &watcher, "completed").expect("the watcher is told");
    assert_eq!(read(&bytes).attachment_count(), 0, "a watcher gets no documents");
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_10_a_failure_is_told_to_those_who_knew_and_not_to_those_not_needed() {
    let stand = Stand::new().await;
    let people = [
        with_role(person(1, "Refused", RecipientStatus::Declined, true), RecipientRole::Approver),
        with_role(person(2, "Had a copy", RecipientStatus::ReleasedByDecline, true), RecipientRole::Cc),
        with_role(person(3, "Had none", RecipientStatus::ReleasedByDecline, false), RecipientRole::Cc),
        with_role(person(4, "Helps", RecipientStatus::ReleasedByDecline, true), RecipientRole::Assistant),
        person(5, "Not needed", RecipientStatus::NotNeeded, true),
        with_role(person(6, "Approved", RecipientStatus::Approved, true), RecipientRole::Approver),
    ];
    let (event, _) = ends(&stand, EventType::EnvelopeDeclined, EnvelopeStatus::Declined, &people).await;
    let told = people.each_ref().map(|recipient| stand.is_mailed(&event, recipient, "fell_through"));
    assert_eq!(told, [false, true, false, true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_hear_of_every_end_without_name_or_link() {
    for (kind, status, mail_kind) in [
        (EventType::EnvelopeCompleted, EnvelopeStatus::Completed, "completed"),
        (EventType::EnvelopeDeclined, EnvelopeStatus::Declined, "fell_through"),
        (EventType::EnvelopeVoided, EnvelopeStatus::Voided, "fell_through"),
        (EventType::EnvelopeExpired, EnvelopeStatus::Expired, "fell_through"),
    ] {
        let stand = Stand::new().await;
        let people = [person(1, "Never Invited", RecipientStatus::Waiting, false)];
        let (event, watcher) = ends(&stand, kind, status, &people).await;
        let bytes = stand.mail_to(&event, &watcher, mail_kind).expect("the watcher is told");
        let mail = read(&bytes);
        assert_eq!(addressee(&mail), (String::new(), "watcher@people.example".to_owned()));
        let text = words(&mail);
        assert!(text.starts_with("Hello,") && text.contains(">Hello,</p>"), "{text}");
        assert!(!text.contains("cst_") && !text.contains("href") && !text.contains("Never Invited"), "{text}");
        assert_eq!((mail.attachment_count(), stand.mail_files().len()), (0, 1));
        assert!(mail.message_id().unwrap().contains(&watcher));
    }
}

/// A watcher's address is from outside like any other.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_with_a_harmful_address_do_no_harm() {
    let stand = Stand::new().await;
    stand.envelope_is(EnvelopeStatus::Voided, &[]);
    is_watched(&stand);
    stand.envelope_changes(|envelope| {
        envelope.watchers[0].email = "watcher@people.example\r\nBcc: all@elsewhere.example".to_owned();
    });
    stand.happens_among(EventType::EnvelopeVoided, &[], None);
    settle(&stand).await;
    for file in stand.mail_files() {
        let bytes = std::fs::read(file).unwrap();
        assert!(!headers(&read(&bytes)).contains(&"bcc".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_who_took_it_back() {
    for (cause, word) in [
        (Cause::Sender, "the sender has taken it back"),
        (Cause::Operator, "the operator of the service has taken it back"),
        (Cause::IngestFailed, "a document could not be read"),
    ] {
        let stand = Stand::new().await;
        let people = [person(1, "Ewa", RecipientStatus::ReleasedByVoid, true)];
        stand.envelope_is(EnvelopeStatus::Voided, &people);
        stand.envelope_changes(|envelope| envelope.cause = cause.into());
        let event = stand.happens_among(EventType::EnvelopeVoided, &people, None);
        settle(&stand).await;
        let bytes = stand.mail(&event, &people[0], "fell_through").expect("told");
        assert!(words(&read(&bytes)).contains(word), "{cause:?}");
    }
}

/// The place is given to somebody else before the first invitation has left: only the second leaves, to the new person.
#[tokio::test(flavor = "multi_thread")]
async fn t25_an_invitation_of_an_earlier_person_is_suppressed() {
    for (role, kind) in [(RecipientRole::Signer, "invitation"), (RecipientRole::Cc, "copy")] {
        for change in [EventType::RecipientReassigned, EventType::RecipientDelegated] {
            let stand = Stand::new().await;
            let people = [with_role(person(1, "Earlier Person", RecipientStatus::Released, true), role)];
            stand.envelope_is(EnvelopeStatus::Sent, &people);
            has_document(&stand, 1_000);
            let older = stand.happens_among(EventType::RecipientReleased, &people, people.first());
            stand.later(TimeDelta::seconds(1));
            let newer = stand.happens_among(change, &people, people.first());
            let now = stand.clock.now();
            stand.envelope_changes(|envelope| {
                envelope.recipients[0].name = "New Person".to_owned();
                envelope.recipients[0].email = "new@people.example".to_owned();
                envelope.recipients[0].invited_at = Some(timestamp(now));
            });
            settle(&stand).await;
            assert!(!stand.is_mailed(&older, &people[0], kind), "the older one is suppressed");
            let bytes = stand.mail(&newer, &people[0], kind).expect("the newer one");
            assert_eq!(addressee(&read(&bytes)), ("New Person".to_owned(), "new@people.example".to_owned()));
            assert!(!words(&read(&bytes)).contains("Earlier Person"));
            assert_eq!((stand.mail_files().len(), stand.number(SUPPRESSED).await), (1, 1));
        }
    }
}

/// The place is given to somebody else between two questions of the same mail: the new link must not reach the old person.
#[tokio::test(flavor = "multi_thread")]
async fn t25_a_new_link_never_goes_to_the_earlier_person() {
    for (kind, name) in [(EventType::RecipientReleased, "invitation"), (EventType::EnvelopeExpiring, "expiry_warning")]
    {
        let stand = Stand::new().await;
        let people = [person(1, "Earlier Person", RecipientStatus::Released, true)];
        stand.envelope_is(EnvelopeStatus::Sent, &people);
        let now = timestamp(stand.clock.now());
        stand.envelope_changes(|envelope| envelope.expiry_warned_at = Some(now));
        let event = stand.happens_among(kind, &people, people.first());
        let (envelope, recipient) = (stand.envelope.to_string(), people[0].id.clone());
        stand.double.script().meanwhile = Some(Box::new(move |script| {
            script.envelopes.get_mut(&envelope).unwrap().recipients[0].email = "new@people.example".to_owned();
            script.links.insert(recipient, "https://sign.example.com/s#cst_new".to_owned());
        }));
        settle(&stand).await;
        let bytes = stand.mail(&event, &people[0], name).expect("the mail");
        let mail = read(&bytes);
        assert_eq!(addressee(&mail).1, "new@people.example", "{name}");
    }
}

/// Before their turn nobody is invited, so neither is whoever gets the place then.
#[tokio::test(flavor = "multi_thread")]
async fn t25_a_place_that_waits_is_given_away_without_a_mail() {
    let stand = Stand::new().await;
    let people = [person(1, "Waits", RecipientStatus::Waiting, false)];
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    stand.happens_among(EventType::RecipientReassigned, &people, people.first());
    settle(&stand).await;
    assert_eq!(stand.number("SELECT count(*) FROM mail").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_goes_out_again() {
    let stand = Stand::new().await;
    let people = [person(1, "Ewa", RecipientStatus::Released, true)];
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    stand.envelope_changes(|envelope| envelope.recipients[0].invited_at = Some(timestamp(stand.clock.now())));
    let first = stand.happens_among(EventType::RecipientReleased, &people, people.first());
    settle(&stand).await;
    stand.later(TimeDelta::minutes(20));
    stand.envelope_changes(|envelope| envelope.recipients[0].invited_at = Some(timestamp(stand.clock.now())));
    let second = stand.happens_among(EventType::RecipientResent, &people, people.first());
    settle(&stand).await;
    let invited = |event: &str| stand.is_mailed(event, &people[0], "invitation");
    assert!(invited(&first) && invited(&second));
}
