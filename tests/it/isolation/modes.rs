//! Live and test keys of one account: neither sees what the other's mode holds.

use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign::v1::{
    AccountSettings, ListApiKeysRequest, ListEnvelopesRequest, ListLedgerRequest, ListWebhookEndpointsRequest, Routing,
    UpdateAccountSettingsRequest, WatchStart, WatchStatusChangesRequest,
};
use countersign_test_support::client::request;
use countersign_test_support::notifier::{authorised, register};
use countersign_test_support::{Caller, Errors as _, Notifier, Service};

use crate::doors::{by_user, user};

/// Ids that a list of envelopes shows.
async fn listed(caller: &Caller) -> Vec<String> {
    let page = caller.envelopes().list_envelopes(ListEnvelopesRequest::default()).await.unwrap().into_inner();
    page.envelopes.into_iter().map(|envelope| envelope.id).collect()
}

/// Envelopes of which a stream from the oldest event tells, once it has told of `last`.
async fn watched(caller: &Caller, last: &str) -> Vec<String> {
    let request = WatchStatusChangesRequest { start: WatchStart::Oldest.into(), ..Default::default() };
    let mut stream = caller.envelopes().watch_status_changes(request).await.unwrap().into_inner();
    let mut told = Vec::new();
    while !told.iter().any(|id| id == last) {
        if let Some(Item::Event(event)) = stream.message().await.unwrap().unwrap().item {
            assert_eq!(event.account_id, caller.account);
            told.push(event.envelope_id);
        }
    }
    // What else there is comes before the next sign of life.
    while let Some(Item::Event(event)) = stream.message().await.unwrap().unwrap().item {
        told.push(event.envelope_id);
    }
    told.sort();
    told.dedup();
    told
}

/// C-29, S2.49: lists, streams and endpoints of the modes are apart; the notifier is told of both.
#[tokio::test(flavor = "multi_thread")]
async fn c29_live_and_test_keys_of_an_account_see_their_own_mode_alone() {
    let service = Service::start().await;
    let notifier = Notifier::start(&service).await;
    let test = service.account(false).await;
    let live = service.key_of(&test, true).await;
    let stranger = service.account(true).await;
    let foreign = stranger.create(request(1, Routing::Parallel, true)).await.unwrap().id;
    let mut own = Vec::new();
    for caller in [&test, &live] {
        let envelope = caller.create(request(1, Routing::Parallel, true)).await.unwrap();
        assert_eq!(envelope.livemode, caller.token == live.token);
        let (endpoint, _) = register(&notifier.channel, caller, "http://127.0.0.1:9/hook").await.unwrap();
        own.push((caller, envelope.id, endpoint));
    }
    for (caller, envelope, endpoint) in &own {
        assert_eq!(listed(caller).await, [envelope.as_str()]);
        assert_eq!(watched(caller, envelope).await, [envelope.as_str()]);
        let list = authorised(caller, ListWebhookEndpointsRequest::default());
        let list = WebhookServiceClient::new(notifier.channel.clone()).list_webhook_endpoints(list).await.unwrap();
        let endpoints: Vec<_> = list.into_inner().endpoints.into_iter().map(|it| it.id).collect();
        assert_eq!(endpoints, [endpoint.as_str()]);
        let other = own.iter().find(|(_, id, _)| id != envelope).map(|(_, id, _)| id.clone()).unwrap();
        assert_eq!(caller.get(&other).await.unwrap_err().reason(), "NOT_FOUND");
        assert_eq!(caller.void(&other, "").await.unwrap_err().reason(), "NOT_FOUND");
        assert_eq!(caller.get(&foreign).await.unwrap_err().reason(), "NOT_FOUND");
    }
    notifier.stop().await;
}

/// C-29, S4.16: a user's token is of one mode, whatever mode the envelope has.
#[tokio::test(flavor = "multi_thread")]
async fn c29_a_user_token_of_one_mode_is_none_in_the_other() {
    let service = Service::start().await;
    let test = service.account(false).await;
    let live = service.key_of(&test, true).await;
    let story = test.story(1, Routing::Parallel).await;
    let signing = &story.signer(0).token;
    let (_, of_live) = user(&live, "signer0@example.com").await;
    let (_, of_test) = user(&test, "signer0@example.com").await;
    for (key, token) in [(&test, &of_live), (&live, &of_live), (&live, &of_test)] {
        assert_eq!(by_user(key, token, signing, "no").await.unwrap_err().reason(), "NOT_FOUND");
    }
    assert_eq!(story.now().await, story.envelope, "nothing happened");
    by_user(&test, &of_test, signing, "no").await.expect("both of the envelope's mode");
}

/// C-29: a test key is told of test keys alone.
#[tokio::test(flavor = "multi_thread")]
async fn c29_a_test_key_sees_test_keys_only() {
    let service = Service::start().await;
    let test = service.account(false).await;
    let live = service.key_of(&test, true).await;
    let list = async |caller: &Caller| {
        let answer = caller.accounts().list_api_keys(ListApiKeysRequest::default()).await.unwrap().into_inner();
        answer.keys.into_iter().map(|key| key.livemode).collect::<Vec<_>>()
    };
    assert_eq!(list(&test).await, [false]);
    assert_eq!(list(&live).await, [true, false], "a live key looks after all");
    assert_eq!(list(&service.operator(&test.account)).await, [true, false]);
}

/// C-29, T-53: what live envelopes cost, and their ids, are not for test keys.
#[tokio::test(flavor = "multi_thread")]
async fn c29_a_test_key_is_not_told_of_live_envelopes_by_the_ledger() {
    let service = Service::start().await;
    let test = service.account(false).await;
    let live = service.key_of(&test, true).await;
    let envelope = live.create(request(1, Routing::Parallel, true)).await.unwrap().id;
    let entries = async |caller: &Caller, envelope_id: &str| {
        let request = ListLedgerRequest { envelope_id: envelope_id.to_owned(), ..Default::default() };
        caller.accounts().list_ledger(request).await.unwrap().into_inner().entries
    };
    assert_eq!(entries(&live, &envelope).await.len(), 1, "one charge");
    assert_eq!(entries(&test, &envelope).await, [], "of the envelope");
    let all = entries(&test, "").await;
    assert!(all.iter().all(|entry| entry.envelope_id != envelope), "among all: {all:?}");
}

/// C-29: the settings are those of live envelopes too, and not for a test key to change.
#[tokio::test(flavor = "multi_thread")]
async fn c29_a_test_key_changes_no_settings() {
    let service = Service::start().await;
    let test = service.account(false).await;
    let settings = AccountSettings { tell_acted_recipients: false, ..AccountSettings::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["tell_acted_recipients".into()] });
    let request = UpdateAccountSettingsRequest { settings: Some(settings), update_mask, ..Default::default() };
    let refused = test.accounts().update_account_settings(request.clone()).await.unwrap_err();
    assert_eq!(refused.reason(), "PERMISSION_DENIED");
    let live = service.key_of(&test, true).await;
    live.accounts().update_account_settings(request).await.expect("a live key does");
}
