//! What a consumer may ask for: kinds, an envelope, an account, a mode, and a share of the partitions.

use std::collections::BTreeSet;

use countersign::v1;
use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{Event, EventType, ListStatusChangesRequest, Routing, WatchStart, WatchStatusChangesRequest};
use countersign_test_support::{Caller, Errors as _, Service};
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::{flood, list, read, read_as, settle};

fn from(start: WatchStart) -> WatchStatusChangesRequest {
    WatchStatusChangesRequest { start: start.into(), ..Default::default() }
}

fn listed(request: &WatchStatusChangesRequest) -> ListStatusChangesRequest {
    let WatchStatusChangesRequest { resume_token, start, types, envelope_id, partitions, account_id, livemode } =
        request.clone();
    let page_size = 3;
    ListStatusChangesRequest { resume_token, start, types, envelope_id, partitions, account_id, livemode, page_size }
}

fn ids(events: &[Event]) -> BTreeSet<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

/// Two accounts, one of them with both modes, and things happening to each.
async fn happen(callers: &[&Caller]) {
    for caller in callers {
        for signers in [1, 2] {
            let made = caller.create(countersign_test_support::client::request(signers, Routing::Parallel, true)).await;
            caller.void(&made.unwrap().id, "no").await.unwrap();
        }
    }
}

/// D3: each filter, alone and with others, lets through what it names: of what lies behind, and of what happens now.
#[tokio::test(flavor = "multi_thread")]
async fn d3_filters_let_through_what_they_name() {
    let service = Service::start().await;
    let test = service.account(false).await;
    let live = service.key_of(&test, true).await;
    let other = service.account(false).await;
    happen(&[&test, &live, &other]).await;
    settle(&service).await;
    let notifier = service.notifier("");
    let (all, now) = list(&notifier, listed(&from(WatchStart::Oldest))).await.unwrap();
    let envelope = all.iter().find(|event| event.account_id == other.account).unwrap().envelope_id.clone();
    let voided = EventType::EnvelopeVoided;
    let (account_id, types) = (test.account.clone(), vec![voided.into(), voided.into()]);
    let base = from(WatchStart::Oldest);
    type Wanted = Box<dyn Fn(&Event) -> bool>;
    let of_account = account_id.clone();
    let of_envelope = envelope.clone();
    let of_both = account_id.clone();
    let asked: Vec<(WatchStatusChangesRequest, Wanted)> = vec![
        (WatchStatusChangesRequest { types: types.clone(), ..base.clone() }, Box::new(move |it| it.r#type() == voided)),
        (
            WatchStatusChangesRequest { account_id: account_id.clone(), ..base.clone() },
            Box::new(move |it| it.account_id == of_account),
        ),
        (WatchStatusChangesRequest { livemode: Some(true), ..base.clone() }, Box::new(|it| it.livemode)),
        (WatchStatusChangesRequest { livemode: Some(false), ..base.clone() }, Box::new(|it| !it.livemode)),
        (
            WatchStatusChangesRequest { envelope_id: envelope, ..base.clone() },
            Box::new(move |it| it.envelope_id == of_envelope),
        ),
        (
            WatchStatusChangesRequest { types, account_id, livemode: Some(true), ..base },
            Box::new(move |it| it.r#type() == voided && it.account_id == of_both && it.livemode),
        ),
    ];
    // Streams from now, of which nothing but memory tells.
    let mut streams = Vec::new();
    for (request, _) in &asked {
        let request = WatchStatusChangesRequest { resume_token: now.clone(), ..request.clone() };
        let mut stream = notifier.envelopes().watch_status_changes(request).await.unwrap().into_inner();
        stream.next().await.unwrap().unwrap();
        streams.push(stream);
    }
    happen(&[&live, &other, &test]).await;
    flood(&service.database, &all[0].envelope_id, 3).await;
    settle(&service).await;
    let (new, _) = list(&notifier, ListStatusChangesRequest { resume_token: now, ..Default::default() }).await.unwrap();
    for ((request, wanted), mut stream) in asked.into_iter().zip(streams) {
        let expected: Vec<Event> = all.iter().chain(&new).filter(|it| wanted(it)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len() + new.len(), "{request:?} tells them apart");
        let (told, _) = list(&notifier, listed(&request)).await.unwrap();
        assert_eq!((told.len(), ids(&told)), (expected.len(), ids(&expected)), "{request:?}");
        let (told, _) = read_as(&notifier, request.clone(), |told| told.len() == expected.len()).await.unwrap();
        assert_eq!(ids(&told), ids(&expected), "{request:?}");
        let expected = ids(&new.iter().filter(|it| wanted(it)).cloned().collect::<Vec<_>>());
        let mut told = Vec::new();
        while let Some(Item::Event(event)) = stream.next().await.unwrap().unwrap().item {
            told.push(event);
        }
        assert_eq!(ids(&told), expected, "{request:?} of what happens now");
    }
}

/// D3: what is malformed is named, and a key that names another account or the other mode hears of none.
#[tokio::test(flavor = "multi_thread")]
async fn d3_what_cannot_be_asked_for_is_refused_by_name() {
    let service = Service::start().await;
    let (sender, stranger) = (service.account(false).await, service.account(false).await);
    let base = WatchStatusChangesRequest::default;
    let asked = [
        (WatchStatusChangesRequest { types: vec![10, 0], ..base() }, "types[1]"),
        (WatchStatusChangesRequest { types: vec![9_999], ..base() }, "types[0]"),
        (WatchStatusChangesRequest { types: vec![-1], ..base() }, "types[0]"),
        (WatchStatusChangesRequest { types: vec![1; 101], ..base() }, "types"),
        (WatchStatusChangesRequest { envelope_id: "env_x".into(), ..base() }, "envelope_id"),
        (WatchStatusChangesRequest { account_id: "env_x".into(), ..base() }, "account_id"),
        (WatchStatusChangesRequest { partitions: vec![1, 16], ..base() }, "partitions[1]"),
        (WatchStatusChangesRequest { partitions: vec![u32::MAX], ..base() }, "partitions[0]"),
        (WatchStatusChangesRequest { partitions: vec![3, 4, 3], ..base() }, "partitions[2]"),
        (WatchStatusChangesRequest { start: 7, ..base() }, "start"),
        (WatchStatusChangesRequest { resume_token: "x".into(), ..base() }, "resume_token"),
    ];
    for caller in [sender.clone(), service.notifier("")] {
        for (request, field) in &asked {
            let refused = read_as(&caller, request.clone(), |_| true).await.unwrap_err();
            assert_eq!((refused.reason().as_str(), refused.fields()), ("INVALID_FIELD", vec![(*field).to_owned()]));
            let refused = list(&caller, listed(request)).await.unwrap_err();
            assert_eq!(refused.fields(), [*field]);
        }
    }
    let size = ListStatusChangesRequest { page_size: -1, ..Default::default() };
    assert_eq!(list(&sender, size).await.unwrap_err().fields(), ["page_size"]);
    let own = WatchStatusChangesRequest { account_id: sender.account.clone(), livemode: Some(false), ..base() };
    read_as(&sender, own, |_| true).await.expect("one's own may be named");
    for request in [
        WatchStatusChangesRequest { account_id: stranger.account.clone(), ..base() },
        WatchStatusChangesRequest { account_id: format!("acc_{}", &stranger.account[4..].replace('0', "1")), ..base() },
        WatchStatusChangesRequest { livemode: Some(true), ..base() },
    ] {
        let refused = read_as(&sender, request.clone(), |_| true).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason().as_str()), (Code::NotFound, "NOT_FOUND"));
        assert_eq!(list(&sender, listed(&request)).await.unwrap_err().code(), Code::NotFound);
    }
}

/// D3, S2.21: heartbeats move on the place of a consumer for whom nothing is let through.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_filtered_consumers_place_moves_with_the_feed() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let request =
        WatchStatusChangesRequest { types: vec![EventType::RecipientDelegated.into()], ..from(WatchStart::Now) };
    let mut stream = sender.envelopes().watch_status_changes(request).await.unwrap().into_inner();
    let first = stream.next().await.unwrap().unwrap();
    let Some(Item::Heartbeat(heartbeat)) = first.item else { panic!("{first:?}") };
    assert_eq!(heartbeat.interval.unwrap().seconds, 1, "as often as the settings say");
    sender.story(1, Routing::Parallel).await;
    settle(&service).await;
    let mut last = first.resume_token.clone();
    for _ in 0..2 {
        let message = stream.next().await.unwrap().unwrap();
        assert!(matches!(message.item, Some(Item::Heartbeat(_))), "{message:?}");
        last = message.resume_token;
    }
    assert_ne!(first.resume_token, last);
    let anything = ListStatusChangesRequest { resume_token: last, ..Default::default() };
    assert_eq!(list(&sender, anything).await.unwrap().0, [], "the place is behind what was not let through");
    let anything = ListStatusChangesRequest { resume_token: first.resume_token, ..Default::default() };
    assert_eq!(list(&sender, anything).await.unwrap().0.len(), 3, "a token is a place: other filters, other events");
}

/// D3: consumers of the sixteen partitions share the work: together all of it, none of it twice; a token is good for its own
/// partitions.
#[tokio::test(flavor = "multi_thread")]
async fn d3_partitions_share_the_work() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for _ in 0..24 {
        sender.story(1, Routing::Parallel).await;
    }
    settle(&service).await;
    let all = list(&sender, listed(&from(WatchStart::Oldest))).await.unwrap().0;
    let (mut shared, mut envelopes) = (Vec::new(), Vec::new());
    for part in 0..16 {
        let request = WatchStatusChangesRequest { partitions: vec![part], ..from(WatchStart::Oldest) };
        let (told, _) = list(&sender, listed(&request)).await.unwrap();
        let read_too = read_as(&sender, request, |events| events.len() == told.len()).await.unwrap().0;
        assert_eq!(ids(&read_too), ids(&told));
        envelopes.extend(told.iter().map(|event| event.envelope_id.clone()).collect::<BTreeSet<_>>());
        shared.extend(told);
    }
    assert_eq!((shared.len(), ids(&shared)), (all.len(), ids(&all)));
    assert_eq!(envelopes.len(), 24, "an envelope is in one partition");
    let of = |partitions: &[u32], resume_token: &str| WatchStatusChangesRequest {
        partitions: partitions.to_vec(),
        resume_token: resume_token.to_owned(),
        ..Default::default()
    };
    let (_, token) = read_as(&sender, of(&[5, 1], ""), |_| true).await.unwrap();
    read_as(&sender, of(&[1, 5], &token), |_| true).await.expect("in whatever order");
    let every: Vec<u32> = (0..16).collect();
    for partitions in [&[][..], &[1], &[1, 5, 6], &[2, 6], &every] {
        let refused = read_as(&sender, of(partitions, &token), |_| true).await.unwrap_err();
        assert_eq!(refused.fields(), ["resume_token"], "{partitions:?}");
    }
    let (_, token) = read(&sender, "", WatchStart::Now, |_| true).await.unwrap();
    read_as(&sender, of(&every, &token), |_| true).await.expect("all of them are all of them");
}

/// D3, C-24: a consumer far behind in a large feed of others' finds their own, whatever the filter passes over.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_search_reaches_what_lies_far_behind() {
    let service = Service::start().await;
    let (sender, other) = (service.account(false).await, service.account(false).await);
    let loud = other.story(1, Routing::Parallel).await.envelope.id;
    flood(&service.database, &loud, 5_000).await;
    let own = sender.story(1, Routing::Parallel).await.envelope.id;
    flood(&service.database, &loud, 5_000).await;
    settle(&service).await;
    let (told, _) = list(&sender, listed(&from(WatchStart::Oldest))).await.unwrap();
    assert_eq!(told.iter().map(|it| it.envelope_id.as_str()).collect::<Vec<_>>(), [&own; 3]);
    let kinds = vec![v1::EventType::EnvelopeSent.into()];
    let sent = WatchStatusChangesRequest { types: kinds, ..from(WatchStart::Oldest) };
    assert_eq!(list(&service.notifier(""), listed(&sent)).await.unwrap().0.len(), 2);
    let (told, _) = read_as(&service.notifier(""), sent, |told| told.len() == 2).await.unwrap();
    assert_eq!(told.len(), 2);
}
