//! API keys: made, shown once, listed, rotated, ended. Nobody gives what they do not have.

mod access;
mod limits;
mod rates;
mod settings;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use countersign::v1::{
    ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, GetCallerIdentityRequest, ListApiKeysRequest,
    RevokeApiKeyRequest, RotateApiKeyRequest, RotateApiKeyResponse, Scope,
};
use countersign_chassis::clock::Clock;
use countersign_chassis::wire::timestamp;
use countersign_test_support::{Caller, Errors as _, Service};
use prost::Message as _;
use tonic::{Code, Status};

use crate::steps::{ahead, epoch};

/// How long an ended key may still work on a replica, as the contract says, and what a busy machine needs besides.
const STOPS_WITHIN: Duration = Duration::from_millis(5_000 + 1_500);

/// All scopes.
pub fn all_scopes() -> Vec<i32> {
    (1..=11).collect()
}

pub async fn create(maker: &Caller, request: CreateApiKeyRequest) -> Result<CreateApiKeyResponse, Status> {
    Ok(maker.accounts().create_api_key(request).await?.into_inner())
}

/// A test key for these scopes; none: for all that the maker may.
pub async fn key_for(maker: &Caller, scopes: &[Scope]) -> Caller {
    let scopes = scopes.iter().map(|scope| i32::from(*scope)).collect();
    maker.with_token(&create(maker, CreateApiKeyRequest { scopes, ..Default::default() }).await.unwrap().secret)
}

async fn rotate(by: &Caller, id: &str, overlap: Option<TimeDelta>) -> Result<RotateApiKeyResponse, Status> {
    let overlap = overlap.map(|it| prost_types::Duration { seconds: it.num_seconds(), nanos: it.subsec_nanos() });
    let request = RotateApiKeyRequest { key_id: id.to_owned(), overlap, ..Default::default() };
    Ok(by.accounts().rotate_api_key(request).await?.into_inner())
}

async fn revoke(by: &Caller, id: &str) -> Result<ApiKey, Status> {
    let request = RevokeApiKeyRequest { key_id: id.to_owned(), ..Default::default() };
    Ok(by.accounts().revoke_api_key(request).await?.into_inner().key.unwrap())
}

async fn identity(key: &Caller) -> Result<(String, bool, Vec<i32>), Status> {
    let told = key.accounts().get_caller_identity(GetCallerIdentityRequest {}).await?.into_inner();
    assert_eq!(told.account_id, key.account);
    Ok((told.key_id, told.livemode, told.scopes))
}

async fn works(key: &Caller) -> bool {
    match identity(key).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!((status.code(), status.reason().as_str()), (Code::Unauthenticated, "AUTHENTICATION_REQUIRED"));
            false
        }
    }
}

/// Waits until a key works nowhere, and says how long that took.
async fn until_dead(keys: &[Caller]) -> Duration {
    let since = Instant::now();
    for key in keys {
        while works(key).await {
            assert!(since.elapsed() < STOPS_WITHIN, "the key still works after {:?}", since.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    since.elapsed()
}

async fn page(by: &Caller, page_size: i32, page_token: &str) -> (Vec<ApiKey>, String) {
    let request = ListApiKeysRequest { page_size, page_token: page_token.to_owned() };
    let page = by.accounts().list_api_keys(request).await.unwrap().into_inner();
    (page.keys, page.next_page_token)
}

/// S1.38, S1.47: a key is made by the operator or by a key that may; its secret is shown once.
#[tokio::test(flavor = "multi_thread")]
async fn s1_38_a_key_is_made_and_its_secret_shown_once() {
    let service = Service::start().await;
    let first = service.account(false).await;
    let operator = service.operator(&first.account);
    for (maker, livemode, scopes) in
        [(&operator, true, vec![]), (&operator, false, vec![1]), (&first, false, vec![]), (&first, false, vec![7, 2])]
    {
        let request = CreateApiKeyRequest {
            name: " Billing ".into(),
            livemode,
            scopes: scopes.clone(),
            idempotency_key: format!("{livemode}{scopes:?}{}", maker.token.len()),
            ..Default::default()
        };
        let made = create(maker, request.clone()).await.unwrap();
        let key = made.key.unwrap();
        assert!(made.secret.starts_with(if livemode { "cs_live_" } else { "cs_test_" }));
        assert_eq!((key.name.as_str(), key.livemode), ("Billing", livemode));
        let mut expected = if scopes.is_empty() { all_scopes() } else { scopes };
        expected.sort_unstable();
        assert_eq!(key.scopes, expected);
        let absent = (key.expires_at, key.revoked_at, key.last_used_at, key.replaced_by_key_id.as_str());
        assert_eq!(absent, (None, None, None, ""));
        assert_eq!(identity(&first.with_token(&made.secret)).await.unwrap(), (key.id.clone(), livemode, expected));
        let again = create(maker, request).await.unwrap_err();
        assert_eq!((again.reason(), again.fact("id")), ("SECRET_SHOWN_ONCE".into(), key.id), "shown this once");
    }
    let bad = CreateApiKeyRequest { scopes: vec![0], name: "x".repeat(101), ..Default::default() };
    assert_eq!(create(&first, bad).await.unwrap_err().fields(), ["name", "scopes"]);
    let unknown = CreateApiKeyRequest { scopes: vec![12], ..Default::default() };
    assert_eq!(create(&first, unknown).await.unwrap_err().fields(), ["scopes"]);
    let nowhere = service.operator("acc_01h455vb4pex5vsknk084sn02q");
    assert_eq!(create(&nowhere, CreateApiKeyRequest::default()).await.unwrap_err().reason(), "NOT_FOUND");
    let none = service.operator("");
    assert_eq!(create(&none, CreateApiKeyRequest::default()).await.unwrap_err().reason(), "PERMISSION_DENIED");
}

/// S1.38: a key gives neither a scope that it has not nor, if it is a test key, live mode; nor does it take them by rotation.
#[tokio::test(flavor = "multi_thread")]
async fn s1_38_a_key_gives_no_more_than_it_has() {
    let service = Service::start().await;
    let full = service.account(true).await;
    let live_id = identity(&full).await.unwrap().0;
    let operator = service.operator(&full.account);
    let make = async |livemode, scopes: &[Scope]| {
        let scopes = scopes.iter().map(|scope| i32::from(*scope)).collect();
        let made = create(&operator, CreateApiKeyRequest { livemode, scopes, ..Default::default() }).await.unwrap();
        (full.with_token(&made.secret), made.key.unwrap().id)
    };
    let (keeper, keeper_id) = make(true, &[Scope::AccountWrite, Scope::AccountRead]).await;
    let (test, test_id) = make(false, &[]).await;
    let inherited = create(&keeper, CreateApiKeyRequest::default()).await.unwrap().key.unwrap();
    assert_eq!(inherited.scopes, [6, 7], "nothing said: all that the maker may");
    let more = CreateApiKeyRequest { scopes: vec![7, 1], ..Default::default() };
    let live = CreateApiKeyRequest { livemode: true, ..Default::default() };
    let refused = [
        create(&keeper, more).await.map(drop),
        create(&test, live).await.map(drop),
        rotate(&keeper, &live_id, None).await.map(drop),
    ];
    for answer in refused {
        assert_eq!(answer.unwrap_err().reason(), "PERMISSION_DENIED");
    }
    for hidden in [&live_id, &keeper_id] {
        assert_eq!(rotate(&test, hidden, None).await.unwrap_err().reason(), "NOT_FOUND", "live keys are not there");
        assert_eq!(revoke(&test, hidden).await.unwrap_err().reason(), "NOT_FOUND");
    }
    rotate(&full, &test_id, None).await.expect("a live key looks after test keys");
    rotate(&keeper, &keeper_id, None).await.expect("its own scopes");
    let stranger = service.account(true).await;
    assert_eq!(revoke(&stranger, &live_id).await.unwrap_err().reason(), "NOT_FOUND");
    assert!(works(&full).await && works(&keeper).await && works(&test).await);
}

/// S1.47, T-65: a list shows everything about keys but the keys; newest first, page by page.
#[tokio::test(flavor = "multi_thread")]
async fn s1_47_keys_are_listed_newest_first_without_their_secrets() {
    let service = Service::start_at(epoch()).await;
    let first = service.account(false).await;
    let mut ids = vec![identity(&first).await.unwrap().0];
    let mut secrets = vec![first.token.clone()];
    for number in 0..6 {
        service.clock.advance(TimeDelta::seconds(1));
        let new = CreateApiKeyRequest { name: format!("Key {number}"), ..Default::default() };
        let made = create(&first, new).await.unwrap();
        ids.push(made.key.unwrap().id);
        secrets.push(made.secret);
    }
    revoke(&first, &ids[3]).await.unwrap();
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let (some, next) = page(&first, 3, &token).await;
        assert!(some.len() <= 3);
        listed.extend(some);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    // The account's first key was made by the machine's clock, which is behind.
    let newest_first: Vec<_> = ids[1..].iter().rev().chain(&ids[..1]).cloned().collect();
    assert_eq!(listed.iter().map(|key| key.id.clone()).collect::<Vec<_>>(), newest_first);
    assert_eq!(listed.iter().filter(|key| key.revoked_at.is_some()).count(), 1, "those that are over too");
    let text: Vec<_> = listed.iter().map(|key| String::from_utf8_lossy(&key.encode_to_vec()).into_owned()).collect();
    for secret in &secrets {
        assert!(!text.iter().any(|text| text.contains(&secret[8..24])), "a secret in the list");
    }
    let bad = first.accounts().list_api_keys(ListApiKeysRequest { page_size: -1, ..Default::default() }).await;
    assert_eq!(bad.unwrap_err().fields(), ["page_size"]);
}

/// S1.47: when a key was last used is known within a minute.
#[tokio::test(flavor = "multi_thread")]
async fn s1_47_the_last_use_of_a_key_is_known() {
    let service = Service::start_at(epoch()).await;
    let keeper = service.account(false).await;
    let made = create(&keeper, CreateApiKeyRequest::default()).await.unwrap();
    let (id, key) = (made.key.unwrap().id, keeper.with_token(&made.secret));
    let last = async || page(&keeper, 0, "").await.0.into_iter().find(|it| it.id == id).unwrap().last_used_at;
    assert_eq!(last().await, None, "absent until it is used");
    assert!(works(&key).await);
    let mut used = None;
    for _ in 0..100 {
        used = last().await;
        if used.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(used, Some(timestamp(service.clock.now())));
}

/// S1.48, S1.49: a rotated key and its successor both work until the overlap is over, and to the microsecond.
#[tokio::test(flavor = "multi_thread")]
async fn s1_49_a_rotated_key_ends_with_the_overlap() {
    let service = Service::start_at(epoch()).await;
    let keeper = service.account(false).await;
    let new = CreateApiKeyRequest { name: "Shop".into(), scopes: vec![1, 6, 7], ..Default::default() };
    let made = create(&keeper, new).await.unwrap();
    let (old_key, old) = (made.key.unwrap(), keeper.with_token(&made.secret));
    assert!(works(&old).await);
    let rotated = rotate(&keeper, &old_key.id, None).await.unwrap();
    let (key, replaced) = (rotated.key.unwrap(), rotated.replaced.unwrap());
    assert_eq!((key.name.as_str(), &key.scopes, key.livemode, key.expires_at), ("Shop", &vec![1, 6, 7], false, None));
    assert_eq!(replaced.expires_at, Some(ahead(&service, TimeDelta::hours(24))));
    assert_eq!((replaced.id.as_str(), &replaced.replaced_by_key_id), (old_key.id.as_str(), &key.id));
    assert_eq!(
        page(&keeper, 0, "").await.0.iter().find(|it| it.id == old_key.id).unwrap().expires_at,
        replaced.expires_at
    );
    let new = keeper.with_token(&rotated.secret);
    // What the service still believes of the old key is five seconds old at most.
    tokio::time::sleep(STOPS_WITHIN).await;
    service.clock.advance(TimeDelta::hours(24) - TimeDelta::microseconds(1));
    assert!(works(&old).await && works(&new).await, "both work during the overlap");
    service.clock.advance(TimeDelta::microseconds(1));
    assert!(!works(&old).await && works(&new).await, "one works after it");
    assert_eq!(rotate(&keeper, &old_key.id, None).await.unwrap_err().reason(), "NOT_FOUND", "it is over");
    revoke(&keeper, &old_key.id).await.expect("and can still be revoked");
}

/// S1.49: at once, at most a week, and never longer than the key's own deadline.
#[tokio::test(flavor = "multi_thread")]
async fn s1_49_an_overlap_is_nothing_to_a_week_and_ends_with_the_key() {
    let service = Service::start_at(epoch()).await;
    let keeper = service.account(false).await;
    let end = Some(ahead(&service, TimeDelta::hours(1)));
    let short = create(&keeper, CreateApiKeyRequest { expires_at: end, ..Default::default() }).await.unwrap();
    let id = short.key.unwrap().id;
    for overlap in [TimeDelta::seconds(-1), TimeDelta::days(7) + TimeDelta::seconds(1), TimeDelta::milliseconds(1500)] {
        assert_eq!(rotate(&keeper, &id, Some(overlap)).await.unwrap_err().fields(), ["overlap"]);
    }
    let rotated = rotate(&keeper, &id, Some(TimeDelta::days(7))).await.unwrap();
    assert_eq!(rotated.replaced.unwrap().expires_at, end, "no longer than its own");
    assert_eq!(rotated.key.as_ref().unwrap().expires_at, end, "the successor has the same");
    let successor = keeper.with_token(&rotated.secret);
    assert!(works(&successor).await);
    let now = Some(ahead(&service, TimeDelta::zero()));
    let at_once = rotate(&keeper, &rotated.key.unwrap().id, Some(TimeDelta::zero())).await.unwrap();
    assert_eq!(at_once.replaced.unwrap().expires_at, now);
    until_dead(&[successor]).await;
    assert!(works(&keeper.with_token(&at_once.secret)).await);
    // A key that never was asked about is dead at its deadline, and not a microsecond earlier.
    service.clock.advance(TimeDelta::hours(1) - TimeDelta::microseconds(1));
    assert!(works(&keeper.with_token(&at_once.secret)).await);
    service.clock.advance(TimeDelta::microseconds(1));
    assert!(!works(&keeper.with_token(&at_once.secret)).await && !works(&keeper.with_token(&short.secret)).await);
    for past in [TimeDelta::zero(), TimeDelta::seconds(-1)] {
        let request = CreateApiKeyRequest { expires_at: Some(ahead(&service, past)), ..Default::default() };
        assert_eq!(create(&keeper, request).await.unwrap_err().fields(), ["expires_at"]);
    }
}

/// S1.48, S1.49: a leaked key stops within five seconds on every replica; ending it twice is a success.
#[tokio::test(flavor = "multi_thread")]
async fn s1_49_a_revoked_key_stops_on_every_replica() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let replica =
        Service::start_with(service.database.clone(), Clock::database(), folder, service.config.clone()).await;
    let keeper = service.account(false).await;
    let made = create(&keeper, CreateApiKeyRequest::default()).await.unwrap();
    let (id, here) = (made.key.unwrap().id, keeper.with_token(&made.secret));
    let there = Caller { channel: replica.channel.clone(), ..here.clone() };
    assert!(works(&here).await && works(&there).await);
    let revoked = revoke(&keeper, &id).await.unwrap();
    assert!(revoked.revoked_at.is_some());
    assert!(until_dead(&[here.clone(), there]).await <= STOPS_WITHIN);
    assert_eq!(revoke(&keeper, &id).await.unwrap().revoked_at, revoked.revoked_at, "the first time stands");
    assert_eq!(rotate(&keeper, &id, None).await.unwrap_err().reason(), "NOT_FOUND", "it does not come back");
    // A key ends itself too.
    let own = identity(&keeper).await.unwrap().0;
    revoke(&keeper, &own).await.unwrap();
    until_dead(&[keeper]).await;
}
