//! The three stories: everybody signs, somebody declines, the sender takes it back.
//! Must never go on after something unexpected.

use anyhow::{Context, Result, ensure};
use countersign::v1;
use countersign::v1::document_source::Source;
use countersign::v1::{DocumentVersion, EnvelopeStatus, EventType, RecipientStatus, Routing};
use countersign_paper::samples;

use super::stage::{COMPLETED, FELL_THROUGH, INVITATION, Stage, expect_refusal, expect_status};
use crate::client::refused;
use crate::contracts::{CONSENT, NDA, SERVICES, inline, request, sample};

/// What was played.
pub(super) struct Story {
    pub title: &'static str,
    pub envelope_id: String,
    pub status: EnvelopeStatus,
    /// The events that have to be in the envelope's history, in this order.
    pub events: &'static [EventType],
    /// The mails that have to be sent: kind and recipient.
    pub mails: Vec<(&'static str, String)>,
}

const WHY_DECLINED: &str = "Clause 10.2 makes us liable for more than we are insured for. Please lower it to the Fees.";
const WHY_VOIDED: &str = "Sent to the wrong flat.";

/// Two signers, one after the other.
pub(super) async fn both_sign(stage: &mut Stage<'_>) -> Result<Story> {
    let title = "Two signers in order, both sign";
    (stage.tell)(title);
    let nda = sample(samples::nda).await?;
    let envelope = stage.send(request(&nda, &NDA, Routing::Sequential, inline(&nda))).await?;
    stage.done(&format!("{} sent with its bytes in the call", nda.file_name));
    let mut first = stage.invited(&envelope, 0).await?;
    let second_id = envelope.recipients.get(1).context("no second recipient")?.id.clone();
    let too_early = stage.mailbox.all()?.iter().any(|mail| mail.recipient_id == second_id);
    ensure!(!too_early, "the second signer was invited before the first had signed");
    let link = v1::GetSigningLinkRequest { envelope_id: envelope.id.clone(), recipient_id: second_id.clone() };
    expect_refusal(stage.sender.get_signing_link(link).await, "PERMISSION_DENIED", "GetSigningLink with a live key")?;
    first.sign(Some("H. Marsh")).await?;
    stage.done("Helena Marsh followed the link in her mail, read and signed");
    stage.invited(&envelope, 1).await?.sign_by_hand().await?;
    stage.done("only then Jürgen Weißkopf was invited, read and signed by hand");
    stage.watch.event(&envelope.id, EventType::EnvelopeCompleted).await?;
    let envelope = stage.envelope(&envelope.id).await?;
    expect_status(&envelope, EnvelopeStatus::Completed)?;
    stage.save(&envelope, DocumentVersion::Signed, "mutual-nda.signed.pdf", &nda.bytes).await?;
    stage.done("COMPLETED, the signed PDF is downloaded");
    Ok(Story {
        title,
        status: EnvelopeStatus::Completed,
        events: &[
            EventType::EnvelopeCreated,
            EventType::EnvelopeSent,
            EventType::RecipientReleased,
            EventType::RecipientSigned,
            EventType::RecipientReleased,
            EventType::RecipientSigned,
            EventType::EnvelopeAllActed,
            EventType::EnvelopeCompleted,
        ],
        mails: to_all(INVITATION, &envelope).chain(to_all(COMPLETED, &envelope)).collect(),
        envelope_id: envelope.id,
    })
}

/// Three signers at once: one signs, one declines, the third is released.
pub(super) async fn one_declines(stage: &mut Stage<'_>) -> Result<Story> {
    let title = "Three signers in parallel, one declines";
    (stage.tell)(title);
    let agreement = sample(samples::services_agreement).await?;
    let upload_id = stage.upload(&agreement).await?;
    let source = Source::UploadId(upload_id);
    let envelope = stage.send(request(&agreement, &SERVICES, Routing::Parallel, source)).await?;
    stage.done(&format!("{} uploaded in pieces and sent", agreement.file_name));
    stage.invited(&envelope, 0).await?.sign(None).await?;
    stage.done("Margaret Oyelaran signed");
    let mut third = stage.invited(&envelope, 2).await?;
    let mut second = stage.invited(&envelope, 1).await?;
    let status = second.decline(WHY_DECLINED).await?;
    ensure!(status == EnvelopeStatus::Declined, "the envelope was not DECLINED at once, but {status:?}");
    stage.done("Callum Drever declined, with a reason: DECLINED at once");
    third.expect_locked_out().await?;
    stage.mailbox.wait(FELL_THROUGH, &third.recipient_id, "Ewa Kowalczyk").await?;
    stage.done("Ewa Kowalczyk was told, and her link has ended: SIGNING_CLOSED, INVALID_STATE_TRANSITION");
    stage.watch.event(&envelope.id, EventType::EnvelopeArtifactReady).await?;
    let envelope = stage.envelope(&envelope.id).await?;
    expect_declined(&envelope)?;
    let file_name = "services-agreement.declined.pdf";
    stage.save(&envelope, DocumentVersion::Declined, file_name, &agreement.bytes).await?;
    stage.done("the PDF with the watermark is downloaded");
    let told = to_all(FELL_THROUGH, &envelope).filter(|(_, id)| *id != second.recipient_id);
    Ok(Story {
        title,
        status: EnvelopeStatus::Declined,
        events: &[
            EventType::EnvelopeCreated,
            EventType::EnvelopeSent,
            EventType::RecipientReleased,
            EventType::RecipientReleased,
            EventType::RecipientReleased,
            EventType::RecipientSigned,
            EventType::RecipientDeclined,
            EventType::EnvelopeDeclined,
            EventType::RecipientReleasedByDecline,
            EventType::EnvelopeArtifactReady,
        ],
        mails: to_all(INVITATION, &envelope).chain(told).collect(),
        envelope_id: envelope.id,
    })
}

/// Who signed keeps the signature, who declined the reason, who owed owes nothing any more.
fn expect_declined(envelope: &v1::Envelope) -> Result<()> {
    expect_status(envelope, EnvelopeStatus::Declined)?;
    let [signed, declined, released] = &envelope.recipients[..] else { anyhow::bail!("not three recipients") };
    ensure!(
        signed.status() == RecipientStatus::Signed && signed.not_effective,
        "the signature is not kept as evidence"
    );
    ensure!(released.status() == RecipientStatus::ReleasedByDecline, "{} is not released", released.name);
    let reason = declined.decline.as_ref().map(|decline| decline.reason.as_str());
    ensure!(reason == Some(WHY_DECLINED), "the sender cannot read the reason of the decline");
    ensure!(envelope.requires_replacement, "the envelope does not say that it needs a replacement");
    Ok(())
}

/// The sender takes an envelope back.
pub(super) async fn sender_voids(stage: &mut Stage<'_>) -> Result<Story> {
    let title = "The sender voids a rotated scan";
    (stage.tell)(title);
    let scan = sample(samples::rotated_scan).await?;
    let envelope = stage.send(request(&scan, &CONSENT, Routing::Parallel, inline(&scan))).await?;
    stage.done(&format!("{} sent", scan.file_name));
    let mut signer = stage.invited(&envelope, 0).await?;
    let (envelope_id, reason) = (envelope.id.clone(), WHY_VOIDED.to_owned());
    let void = v1::VoidEnvelopeRequest { envelope_id, reason, if_revision: envelope.revision, ..Default::default() };
    let voided = stage
        .sender
        .void_envelope(void)
        .await
        .map_err(refused("VoidEnvelope"))?
        .into_inner()
        .envelope
        .context("VoidEnvelope answered nothing")?;
    expect_status(&voided, EnvelopeStatus::Voided)?;
    ensure!(voided.void_reason == WHY_VOIDED, "the sender cannot read the reason of the void");
    stage.done("the sender took it back, with a reason: VOIDED");
    signer.expect_locked_out().await?;
    stage.mailbox.wait(FELL_THROUGH, &signer.recipient_id, "Oluwaseun Adeyemi-Clarke").await?;
    stage.done("Oluwaseun Adeyemi-Clarke was told, and the link has ended");
    Ok(Story {
        title,
        status: EnvelopeStatus::Voided,
        events: &[
            EventType::EnvelopeCreated,
            EventType::EnvelopeSent,
            EventType::RecipientReleased,
            EventType::EnvelopeVoided,
        ],
        mails: to_all(INVITATION, &envelope).chain(to_all(FELL_THROUGH, &envelope)).collect(),
        envelope_id: envelope.id,
    })
}

fn to_all(kind: &'static str, envelope: &v1::Envelope) -> impl Iterator<Item = (&'static str, String)> {
    envelope.recipients.iter().map(move |recipient| (kind, recipient.id.clone()))
}
