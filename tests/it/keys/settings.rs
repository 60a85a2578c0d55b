//! Settings of an account: who changes which, within what, and for which envelopes they hold.

use countersign::v1::{
    Account, AccountSettings, DeclineEffect, DeclinePolicy, GetAccountRequest, Limits, ReasonRule, Routing,
    UpdateAccountSettingsRequest,
};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Errors as _, Service};
use prost_types::FieldMask;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::isolation::wire::{call, method, pool};

/// The contract's limits: name, usual value, most; as the reference documents them.
fn documented() -> Vec<(String, u64, u64)> {
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/countersign/v1/account.proto");
    let proto = std::fs::read_to_string(proto).unwrap();
    let (_, limits) = proto.split_once("message Limits {").unwrap();
    let (limits, _) = limits.split_once("\n}").unwrap();
    let after = |text: &str, word: &str| -> u64 {
        let (_, rest) = text.split_once(word).expect(text);
        let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
        digits.replace(',', "").parse().expect(text)
    };
    let fields = pool().get_message_by_name("countersign.v1.Limits").unwrap();
    let fields = fields.fields().map(|field| {
        let (before, _) = limits.split_once(&format!(" {} = ", field.name())).unwrap();
        let comment = &before[before.rfind("// ").unwrap()..];
        (field.name().to_owned(), after(comment, "usually "), after(comment, "at most "))
    });
    fields.collect()
}

async fn update(by: &Caller, settings: AccountSettings, paths: &[&str], if_revision: u64) -> Result<Account, Status> {
    let update_mask = Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    let settings = Some(settings);
    let request = UpdateAccountSettingsRequest { settings, update_mask, if_revision, ..Default::default() };
    Ok(by.accounts().update_account_settings(request).await?.into_inner().account.unwrap())
}

/// Sets limits of an account, the others to what is usual.
pub async fn limit(service: &Service, account: &str, limits: Limits) {
    let settings = AccountSettings { limits: Some(limits), ..AccountSettings::default() };
    update(&service.operator(account), settings, &["limits"], 0).await.expect("limits");
}

async fn read(by: &Caller) -> Account {
    by.accounts().get_account(GetAccountRequest {}).await.unwrap().into_inner().account.unwrap()
}

fn refusals(reason: ReasonRule) -> DeclinePolicy {
    DeclinePolicy { reason: reason.into(), ..DeclinePolicy::default() }
}

/// S3.82: each limit has the usual value and the ceiling that the reference tells; the operator alone sets it.
#[tokio::test(flavor = "multi_thread")]
async fn c18_each_limit_goes_as_far_as_the_reference_says() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let operator = service.operator(&sender.account);
    let update = method("AccountService", "UpdateAccountSettings");
    let set = async |limits: Value| {
        let request = json!({"settings": {"limits": limits}, "update_mask": "limits"});
        call(&service.channel, &operator, &update, &request).await
    };
    let now = async || {
        let get = method("AccountService", "GetAccount");
        let answer = call(&service.channel, &sender, &get, &json!({})).await;
        let read = prost_reflect::DynamicMessage::decode(get.output(), answer.messages()[0].as_slice()).unwrap();
        let options =
            prost_reflect::SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
        let read = read.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
        read["account"]["settings"]["limits"].clone()
    };
    assert_eq!(set(json!({})).await.code, Code::Ok);
    let usual = now().await;
    for (name, default, most) in documented() {
        assert_eq!(usual[&name], json!(default), "{name}");
        let mut one = json!({});
        one[&name] = json!(most);
        assert_eq!(set(one.clone()).await.code, Code::Ok, "{name}");
        let mut expected = usual.clone();
        expected[&name] = json!(most);
        assert_eq!(now().await, expected, "{name}: 0 is the usual value of the others");
        one[&name] = json!(most + 1);
        let over = set(one).await;
        assert_eq!((over.code, over.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{name}");
        assert!(over.tells(&format!("settings.limits.{name}")), "{name}: {over:?}");
        assert_eq!(now().await, expected, "{name}: and changes nothing");
    }
}

/// C-18: what an account pays and how much it may do is the operator's to say.
#[tokio::test(flavor = "multi_thread")]
async fn c18_the_operators_settings_are_not_the_accounts() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let before = read(&sender).await;
    let settings = before.settings.clone().unwrap();
    for paths in [&["limits"][..], &["billing"], &["tell_acted_recipients", "limits"], &["billing", "x"]] {
        let refused = update(&sender, settings.clone(), paths, 0).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason().as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    }
    let operator = service.operator(&sender.account);
    for paths in [&[][..], &["x"], &["settings"], &["limits.pages_max"], &["Billing"]] {
        for by in [&sender, &operator] {
            assert_eq!(
                update(by, settings.clone(), paths, 0).await.unwrap_err().fields(),
                ["update_mask"],
                "{paths:?}"
            );
        }
    }
    let nothing = AccountSettings::default();
    let bad = update(&operator, nothing, &["billing"], 0).await.unwrap_err();
    assert_eq!(bad.fields(), ["settings.billing"], "billing is set as a whole");
    assert_eq!(read(&sender).await, before, "nothing has changed");
    // Only what the mask names is taken, and the same again is no change.
    let mut other = settings.clone();
    other.tell_acted_recipients = !settings.tell_acted_recipients;
    other.decline_policy = Some(refusals(ReasonRule::Required));
    let after = update(&sender, other.clone(), &["tell_acted_recipients"], 0).await.unwrap();
    assert_eq!(after.settings.as_ref().unwrap().decline_policy, settings.decline_policy);
    assert_eq!(after.settings.as_ref().unwrap().tell_acted_recipients, other.tell_acted_recipients);
    assert_eq!(after.revision, before.revision + 1);
    let again = update(&sender, other.clone(), &["tell_acted_recipients"], 0).await.unwrap();
    assert_eq!(again, after);
    let stale = update(&sender, other.clone(), &["decline_policy"], before.revision).await.unwrap_err();
    assert_eq!((stale.code(), stale.reason().as_str()), (Code::Aborted, "REVISION_MISMATCH"));
    assert_eq!(stale.fact("revision"), after.revision.to_string());
    let changed = update(&sender, other, &["decline_policy"], after.revision).await.unwrap();
    assert_eq!(read(&sender).await, changed);
}

/// S2.14, C-18: how a refusal is taken is the account's word where the sender says none, and stays as it was then.
#[tokio::test(flavor = "multi_thread")]
async fn s2_14_the_accounts_policy_holds_for_envelopes_that_name_none() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let set = async |policy: DeclinePolicy| {
        let settings = AccountSettings { decline_policy: Some(policy), ..AccountSettings::default() };
        update(&sender, settings, &["decline_policy"], 0).await.unwrap();
    };
    let required = DeclinePolicy { effect: DeclineEffect::Abort.into(), ..refusals(ReasonRule::Required) };
    set(required).await;
    let story = sender.story(1, Routing::Parallel).await;
    assert_eq!(story.envelope.decline_policy, Some(required));
    let mut named = request(1, Routing::Parallel, true);
    named.decline_policy = Some(refusals(ReasonRule::Optional));
    let named = sender.story_of(named).await;
    assert_eq!(
        named.envelope.decline_policy.unwrap().reason(),
        ReasonRule::Optional,
        "the sender's own word goes first"
    );
    let mut disabled = refusals(ReasonRule::Optional);
    disabled.disabled = true;
    set(disabled).await;
    assert_eq!(story.now().await.decline_policy, Some(required), "frozen");
    assert_eq!(story.signer(0).decline("").await.unwrap_err().fields(), ["reason"]);
    story.signer(0).decline("Too dear").await.expect("allowed as it was");
    named.signer(0).decline("").await.expect("allowed as the sender said");
    let newest = sender.story(1, Routing::Parallel).await;
    assert_eq!(newest.signer(0).decline("no").await.unwrap_err().reason(), "DECLINE_NOT_ALLOWED");
    let unknown = AccountSettings {
        decline_policy: Some(DeclinePolicy { reason: 99, ..DeclinePolicy::default() }),
        ..AccountSettings::default()
    };
    let fields = update(&sender, unknown, &["decline_policy"], 0).await.unwrap_err().fields();
    assert_eq!(fields, ["settings.decline_policy.reason"]);
}

/// S2.11, C-18: whether those who have acted are told too is frozen in the envelope.
#[tokio::test(flavor = "multi_thread")]
async fn s2_11_whether_those_who_acted_are_told_is_frozen_in_the_envelope() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let set = async |tell_acted_recipients| {
        let settings = AccountSettings { tell_acted_recipients, ..AccountSettings::default() };
        update(&sender, settings, &["tell_acted_recipients"], 0).await.unwrap();
    };
    let told = sender.story(2, Routing::Parallel).await;
    set(false).await;
    let untold = sender.story(2, Routing::Parallel).await;
    assert_eq!((told.now().await.tell_acted_recipients, untold.now().await.tell_acted_recipients), (true, false));
    set(true).await;
    untold.signer(0).sign(&untold.envelope).await.unwrap();
    untold.signer(1).decline("no").await.unwrap();
    assert!(!untold.now().await.tell_acted_recipients, "as it was when it was made");
}
