//! Compares what the world outside saw with what had to happen, and writes the report.
//! Must never take a check for passed that was not made.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use countersign::v1;
use countersign_chassis::wire::datetime;

use super::mailbox::Mail;
use super::receiver::Delivery;
use super::report::{PlayedEnvelope, PlayedEvent, Report, SentMail, Signatures, Webhook};
use super::stage::{COMPLETED, Stage, expect_status, status_name};
use super::stories::Story;
use super::wait::until;
use crate::client::refused;

/// What stands before the first event of every chain.
const NO_HASH: [u8; 64] = [b'0'; 64];
const PAGE: i32 = 5;
/// Pages of a history that nobody will ever see.
const PAGES_MAX: usize = 100;

/// Checks all stories; `took_ms` and `folder` are for the caller to fill in.
pub(super) async fn check(stage: &mut Stage<'_>, stories: &[Story]) -> Result<Report> {
    let mut envelopes = Vec::new();
    let mut deliveries = Vec::new();
    let mut mails = Vec::new();
    for story in stories {
        let what = || format!("“{}”", story.title);
        let (envelope, came, sent) = check_story(stage, story).await.with_context(what)?;
        envelopes.push(envelope);
        deliveries.extend(came);
        mails.extend(sent);
    }
    let events: usize = envelopes.iter().map(|envelope| envelope.events.len()).sum();
    stage.done(&format!("the stream brought all {events} events, each envelope's in order"));
    stage.done(&format!("{} webhooks came, every signature verified in three ways", deliveries.len()));
    stage.done(&format!("{} mails were sent, to the right people and nobody else", mails.len()));
    deliveries.sort_by_key(|delivery| delivery.at);
    let artefacts = std::mem::take(&mut stage.artefacts);
    Ok(Report {
        ok: true,
        folder: stage.folder.clone(),
        took_ms: 0,
        envelopes,
        webhooks: deliveries.into_iter().map(webhook).collect(),
        mails: mails.into_iter().map(sent_mail).collect(),
        artefacts,
    })
}

async fn check_story(stage: &mut Stage<'_>, story: &Story) -> Result<(PlayedEnvelope, Vec<Delivery>, Vec<Mail>)> {
    let envelope = stage.envelope(&story.envelope_id).await?;
    expect_status(&envelope, story.status)?;
    let events = history(stage, &story.envelope_id).await?;
    check_history(&events, story)?;
    check_stream(stage, &events).await?;
    let deliveries = check_webhooks(stage, &events).await?;
    let mails = check_mails(stage, &events, &envelope, story).await?;
    let played = |event: &v1::Event| -> Result<PlayedEvent> {
        let recipient = envelope.recipients.iter().find(|recipient| recipient.id == event.recipient_id);
        Ok(PlayedEvent {
            sequence: event.sequence,
            id: event.id.clone(),
            r#type: event.r#type().dotted(),
            time: event.occurred_at.as_ref().and_then(datetime).context("an event without a time")?,
            recipient: recipient.map(|recipient| recipient.name.clone()),
            streamed: true,
        })
    };
    let played = PlayedEnvelope {
        story: story.title,
        id: envelope.id.clone(),
        subject: envelope.subject.clone(),
        status: status_name(envelope.status()),
        events: events.iter().map(played).collect::<Result<_>>()?,
    };
    Ok((played, deliveries, mails))
}

/// The whole history, page by page.
async fn history(stage: &mut Stage<'_>, envelope_id: &str) -> Result<Vec<v1::Event>> {
    let mut events = Vec::new();
    let mut page_token = String::new();
    for _ in 0..PAGES_MAX {
        let request = v1::ListEventsRequest { envelope_id: envelope_id.to_owned(), page_size: PAGE, page_token };
        let page = stage.sender.list_events(request).await.map_err(refused("ListEvents"))?.into_inner();
        events.extend(page.entries.into_iter().filter_map(|entry| entry.event));
        if page.next_page_token.is_empty() {
            return Ok(events);
        }
        page_token = page.next_page_token;
    }
    bail!("the history has no end")
}

/// Nothing but what was played, numbered without a gap, in the order of time, each bound to the one before.
fn check_history(events: &[v1::Event], story: &Story) -> Result<()> {
    let are: Vec<String> = events.iter().map(|event| event.r#type().dotted()).collect();
    let expected: Vec<String> = story.events.iter().map(|event| event.dotted()).collect();
    ensure!(are == expected, "the history is {}, not {}", are.join(", "), expected.join(", "));
    let mut hash = String::from_utf8_lossy(&NO_HASH).into_owned();
    let mut time = None;
    for (event, number) in events.iter().zip(1..) {
        ensure!(event.sequence == number, "event {number} has the number {}", event.sequence);
        ensure!(event.prev_hash == hash, "event {number} is not bound to the one before");
        hash.clone_from(&event.hash);
        let at = event.occurred_at.as_ref().and_then(datetime);
        ensure!(at >= time, "event {number} happened before the one before it");
        time = at;
    }
    Ok(())
}

/// The stream may repeat events, never leave one out or bring a later one first.
async fn check_stream(stage: &Stage<'_>, events: &[v1::Event]) -> Result<()> {
    let envelope_id = events.first().map(|event| event.envelope_id.clone()).unwrap_or_default();
    let last = events.last().map_or(0, |event| event.sequence);
    let streamed = until("the last event on the stream", || {
        let streamed = stage.watch.of(&envelope_id);
        Ok(streamed.iter().any(|event| event.sequence == last).then_some(streamed))
    })
    .await?;
    let mut next = 1;
    for event in &streamed {
        ensure!(event.sequence <= next, "the stream left out event {next}");
        let is_same = events.iter().any(|other| other == event);
        ensure!(is_same, "the stream brought event {} otherwise than the history", event.sequence);
        next = next.max(event.sequence + 1);
    }
    Ok(())
}

/// Every event was delivered, under one id of its own.
async fn check_webhooks(stage: &Stage<'_>, events: &[v1::Event]) -> Result<Vec<Delivery>> {
    let envelope_id = events.first().map(|event| event.envelope_id.clone()).unwrap_or_default();
    for event in events {
        let what = format!("the webhook of {} (event {})", event.r#type().dotted(), event.sequence);
        until(&what, || {
            let came = stage.receiver.verified(&stage.secret)?;
            Ok(came.iter().any(|delivery| delivery.event_id == event.id).then_some(()))
        })
        .await?;
    }
    let mut deliveries = stage.receiver.verified(&stage.secret)?;
    deliveries.retain(|delivery| delivery.envelope_id == envelope_id);
    let mut ids = BTreeMap::new();
    for delivery in &deliveries {
        let event = events.iter().find(|event| event.id == delivery.event_id);
        let event = event.context("a webhook brought an event that is not in the history")?;
        let is_same = delivery.event_type == event.r#type().dotted() && delivery.sequence == event.sequence;
        ensure!(is_same, "the webhook {} brought another event than it says", delivery.webhook_id);
        let first = ids.entry(delivery.event_id.clone()).or_insert_with(|| delivery.webhook_id.clone());
        ensure!(*first == delivery.webhook_id, "a repeated webhook has another id than before");
    }
    let distinct: BTreeSet<_> = ids.values().collect();
    ensure!(distinct.len() == events.len(), "two events were delivered under one webhook id");
    Ok(deliveries)
}

/// Exactly the mails of the story were sent, each to its recipient's address.
async fn check_mails(
    stage: &Stage<'_>,
    events: &[v1::Event],
    envelope: &v1::Envelope,
    story: &Story,
) -> Result<Vec<Mail>> {
    for (kind, recipient_id) in &story.mails {
        let name = envelope.recipients.iter().find(|recipient| recipient.id == *recipient_id);
        stage.mailbox.wait(kind, recipient_id, name.map_or("nobody", |recipient| &recipient.name)).await?;
    }
    let mut mails = stage.mailbox.all()?;
    mails.retain(|mail| events.iter().any(|event| event.id == mail.event_id));
    let mut expected = story.mails.clone();
    for mail in &mails {
        let place = expected.iter().position(|(kind, id)| *kind == mail.kind && *id == mail.recipient_id);
        let place = place.with_context(|| format!("a {} mail went to {}, who had to get none", mail.kind, mail.to))?;
        expected.swap_remove(place);
        let recipient = envelope.recipients.iter().find(|recipient| recipient.id == mail.recipient_id);
        let recipient = recipient.context("a mail to somebody else")?;
        ensure!(mail.to == recipient.email, "the mail for {} went to {}", recipient.name, mail.to);
        let made = envelope.documents.iter().flat_map(|document| &document.artifacts);
        let mut made = made.filter(|artifact| artifact.version() == v1::DocumentVersion::Signed);
        let has_all = made.all(|artifact| mail.attached.contains(&artifact.sha256));
        ensure!(mail.kind != COMPLETED || has_all, "the signed PDF is not in the mail to {}", recipient.name);
    }
    mails.sort_by_key(|mail| {
        let event = events.iter().position(|event| event.id == mail.event_id);
        (event, envelope.recipients.iter().position(|recipient| recipient.id == mail.recipient_id))
    });
    Ok(mails)
}

fn webhook(delivery: Delivery) -> Webhook {
    // All three were checked when the delivery was read: `Receiver::verified`.
    const VALID: &str = "valid";
    Webhook {
        webhook_id: delivery.webhook_id,
        r#type: delivery.event_type,
        event_id: delivery.event_id,
        envelope_id: delivery.envelope_id,
        received_at: delivery.at,
        signatures: Signatures { standard: VALID, standard_by_reference: VALID, countersign: VALID },
    }
}

fn sent_mail(mail: Mail) -> SentMail {
    SentMail {
        kind: mail.kind,
        recipient: mail.to,
        recipient_id: mail.recipient_id,
        event_id: mail.event_id,
        subject: mail.subject,
        file: mail.file,
    }
}
