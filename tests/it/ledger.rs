//! Credits: what envelopes cost, what comes back, and that the ledger adds up whatever happens at once.

pub mod audit;
mod race;
mod till;
mod walls;

use chrono::TimeDelta;
use countersign::v1::{
    ChargeAt, Envelope, EnvelopeStatus, LedgerAccount, LedgerEntryKind, ListLedgerRequest, RefundCause, RefundPolicy,
};
use countersign_test_support::{Errors as _, Service};
use tonic::Code;

use self::audit::audit;
pub use self::till::upload;
use self::till::{Till, billing, credits, euro, preset, service, table};

/// How an envelope of three signers is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Completed,
    Declined,
    Voided,
    Expired,
    OpenStill,
}

/// Sends an envelope, has that many sign, and ends it so.
async fn ended(till: &Till<'_>, signed: usize, end: End) -> Envelope {
    let envelope = till.sent(3).await;
    let signers = if end == End::Completed { 3 } else { signed };
    for index in 0..signers {
        till.signer(&envelope, index).await.sign(&envelope).await.unwrap();
    }
    let id = envelope.id.as_str();
    match end {
        End::Completed => till.until(id, EnvelopeStatus::Completed).await,
        End::Declined => {
            till.signer(&envelope, 2).await.decline("no").await.unwrap();
            till.live.get(id).await.unwrap()
        }
        End::Voided => till.live.void(id, "").await.unwrap(),
        End::Expired => {
            till.service.clock.advance(TimeDelta::hours(1));
            till.until(id, EnvelopeStatus::Expired).await
        }
        End::OpenStill => till.live.get(id).await.unwrap(),
    }
}

/// S1.41: five credits to begin with, and the ledger says where they come from.
#[tokio::test(flavor = "multi_thread")]
async fn s1_41_an_account_begins_with_five_credits() {
    let service = service().await;
    let till = Till::open(&service).await;
    assert_eq!(till.balances().await, [("CREDIT".to_owned(), 5)].into());
    let entries = till.entries("", 0).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    let sides = (entry.kind(), entry.debit(), entry.credit());
    assert_eq!(sides, (LedgerEntryKind::Grant, LedgerAccount::Issued, LedgerAccount::Available));
    assert_eq!((entry.amount.clone(), entry.balance_after), (Some(credits(5)), 5));
    assert!(entry.envelope_id.is_empty() && !entry.reference.is_empty());
    audit(&service.database).await;
}

/// S1.40, S1.42, T-53: a credit for each live envelope that is dispatched; drafts and test envelopes cost nothing.
#[tokio::test(flavor = "multi_thread")]
async fn s1_40_an_envelope_costs_a_credit_when_it_is_dispatched() {
    let service = service().await;
    let till = Till::open(&service).await;
    let draft = till.draft().await;
    assert_eq!((till.balance("CREDIT").await, draft.charge.clone()), (5, None));
    let sent = till.send(&draft.id).await.unwrap();
    let charge = sent.charge.unwrap();
    assert_eq!((charge.amount, charge.charged_at, charge.refunded), (Some(credits(1)), sent.dispatched_at, None));
    assert_eq!(till.balance("CREDIT").await, 4);
    let [entry] = till.entries(&draft.id, 0).await.try_into().unwrap();
    let sides = (entry.kind(), entry.debit(), entry.credit());
    assert_eq!(sides, (LedgerEntryKind::Charge, LedgerAccount::Available, LedgerAccount::Spent));
    assert_eq!((entry.amount, entry.balance_after, entry.envelope_id), (Some(credits(1)), 4, draft.id));
    // What is dispatched to be sent later has been dispatched.
    let mut scheduled = till.form(1, true);
    scheduled.scheduled_send_at =
        Some(countersign_chassis::wire::timestamp(service.clock.now() + TimeDelta::minutes(9)));
    let pending = till.live.create(scheduled).await.unwrap();
    assert_eq!((pending.status(), till.balance("CREDIT").await), (EnvelopeStatus::Pending, 3));
    service.clock.advance(TimeDelta::minutes(9));
    till.until(&pending.id, EnvelopeStatus::Sent).await;
    // A draft that goes never cost anything.
    let discarded = till.draft().await;
    till.discard(&discarded.id).await;
    let tester = service.key_of(&till.live, false).await;
    let form = till.form(1, true);
    let document = upload(&tester).await;
    let test =
        tester.create(countersign::v1::CreateEnvelopeRequest { documents: vec![document], ..form }).await.unwrap();
    tester.void(&test.id, "").await.unwrap();
    assert!(test.charge.is_none() && till.entries(&test.id, 0).await.is_empty());
    assert_eq!(till.balance("CREDIT").await, 3);
    audit(&service.database).await;
}

/// S3.85, S3.86, C-11, C-13, T-54: charged at creation, in cents; a draft that is thrown away counts as voided.
#[tokio::test(flavor = "multi_thread")]
async fn s3_86_an_account_may_be_charged_at_creation() {
    let service = service().await;
    let till = Till::open(&service).await;
    till.bill(billing(ChargeAt::Create, euro(10), preset("terminal_capped", None))).await;
    let refused = till.live.create(till.form(1, false)).await.unwrap_err();
    assert_eq!((refused.reason(), refused.fact("unit")), ("INSUFFICIENT_CREDITS".to_owned(), "EUR".to_owned()));
    till.grant(euro(35)).await;
    let (sent, kept, thrown) = (till.draft().await, till.draft().await, till.draft().await);
    assert!(sent.charge.is_some() && sent.dispatched_at.is_none());
    assert_eq!(till.balances().await, [("CREDIT".to_owned(), 5), ("EUR".to_owned(), 5)].into());
    assert_eq!(till.live.create(till.form(1, false)).await.unwrap_err().fact("needed"), "10");
    // Dispatched for what it has cost already.
    let charge = till.send(&sent.id).await.unwrap().charge;
    assert_eq!((charge, till.balance("EUR").await), (sent.charge, 5));
    till.discard(&thrown.id).await;
    assert_eq!(till.balance("EUR").await, 15);
    let kinds: Vec<_> = till.entries(&thrown.id, 0).await.iter().map(|entry| entry.kind()).collect();
    assert!(kinds.len() == 2 && kinds.contains(&LedgerEntryKind::Refund), "{kinds:?}");
    // Nothing for a price of nothing, and a draft whose account has come to be charged later is charged when it goes.
    till.bill(billing(ChargeAt::Create, euro(0), RefundPolicy::default())).await;
    let free = till.sent(1).await;
    assert_eq!(free.charge.as_ref().and_then(|charge| charge.amount.clone()), Some(euro(0)));
    assert_eq!(till.live.void(&free.id, "").await.unwrap().charge.unwrap().refunded, Some(0));
    till.bill(billing(ChargeAt::Dispatch, euro(4), preset("void_unsigned", None))).await;
    assert_eq!((till.draft().await.charge, till.balance("EUR").await), (None, 15));
    let late = till.draft().await;
    till.bill(billing(ChargeAt::Create, euro(3), preset("void_unsigned", None))).await;
    assert_eq!(till.send(&late.id).await.unwrap().charge.unwrap().amount, Some(euro(3)));
    assert!(till.entries(&kept.id, 0).await.len() == 1 && till.balance("EUR").await == 12);
    audit(&service.database).await;
}

async fn comes_back(policy: RefundPolicy, price: i64, cases: &[(End, usize, i64)]) {
    let service = service().await;
    let till = Till::open(&service).await;
    till.grant(euro(1_000_000)).await;
    till.bill(billing(ChargeAt::Dispatch, euro(price), policy)).await;
    for (end, signed, refund) in cases {
        let before = till.balance("EUR").await;
        let now = ended(&till, *signed, *end).await;
        let charge = now.charge.unwrap();
        let told = (*end != End::OpenStill).then_some(*refund);
        assert_eq!(charge.refunded, told, "{end:?} after {signed}");
        assert_eq!(till.balance("EUR").await, before - price + refund, "{end:?} after {signed}");
        let refunds = till.entries(&now.id, 0).await.into_iter().filter(|it| it.kind() == LedgerEntryKind::Refund);
        let refunds: Vec<_> = refunds.map(|entry| (entry.debit(), entry.credit(), entry.amount)).collect();
        let expected = (LedgerAccount::Spent, LedgerAccount::Available, Some(euro(*refund)));
        assert_eq!(refunds, Vec::from_iter((*refund > 0).then_some(expected)), "{end:?} after {signed}");
    }
    audit(&service.database).await;
}

/// S1.22, S1.23, T-50, C-12: all of it, if voided before anybody has signed, and nothing in any other case.
#[tokio::test(flavor = "multi_thread")]
async fn s1_22_what_is_voided_unsigned_comes_back() {
    let cases = [
        (End::Voided, 0, 10),
        (End::Voided, 1, 0),
        (End::Voided, 2, 0),
        (End::Declined, 0, 0),
        (End::Expired, 0, 0),
        (End::Completed, 3, 0),
        (End::OpenStill, 1, 0),
    ];
    comes_back(preset("void_unsigned", None), 10, &cases).await;
}

/// S3.87, T-49, T-50, C-12: up to the cap, however it ended without completion and whoever has signed.
#[tokio::test(flavor = "multi_thread")]
async fn s3_87_what_ends_without_completion_comes_back_up_to_the_cap() {
    let cases = [
        (End::Declined, 0, 7),
        (End::Declined, 2, 7),
        (End::Voided, 0, 7),
        (End::Voided, 2, 7),
        (End::Expired, 1, 7),
        (End::Completed, 3, 0),
        (End::OpenStill, 0, 0),
    ];
    comes_back(preset("terminal_capped", Some(7)), 10, &cases).await;
    comes_back(preset("terminal_capped", Some(70)), 10, &[(End::Declined, 1, 10), (End::Expired, 0, 10)]).await;
    comes_back(preset("terminal_capped", None), 10, &[(End::Voided, 1, 10)]).await;
    comes_back(preset("terminal_capped", Some(0)), 10, &[(End::Voided, 0, 0)]).await;
}

/// C-12: a table of one's own: the first rule that fits, its share without parts of a cent, and the cap above all.
#[tokio::test(flavor = "multi_thread")]
async fn c12_a_table_says_what_comes_back() {
    let rules = [
        (RefundCause::Voided, Some(0), 10_000),
        (RefundCause::Voided, Some(1), 5_000),
        (RefundCause::Declined, Some(1), 3_333),
        (RefundCause::Declined, None, 1),
    ];
    let cases = [
        (End::Voided, 0, 900),
        (End::Voided, 1, 499),
        (End::Voided, 2, 0),
        (End::Declined, 1, 332),
        (End::Declined, 2, 0),
        (End::Expired, 0, 0),
        (End::Completed, 3, 0),
    ];
    comes_back(table(&rules, Some(900)), 999, &cases).await;
    comes_back(RefundPolicy::default(), 10, &[(End::Voided, 0, 0), (End::Declined, 0, 0)]).await;
}

/// T-49, S3.83: what is changed for an account does not touch what was charged before.
#[tokio::test(flavor = "multi_thread")]
async fn t49_price_and_policy_are_those_of_the_charge() {
    let service = service().await;
    let till = Till::open(&service).await;
    till.grant(euro(1_000)).await;
    till.bill(billing(ChargeAt::Create, euro(100), preset("terminal_capped", Some(70)))).await;
    let (draft, sent) = (till.draft().await, till.sent(2).await);
    till.bill(billing(ChargeAt::Dispatch, credits(1), RefundPolicy::default())).await;
    assert_eq!(till.send(&draft.id).await.unwrap().charge, draft.charge, "a dispatch charges nothing again");
    assert_eq!(till.balances().await, [("CREDIT".to_owned(), 5), ("EUR".to_owned(), 800)].into());
    let after = till.sent(1).await;
    till.bill(billing(ChargeAt::Create, euro(9), preset("terminal_capped", None))).await;
    for (id, refunded) in [(&draft.id, 70), (&sent.id, 70), (&after.id, 0)] {
        let before = till.live.get(id).await.unwrap().charge.unwrap();
        let charge = till.live.void(id, "").await.unwrap().charge.unwrap();
        assert_eq!(charge, countersign::v1::Charge { refunded: Some(refunded), ..before });
    }
    assert_eq!(till.balances().await, [("CREDIT".to_owned(), 4), ("EUR".to_owned(), 940)].into());
    audit(&service.database).await;
}

/// How many rows there are of everything that a send makes.
async fn rows(service: &Service) -> i64 {
    let all = "SELECT (SELECT count(*) FROM envelope) + (SELECT count(*) FROM event) + (SELECT count(*) FROM recipient) \
               + (SELECT count(*) FROM field) + (SELECT count(*) FROM document) + (SELECT count(*) FROM ledger_entry) \
               + (SELECT count(*) FROM outbox) + (SELECT count(*) FROM feed) + (SELECT sum(revision) FROM envelope)";
    service.database.number(&format!("SELECT ({all})::bigint")).await
}

/// S1.44, T-51: without credit nothing is sent and nothing half-made is left, by either way to send.
#[tokio::test(flavor = "multi_thread")]
async fn s1_44_without_credit_nothing_is_half_made() {
    let service = service().await;
    let till = Till::open(&service).await;
    for _ in 0..5 {
        till.sent(1).await;
    }
    let draft = till.draft().await;
    let empty = "SELECT (SELECT count(*) FROM outbox)";
    while service.database.number(empty).await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let before = rows(&service).await;
    let refusals = [till.send(&draft.id).await.unwrap_err(), till.live.create(till.form(1, true)).await.unwrap_err()];
    for status in refusals {
        assert_eq!((status.code(), status.reason().as_str()), (Code::FailedPrecondition, "INSUFFICIENT_CREDITS"));
        let facts = ["http_status", "unit", "needed"].map(|fact| status.fact(fact));
        assert_eq!(facts, ["402", "CREDIT", "1"]);
    }
    assert_eq!(rows(&service).await, before);
    assert_eq!(till.live.get(&draft.id).await.unwrap(), draft);
    // More of another unit is of no use; more of this one is.
    till.grant(euro(100)).await;
    assert_eq!(till.send(&draft.id).await.unwrap_err().reason(), "INSUFFICIENT_CREDITS");
    till.grant(credits(1)).await;
    assert_eq!(till.send(&draft.id).await.unwrap().revision, draft.revision + 1);
    assert_eq!(till.balance("CREDIT").await, 0);
    audit(&service.database).await;
}

/// C-11: the ledger by pages, of one envelope and of all, newest first; nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn c11_the_ledger_is_listed_newest_first() {
    let service = Service::start().await;
    let till = Till::open(&service).await;
    let granted = till.grant(euro(250)).await;
    assert_eq!((granted.reference.as_str(), granted.balance_after), ("invoice 1", 250));
    let mut ids = Vec::new();
    for _ in 0..4 {
        let sent = till.sent(1).await;
        ids.push(till.live.void(&sent.id, "").await.unwrap().id);
    }
    let all = till.entries("", 3).await;
    assert_eq!(all, till.entries("", 0).await);
    assert_eq!(all, till.entries("", 200).await);
    assert_eq!(all.len(), 2 + 8);
    let times: Vec<_> = all.iter().map(|entry| entry.occurred_at.map(|at| (at.seconds, at.nanos))).collect();
    assert!(times.windows(2).all(|pair| pair[0] >= pair[1]), "newest first: {times:?}");
    for id in &ids {
        let own: Vec<_> = all.iter().filter(|entry| entry.envelope_id == *id).cloned().collect();
        assert_eq!(till.entries(id, 1).await, own);
        assert_eq!(
            own.iter().map(|entry| entry.kind()).collect::<Vec<_>>(),
            [LedgerEntryKind::Refund, LedgerEntryKind::Charge]
        );
    }
    let other = Till::open(&service).await;
    assert!(other.entries(&ids[0], 0).await.is_empty());
    let request = |page_token: &str, envelope_id: &str| ListLedgerRequest {
        page_size: 3,
        page_token: page_token.to_owned(),
        envelope_id: envelope_id.to_owned(),
    };
    let page = till.live.accounts().list_ledger(request("", "")).await.unwrap().into_inner();
    let token = page.next_page_token.as_str();
    for (caller, bad, field) in [
        (&other.live, request(token, ""), "page_token"),
        (&till.live, request(token, &ids[0]), "page_token"),
        (&till.live, request("x", ""), "page_token"),
        (&till.live, request("", "rcp_1"), "envelope_id"),
    ] {
        let status = caller.accounts().list_ledger(bad).await.unwrap_err();
        assert_eq!((status.reason().as_str(), status.fields()), ("INVALID_FIELD", vec![field.to_owned()]));
    }
    audit(&service.database).await;
}
