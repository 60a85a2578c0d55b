//! What the gauges tell when something is late, and when it no longer is: everything is held up by hand, and let go again.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use countersign::v1::document_source::Source;
use countersign::v1::{CreateEnvelopeRequest, DocumentSource, Envelope, Routing};
use countersign_envelope::domain::id::EnvelopeId;
use countersign_test_support::client::{pdf, request};
use countersign_test_support::notifier::register;
use countersign_test_support::{Database, Receiver};
use tokio::sync::watch;

use super::Stack;
use super::dashboards::get;
use crate::downloads::stores::Away;

/// How long a gauge may take to tell: the services look at what waits every ten seconds.
const TOLD: Duration = Duration::from_secs(60);
/// How late things are made by hand, in seconds.
const HOUR: f64 = 3_600.0;
/// What a busy machine may add.
const SLACK: f64 = 300.0;
/// What is late by itself is at least so late, in seconds.
const LATE: f64 = 3.0;

/// What a page tells of a metric with that label.
fn value(page: &str, name: &str, label: &str) -> Option<f64> {
    let is_it = |line: &&str| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']);
    let line = page.lines().filter(is_it).find(|line| line.contains(label))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// A metric, one of its labels, and what it has to tell.
type Told<'a> = (&'a str, &'a str, std::ops::RangeInclusive<f64>);

/// Waits until a page tells all of that.
async fn until_told(url: &str, expected: &[Told<'_>]) {
    let began = Instant::now();
    loop {
        let page = get(url).await.1;
        let tells = |(name, label, range): &&Told<'_>| value(&page, name, label).is_some_and(|it| range.contains(&it));
        let wrong: Vec<_> = expected.iter().filter(|it| !tells(it)).collect();
        if wrong.is_empty() {
            return;
        }
        let found: Vec<_> = wrong.iter().map(|(name, label, _)| value(&page, name, label)).collect();
        assert!(began.elapsed() < TOLD, "{wrong:?} are {found:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Lets no row of a table that is so be changed, whoever tries.
async fn hold(database: &Database, table: &str, which: &str, before: &str) {
    let hold = format!(
        "BEGIN; LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE; {before};
         CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'held'; END $$;
         CREATE TRIGGER hold BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({which}) EXECUTE FUNCTION hold();
         COMMIT"
    );
    database.connect().await.batch_execute(&hold).await.unwrap();
}

async fn let_go(database: &Database, table: &str) {
    database.connect().await.batch_execute(&format!("DROP TRIGGER hold ON {table}")).await.unwrap();
}

/// A document that is given out when its switch says so.
async fn serves_when(switch: watch::Receiver<bool>) -> DocumentSource {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/nda.pdf", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(move || {
        let mut switch = switch.clone();
        async move {
            switch.wait_for(|is_on| *is_on).await.unwrap();
            pdf()
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    DocumentSource { name: "nda.pdf".into(), source: Some(Source::Url(url)), ..Default::default() }
}

fn uuid(envelope: &Envelope) -> uuid::Uuid {
    envelope.id.parse::<EnvelopeId>().unwrap().uuid()
}

/// One envelope whose documents are late, one whose end is, and one whose document does not come; webhooks and mails that nobody
/// takes on. With an hour added where that is not late by itself.
struct HeldUp {
    away: Away,
    heads: tokio_postgres::Client,
    switch: watch::Sender<bool>,
}

impl HeldUp {
    async fn of(stack: &Stack) -> Self {
        let (ours, theirs, caller) = (&stack.kept.0, &stack.kept.1, &stack.caller);
        for table in ["delivery", "mail"] {
            hold(theirs, table, "true", "SELECT").await;
        }
        let sent = || request(1, Routing::Parallel, true);
        let (signed, ending) = (caller.create(sent()).await.unwrap(), caller.create(sent()).await.unwrap());
        let (switch, is_on) = watch::channel(false);
        let documents = vec![serves_when(is_on).await];
        caller.create(CreateEnvelopeRequest { documents, ..sent() }).await.unwrap();
        for waits in ["delivery", "mail"] {
            while theirs.number(&format!("SELECT count(*) FROM {waits}")).await == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let sql = ours.connect().await;
        while ours.number("SELECT count(*) FROM ingest_job WHERE attempts > 0").await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let begun = "UPDATE ingest_job SET begun_at = begun_at - interval '1 hour'";
        assert_eq!(sql.execute(begun, &[]).await.unwrap(), 1);
        let ended =
            format!("UPDATE envelope SET expires_at = now() - interval '1 hour' WHERE id = '{}'", uuid(&ending));
        hold(ours, "envelope", &format!("OLD.id = '{}'", uuid(&ending)), &ended).await;

        let created = "UPDATE envelope SET created_at = created_at - interval '1 hour' WHERE id = $1";
        assert_eq!(sql.execute(created, &[&uuid(&signed)]).await.unwrap(), 1);
        let away = Away::at(stack.kept.2.path());
        let heads = ours.connect().await;
        heads.batch_execute("BEGIN; SELECT FROM feed_head FOR UPDATE").await.unwrap();
        let signer = caller.signer_of(&signed.id, &signed.recipients[0].id).await.unwrap();
        signer.sign(&signed).await.unwrap();
        let acted = "UPDATE envelope SET all_acted_at = all_acted_at - interval '1 hour' WHERE id = $1";
        assert_eq!(sql.execute(acted, &[&uuid(&signed)]).await.unwrap(), 1);
        Self { away, heads, switch }
    }

    async fn end(self, stack: &Stack) {
        let (ours, theirs) = (&stack.kept.0, &stack.kept.1);
        self.heads.batch_execute("COMMIT").await.unwrap();
        self.away.end();
        self.switch.send(true).unwrap();
        let_go(ours, "envelope").await;
        for table in ["delivery", "mail"] {
            let_go(theirs, table).await;
        }
        ours.connect().await.batch_execute("UPDATE artifact_job SET due_at = now()").await.unwrap();
    }
}

/// Waits until the notifier is behind the feed by that much in each of its partitions.
async fn until_behind(url: &str, range: std::ops::RangeInclusive<f64>) {
    let labels: Vec<_> = (0..16).map(|partition| format!("countersign_feed_partition=\"{partition}\"")).collect();
    let all: Vec<_> =
        labels.iter().map(|label| ("countersign_feed_lag_seconds", label.as_str(), range.clone())).collect();
    until_told(url, &all).await;
}

/// Each gauge tells how late the oldest is, and that nothing is any more; the time to completion is the envelope's own.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_is_told_until_it_is_done() {
    let stack = Stack::start(&[
        ("COUNTERSIGN_METRICS_LISTEN", "127.0.0.1:0"),
        ("COUNTERSIGN_SWEEP_MS", "100"),
        ("COUNTERSIGN_HEARTBEAT_SECONDS", "1"),
        ("COUNTERSIGN_FETCH_ALLOW_PRIVATE", "true"),
    ])
    .await;
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    register(&stack.webhooks, &stack.caller, &receiver.url).await.unwrap();
    let (envelope, notifier) = (stack.envelope.metrics().await, stack.notifier.metrics().await);
    let held_up = HeldUp::of(&stack).await;
    let (expire, seal) = ("countersign_duty=\"expire\"", "countersign_job=\"seal\"");
    let (ingest, an_hour) = ("countersign_job=\"ingest\"", HOUR..=HOUR + SLACK);
    let (webhook, mail) = ("countersign_channel=\"webhook\"", "countersign_channel=\"mail\"");
    until_told(
        &envelope,
        &[
            ("countersign_outbox_age_seconds", "", LATE..=SLACK),
            ("countersign_outbox_events", "", 1.0..=100.0),
            ("countersign_timer_lag_seconds", expire, an_hour.clone()),
            ("countersign_jobs_age_seconds", seal, an_hour.clone()),
            ("countersign_jobs", seal, 1.0..=1.0),
            ("countersign_jobs_age_seconds", ingest, an_hour.clone()),
            ("countersign_jobs", ingest, 1.0..=1.0),
        ],
    )
    .await;
    let lag = "countersign_delivery_lag_seconds";
    let pending = "countersign_deliveries_pending";
    until_told(
        &notifier,
        &[
            (lag, webhook, LATE..=SLACK),
            (lag, mail, LATE..=SLACK),
            (pending, webhook, 1.0..=100.0),
            (pending, mail, 1.0..=100.0),
        ],
    )
    .await;

    held_up.end(&stack).await;
    let none = || 0.0..=0.0;
    let own = ["countersign_outbox_age_seconds", "countersign_outbox_events"].map(|name| (name, "", none()));
    let late = [expire].map(|duty| ("countersign_timer_lag_seconds", duty, none()));
    let jobs = [seal, ingest]
        .map(|job| ["countersign_jobs_age_seconds", "countersign_jobs"].map(|name| (name, job, none())))
        .concat();
    let completion = [
        ("countersign_envelope_completion_duration_seconds_count", "", 1.0..=1.0),
        ("countersign_envelope_completion_duration_seconds_sum", "", an_hour),
    ];
    until_told(&envelope, &[&own[..], &late[..], &jobs[..], &completion[..]].concat()).await;
    let all: Vec<_> = [webhook, mail].into_iter().flat_map(|by| [(lag, by, none()), (pending, by, none())]).collect();
    until_told(&notifier, &all).await;

    until_behind(&notifier, 0.0..=LATE).await;
    stack.envelope.kill().await;
    until_behind(&notifier, LATE + 2.0..=SLACK).await;
}
