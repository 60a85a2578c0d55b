//! Accounts with a ledger, made as the operator makes them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, TimeDelta};
use countersign::v1::document_source::Source;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{
    AccountSettings, Amount, Billing, ChargeAt, CreateAccountRequest, CreateApiKeyRequest, CreateEnvelopeRequest,
    DiscardEnvelopeRequest, DocumentSource, Envelope, EnvelopeStatus, GetCreditBalanceRequest, GrantCreditsRequest,
    LedgerEntry, Limits, ListLedgerRequest, RefundCause, RefundPolicy, RefundRule, Routing, SendEnvelopeRequest,
    UpdateAccountSettingsRequest, UploadDocumentRequest, UploadInfo,
};
use countersign_chassis::wire::timestamp;
use countersign_test_support::client::{pdf, request};
use countersign_test_support::{Caller, Service};
use tonic::Status;

/// An account by itself.
pub struct Till<'a> {
    pub service: &'a Service,
    pub operator: Caller,
    pub live: Caller,
    document: DocumentSource,
}

/// Euros, in cents.
pub fn euro(value: i64) -> Amount {
    Amount { unit: "EUR".into(), value }
}

pub fn credits(value: i64) -> Amount {
    Amount { unit: "CREDIT".into(), value }
}

/// So much, charged then, refunded so.
pub fn billing(charge_at: ChargeAt, price: Amount, refund: RefundPolicy) -> Billing {
    Billing { charge_at: charge_at.into(), price: Some(price), refund_policy: Some(refund) }
}

pub fn preset(name: &str, cap: Option<i64>) -> RefundPolicy {
    RefundPolicy { preset: name.into(), rules: Vec::new(), cap }
}

/// A table of its own: cause, signatures at most, share in hundredths of a percent.
pub fn table(rules: &[(RefundCause, Option<u32>, u32)], cap: Option<i64>) -> RefundPolicy {
    let rule = |(cause, signed_max, share_basis_points): &(RefundCause, Option<u32>, u32)| RefundRule {
        cause: (*cause).into(),
        signed_max: *signed_max,
        share_basis_points: *share_basis_points,
    };
    RefundPolicy { preset: String::new(), rules: rules.iter().map(rule).collect(), cap }
}

/// A document that is there already.
pub async fn upload(sender: &Caller) -> DocumentSource {
    let info = UploadInfo { name: "nda.pdf".into(), ..UploadInfo::default() };
    let parts = [Part::Info(info), Part::Chunk(pdf().into())].map(|part| UploadDocumentRequest { part: Some(part) });
    let kept = sender.envelopes().upload_document(tokio_stream::iter(parts)).await.unwrap().into_inner();
    DocumentSource { name: String::new(), source: Some(Source::UploadId(kept.upload_id)), ..Default::default() }
}

/// By a clock that stands still.
pub async fn service() -> Service {
    Service::start_at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()).await
}

impl<'a> Till<'a> {
    /// A new account with the free credits and a live key.
    pub async fn open(service: &'a Service) -> Self {
        let new = CreateAccountRequest { name: "Till Ltd".into(), ..CreateAccountRequest::default() };
        let made = service.operator("").accounts().create_account(new).await.unwrap().into_inner();
        let operator = service.operator(&made.account.unwrap().id);
        let key = CreateApiKeyRequest { livemode: true, ..CreateApiKeyRequest::default() };
        let token = operator.accounts().create_api_key(key).await.unwrap().into_inner().secret;
        let live = operator.with_token(&token);
        let limits = Limits {
            key_calls_per_second: 10_000,
            key_calls_burst: 20_000,
            signer_calls_per_minute: 6_000,
            signer_calls_burst: 6_000,
            ..Limits::default()
        };
        let document = upload(&live).await;
        let till = Self { service, operator, live, document };
        till.set("limits", AccountSettings { limits: Some(limits), ..AccountSettings::default() }).await;
        till
    }

    async fn set(&self, what: &str, settings: AccountSettings) {
        let update_mask = Some(prost_types::FieldMask { paths: vec![what.into()] });
        let request = UpdateAccountSettingsRequest { settings: Some(settings), update_mask, ..Default::default() };
        self.operator.accounts().update_account_settings(request).await.unwrap();
    }

    pub async fn bill(&self, billing: Billing) {
        self.set("billing", AccountSettings { billing: Some(billing), ..AccountSettings::default() }).await;
    }

    pub async fn grant(&self, amount: Amount) -> LedgerEntry {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let idempotency_key = format!("grant {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let request = GrantCreditsRequest { amount: Some(amount), reference: "invoice 1".into(), idempotency_key };
        self.operator.accounts().grant_credits(request).await.unwrap().into_inner().entry.unwrap()
    }

    /// What is there in each unit.
    pub async fn balances(&self) -> BTreeMap<String, i64> {
        let balance = self.live.accounts().get_credit_balance(GetCreditBalanceRequest {}).await.unwrap();
        balance.into_inner().available.into_iter().map(|amount| (amount.unit, amount.value)).collect()
    }

    pub async fn balance(&self, unit: &str) -> i64 {
        self.balances().await.get(unit).copied().unwrap_or(0)
    }

    /// All entries, or those of an envelope.
    pub async fn entries(&self, envelope_id: &str, page_size: i32) -> Vec<LedgerEntry> {
        let (mut entries, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListLedgerRequest { page_size, page_token, envelope_id: envelope_id.to_owned() };
            let page = self.live.accounts().list_ledger(request).await.unwrap().into_inner();
            assert!(page_size == 0 || page.entries.len() <= usize::try_from(page_size).unwrap());
            entries.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return entries;
            }
        }
    }

    pub fn form(&self, signers: usize, send: bool) -> CreateEnvelopeRequest {
        let documents = vec![self.document.clone()];
        let expires_at = Some(timestamp(self.service.clock.now() + TimeDelta::hours(1)));
        CreateEnvelopeRequest { documents, expires_at, ..request(signers, Routing::Parallel, send) }
    }

    pub async fn sent(&self, signers: usize) -> Envelope {
        self.live.create(self.form(signers, true)).await.unwrap()
    }

    pub async fn draft(&self) -> Envelope {
        self.live.create(self.form(1, false)).await.unwrap()
    }

    pub async fn send(&self, id: &str) -> Result<Envelope, Status> {
        let request = SendEnvelopeRequest { envelope_id: id.to_owned(), ..SendEnvelopeRequest::default() };
        Ok(self.live.envelopes().send_envelope(request).await?.into_inner().envelope.unwrap())
    }

    pub async fn discard(&self, id: &str) {
        let request = DiscardEnvelopeRequest { envelope_id: id.to_owned(), ..DiscardEnvelopeRequest::default() };
        self.live.envelopes().discard_envelope(request).await.unwrap();
    }

    /// The link of a live envelope: only the notifier has it.
    pub async fn signer(&self, envelope: &Envelope, index: usize) -> Caller {
        let notifier = self.service.notifier(&self.live.account);
        notifier.signer_of(&envelope.id, &envelope.recipients[index].id).await.unwrap()
    }

    /// Waits until it has that status.
    pub async fn until(&self, id: &str, status: EnvelopeStatus) -> Envelope {
        for _ in 0..1_200 {
            let now = self.live.get(id).await.unwrap();
            if now.status() == status {
                return now;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("waited for {status:?}");
    }
}
