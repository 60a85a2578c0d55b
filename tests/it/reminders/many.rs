//! Many replicas, many reminders: each comes once. And none comes after the act that it asks for.

use std::sync::Arc;

use chrono::TimeDelta;
use countersign::v1::document_source::Source;
use countersign::v1::{DocumentSource, EventType, Routing};
use countersign_envelope::domain::command::{By, Command};
use countersign_envelope::execute::{Ask, Executor};
use countersign_envelope::store::{Scope, Store};
use countersign_envelope::sweep::Sweeper;
use countersign_test_support::{Caller, Service};
use futures_util::future::join_all;
use tokio::sync::Barrier;

use super::{FIRST, counts, idle, usual};
use crate::isolation::things::upload;
use crate::steps::{epoch, executor, keyring};

const REPLICAS: usize = 8;
/// Recipients of an envelope.
const EACH: usize = 2;

/// Reminders that are due at once: more where the build can bear it.
fn reminders() -> usize {
    let asked = std::env::var("COUNTERSIGN_REMINDERS").ok().map(|text| text.parse().expect("a number"));
    asked.unwrap_or(if cfg!(debug_assertions) { 600 } else { 10_000 })
}

pub async fn sweeper(service: &Service) -> Sweeper {
    Sweeper::new(executor(service).await)
}

/// One with few connections, as eight share a database here.
async fn replica(service: &Service) -> Sweeper {
    let mut database = service.config.database.clone();
    database.database_pool_max = 4;
    let store = Store::open(&database, service.clock.clone()).await.unwrap();
    Sweeper::new(Executor::new(store, Arc::new(keyring(service))))
}

async fn envelopes(sender: &Caller, count: usize) {
    let upload_id = upload(sender).await;
    let mut new = usual(EACH, Routing::Parallel);
    new.documents =
        vec![DocumentSource { name: String::new(), source: Some(Source::UploadId(upload_id)), ..Default::default() }];
    let lanes = (0..REPLICAS).map(|lane| {
        let (sender, new) = (sender.clone(), new.clone());
        tokio::spawn(async move {
            for _ in (lane..count).step_by(REPLICAS) {
                sender.create(new.clone()).await.unwrap();
            }
        })
    });
    join_all(lanes).await.into_iter().for_each(|lane| lane.unwrap());
}

/// D8: eight replicas, all due at once, each reminder exactly once; and once more, days later.
#[tokio::test(flavor = "multi_thread")]
async fn d8_eight_replicas_issue_each_reminder_once() {
    let service = idle(epoch()).await;
    let sender = service.account(false).await;
    let count = i64::try_from(reminders()).unwrap();
    envelopes(&sender, reminders() / EACH).await;
    let replicas: Vec<_> = join_all((0..REPLICAS).map(|_| replica(&service))).await.into_iter().map(Arc::new).collect();
    let due = i16::try_from(EventType::RecipientReminderDue as i32).unwrap();
    let issued = format!("SELECT count(*) FROM event WHERE kind = {due}");
    let left = "SELECT count(*) FROM envelope WHERE reminder_at <= to_timestamp";
    for round in 1..=2 {
        service.clock.advance(FIRST);
        let left = format!("{left}({})", service.clock.now().timestamp());
        assert_eq!(service.database.number(&left).await, count / EACH as i64, "all are due");
        let running = replicas.iter().map(|replica| {
            let replica = Arc::clone(replica);
            tokio::spawn(async move {
                let mut idle = 0;
                // Twice nothing to do: the others are at the last ones.
                while idle < 2 {
                    let busy = replica.tick().await.unwrap() == countersign_chassis::ticker::Progress::Busy;
                    idle = if busy { 0 } else { idle + 1 };
                }
            })
        });
        join_all(running.collect::<Vec<_>>()).await.into_iter().for_each(|replica| replica.unwrap());
        assert_eq!(service.database.number(&left).await, 0, "none is left");
        assert_eq!(service.database.number(&issued).await, round * count);
        let odd = format!(
            "SELECT count(*) FROM (SELECT FROM event WHERE kind = {due} GROUP BY recipient_id HAVING count(*) <> {round}) it"
        );
        assert_eq!(service.database.number(&odd).await, 0, "each recipient once a round");
    }
    let counted = "SELECT sum((notices ->> 'reminders')::bigint)::bigint FROM recipient";
    assert_eq!(service.database.number(counted).await, 2 * count);
    service.stop().await;
}

/// D8, T-38: signatures against reminders. Whoever comes first, no reminder is issued to somebody who has signed.
#[tokio::test(flavor = "multi_thread")]
async fn d8_no_reminder_after_the_act() {
    const ROUNDS: usize = 60;
    let service = idle(epoch()).await;
    let sender = service.account(false).await;
    let executor = executor(&service).await;
    let mut stories = Vec::new();
    for _ in 0..ROUNDS {
        stories.push(sender.story_of(usual(1, Routing::Parallel)).await);
    }
    service.clock.advance(FIRST);
    let (mut before, mut never) = (0, 0);
    for story in stories {
        let (scope, id) = (Scope::any_mode(sender.account.parse().unwrap()), story.envelope.id.parse().unwrap());
        let barrier = Barrier::new(2);
        let sign = async {
            barrier.wait().await;
            story.signer(0).sign(&story.envelope).await.unwrap();
        };
        let prompt = async {
            barrier.wait().await;
            // About as late as the signature comes to the lock.
            tokio::time::sleep(std::time::Duration::from_micros(rand::random_range(0..6_000))).await;
            for _ in 0..3 {
                let by = By::system();
                let ask = Ask { scope, id, by, command: Command::Prompt, expected: None, billing: None };
                executor.execute(ask, |_| true).await.unwrap();
            }
        };
        tokio::join!(sign, prompt);
        let history = sender.history(&story.envelope.id).await.unwrap();
        let place = |kind| history.iter().position(|entry| entry.event.as_ref().unwrap().r#type() == kind);
        let signed = place(EventType::RecipientSigned).unwrap();
        match place(EventType::RecipientReminderDue) {
            Some(reminded) => {
                assert!(reminded < signed, "{history:?}");
                before += 1;
            }
            None => never += 1,
        }
    }
    eprintln!("{before} reminders before the act, {never} acts before the reminder");
    assert!(before > 0 && never > 0, "nothing raced: {before} {never}");
    service.clock.advance(TimeDelta::days(30));
    let sweeper = sweeper(&service).await;
    sweeper.tick().await.unwrap();
    let due = EventType::RecipientReminderDue as i32;
    let issued = service.database.number(&format!("SELECT count(*) FROM event WHERE kind = {due}")).await;
    assert_eq!(issued, before, "and none later");
    service.stop().await;
}

/// F11: a look begins where nothing was left; what comes late to before that is found all the same, and so is everything after
/// a clock was set back.
#[tokio::test(flavor = "multi_thread")]
async fn f11_looks_begin_where_nothing_was_left() {
    let service = idle(epoch()).await;
    let sender = service.account(false).await;
    let sent = sender.create(usual(1, Routing::Parallel)).await.unwrap();
    let sweeper = sweeper(&service).await;
    service.clock.advance(TimeDelta::days(2));
    sweeper.tick().await.unwrap();
    let sql = service.database.connect().await;
    let released = "UPDATE recipient SET released_at = released_at - interval '3 days'";
    let due = "UPDATE envelope SET reminder_at = reminder_at - interval '3 days'";
    assert_eq!((sql.execute(released, &[]).await.unwrap(), sql.execute(due, &[]).await.unwrap()), (1, 1));
    sweeper.tick().await.unwrap();
    assert_eq!(counts(&sender.get(&sent.id).await.unwrap()), [0], "not looked for there");
    for _ in 0..20 {
        sweeper.tick().await.unwrap();
    }
    assert_eq!(counts(&sender.get(&sent.id).await.unwrap()), [1], "but now and then");

    service.clock.advance(TimeDelta::days(60));
    sweeper.tick().await.unwrap();
    sweeper.tick().await.unwrap();
    assert_eq!(counts(&sender.get(&sent.id).await.unwrap()), [2]);
    let next = "UPDATE envelope SET reminder_at = to_timestamp(0)";
    let back = "UPDATE recipient SET notices = jsonb_set(notices, '{last_reminder_at}', '\"2027-01-20T00:00:00Z\"')";
    assert_eq!((sql.execute(back, &[]).await.unwrap(), sql.execute(next, &[]).await.unwrap()), (1, 1));
    service.clock.advance(-TimeDelta::hours(1));
    sweeper.tick().await.unwrap();
    assert_eq!(counts(&sender.get(&sent.id).await.unwrap()), [3], "at once where the clock was set back");
    service.stop().await;
}
