//! The feed by the page, for those who cannot hold a stream open.

use countersign::v1::{
    AccountSettings, Limits, ListStatusChangesRequest, Routing, UpdateAccountSettingsRequest, WatchStart,
};
use countersign_envelope::domain::id::EnvelopeId;
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Service};
use prost::Message as _;

use super::{flood, list, read, settle};

async fn page(caller: &Caller, resume_token: &str, page_size: i32) -> (usize, String, bool) {
    let start = WatchStart::Oldest.into();
    let resume_token = resume_token.to_owned();
    let request = ListStatusChangesRequest { resume_token, page_size, start, ..Default::default() };
    let page = caller.envelopes().list_status_changes(request).await.unwrap().into_inner();
    assert!(page.encoded_len() < 4 * 1024 * 1024, "a client takes no more");
    (page.events.len(), page.resume_token, page.caught_up)
}

/// S1.51, C-24, D3: the list tells what the stream tells, and where one stopped the other goes on.
#[tokio::test(flavor = "multi_thread")]
async fn s1_51_the_feed_can_be_listed_page_by_page() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let nothing = page(&sender, "", 0).await;
    assert!(nothing.0 == 0 && nothing.2 && !nothing.1.is_empty());
    for _ in 0..3 {
        sender.story(2, Routing::Parallel).await;
    }
    settle(&service).await;
    let (told, mut last) = read(&sender, "", WatchStart::Oldest, |events| events.len() == 12).await.unwrap();
    let mut told: Vec<_> = told.into_iter().map(|event| event.id).collect();
    told.sort();
    for page_size in [0, 1, 2, 5, 500] {
        let start = WatchStart::Oldest.into();
        let asked = ListStatusChangesRequest { page_size, start, ..Default::default() };
        let (events, end) = list(&sender, asked).await.unwrap();
        for envelope in events.iter().filter(|event| event.sequence == 1) {
            let of_it = events.iter().filter(|event| event.envelope_id == envelope.envelope_id);
            assert_eq!(of_it.map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3, 4], "in order");
        }
        let mut ids: Vec<_> = events.into_iter().map(|event| event.id).collect();
        ids.sort();
        assert_eq!(ids, told, "pages of {page_size}");
        last = end;
    }
    assert_eq!(page(&sender, "", 2).await.0, 2, "no more than was asked for");
    assert_eq!(page(&sender, &last, 2).await.0, 0);
    sender.story(1, Routing::Parallel).await;
    let (new, token) = read(&sender, &last, WatchStart::Oldest, |events| events.len() == 3).await.unwrap();
    assert_eq!(new.len(), 3, "a stream goes on from a list");
    assert_eq!(page(&sender, &token, 0).await, (0, page(&sender, &token, 0).await.1, true), "and a list from a stream");
}

/// T-36: a page has a usual and a largest number of events, and a size that any client takes.
#[tokio::test(flavor = "multi_thread")]
async fn t36_a_page_is_bounded_in_events_and_bytes() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let small = sender.story(1, Routing::Parallel).await.envelope.id;
    flood(&service.database, &small, 700).await;
    settle(&service).await;
    assert_eq!(page(&sender, "", 0).await.0, 100);
    assert_eq!(page(&sender, "", 10_000).await.0, 500);
    // The operator lets this account have many recipients: events get large.
    let (key_calls_per_second, key_calls_burst) = (10_000, 20_000);
    let limits = Limits { recipients_max: 50, key_calls_per_second, key_calls_burst, ..Limits::default() };
    let update = UpdateAccountSettingsRequest {
        settings: Some(AccountSettings { limits: Some(limits), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["limits".into()] }),
        ..Default::default()
    };
    let large = service.account(false).await;
    service.operator(&large.account).accounts().update_account_settings(update).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(3_500)).await;
    let mut new = request(50, Routing::Parallel, false);
    new.fields.clear();
    let id = large.create(new).await.unwrap().id;
    flood(&service.database, &id, 900).await;
    settle(&service).await;
    let (events, token, caught_up) = page(&large, "", 500).await;
    assert!((100..500).contains(&events) && !caught_up, "{events} events of a size on a page");
    let rest = ListStatusChangesRequest { resume_token: token, ..Default::default() };
    assert_eq!(events + list(&large, rest).await.unwrap().0.len(), 901, "the page's token stands behind its last");
}

/// S1.51: small pages serve every partition, however much goes on in another.
#[tokio::test(flavor = "multi_thread")]
async fn s1_51_small_pages_leave_no_partition_out() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let part = |id: &str| id.parse::<EnvelopeId>().unwrap().uuid().as_bytes()[15] % 16;
    let mut quiet = sender.create(request(1, Routing::Parallel, false)).await.unwrap().id;
    let mut busy = String::new();
    while busy.is_empty() {
        let next = sender.create(request(1, Routing::Parallel, false)).await.unwrap().id;
        if part(&next) < part(&quiet) { busy = next } else { quiet = next }
    }
    settle(&service).await;
    let now = ListStatusChangesRequest { start: WatchStart::Now.into(), ..Default::default() };
    let mut token = sender.envelopes().list_status_changes(now).await.unwrap().into_inner().resume_token;
    flood(&service.database, &quiet, 1).await;
    for _ in 0..8 {
        flood(&service.database, &busy, 2).await;
        settle(&service).await;
        let request = ListStatusChangesRequest { resume_token: token, page_size: 1, ..Default::default() };
        let page = sender.envelopes().list_status_changes(request).await.unwrap().into_inner();
        assert_eq!(page.events.len(), 1, "no more than was asked for");
        if page.events[0].envelope_id == quiet {
            return;
        }
        token = page.resume_token;
    }
    panic!("only the busy one was heard");
}
