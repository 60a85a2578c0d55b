//! Who may call what: every call by every kind of credential, with and without its scope, for a live and a suspended account.

use std::collections::{BTreeMap, BTreeSet};

use countersign::v1::{
    CreateAccountRequest, CreateApiKeyRequest, ResumeAccountRequest, Routing, Scope, SuspendAccountRequest,
};
use countersign_envelope::domain::account::Permission;
use countersign_envelope::rpc::access::{Access, TABLE, Who};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Errors as _, Notifier, Service};
use serde_json::json;
use tonic::Code;

use super::{create, key_for};
use crate::isolation::wire::{Answer, call, method, pool};

/// The services of the envelope service's process.
const SERVED: [&str; 3] = ["EnvelopeService", "SignerService", "AccountService"];
/// Calls of the notifier, and the scopes that they need.
const WEBHOOKS: [(&str, Scope); 13] = [
    ("CreateWebhookEndpoint", Scope::WebhooksWrite),
    ("DeleteWebhookEndpoint", Scope::WebhooksWrite),
    ("EnableWebhookEndpoint", Scope::WebhooksWrite),
    ("GetDelivery", Scope::WebhooksRead),
    ("GetEnvelopeWebhookSecret", Scope::WebhooksWrite),
    ("GetWebhookEndpoint", Scope::WebhooksRead),
    ("ListDeliveries", Scope::WebhooksRead),
    ("ListWebhookEndpoints", Scope::WebhooksRead),
    ("RedeliverEvents", Scope::WebhooksWrite),
    ("RotateWebhookSecret", Scope::WebhooksWrite),
    ("SendTestEvent", Scope::WebhooksWrite),
    ("UpdateWebhookEndpoint", Scope::WebhooksWrite),
    ("VerifyWebhookEndpoint", Scope::WebhooksWrite),
];

/// Makes a call with nothing in it: who may not is told so before anything is read.
async fn attempt(caller: &Caller, path: &str) -> Answer {
    let (service, name) = path.strip_prefix("/countersign.v1.").unwrap().split_once('/').unwrap();
    call(&caller.channel, caller, &method(service, name), &json!({})).await
}

fn scope(permission: Permission) -> Scope {
    Scope::try_from(permission as i32).unwrap()
}

/// A key for all scopes but that one.
async fn key_without(maker: &Caller, lacking: Permission) -> Caller {
    let others: Vec<_> = Permission::ALL.into_iter().filter(|it| *it != lacking).map(scope).collect();
    key_for(maker, &others).await
}

/// What is not in the table is refused to everybody, so the table has to be whole.
#[test]
fn the_table_of_access_is_the_contract() {
    let mut calls = BTreeSet::new();
    for name in SERVED {
        let service = pool().get_service_by_name(&format!("countersign.v1.{name}")).unwrap();
        calls.extend(service.methods().map(|method| format!("/{}/{}", service.full_name(), method.name())));
    }
    let table: BTreeSet<_> = TABLE.iter().map(|access| access.path.to_owned()).collect();
    assert_eq!(table.len(), TABLE.len(), "one line for each call");
    assert_eq!(table, calls);
    for Access { path, callers, permission, .. } in &TABLE {
        assert!(!callers.is_empty(), "{path} is for nobody");
        let free = *path == "/countersign.v1.AccountService/GetCallerIdentity";
        assert_eq!(permission.is_some(), callers.contains(&Who::Sender) && !free, "{path}");
    }
    let webhooks = pool().get_service_by_name("countersign.v1.WebhookService").unwrap();
    let names: BTreeSet<_> = webhooks.methods().map(|method| method.name().to_owned()).collect();
    assert_eq!(names, WEBHOOKS.iter().map(|(name, _)| (*name).to_owned()).collect());
}

/// S1.38: each scope is needed for its calls, and is enough for them.
#[tokio::test(flavor = "multi_thread")]
async fn s1_38_a_key_without_the_scope_of_a_call_is_refused() {
    let service = Service::start().await;
    let full = service.account(false).await;
    let mut keys = BTreeMap::new();
    for permission in Permission::ALL {
        keys.insert(permission, (key_without(&full, permission).await, key_for(&full, &[scope(permission)]).await));
    }
    for access in TABLE.iter().filter(|access| access.callers.contains(&Who::Sender)) {
        let path = access.path;
        for (permission, (without, only)) in &keys {
            let (denied, allowed) = match access.permission {
                Some(needed) if needed == *permission => (Some(without), Some(only)),
                Some(_) => (Some(only), Some(without)),
                None => (None, Some(only)),
            };
            if let Some(denied) = denied {
                let answer = attempt(denied, path).await;
                let name = access.permission.unwrap().name();
                assert_eq!(
                    (answer.code, answer.reason.as_str()),
                    (Code::PermissionDenied, "PERMISSION_DENIED"),
                    "{path}"
                );
                assert_eq!(
                    (answer.facts["scope"].as_str(), answer.facts["http_status"].as_str()),
                    (name, "403"),
                    "{path}"
                );
            }
            if let Some(allowed) = allowed {
                let answer = attempt(allowed, path).await;
                assert!(!answer.facts.contains_key("scope"), "{path} with {permission:?}: {answer:?}");
            }
        }
    }
    // To send at once is to send.
    let (unsent, _) = &keys[&Permission::EnvelopesSend];
    let status = unsent.create(request(1, Routing::Parallel, true)).await.unwrap_err();
    assert_eq!((status.reason(), status.fact("scope")), ("PERMISSION_DENIED".into(), "envelopes.send".into()));
    unsent.create(request(1, Routing::Parallel, false)).await.expect("a draft is none");
}

/// S1.38, S2.52: each kind of credential opens the calls that are for it, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn s2_52_each_call_is_for_the_credentials_that_the_table_names() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    let account = sender.account.as_str();
    let (notifier, operator) = (service.notifier(account), service.operator(account));
    let credentials = [
        (Who::Sender, &sender),
        (Who::Recipient, story.signer(0)),
        (Who::Notifier, &notifier),
        (Who::Operator, &operator),
    ];
    for access in &TABLE {
        for (who, caller) in credentials {
            if who == Who::Sender && access.path.ends_with("/UpdateAccountSettings") {
                // The settings are those of live envelopes too, and this is a test key: isolation::modes.
                continue;
            }
            let answer = attempt(caller, access.path).await;
            let context = format!("{} by {who:?}: {answer:?}", access.path);
            assert_ne!(answer.code, Code::Unauthenticated, "{context}");
            assert_eq!(answer.reason == "PERMISSION_DENIED", !access.callers.contains(&who), "{context}");
        }
        for token in ["", "x", "cs_test_x", "csu_x"] {
            let answer = attempt(&sender.with_token(token), access.path).await;
            let refused = (answer.code, answer.reason.as_str());
            assert_eq!(refused, (Code::Unauthenticated, "AUTHENTICATION_REQUIRED"), "{}", access.path);
        }
        // Who acts for all accounts says for which.
        for caller in [&notifier, &operator] {
            let nobody = Caller { account: "nobody".into(), ..caller.clone() };
            let answer = attempt(&nobody, access.path).await;
            let needs_none = ["CreateAccount", "WatchStatusChanges"].iter().any(|name| access.path.ends_with(name));
            let checked_first = answer.reason == "INVALID_FIELD";
            assert!(answer.reason == "PERMISSION_DENIED" || needs_none || checked_first, "{}: {answer:?}", access.path);
        }
    }
}

/// S1.38, S2.52: the same for the notifier's calls.
#[tokio::test(flavor = "multi_thread")]
async fn s2_52_endpoints_are_for_keys_with_their_scope() {
    let service = Service::start().await;
    let notifier = Notifier::start(&service).await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    for (name, needed) in WEBHOOKS {
        let method = method("WebhookService", name);
        let attempt = async |caller: &Caller| call(&notifier.channel, caller, &method, &json!({})).await;
        let permission = Permission::ALL.into_iter().find(|it| scope(*it) == needed).unwrap();
        let answer = attempt(&key_without(&sender, permission).await).await;
        assert_eq!((answer.reason.as_str(), answer.facts["scope"].as_str()), ("PERMISSION_DENIED", permission.name()));
        let answer = attempt(&key_for(&sender, &[needed]).await).await;
        assert_ne!(answer.code, Code::PermissionDenied, "{name}: {answer:?}");
        for other in [story.signer(0), &service.notifier(&sender.account), &service.operator(&sender.account)] {
            assert_eq!(attempt(other).await.reason, "PERMISSION_DENIED", "{name}");
        }
        for token in ["", "x", "cs_test_x", "cst_x"] {
            assert_eq!(attempt(&sender.with_token(token)).await.code, Code::Unauthenticated, "{name} {token:?}");
        }
    }
}

/// S1.38: keys of a suspended account read and change nothing; what is on its way goes on.
#[tokio::test(flavor = "multi_thread")]
async fn s1_38_a_suspended_account_reads_and_its_recipients_act() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let other = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    let operator = service.operator(&sender.account);
    let suspend = async || {
        let request = SuspendAccountRequest::default();
        operator.accounts().suspend_account(request).await.unwrap().into_inner().account.unwrap()
    };
    let suspended = suspend().await;
    assert!(suspended.suspended_at.is_some());
    assert_eq!(suspend().await, suspended, "twice is a success that changes nothing");
    for access in TABLE.iter().filter(|access| access.callers.contains(&Who::Sender)) {
        let answer = attempt(&sender, access.path).await;
        assert_eq!(answer.reason == "ACCOUNT_SUSPENDED", access.changes, "{}: {answer:?}", access.path);
        if access.changes {
            assert_eq!((answer.code, answer.facts["http_status"].as_str()), (Code::PermissionDenied, "403"));
        }
        assert_ne!(attempt(&other, access.path).await.reason, "ACCOUNT_SUSPENDED", "another account goes on");
    }
    assert_eq!(sender.get(&story.envelope.id).await.unwrap(), story.envelope);
    story.signer(0).sign(&story.envelope).await.expect("what is on its way goes on");
    story.signer(1).decline("no").await.expect("also to its other end");
    create(&operator, CreateApiKeyRequest::default()).await.expect("the operator is not suspended");
    let resume = async || {
        let request = ResumeAccountRequest::default();
        operator.accounts().resume_account(request).await.unwrap().into_inner().account.unwrap()
    };
    let resumed = resume().await;
    assert_eq!(resumed.suspended_at, None);
    assert_eq!(resume().await, resumed);
    sender.create(request(1, Routing::Parallel, true)).await.expect("as before");
}

/// S1.38, T-56: the operator's own changes are made once for their key too.
#[tokio::test(flavor = "multi_thread")]
async fn t56_an_account_is_made_once_for_its_key() {
    let service = Service::start().await;
    let nobody = service.operator("");
    let new = CreateAccountRequest { name: "Hidden Holdings".into(), idempotency_key: "once".into() };
    let made = nobody.accounts().create_account(new.clone()).await.expect("made");
    assert!(made.metadata().get("idempotency-replayed").is_none());
    let again = nobody.accounts().create_account(new).await.expect("replayed");
    assert_eq!(again.metadata().get("idempotency-replayed").unwrap(), "true");
    assert_eq!(again.into_inner(), made.into_inner());
    assert_eq!(service.database.number("SELECT count(*) FROM account").await, 1);
    let other = CreateAccountRequest { name: "Another".into(), idempotency_key: "once".into() };
    assert_eq!(nobody.accounts().create_account(other).await.unwrap_err().reason(), "IDEMPOTENCY_MISMATCH");
}
