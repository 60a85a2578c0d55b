//! The stack as a library: its clock, its restarts, and what it leaves.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use countersign::v1;
use countersign_chassis::clock::Clock;
use countersign_standalone::client::{self, Envelopes};
use countersign_standalone::stack::{Options, Stack};

use crate::program::{SOON, open_folder, processes};

/// A draft needs no more.
fn draft(clock: &Clock) -> v1::CreateEnvelopeRequest {
    let sample = countersign_paper::samples::nda().unwrap();
    let source = Some(v1::document_source::Source::Content(sample.bytes.into()));
    let expires_at = clock.now() + TimeDelta::hours(1);
    let recipient = |name: &str| v1::NewRecipient {
        name: name.to_owned(),
        email: "somebody@aldergate.example".to_owned(),
        ..Default::default()
    };
    v1::CreateEnvelopeRequest {
        subject: "Draft".to_owned(),
        documents: vec![v1::DocumentSource { name: sample.file_name.to_owned(), source, ..Default::default() }],
        recipients: vec![recipient("Helena Marsh")],
        fields: vec![v1::NewField {
            r#type: v1::FieldType::Signature.into(),
            placement: Some(v1::Placement {
                page: 1,
                x_percent: 10.0,
                y_percent: 10.0,
                width_percent: 20.0,
                height_percent: 5.0,
            }),
            ..Default::default()
        }],
        expires_at: Some(countersign_chassis::wire::timestamp(expires_at)),
        send: true,
        ..Default::default()
    }
}

async fn status(client: &mut Envelopes, envelope_id: &str) -> v1::EnvelopeStatus {
    let request = v1::GetEnvelopeRequest { envelope_id: envelope_id.to_owned(), ..Default::default() };
    client.get_envelope(request).await.unwrap().into_inner().envelope.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_clock_can_be_moved_its_services_restarted_and_nothing_is_left() {
    let clock = Clock::manual(Clock::database().now());
    let paper_worker = Some(env!("CARGO_BIN_EXE_countersign-standalone").into());
    let options = Options { envelope_clock: clock.clone(), paper_worker, ..Options::throwaway() };
    let mut stack = Stack::start(options).await.unwrap();
    let (folder, postgres) = (stack.folder().to_path_buf(), stack.postgres().folder().to_path_buf());
    assert!(!processes(&postgres).is_empty());
    let account = stack.create_account("Aldergate", true).await.unwrap();
    let channel = client::connect(&stack.envelope_url()).await.unwrap();
    let mut client = client::envelopes(&channel, &account.api_key).unwrap();
    let created = client.create_envelope(draft(&clock)).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!(created.status(), v1::EnvelopeStatus::Sent);

    let (envelope, notifier) = (stack.envelope_address(), stack.notifier_address());
    stack.restart_envelope().await.unwrap();
    stack.restart_notifier().await.unwrap();
    assert_eq!((stack.envelope_address(), stack.notifier_address()), (envelope, notifier));
    let channel = client::connect(&stack.envelope_url()).await.unwrap();
    let mut client = client::envelopes(&channel, &account.api_key).unwrap();
    assert_eq!(status(&mut client, &created.id).await, v1::EnvelopeStatus::Sent);

    clock.advance(TimeDelta::hours(2));
    let deadline = Instant::now() + SOON;
    while status(&mut client, &created.id).await != v1::EnvelopeStatus::Expired {
        assert!(Instant::now() < deadline, "the envelope does not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stack.stop().await.unwrap();
    assert_eq!(processes(&postgres), []);
    assert!(!postgres.exists() && !folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_not_wanted_any_more_leaves_nothing() {
    let kept = open_folder();
    let folder = kept.path().join("kept");
    let unwanted = tokio_util::sync::CancellationToken::new();
    unwanted.cancel();
    assert!(Stack::start_unless(Options::kept(&folder), &unwanted).await.unwrap().is_none());
    assert_eq!(processes(&folder), []);
}
