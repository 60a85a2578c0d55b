//! Where keys are tried: the services, an account and envelopes on which everybody may act without ending them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};
use countersign::v1::{
    AccountSettings, Amount, Billing, ChargeAt, CreateAccountRequest, CreateApiKeyRequest, CreateEnvelopeRequest,
    DeclineEffect, DeclinePolicy, DocumentSource, Envelope, FieldType, GetCallerIdentityRequest, Limits, NewField,
    NewRecipient, Quorum, RecipientRole, RefundPolicy, Routing, UpdateAccountSettingsRequest,
};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Database, Notifier, Service};

use crate::ledger::upload;

/// The recipients of an envelope of the scene: signers, of whom two are enough, an approver and an assistant.
pub const SIGNERS: usize = 6;
pub const APPROVER: usize = SIGNERS;
pub const ASSISTANT: usize = SIGNERS + 1;

/// The services, by a clock that stands still, and who calls them.
pub struct Scene {
    pub service: Service,
    pub notifier: Notifier,
    pub sender: Caller,
    /// An account that nothing else happens to.
    pub spare: Caller,
    document: DocumentSource,
}

impl Scene {
    pub async fn set() -> Self {
        Self::of(Service::start_at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()).await).await
    }

    /// With that service.
    pub async fn of(service: Service) -> Self {
        let notifier = Notifier::start(&service).await;
        let accounts = (service.account(false).await, service.account(false).await);
        Self::by(service, notifier, accounts).await
    }

    /// With those services and accounts.
    pub async fn by(service: Service, notifier: Notifier, (sender, spare): (Caller, Caller)) -> Self {
        let document = upload(&sender).await;
        Self { service, notifier, sender, spare, document }
    }

    /// An envelope to be.
    pub fn form(&self, send: bool) -> CreateEnvelopeRequest {
        let mut form = request(SIGNERS, Routing::Groups, send);
        let other = |role: RecipientRole, name: &str, assists_index| NewRecipient {
            name: name.into(),
            email: format!("{name}@example.com"),
            role: role.into(),
            assists_index,
            ..NewRecipient::default()
        };
        form.recipients.push(other(RecipientRole::Approver, "approver", None));
        form.recipients.push(other(RecipientRole::Assistant, "assistant", Some(0)));
        form.recipients.iter_mut().take(ASSISTANT).for_each(|recipient| recipient.group = 1);
        form.quorums = vec![Quorum { group: 1, needed: 2 }];
        let mut text = form.fields[0].clone();
        text.placement.as_mut().unwrap().y_percent = 80.0;
        form.fields.push(NewField { r#type: FieldType::Text.into(), required: false, ..text });
        let effect = DeclineEffect::Continue.into();
        form.decline_policy = Some(DeclinePolicy { effect, ..DeclinePolicy::default() });
        form.delegations_max = 1;
        form.metadata = ["a", "b", "c", "d"].map(|key| (key.to_owned(), key.to_owned())).into();
        form.documents = vec![self.document.clone()];
        form
    }

    pub async fn draft(&self) -> Envelope {
        self.sender.create(self.form(false)).await.unwrap()
    }

    pub async fn sent(&self) -> Envelope {
        self.sender.create(self.form(true)).await.unwrap()
    }

    pub async fn signer(&self, envelope: &Envelope, index: usize) -> Caller {
        self.sender.signer_of(&envelope.id, &envelope.recipients[index].id).await.unwrap()
    }

    /// The id of somebody's key.
    pub async fn identity(&self, caller: &Caller) -> String {
        caller.accounts().get_caller_identity(GetCallerIdentityRequest {}).await.unwrap().into_inner().key_id
    }

    /// An hour and more later.
    pub fn later(&self) {
        self.service.clock.advance(TimeDelta::hours(2));
    }
}

/// A live account without a credit that is good for a credit an envelope.
pub async fn broke(service: &Service) -> Caller {
    let mut nobody = service.operator("").accounts();
    let made =
        nobody.create_account(CreateAccountRequest { name: "Broke".into(), ..Default::default() }).await.unwrap();
    let account = made.into_inner().account.unwrap().id;
    let mut operator = service.operator(&account).accounts();
    let key = CreateApiKeyRequest { livemode: true, ..CreateApiKeyRequest::default() };
    let token = operator.create_api_key(key).await.unwrap().into_inner().secret;
    let caller = Caller { account: account.clone(), token, channel: service.channel.clone() };
    // The free credits go for one envelope.
    let price = |value| Billing {
        charge_at: ChargeAt::Dispatch.into(),
        price: Some(Amount { unit: "CREDIT".into(), value }),
        refund_policy: Some(RefundPolicy::default()),
    };
    let bill = |billing: Billing| UpdateAccountSettingsRequest {
        settings: Some(AccountSettings { billing: Some(billing), ..AccountSettings::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["billing".into()] }),
        ..Default::default()
    };
    operator.update_account_settings(bill(price(5))).await.unwrap();
    let mut spend = request(1, Routing::Parallel, true);
    spend.documents = vec![upload(&caller).await];
    caller.create(spend).await.unwrap();
    operator.update_account_settings(bill(price(1))).await.unwrap();
    caller
}

/// Lets recipients of an account call twice and not more.
pub async fn slow(service: &Service, account: &str) {
    let limits = Limits { signer_calls_per_minute: 1, signer_calls_burst: 2, ..Limits::default() };
    let request = UpdateAccountSettingsRequest {
        settings: Some(AccountSettings { limits: Some(limits), ..AccountSettings::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["limits".into()] }),
        ..Default::default()
    };
    service.operator(account).accounts().update_account_settings(request).await.unwrap();
}

/// Tables that a call may change, of the envelope service and of the notifier, and what is kept of the keys. What their
/// loops do by themselves is not in them.
const TABLES: [&str; 15] = [
    "account",
    "account_user",
    "api_key",
    "artifact",
    "document",
    "envelope",
    "event",
    "event_particulars",
    "field",
    "ledger_balance",
    "ledger_entry",
    "recipient",
    "upload",
    "idempotency",
    "artifact_job",
];
const TABLES_OF_NOTIFIER: [&str; 3] = ["delivery", "endpoint", "idempotency"];

/// What stands in the databases, table by table.
pub async fn contents(scene: &Scene) -> BTreeMap<String, String> {
    let mut all = digests(&scene.service.database, &TABLES).await;
    let of_notifier = digests(&scene.notifier.database, &TABLES_OF_NOTIFIER).await;
    all.extend(of_notifier.into_iter().map(|(table, digest)| (format!("notifier.{table}"), digest)));
    all
}

/// The same without what is kept of the keys.
pub fn effects(mut contents: BTreeMap<String, String>) -> BTreeMap<String, String> {
    contents.retain(|table, _| !table.ends_with("idempotency"));
    contents
}

async fn digests(database: &Database, tables: &[&str]) -> BTreeMap<String, String> {
    let of = |table: &&str| {
        format!(
            "SELECT '{table}', coalesce(md5(string_agg(row, ' ' ORDER BY row)), '') \
             FROM (SELECT (to_jsonb(t) - 'last_used_at')::text AS row FROM {table} t) rows"
        )
    };
    let query = tables.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ");
    let rows = database.connect().await.query(&query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
