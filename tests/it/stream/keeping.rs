//! How long the feed is kept, what those hear who come too late, and what a restore from a backup means.

use chrono::{TimeDelta, Utc};
use countersign::follow::{Ended, Follower};
use countersign::v1::{ListStatusChangesRequest, Routing, WatchStart, WatchStatusChangesRequest};
use countersign_chassis::clock::Clock;
use countersign_chassis::ticker::Progress;
use countersign_envelope::store::Store;
use countersign_envelope::trim;
use countersign_test_support::client::request;
use countersign_test_support::database::postgres;
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Errors as _, Service, binary};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{flood, list, read, read_as, settle};

const MONTH: TimeDelta = TimeDelta::days(30);

async fn store(service: &Service) -> Store {
    Store::open(&service.database.config(), service.clock.clone()).await.unwrap()
}

fn floor(status: &Status) -> String {
    status.get_details_error_info().unwrap().metadata["floor_resume_token"].clone()
}

async fn events(caller: &Caller, resume_token: &str) -> Result<usize, Status> {
    let (resume_token, start) = (resume_token.to_owned(), WatchStart::Oldest.into());
    Ok(list(caller, ListStatusChangesRequest { resume_token, start, ..Default::default() }).await?.0.len())
}

/// D3: what is older than the settings say goes, batch by batch; who stood before it is told where to go on.
#[tokio::test(flavor = "multi_thread")]
async fn d3_the_old_end_is_cut_off_and_the_floor_is_told() {
    let service = Service::start_at(Utc::now()).await;
    let sender = service.account(false).await;
    let (_, start) = read(&sender, "", WatchStart::Oldest, |_| true).await.unwrap();
    let of_some = |resume_token: &str| WatchStatusChangesRequest {
        partitions: (0..8).collect(),
        resume_token: resume_token.to_owned(),
        start: WatchStart::Oldest.into(),
        ..Default::default()
    };
    let (_, of_half) = read_as(&sender, of_some(""), |_| true).await.unwrap();
    let mut old = Vec::new();
    for _ in 0..12 {
        // Drafts, to which time does nothing.
        old.push(sender.create(request(1, Routing::Parallel, false)).await.unwrap().id);
    }
    flood(&service.database, &old[0], 1_500).await;
    settle(&service).await;
    let store = store(&service).await;
    let mut elsewhere = service.database.connect().await;
    let sequencer = elsewhere.transaction().await.unwrap();
    sequencer.execute("SELECT FROM feed_head FOR UPDATE", &[]).await.unwrap();
    assert_eq!(
        trim::tick(&store, MONTH).await.unwrap(),
        Progress::Idle,
        "nothing is old, and no lock needed to see it"
    );
    sequencer.rollback().await.unwrap();
    service.clock.advance(MONTH + TimeDelta::seconds(1));
    for _ in 0..12 {
        sender.story(1, Routing::Parallel).await;
    }
    settle(&service).await;
    let held = "SELECT count(*) FROM feed";
    let before = service.database.number(held).await;
    let kept = "SELECT count(*) FROM feed JOIN event USING (envelope_id, sequence) WHERE occurred_at > \
                (SELECT min(occurred_at) FROM event) + interval '29 days'";
    let new = service.database.number(kept).await;
    assert_eq!(trim::tick(&store, MONTH).await.unwrap(), Progress::Busy);
    let after = service.database.number(held).await;
    assert!(after > new && before - after >= 1_000 && before - after <= 1_000 + 12, "in batches: {before} {after}");
    assert_eq!(trim::tick(&store, MONTH).await.unwrap(), Progress::Busy);
    assert_eq!(trim::tick(&store, MONTH).await.unwrap(), Progress::Idle);
    assert_eq!(service.database.number(held).await, new, "what is not old is kept, all of it");
    let wrong = "SELECT count(*) FROM (SELECT FROM feed JOIN feed_head USING (part) GROUP BY part, floor_position \
                 HAVING min(position) <> floor_position + 1 OR max(position) - floor_position <> count(*)) AS wrong";
    assert_eq!(service.database.number(wrong).await, 0, "the floor is right below the oldest that is kept");
    settle(&service).await;
    let refused = events(&sender, &start).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason().as_str()), (Code::OutOfRange, "RESUME_TOKEN_TOO_OLD"));
    let new = usize::try_from(new).unwrap();
    assert_eq!(events(&sender, &floor(&refused)).await.unwrap(), new, "at the floor begins what is kept");
    assert_eq!(events(&sender, "").await.unwrap(), new);
    let refused = read_as(&sender, of_some(&of_half), |_| true).await.unwrap_err();
    read_as(&sender, of_some(&floor(&refused)), |_| true).await.expect("the floor of one's own partitions");
    assert_eq!(events(&sender, &floor(&refused)).await.unwrap_err().fields(), ["resume_token"]);
    let mut follower =
        Follower::new(sender.envelopes(), WatchStatusChangesRequest { resume_token: start, ..Default::default() });
    let Err(Ended::Resync { floor_resume_token: Some(_), .. }) = follower.next().await else { panic!("resync") };
}

/// D3: what is cut off between a look at the feed and the reading of a page is noticed, not passed over.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_page_that_is_cut_off_meanwhile_is_not_passed_over() {
    let (database, folder) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let settings = countersign_envelope::config::Config { feed_poll_ms: 10_000, ..config(&database, &folder) };
    let service = Service::start_with(database, Clock::database(), folder, settings).await;
    let sender = service.account(false).await;
    let (_, start) = read(&sender, "", WatchStart::Oldest, |_| true).await.unwrap();
    sender.story(1, Routing::Parallel).await;
    settle(&service).await;
    let gone = store(&service).await.trim_feed(Utc::now() + TimeDelta::days(1), 1_000).await.unwrap();
    assert_eq!(gone, 3);
    // The service has not looked since.
    let refused = events(&sender, &start).await.unwrap_err();
    assert_eq!(refused.reason(), "RESUME_TOKEN_TOO_OLD");
    assert_eq!(events(&sender, &floor(&refused)).await.unwrap(), 0);
}

/// D3, C-24: a database that was restored from a backup is another feed once the operator says so: a token from before is
/// refused although its place exists again, with other events.
#[tokio::test(flavor = "multi_thread")]
async fn d3_after_a_restore_old_tokens_are_refused() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    sender.story(1, Routing::Parallel).await;
    settle(&service).await;
    let (_, early) = read(&sender, "", WatchStart::Now, |_| true).await.unwrap();
    let (database, documents) = service.stop().await;
    // A backup, after which things go on.
    let name = format!("{}_restored", database.name);
    postgres().await.create_database_from_template(&name, &database.name).await.unwrap();
    let service = Service::start_on(database.clone(), Clock::database(), documents).await;
    let sender = Caller { channel: service.channel.clone(), ..sender };
    sender.story(1, Routing::Parallel).await;
    settle(&service).await;
    let (_, lost) = read(&sender, "", WatchStart::Now, |_| true).await.unwrap();
    let (_, documents) = service.stop().await;
    let at = |url: &str| url.replace(&database.name, &name);
    let restored = Database { url: at(&database.url), superuser_url: at(&database.superuser_url), name: name.clone() };
    let mut renew = std::process::Command::new(binary::path("countersign-envelope").await);
    let renewed = renew.arg("new-incarnation").env("COUNTERSIGN_DATABASE_URL", &restored.url).output().unwrap();
    assert!(renewed.status.success(), "{renewed:?}");
    let feed = restored.connect().await.query_one("SELECT id::text FROM feed_incarnation", &[]).await.unwrap();
    assert_eq!(String::from_utf8(renewed.stdout).unwrap().trim(), format!("incarnation {}", feed.get::<_, String>(0)));
    let service = Service::start_on(restored, Clock::database(), documents).await;
    let sender = Caller { channel: service.channel.clone(), ..sender };
    for _ in 0..3 {
        sender.story(1, Routing::Parallel).await;
    }
    settle(&service).await;
    for token in [&early, &lost] {
        let refused = events(&sender, token).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason().as_str()), (Code::FailedPrecondition, "FEED_INCARNATION"));
        let resume_token = token.clone();
        let request = WatchStatusChangesRequest { resume_token, ..Default::default() };
        let mut follower = Follower::new(sender.envelopes(), request);
        let Err(Ended::Resync { floor_resume_token: None, .. }) = follower.next().await else { panic!("resync") };
    }
    assert_eq!(events(&sender, "").await.unwrap(), 12, "the restored feed is read from its beginning");
}
