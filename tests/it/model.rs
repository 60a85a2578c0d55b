//! The service against its own rules run one command after another: whatever callers do at once, the answers and the
//! history are those of some order of their calls that agrees with real time.
//!
//! `COUNTERSIGN_MODEL_SEQUENCES` says how many sequences are played, `COUNTERSIGN_MODEL_SEED` with which seed the first one
//! is drawn; each of the others has the next seed. A seed gives the same envelope and the same commands each time; how they
//! interleave is up to the machine.

macro_rules! hold {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(format!($($why)*));
        }
    };
}

mod check;
mod doctor;
mod history;
mod plain;
mod plan;
mod run;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use countersign::v1::upload_document_request::Part;
use countersign::v1::{CreateUserTokenRequest, UploadDocumentRequest, UploadInfo, VerifyHistoryRequest};
use countersign_envelope::credential::Keyring;
use countersign_test_support::client::pdf;
use countersign_test_support::service::keys;
use countersign_test_support::{Caller, Service};
use futures_util::future::join_all;
use tonic::transport::Endpoint;

use self::doctor::LIES;
use self::plan::{RECIPIENTS_MAX, plan};
use self::run::{Stand, Trace, play};

/// Sequences of a usual run.
const SEQUENCES: u64 = 1_000;
/// Sequences that are played at a time.
const WIDTH: usize = 8;
/// Most times that as many are played again for what is drawn rarely.
const ENCORES: u64 = 4;
/// Of so many histories one is verified.
const VERIFIED: u64 = 20;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// How often what was asked was answered how.
type Tally = BTreeMap<String, BTreeMap<String, u64>>;

/// D1, T-1 to T-10, T-24.
#[tokio::test(flavor = "multi_thread")]
async fn d1_histories_are_linearizable() {
    let sequences = setting("COUNTERSIGN_MODEL_SEQUENCES").unwrap_or(SEQUENCES);
    let seed = setting("COUNTERSIGN_MODEL_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    eprintln!("COUNTERSIGN_MODEL_SEED={seed} COUNTERSIGN_MODEL_SEQUENCES={sequences}");
    let began = Instant::now();
    let service = Service::start().await;
    let sender = service.account(false).await;
    let stands = join_all((0..WIDTH).map(|_| stand(&service, &sender))).await;
    let mut tally = Tally::new();
    for encore in 0..=ENCORES {
        rehearse(&stands, seed + encore * sequences, sequences, &mut tally).await;
        // What is rare may not be among the first ones, whatever the seed.
        if sequences < SEQUENCES || covered(&tally).is_ok() {
            break;
        }
    }
    statuses(&service).await;
    eprintln!("{} sequences in {:?}:", tally["ended"].values().sum::<u64>(), began.elapsed());
    for (asked, answers) in &tally {
        eprintln!("{asked}: {answers:?}");
    }
    if sequences >= SEQUENCES {
        covered(&tally).unwrap();
    }
    service.stop().await;
}

/// Plays and judges the sequences from that seed on, one at each place at a time.
async fn rehearse(stands: &[Arc<Stand>], seed: u64, sequences: u64, tally: &mut Tally) {
    let next = Arc::new(AtomicU64::new(seed));
    let lanes = stands.iter().map(|stand| {
        let (stand, next) = (Arc::clone(stand), Arc::clone(&next));
        tokio::spawn(async move {
            let mut tally = Tally::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= seed + sequences {
                    return Ok(tally);
                }
                let trace = play(&stand, plan(number)).await;
                if let Err(why) = judge(&stand, &trace).await {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    return Err(story(&trace, &why));
                }
                count(&mut tally, &trace);
            }
        })
    });
    for lane in join_all(lanes).await {
        let lane: Result<Tally, String> = lane.unwrap();
        for (asked, answers) in lane.unwrap_or_else(|story| panic!("{story}")) {
            for (answer, times) in answers {
                *tally.entry(asked.clone()).or_default().entry(answer).or_default() += times;
            }
        }
    }
}

/// The checks themselves are checked: whatever is made up about a sequence, they tell.
#[tokio::test(flavor = "multi_thread")]
async fn d1_a_wrong_history_is_told() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let stand = stand(&service, &sender).await;
    let mut told = BTreeMap::new();
    for seed in 0..60 {
        let trace = play(&stand, plan(seed)).await;
        judge(&stand, &trace).await.unwrap_or_else(|why| panic!("{}", story(&trace, &why)));
        for (name, lie) in LIES {
            let Some(wrong) = lie(&trace) else { continue };
            let verdict = judge(&stand, &wrong).await;
            assert!(verdict.is_err(), "not told: {name}\n{}", story(&wrong, name));
            *told.entry(name).or_insert(0) += 1;
        }
    }
    assert_eq!(told.len(), LIES.len(), "no occasion for some: {told:?}");
    service.stop().await;
}

/// A place for one sequence at a time, with a connection of its own.
async fn stand(service: &Service, sender: &Caller) -> Arc<Stand> {
    let channel = Endpoint::from_shared(format!("http://{}", service.address)).unwrap().connect_lazy();
    let sender = Caller { channel: channel.clone(), ..sender.clone() };
    let operator = Caller { channel, ..service.operator(&sender.account) };
    let info = UploadInfo { name: "nda.pdf".into(), sha256: String::new(), ..Default::default() };
    let parts = [Part::Info(info), Part::Chunk(pdf().into())].map(|part| UploadDocumentRequest { part: Some(part) });
    let upload = sender.envelopes().upload_document(tokio_stream::iter(parts)).await.unwrap().into_inner();
    let mut users = Vec::new();
    for index in 0..RECIPIENTS_MAX {
        let request = CreateUserTokenRequest { email: format!("r{index}@example.com"), ..Default::default() };
        users.push(sender.accounts().create_user_token(request).await.unwrap().into_inner().user_token);
    }
    let keyring = Keyring::new(&keys().ring().unwrap());
    Arc::new(Stand {
        sender,
        operator,
        users,
        upload_id: upload.upload_id,
        keyring,
        sql: service.database.connect().await,
    })
}

async fn judge(stand: &Stand, trace: &Trace) -> Result<(), String> {
    plain::check(trace)?;
    check::check(trace)?;
    if trace.last.is_some() && trace.plan.seed.is_multiple_of(VERIFIED) {
        let request = VerifyHistoryRequest { envelope_id: trace.start.id.clone() };
        let verified = stand.sender.envelopes().verify_history(request).await.unwrap().into_inner();
        hold!(verified.intact, "{verified:?}");
        hold!(verified.intact_entries >= trace.history.len() as u64, "{verified:?}");
    }
    Ok(())
}

/// Everything about a sequence that went wrong.
fn story(trace: &Trace, why: &str) -> String {
    let seed = trace.plan.seed;
    let mut story = format!("{why}\nCOUNTERSIGN_MODEL_SEED={seed} COUNTERSIGN_MODEL_SEQUENCES=1\n{:#?}\n", trace.start);
    let began = trace.records.iter().map(|record| record.start).min().unwrap();
    let mut records: Vec<_> = trace.records.iter().collect();
    records.sort_by_key(|record| record.start);
    for record in records {
        let (from, till) = (record.start - began, record.end - began);
        let answer = &record.answer;
        let guards = (record.if_revision, record.seen_revision);
        writeln!(story, "{from:?} to {till:?}: {} {:?} {guards:?}: {answer:?}", record.tag, record.what).unwrap();
    }
    for entry in &trace.history {
        writeln!(story, "{entry:?}").unwrap();
    }
    story
}

fn count(tally: &mut Tally, trace: &Trace) {
    let mut add = |asked: &str, answer: &str| {
        *tally.entry(asked.to_owned()).or_default().entry(answer.to_owned()).or_default() += 1;
    };
    for record in &trace.records {
        let name = format!("{:?}", record.what);
        let name = name.split('(').next().unwrap();
        match &record.answer {
            Ok(_) => add(name, "ok"),
            Err(refused) => add(name, &refused.reason),
        }
    }
    let end = trace.last.as_ref().map_or("DISCARDED", |last| last.status().as_str_name());
    add("ended", end.trim_start_matches("ENVELOPE_STATUS_"));
}

/// Every call succeeded at times, every reason was given, every end was reached.
fn covered(tally: &Tally) -> Result<(), String> {
    let calls = tally.iter().filter(|(asked, _)| *asked != "ended");
    for (asked, answers) in calls.clone() {
        hold!(answers.contains_key("ok"), "{asked} never succeeded");
    }
    hold!(calls.clone().count() == 20, "{tally:?}");
    for reason in [
        "INVALID_STATE_TRANSITION",
        "REVISION_MISMATCH",
        "NOT_YOUR_TURN",
        "ALREADY_ACTED",
        "NOT_NEEDED",
        "ROLE_NOT_ALLOWED",
        "DECLINE_NOT_ALLOWED",
        "DELEGATION_NOT_ALLOWED",
        "RESEND_TOO_SOON",
        "REMINDERS_MUTED",
        "ENVELOPE_INCOMPLETE",
        "DOCUMENT_CHANGED",
        "FIELDS_CHANGED",
        "INVALID_FIELD",
        "NOT_FOUND",
        "ACTOR_SUBJECT_MISMATCH",
    ] {
        hold!(calls.clone().any(|(_, answers)| answers.contains_key(reason)), "nobody was told {reason}");
    }
    for end in ["DRAFT", "PENDING", "SENT", "PARTIALLY_SIGNED", "COMPLETED", "DECLINED", "VOIDED", "DISCARDED"] {
        hold!(tally["ended"].contains_key(end), "no envelope ended {end}");
    }
    Ok(())
}

/// The status column follows from the facts, for all envelopes.
async fn statuses(service: &Service) {
    let facts =
        ["dispatched_at", "sent_at", "first_signed_at", "completed_at", "declined_at", "voided_at", "expired_at"];
    let columns: Vec<_> = facts.iter().map(|fact| format!("{fact} IS NOT NULL")).collect();
    let sql = format!("SELECT status, {} FROM envelope", columns.join(", "));
    for row in service.database.connect().await.query(&sql, &[]).await.unwrap() {
        let status = i32::from(row.get::<_, i16>(0));
        let is = |index: usize| row.get::<_, bool>(index + 1);
        assert_eq!(status, plain::rule([0, 1, 2].map(is), [3, 4, 5, 6].map(is)), "{row:?}");
    }
}
