//! Where webhooks may go. A canary listens where they must not. Must never resolve a name outside this machine.

use countersign::v1::EventType;
use countersign_notifier::webhook::guard::Guard;
use reqwest::dns::Resolve as _;

use crate::receiver::Receiver;
use crate::stand::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_is_not_reached_whatever_is_registered() {
    let stand = Stand::with(|config| config.webhook_allow_private = false).await;
    let canary = Receiver::start([]).await;
    stand.endpoint(&canary).await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    let port = canary.url.rsplit(':').next().unwrap().to_owned();
    for host in [
        "http://127.0.0.1",
        "https://127.0.0.1",
        "https://[::ffff:127.0.0.1]",
        "https://2130706433",
        "https://localhost",
        "https://localhost.",
    ] {
        stand
            .sql(&format!("UPDATE endpoint SET url = '{host}:{port}'; UPDATE delivery SET next_at = created_at"))
            .await;
        stand.deliver().await;
    }
    assert_eq!(stand.number("SELECT count(*) FROM attempt").await, 6);
    assert_eq!(stand.number("SELECT count(*) FROM attempt WHERE status_code IS NULL").await, 6);
    assert_eq!(canary.kept().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_has_no_address() {
    let resolve = |allow_private: bool| Guard { allow_private }.resolve("localhost".parse().unwrap());
    assert!(resolve(false).await.is_err());
    assert!(resolve(true).await.is_ok_and(|found| found.count() > 0));
}
