//! Rates: each credential has its own, and a refused call takes nothing.

use std::time::Duration;

use countersign::v1::{
    CreateEnvelopeRequest, GetAccountRequest, GetCreditBalanceRequest, Limits, ListEnvelopesRequest, Routing,
};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Errors as _, Service};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::settings::limit;

async fn read(key: &Caller) -> Result<(), Status> {
    key.accounts().get_account(GetAccountRequest {}).await.map(drop)
}

/// Checks a refusal, and says how long to wait.
fn too_many(status: &Status, limit: &str, allowed: &str) -> Duration {
    let expected = (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED", "429");
    assert_eq!((status.code(), status.reason().as_str(), status.fact("http_status").as_str()), expected);
    assert_eq!((status.fact("limit").as_str(), status.fact("allowed").as_str()), (limit, allowed));
    let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    let header: u64 = status.metadata().get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
    assert!(Duration::ZERO < delay && delay <= Duration::from_secs(header), "{delay:?} within {header} s");
    assert!(Duration::from_secs(header) < delay + Duration::from_secs(1), "and no longer than needed");
    delay
}

async fn balance(service: &Service, account: &str) -> i64 {
    let answer = service.operator(account).accounts().get_credit_balance(GetCreditBalanceRequest {}).await;
    answer.unwrap().into_inner().available[0].value
}

/// S2.60, S2.61, S2.62, T-71: a key that calls too often is told when to come again, and loses nothing by it.
#[tokio::test(flavor = "multi_thread")]
async fn t71_a_refused_call_takes_neither_a_key_nor_a_credit() {
    let service = Service::start().await;
    let sender = service.account(true).await;
    let second = service.key_of(&sender, true).await;
    let (other, before) = (service.account(true).await, balance(&service, &sender.account).await);
    limit(&service, &sender.account, Limits { key_calls_per_second: 1, key_calls_burst: 2, ..Limits::default() }).await;
    read(&sender).await.unwrap();
    read(&sender).await.unwrap();
    let new = CreateEnvelopeRequest { idempotency_key: "once".into(), ..request(1, Routing::Parallel, true) };
    let refused = sender.envelopes().create_envelope(new.clone()).await.unwrap_err();
    let delay = too_many(&refused, "key_calls_per_second", "1");
    assert!(delay <= Duration::from_secs(1));
    read(&second).await.expect("another key of the account has its own rate");
    read(&other).await.expect("another account too");
    assert_eq!(balance(&service, &sender.account).await, before, "no credit is gone");
    tokio::time::sleep(delay + Duration::from_millis(50)).await;
    let made = sender.envelopes().create_envelope(new).await.expect("when it was told to come");
    assert!(made.metadata().get("idempotency-replayed").is_none(), "the key was free");
    let id = made.into_inner().envelope.unwrap().id;
    assert_eq!(balance(&service, &sender.account).await, before - 1, "one credit, once");
    let listed = second.envelopes().list_envelopes(ListEnvelopesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.envelopes.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [id]);
    // Refused calls do not put the next one off.
    for _ in 0..20 {
        let _ = read(&sender).await;
    }
    let again = read(&sender).await.unwrap_err();
    assert!(too_many(&again, "key_calls_per_second", "1") <= Duration::from_secs(1));
}

/// T-71, S2.60: a recipient's calls are counted by their token, and nobody else's calls with them.
#[tokio::test(flavor = "multi_thread")]
async fn t71_each_recipient_has_a_rate_of_their_own() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    let rates = Limits { signer_calls_per_minute: 1, signer_calls_burst: 3, ..Limits::default() };
    limit(&service, &sender.account, rates).await;
    let (first, second) = (story.signer(0), story.signer(1));
    for _ in 0..3 {
        first.session().await.unwrap();
    }
    let refused = first.sign(&story.envelope).await.unwrap_err();
    let delay = too_many(&refused, "signer_calls_per_minute", "1");
    assert!(Duration::from_secs(50) < delay && delay <= Duration::from_secs(60), "{delay:?}");
    second.session().await.expect("another recipient has a rate of their own");
    second.sign(&story.envelope).await.expect("also to act");
    read(&sender).await.expect("the sender too");
    assert_eq!(story.now().await.recipients[0].signed_at, None, "the refused signature is none");
}
