//! The main job on real documents: three envelopes from upload to their ends, played over the wire and checked.
//! Must never report success when anything expected did not happen.

mod check;
mod hand;
mod mailbox;
mod print;
mod receiver;
mod report;
mod signature;
mod stage;
mod stories;
mod wait;
mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use countersign::v1;
use tokio_util::sync::CancellationToken;

pub use report::{Artefact, PlayedEnvelope, PlayedEvent, Report, SentMail, Signatures, Webhook};

use crate::client::{self, refused};
use crate::stack::{self, Stack};
use countersign_postgres::Progress;
use mailbox::Mailbox;
use receiver::Receiver;
use stage::Stage;
use watch::Watch;

const TEMPORARY_PREFIX: &str = "countersign-demo-";
/// The stories with all their waits; each wait has a bound of its own that names what was waited for.
const PLAY_MAX: Duration = Duration::from_secs(180);

/// Hears a line about what has been done.
pub type Tell<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// Plays the stories. `None` if `stop` was cancelled meanwhile. In either case nothing runs any more.
///
/// `folder` gets the documents and the mails; without it a new one in the system's temporary folder, which stays.
///
/// # Errors
/// When anything expected did not happen, with a sentence that says what.
pub async fn run(
    folder: Option<&Path>,
    tell: &Tell<'_>,
    progress: Progress,
    stop: &CancellationToken,
) -> Result<Option<Report>> {
    let began = Instant::now();
    let folder = open(folder)?;
    tell("Countersign in one process");
    let options = stack::Options {
        mail: Some(folder.join("mail")),
        webhook_challenge: true,
        progress,
        ..stack::Options::throwaway()
    };
    let Some(mut stack) = Stack::start_unless(options, stop).await? else { return Ok(None) };
    let seconds = began.elapsed().as_secs_f64();
    tell(&format!("  ✓ Postgres, the envelope service and the notifier run ({seconds:.1} s)"));
    let performed = perform(&mut stack, &folder, tell, stop).await;
    let stopped = stack.stop().await;
    let Some(mut report) = performed? else { return stopped.map(|()| None) };
    stopped.context("everything was played, but the stack did not stop in order")?;
    if stop.is_cancelled() {
        return Ok(None);
    }
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Some(report))
}

/// A new folder, or the given one, made if absent.
fn open(folder: Option<&Path>) -> Result<PathBuf> {
    let folder = match folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
            folder.to_path_buf()
        }
        None => tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir().context("no temporary folder")?.keep(),
    };
    folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))
}

/// Plays the stories on a running stack, until `stop`.
async fn perform(
    stack: &mut Stack,
    folder: &Path,
    tell: &Tell<'_>,
    stop: &CancellationToken,
) -> Result<Option<Report>> {
    // A live key: with it nobody gets a signing link but from the mail.
    let account = stack.create_account("Demonstration", true).await?;
    let mailbox = Mailbox::of(stack.mail_folder());
    let (envelope_url, notifier_url) = (stack.envelope_url(), stack.notifier_url());
    let playing = async {
        let mut stage = set(&envelope_url, &notifier_url, &account.api_key, mailbox, folder, tell).await?;
        play(&mut stage).await
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        why = stack.broken() => Err(why),
        played = tokio::time::timeout(PLAY_MAX, playing) => {
            played.with_context(|| format!("the stories did not end within {} s", PLAY_MAX.as_secs()))?.map(Some)
        }
    }
}

/// Connects the sender, registers the receiver of webhooks and opens the stream.
async fn set<'a>(
    envelope_url: &str,
    notifier_url: &str,
    api_key: &str,
    mailbox: Mailbox,
    folder: &Path,
    tell: &'a Tell<'a>,
) -> Result<Stage<'a>> {
    let channel = client::connect(envelope_url).await?;
    let mut sender = client::envelopes(&channel, api_key)?;
    let mut webhooks = client::webhooks(&client::connect(notifier_url).await?, api_key)?;
    let receiver = Receiver::start().await?;
    let request = v1::CreateWebhookEndpointRequest { url: receiver.url.clone(), ..Default::default() };
    let registered =
        webhooks.create_webhook_endpoint(request).await.map_err(refused("CreateWebhookEndpoint"))?.into_inner();
    let secret = registered.secret;
    receiver.knows(&secret);
    let endpoint_id = registered.endpoint.map(|endpoint| endpoint.id).unwrap_or_default();
    let request = v1::VerifyWebhookEndpointRequest { endpoint_id, ..Default::default() };
    let verified = webhooks.verify_webhook_endpoint(request).await.map_err(refused("VerifyWebhookEndpoint"))?;
    let state = verified.into_inner().endpoint.unwrap_or_default().state();
    ensure!(state == v1::WebhookEndpointState::Active, "the endpoint answered its challenge and is not ACTIVE");
    let listed = webhooks
        .list_webhook_endpoints(v1::ListWebhookEndpointsRequest::default())
        .await
        .map_err(refused("ListWebhookEndpoints"))?
        .into_inner();
    ensure!(listed.endpoints.iter().any(|one| one.url == receiver.url), "the webhook endpoint is not in the list");
    let watch = Watch::start(&mut sender).await?;
    let folder = folder.to_path_buf();
    let artefacts = Vec::new();
    let stage = Stage { tell, channel, sender, mailbox, watch, receiver, secret, folder, artefacts };
    stage.done("a webhook endpoint is registered, and the stream of status changes is on");
    Ok(stage)
}

async fn play(stage: &mut Stage<'_>) -> Result<Report> {
    let stories =
        [stories::both_sign(stage).await?, stories::one_declines(stage).await?, stories::sender_voids(stage).await?];
    (stage.tell)("What the world outside saw");
    check::check(stage, &stories).await
}
