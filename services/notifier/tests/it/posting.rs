//! Mails on their way out: a real server that refuses, hangs and drops at every stage. Nothing is lost, nothing comes twice but
//! in the window behind the last dot, and what is the server's fault costs no mail an attempt.
//! Must never wait for real time: the clock is moved.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::{EnvelopeStatus, ErrorReason, EventType, RecipientStatus};
use countersign_chassis::keys::sha256;
use countersign_notifier::id::EnvelopeId;
use countersign_notifier::store::{MailRoom, MailSettled, Quota};
use countersign_test_support::certificates::{Authority, Use, write};
use futures_util::future::join_all;

use crate::letters::{person, read};
use crate::mailserver::{Act, MailServer, Rule, Stage};
use crate::stand::Stand;

const PENDING: &str = "SELECT count(*) FROM mail WHERE state = 1";
const SENT: &str = "SELECT count(*) FROM mail WHERE state = 2";
const BOUNCED: &str = "SELECT count(*) FROM mail WHERE state IN (5, 6)";
const REPORTED: &str = "SELECT count(*) FROM mail WHERE state = 6 AND bounced_sha256 IS NULL";
const ATTEMPTS: &str = "SELECT coalesce(sum(attempts), 0) FROM mail";

async fn posting_to(server: &MailServer) -> Stand {
    let url = server.url.clone();
    Stand::with(|config| {
        config.smtp_url = Some(url.as_str().into());
        config.mail.smtp_timeout_ms = 1_000;
    })
    .await
}

/// One recipient whose turn it is.
async fn invited(stand: &Stand) -> v1::Recipient {
    let people = [person(1, "Ewa", RecipientStatus::Released, true)];
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    stand.happens_among(EventType::RecipientReleased, &people, people.first());
    stand.follow().await;
    let [recipient] = people;
    recipient
}

fn at(stage: Stage, act: Act) -> Rule {
    Arc::new(move |asked, _, _| (asked == stage).then(|| act.clone()))
}

fn says(answer: &str) -> Act {
    Act::Say(answer.to_owned())
}

fn usual() -> Rule {
    Arc::new(|_, _, _| None)
}

/// What the server does before it has heard of the recipient is the same for all mails: they wait, and no attempt is spent.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_server_costs_no_attempt() {
    let acts = [
        (Stage::Greeting, says("554 no service here")),
        (Stage::Greeting, Act::Drop),
        (Stage::Greeting, Act::Hang),
        (Stage::Hello, says("421 closing")),
        (Stage::Sender, says("550 5.1.1 we do not know you")),
        (Stage::Sender, says("451 later")),
        (Stage::Sender, Act::Drop),
    ];
    for (stage, act) in acts {
        let server = MailServer::with(at(stage, act.clone())).await;
        let stand = posting_to(&server).await;
        invited(&stand).await;
        // More often than there are attempts.
        for _ in 0..if act == Act::Hang { 2 } else { 15 } {
            stand.post_mails().await;
            stand.later(TimeDelta::seconds(30));
        }
        let found = (stand.number(PENDING).await, stand.number(ATTEMPTS).await);
        assert_eq!(found, (1, 0), "{stage:?} {act:?}");
        server.rules(usual());
        stand.post_mails().await;
        assert_eq!((stand.number(SENT).await, server.taken().len()), (1, 1), "{stage:?} {act:?}");
    }
    // Nobody is there at all.
    let stand = Stand::with(|config| config.smtp_url = Some("smtp://127.0.0.1:1".into())).await;
    invited(&stand).await;
    stand.post_mails().await;
    assert_eq!((stand.number(PENDING).await, stand.number(ATTEMPTS).await), (1, 0));
}

/// Nor does it wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_cannot_be_tried_for_a_week_is_given_up() {
    let server = MailServer::with(at(Stage::Greeting, Act::Drop)).await;
    let stand = posting_to(&server).await;
    invited(&stand).await;
    for _ in 0..8 {
        stand.post_mails().await;
        assert_eq!(stand.number(PENDING).await, 1);
        stand.later(TimeDelta::hours(21));
    }
    stand.later(TimeDelta::minutes(1));
    stand.post_mails().await;
    assert_eq!(stand.number("SELECT count(*) FROM mail WHERE state = 4").await, 1);
}

/// A server that is away is left alone for a while, by all mails.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_left_alone() {
    let server = MailServer::with(at(Stage::Greeting, Act::Drop)).await;
    let stand = posting_to(&server).await;
    let people: Vec<_> = (1..6).map(|number| person(number, "Ewa", RecipientStatus::Released, true)).collect();
    stand.envelope_is(EnvelopeStatus::Sent, &people);
    for recipient in &people {
        stand.happens_among(EventType::RecipientReleased, &people, Some(recipient));
    }
    stand.follow().await;
    stand.post_mails().await;
    assert_eq!(server.connections(), 1, "the others did not even ask");
    stand.later(TimeDelta::seconds(14));
    stand.post_mails().await;
    assert_eq!(server.connections(), 1);
    stand.later(TimeDelta::seconds(2));
    stand.post_mails().await;
    assert_eq!(server.connections(), 2);
    assert_eq!(stand.number(ATTEMPTS).await, 0);
}

/// From the recipient on it is about this mail: each try counts, by the schedule.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_mail_is_tried_again_by_the_schedule() {
    let acts = [
        (Stage::Recipient, says("450 4.2.1 busy")),
        (Stage::Recipient, says("421 4.7.28 too many")),
        (Stage::Recipient, says("554 5.7.1 policy")),
        (Stage::Recipient, Act::Drop),
        (Stage::Data, says("451 later")),
        (Stage::Data, says("554 no")),
        (Stage::Data, Act::Drop),
        (Stage::Bytes, Act::Drop),
        (Stage::Dot, says("452 4.3.1 full")),
        (Stage::Dot, says("550 looks like spam")),
        (Stage::Dot, Act::Drop),
    ];
    for (stage, act) in acts {
        let server = MailServer::with(at(stage, act.clone())).await;
        let stand = posting_to(&server).await;
        invited(&stand).await;
        stand.post_mails().await;
        stand.later(TimeDelta::seconds(3));
        stand.post_mails().await;
        assert_eq!((server.asked(stage), stand.number(ATTEMPTS).await), (1, 1), "{stage:?} {act:?}: not before 5 s");
        stand.later(TimeDelta::seconds(4));
        stand.post_mails().await;
        assert_eq!((server.asked(stage), stand.number(ATTEMPTS).await), (2, 2), "{stage:?} {act:?}");
        server.rules(usual());
        stand.later(TimeDelta::minutes(7));
        stand.post_mails().await;
        assert_eq!((stand.number(SENT).await, server.taken().len()), (1, 1), "{stage:?} {act:?}");
        assert!(stand.double.script().bounces.is_empty());
    }
}

/// A server that hangs at any stage ends with its timeout, long before the claim.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_holds_nobody() {
    for stage in [Stage::Recipient, Stage::Data, Stage::Dot, Stage::Taken] {
        let server = MailServer::with(at(stage, Act::Hang)).await;
        let url = server.url.clone();
        let stand = Stand::with(|config| {
            config.smtp_url = Some(url.as_str().into());
            config.mail.smtp_timeout_ms = 300;
        })
        .await;
        invited(&stand).await;
        let lease = "SELECT count(*) FROM mail WHERE lease_until > next_at + interval '120 seconds'";
        let (_, leased) = tokio::join!(stand.post_mails(), async {
            while server.asked(stage) == 0 {
                tokio::task::yield_now().await;
            }
            stand.number(lease).await
        });
        assert_eq!(leased, 1, "{stage:?}: the claim outlasts all that is done under it");
        assert_eq!((stand.number(PENDING).await, stand.number(ATTEMPTS).await), (1, 1), "{stage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_does_not_exist_is_reported() {
    let server = MailServer::start(Some("550 5.1.1 no such user:")).await;
    let stand = posting_to(&server).await;
    let recipient = invited(&stand).await;
    stand.double.script().bounces_refused = Some(ErrorReason::RateLimitExceeded);
    stand.post_mails().await;
    assert_eq!((stand.number(BOUNCED).await, stand.number(REPORTED).await), (1, 0), "still to be reported");
    stand.later(TimeDelta::minutes(1));
    stand.double.script().away = true;
    stand.post_mails().await;
    stand.double.script().away = false;
    stand.double.script().bounces_refused = None;
    stand.later(TimeDelta::minutes(1));
    stand.post_mails().await;
    assert_eq!((stand.number(BOUNCED).await, stand.number(REPORTED).await), (1, 1));
    let bounces = std::mem::take(&mut stand.double.script().bounces);
    assert_eq!(bounces.len(), 2, "at least once");
    assert_eq!(bounces[0], bounces[1], "the same each time, with the same key");
    assert_eq!(bounces[0].recipient_id, recipient.id);
    assert_eq!(bounces[0].address_sha256, hex::encode(sha256(recipient.email.as_bytes())));
    assert_eq!(server.asked(Stage::Recipient), 1, "and it is final");
    stand.later(TimeDelta::days(2));
    stand.post_mails().await;
    assert_eq!((stand.double.script().bounces.len(), server.asked(Stage::Recipient)), (0, 1));
}

/// What the envelope service does not want to know is done, and a refusal that stays is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_that_nobody_wants_is_done() {
    for (reason, reports) in [(ErrorReason::NotFound, 1), (ErrorReason::RateLimitExceeded, 10)] {
        let server = MailServer::start(Some("550 5.1.1 no such user:")).await;
        let stand = posting_to(&server).await;
        invited(&stand).await;
        stand.double.script().bounces_refused = Some(reason);
        for _ in 0..12 {
            stand.post_mails().await;
            stand.later(TimeDelta::hours(30));
        }
        assert_eq!(stand.number(REPORTED).await, 1, "{reason:?}");
        assert_eq!(stand.double.script().bounces.len(), reports, "{reason:?}");
    }
}

/// Connections are used again, and one that died meanwhile is not a failure.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_used_again() {
    let server = MailServer::with(usual()).await;
    let stand = posting_to(&server).await;
    for _ in 0..10 {
        invited(&stand).await;
        stand.post_mails().await;
    }
    assert_eq!((server.taken().len(), server.connections()), (10, 1));
    // It says goodbye to whoever comes again.
    server.rules(Arc::new(|stage, _, count| (stage == Stage::Sender && count == 10).then(|| says("421 too old"))));
    invited(&stand).await;
    stand.post_mails().await;
    assert_eq!((server.taken().len(), server.connections(), stand.number(ATTEMPTS).await), (11, 2, 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_over_tls_to_whom_the_ca_vouches_for_and_to_nobody_else() {
    let (ca, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let server = MailServer::encrypted(ca.issue(Use::Server, &["127.0.0.1"]).write(folder.path(), "mail")).await;
    let (ours, other) = (write(folder.path(), "ca.pem", &ca.pem), Authority::new("other"));
    let other = write(folder.path(), "other.pem", &other.pem);
    for (authority, taken) in [(other, 0), (ours, 1)] {
        let url = format!("{}?tls=required", server.url);
        let stand = Stand::with(|config| {
            config.smtp_url = Some(url.as_str().into());
            config.mail.smtp_ca = Some(authority);
        })
        .await;
        invited(&stand).await;
        stand.post_mails().await;
        assert_eq!((server.taken().len(), stand.number(ATTEMPTS).await), (taken, i64::try_from(taken).unwrap()));
    }
    // A server, or somebody in its place, that does not offer TLS is told nothing.
    let bare = MailServer::with(usual()).await;
    let url = format!("{}?tls=required", bare.url);
    let stand = Stand::with(|config| config.smtp_url = Some(url.as_str().into())).await;
    invited(&stand).await;
    stand.post_mails().await;
    assert_eq!((bare.asked(Stage::Sender), stand.number(PENDING).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_other_letters_needs_a_server_that_carries_it() {
    for (server, taken) in [(MailServer::international().await, 1), (MailServer::with(usual()).await, 0)] {
        let stand = posting_to(&server).await;
        let people = [person(1, "用户", RecipientStatus::Released, true)];
        stand.envelope_is(EnvelopeStatus::Sent, &people);
        stand.envelope_changes(|envelope| envelope.recipients[0].email = "用户@bücher.example".to_owned());
        stand.happens_among(EventType::RecipientReleased, &people, people.first());
        stand.follow().await;
        stand.post_mails().await;
        let found: Vec<_> = server.taken().into_iter().map(|mail| mail.to).collect();
        assert_eq!(found, vec!["用户@xn--bcher-kva.example"; taken]);
        assert_eq!(stand.double.script().bounces.len(), 1 - taken, "else the sender hears of it");
    }
    // The domain alone is written in ASCII, which every server takes.
    let server = MailServer::with(usual()).await;
    let stand = posting_to(&server).await;
    invited(&stand).await;
    stand.envelope_changes(|envelope| envelope.recipients[0].email = "zoe@bücher.example".to_owned());
    stand.post_mails().await;
    assert_eq!(server.taken()[0].to, "zoe@xn--bcher-kva.example");
}

/// One of the numbers below `most`, the same for the same words.
fn drawn(seed: u64, words: &str, most: u64) -> u64 {
    let hash = sha256(format!("{seed}/{words}").as_bytes());
    u64::from_be_bytes(hash[..8].try_into().unwrap()) % most
}

/// What the ill server does, by the address and how often it has seen it: the same in every run.
fn ill(seed: u64) -> Rule {
    Arc::new(move |stage, address, count| {
        let draw = drawn(seed, &format!("{stage:?}/{address}/{count}"), 100);
        match (stage, draw) {
            (Stage::Recipient, _) if address.starts_with("gone") => Some(says("550 5.1.1 no such user")),
            (Stage::Greeting | Stage::Hello | Stage::Sender, 0..3) => Some(says("421 closing")),
            (Stage::Greeting | Stage::Hello | Stage::Sender, 3..6) => Some(Act::Drop),
            (Stage::Recipient | Stage::Data | Stage::Bytes | Stage::Dot, 0..4) => Some(Act::Drop),
            (Stage::Recipient | Stage::Data | Stage::Dot, 4..8) => Some(says("451 4.3.0 later")),
            (Stage::Recipient | Stage::Data | Stage::Dot, 8..10) => Some(says("554 5.7.1 not today")),
            (Stage::Taken, 0..10) => Some(Act::Drop),
            _ => None,
        }
    })
}

/// Hundreds of mails, four at a time, to a server that is ill in every way: nothing is lost, and what came twice came twice
/// because the server had taken it and said nothing, with the same Message-ID.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_comes_twice_but_behind_the_last_dot() {
    const MAILS: usize = 300;
    let seed = 20_261_121;
    let server = MailServer::with(ill(seed)).await;
    let mut stand = posting_to(&server).await;
    let mut addresses = HashSet::new();
    for number in 0..MAILS {
        stand.envelope = EnvelopeId::new();
        let mut people = [person(1, "Ewa", RecipientStatus::Released, true)];
        people[0].email = format!("{}{number}@people.example", if number % 20 == 0 { "gone" } else { "p" });
        addresses.insert(people[0].email.clone());
        stand.envelope_is(EnvelopeStatus::Sent, &people);
        stand.happens_among(EventType::RecipientReleased, &people, people.first());
    }
    stand.follow().await;
    for _ in 0..200 {
        join_all((0..4).map(|_| stand.post_mails())).await;
        if stand.number(PENDING).await == 0 {
            break;
        }
        stand.later(TimeDelta::minutes(13));
    }
    let gone = addresses.iter().filter(|address| address.starts_with("gone")).count();
    let sent = i64::try_from(MAILS - gone).unwrap();
    assert_eq!((stand.number(SENT).await, stand.number(REPORTED).await), (sent, i64::try_from(gone).unwrap()));
    assert_eq!(stand.double.script().bounces.len(), gone);
    let mut taken: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in server.taken() {
        taken.entry(mail.to).or_default().push(read(mail.text.as_bytes()).message_id().unwrap().to_owned());
    }
    assert_eq!(taken.len(), MAILS - gone, "each was taken");
    let rule = ill(seed);
    let mut doubled = 0;
    for (address, ids) in &taken {
        // Each time the server took it and said nothing it came again, and the last time it was told.
        let expected = (0..).take_while(|count| rule(Stage::Taken, address, *count).is_some()).count() + 1;
        assert_eq!(ids.len(), expected, "{address}");
        assert!(ids.iter().all(|id| *id == ids[0]), "{address}: the same Message-ID");
        doubled += expected - 1;
    }
    let ids: HashSet<_> = taken.values().map(|ids| &ids[0]).collect();
    assert_eq!(ids.len(), taken.len(), "each has its own");
    assert!(doubled > 5, "the window was met: {doubled}");
    assert!(server.asked(Stage::Recipient) > MAILS + 30, "the server was ill");
}

/// Who was away for longer than their claim holds writes nothing: the mail is another's.
#[tokio::test(flavor = "multi_thread")]
async fn who_lost_a_claim_settles_nothing() {
    let stand = Stand::new().await;
    invited(&stand).await;
    let (store, now) = (&stand.notifier.store, stand.clock.now());
    let second = now + TimeDelta::seconds(1);
    let first = store.claim_mail(now, second, true).await.unwrap().expect("due");
    assert_eq!(store.claim_mail(now, second, true).await.unwrap(), None, "it is claimed");
    let again =
        store.claim_mail(second, second + TimeDelta::seconds(1), true).await.unwrap().expect("the claim ran out");
    assert!(!store.settle_mail(&first, MailSettled::Dead, second).await.unwrap());
    assert!(store.settle_mail(&again, MailSettled::Sent, second).await.unwrap());
    assert!(!store.settle_mail(&again, MailSettled::Dead, second).await.unwrap(), "settled once");
    assert_eq!(stand.number(SENT).await, 1);
}

/// Nor does it send anything: while it asked for what the mail needs its claim ran out, and another may be sending it by now.
#[tokio::test(flavor = "multi_thread")]
async fn who_lost_a_claim_sends_nothing() {
    let server = MailServer::with(usual()).await;
    let stand = posting_to(&server).await;
    invited(&stand).await;
    let clock = stand.clock.clone();
    stand.double.script().meanwhile = Some(Box::new(move |_| {
        clock.advance(TimeDelta::minutes(10));
    }));
    stand.notifier.mailer.tick().await.unwrap();
    assert_eq!((server.asked(Stage::Sender), stand.number(PENDING).await, stand.number(ATTEMPTS).await), (0, 1, 0));
    stand.post_mails().await;
    assert_eq!((server.taken().len(), stand.number(SENT).await), (1, 1), "it is claimed anew");
    // Where another has it: it is not counted, and the other may.
    invited(&stand).await;
    let (store, now, minute) = (&stand.notifier.store, stand.clock.now(), TimeDelta::minutes(1));
    let first = store.claim_mail(now, now + minute, true).await.unwrap().expect("due");
    let later = now + minute;
    let second = store.claim_mail(later, later + minute, true).await.unwrap().expect("the claim ran out");
    let quota = Quota { address_max: 1, account_max: 10 };
    for (claimed, until, expected) in [
        (&first, later, MailRoom::Lost),
        (&second, later + minute * 2, MailRoom::Lost),
        (&second, later + minute, MailRoom::Taken),
    ] {
        assert_eq!(store.take_mail_quota(claimed, &[[1; 32]], later, until, quota).await.unwrap(), expected);
    }
}

/// A server that takes no mail so large takes the one that says where the documents are: at once, and whoever sends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_too_large_for_the_server_goes_without_its_documents() {
    let too_large: Rule = Arc::new(|stage, _, count| match (stage, count) {
        (Stage::Dot, 0) => Some(says("552 5.3.4 Message size exceeds fixed limit")),
        // Nor does what happens to the small one bring them back.
        (Stage::Dot, 1) => Some(says("451 4.3.0 later")),
        _ => None,
    });
    let server = MailServer::with(too_large).await;
    let stand = posting_to(&server).await;
    let people = [person(1, "Ewa", RecipientStatus::Signed, true)];
    stand.envelope_is(EnvelopeStatus::Completed, &people);
    let version = v1::DocumentVersion::Signed;
    let artifacts = vec![v1::Artifact { version: version.into(), size_bytes: 1_000, ..Default::default() }];
    let document = v1::Document { id: "doc_01h455vb4pex5vsknk084sn02q".to_owned(), artifacts, ..Default::default() };
    stand.double.script().documents.insert((document.id.clone(), version), b"%PDF-1.7 signed".to_vec());
    stand.envelope_changes(|envelope| envelope.documents.push(document));
    stand.happens_among(EventType::EnvelopeCompleted, &people, None);
    stand.follow().await;
    stand.post_mails().await;
    assert_eq!((server.asked(Stage::Dot), stand.number(ATTEMPTS).await), (2, 1), "the size is not an attempt's fault");
    stand.later(TimeDelta::seconds(7));
    stand.post_mails().await;
    let [taken] = &server.taken()[..] else { panic!("not one mail") };
    assert_eq!(read(taken.text.as_bytes()).attachment_count(), 0);
    assert!(taken.text.contains("too large"), "{}", taken.text);
    // A mail that is too large without documents is refused like any other.
    let server = MailServer::with(at(Stage::Dot, says("552 5.3.4 too big"))).await;
    let stand = posting_to(&server).await;
    invited(&stand).await;
    stand.post_mails().await;
    assert_eq!((server.asked(Stage::Dot), stand.number(ATTEMPTS).await), (1, 1));
}
