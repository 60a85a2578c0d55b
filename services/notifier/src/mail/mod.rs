//! Writes and sends mails. At least once: a repeat has the same Message-ID, and in a folder the same name.
//!
//! Names, addresses and links are asked for at the moment of sending and are nowhere kept or logged.

pub mod color;
pub mod compose;
mod due;
mod gather;
pub mod language;
pub mod letter;
pub mod message;
pub mod notice;
pub mod plan;
mod send;
pub mod sink;
mod smtp;
mod text;
pub mod words;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::failpoint;
use countersign_chassis::keys::{Ring, sha256};
use countersign_chassis::ticker::{Progress, jittered};
use countersign_chassis::{propagation, telemetry};
use tokio::time::timeout;
use tonic::Code;
use tracing::{Instrument as _, Span};

use self::compose::compose;
use self::gather::{Asked, Found};
use self::message::{address, mailbox_of, message};
use self::plan::{About, Addressee};
pub use self::send::Outbox;
use self::smtp::Meaning;
use self::words::Words;
use crate::config::Config;
use crate::envelopes::Envelopes;
use crate::measure;
use crate::schedule::pause;
use crate::store::{ClaimedMail, Due, MAILS_KEPT, MailRoom, MailSettled, Quota, Store};

/// Ticks that run beside each other: so many mails are on their way at once.
pub const LANES: usize = 4;
/// How long the questions of a mail may take.
const GATHER_MAX: Duration = Duration::from_secs(60);
/// A claim holds so much longer than all that is done under it may take.
const LEASE_MARGIN: Duration = Duration::from_secs(60);
/// How long to wait where the envelope service cannot be asked: a twentieth of the mail's age, within these bounds. An outage that
/// lasts, or a key that is missing, is not asked about every few seconds for days.
const CANNOT_ASK: (TimeDelta, TimeDelta) = (TimeDelta::seconds(5), TimeDelta::minutes(10));
/// How long to wait where the mail server is away.
const AWAY: Duration = Duration::from_secs(20);
/// A mail that could not even be tried for so long is given up.
const WAITS_MAX: TimeDelta = TimeDelta::days(7);
/// What waits for room in the hour does not come back all at once.
const ROOM_SPREAD: Duration = Duration::from_secs(300);
/// Notices and forgotten mails of one tick.
const BATCH_MAX: i64 = 500;

/// Writes and sends mails.
#[derive(Clone)]
pub struct Mailer {
    store: Store,
    envelopes: Envelopes,
    outbox: Outbox,
    words: Arc<Words>,
    /// For the MACs by which quotas know an address.
    keys: Arc<Ring>,
    quota: Quota,
}

impl Mailer {
    /// As the settings say.
    pub fn new(config: &Config, store: Store, envelopes: Envelopes, master: &Ring) -> anyhow::Result<Self> {
        let quota = Quota {
            address_max: config.mail.mail_address_hourly_max,
            account_max: config.mail.mail_account_hourly_max,
        };
        let (outbox, words) = (Outbox::new(config)?, Arc::new(Words::load()?));
        Ok(Self { store, envelopes, outbox, words, keys: Arc::new(master.derive("mail/address")), quota })
    }

    /// Sends a mail that is due, or reports one that came back.
    pub async fn tick(&self) -> anyhow::Result<Progress> {
        let now = self.store.clock().now();
        let lease = GATHER_MAX + self.outbox.send_max() + LEASE_MARGIN;
        let until = now + TimeDelta::from_std(lease)?;
        let Some(claimed) = self.store.claim_mail(now, until, self.outbox.reaches_outside(now)).await? else {
            return Ok(Progress::Idle);
        };
        failpoint!("mail.claimed");
        let span = span(&claimed);
        let settled = async {
            match claimed.due {
                Due::Send => self.send(&claimed).await,
                Due::Report(hash) => self.report(&claimed, hash).await,
            }
        };
        let settled = settled.instrument(span).await?;
        failpoint!("mail.sent");
        measure::mailed(claimed.mail.kind, settled);
        if !self.store.settle_mail(&claimed, settled, self.store.clock().now()).await? {
            tracing::warn!(event = claimed.mail.event.to_string(), "another has taken the mail over meanwhile");
        }
        Ok(Progress::Busy)
    }

    /// Plans the mails about endpoints that were disabled.
    pub async fn notice(&self) -> anyhow::Result<Progress> {
        let planned = self.store.keep_endpoint_mails(self.store.clock().now(), BATCH_MAX).await?;
        Ok(if planned == 0 { Progress::Idle } else { Progress::Busy })
    }

    /// Forgets mails that were settled long ago.
    pub async fn forget(&self) -> anyhow::Result<Progress> {
        let forgotten = self.store.forget_mails(self.store.clock().now() - MAILS_KEPT, BATCH_MAX).await?;
        Ok(if forgotten == 0 { Progress::Idle } else { Progress::Busy })
    }

    /// Sends a mail if there still is a reason to.
    async fn send(&self, claimed: &ClaimedMail) -> anyhow::Result<MailSettled> {
        let now = self.store.clock().now();
        let (event, kind) = (claimed.mail.event.to_string(), claimed.mail.kind.name());
        // Before anything is asked, or fetched, for a mail that cannot leave.
        if self.outbox.outside(&claimed.mail).is_some()
            && let Some(room) = self.store.await_mail_quota(claimed, now, self.quota).await?
        {
            return self.no_room(claimed, room, now);
        }
        let Ok(asked) = timeout(GATHER_MAX, self.gather(claimed, now)).await else {
            return Ok(unasked(claimed, Code::DeadlineExceeded, now));
        };
        let sent = match asked {
            Ok(Asked::Found(found)) => self.post(claimed, *found, now).await,
            Ok(Asked::NoReason) => Ok(MailSettled::Suppressed),
            Ok(Asked::CannotAsk(code)) => Ok(unasked(claimed, code, now)),
            Err(error) => Err(error),
        };
        Ok(sent.unwrap_or_else(|error| {
            tracing::warn!(event, kind, error = format!("{error:#}"), "a mail could not be sent");
            tried(claimed, now)
        }))
    }

    async fn post(&self, claimed: &ClaimedMail, found: Found, now: DateTime<Utc>) -> anyhow::Result<MailSettled> {
        let Found { letter, matter, reader, sender, attachments } = found;
        let (mail, origin) = (&claimed.mail, self.outbox.origin());
        let bounced = || match mail.addressee {
            Addressee::Recipient(_) => MailSettled::Bounced(Some(sha256(reader.email.as_bytes()))),
            Addressee::Watcher(_) | Addressee::Contact(_) => MailSettled::Bounced(None),
        };
        let (event, kind) = (mail.event.to_string(), mail.kind.name());
        let Some(to) = address(&reader.email) else {
            tracing::warn!(event, kind, "the address cannot be used");
            return Ok(bounced());
        };
        let composed = compose(&self.words, &letter, &matter, &reader, &sender, origin.service())?;
        let mailbox = mailbox_of(&to);
        let known = self.keys.iter().map(|key| key.mac(&[mail.account.uuid().as_bytes(), mailbox.as_bytes()]));
        let known: Vec<_> = known.collect();
        let has_documents = !attachments.is_empty();
        let message = message(mail, composed, attachments, (&reader.name, to), &sender.name, origin, now)?;
        let Some(outside) = self.outbox.outside(mail) else {
            let put = self.outbox.put(mail, &message).await?;
            return Ok(if put { MailSettled::Sent } else { MailSettled::Suppressed });
        };
        // The clock anew: whoever was paused while asking must not send what is another's by now.
        let now = self.store.clock().now();
        let until = now + TimeDelta::from_std(self.outbox.send_max())?;
        match self.store.take_mail_quota(claimed, &known, now, until, self.quota).await? {
            MailRoom::Taken => {}
            MailRoom::At(room) => return self.no_room(claimed, room, now),
            MailRoom::Lost => return Ok(MailSettled::Again { at: now, attempted: false }),
        }
        let Err(failure) = outside.send(&message, now).await else { return Ok(MailSettled::Sent) };
        tracing::warn!(event, kind, failure = failure.to_string(), "the mail server has not taken a mail");
        Ok(match failure.meaning {
            Meaning::Away => waits(claimed, now + TimeDelta::from_std(jittered(AWAY))?, now),
            Meaning::TooLarge if has_documents => MailSettled::TooLarge,
            Meaning::TooLarge | Meaning::NotTaken => tried(claimed, now),
            Meaning::NoMailbox => bounced(),
        })
    }

    /// It waits until the hour has room again.
    fn no_room(&self, claimed: &ClaimedMail, room: DateTime<Utc>, now: DateTime<Utc>) -> anyhow::Result<MailSettled> {
        let (mail, spread) = (&claimed.mail, TimeDelta::from_std(ROOM_SPREAD.mul_f64(spread()))?);
        let (event, kind, account) = (mail.event.to_string(), mail.kind.name(), mail.account.to_string());
        tracing::warn!(event, kind, account, "too many mails in an hour: it waits");
        Ok(waits(claimed, room + spread, now))
    }

    /// Reports that a mail came back, at least once. What is not wanted any more is done.
    async fn report(&self, claimed: &ClaimedMail, hash: [u8; 32]) -> anyhow::Result<MailSettled> {
        let now = self.store.clock().now();
        let (About::Envelope(envelope), Addressee::Recipient(recipient)) = (claimed.mail.about, claimed.mail.addressee)
        else {
            return Ok(MailSettled::Reported);
        };
        let Err(status) = self.envelopes.report_bounce(&claimed.mail, envelope, recipient, hash).await else {
            return Ok(MailSettled::Reported);
        };
        let (event, code) = (claimed.mail.event.to_string(), format!("{:?}", status.code()));
        tracing::warn!(event, code, "that a mail came back could not be reported");
        let settled = match status.code() {
            Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument => MailSettled::Reported,
            code if is_outage(code) => unasked(claimed, code, now),
            _ => tried(claimed, now),
        };
        // Given up, it has still bounced.
        Ok(if settled == MailSettled::Dead { MailSettled::Reported } else { settled })
    }
}

/// Whether an answer says that nobody could be asked, which is waited for. UNKNOWN is how a connection that breaks in the
/// middle of a call is told: no service of ours answers that.
fn is_outage(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::Unknown)
}

/// The span of a mail: in the trace of what happened which it is about.
fn span(claimed: &ClaimedMail) -> Span {
    let span = tracing::info_span!(
        target: telemetry::ROOT,
        "mail",
        otel.name = "send mail",
        otel.kind = "producer",
        messaging.system = "smtp",
        messaging.operation.name = "send",
        messaging.operation.r#type = "send",
        messaging.destination.name = claimed.mail.kind.name(),
    );
    propagation::go_on(&span, claimed.traceparent.as_deref());
    span
}

/// After an attempt: again by the schedule, or given up.
fn tried(claimed: &ClaimedMail, now: DateTime<Utc>) -> MailSettled {
    match pause(claimed.attempts + 1, None) {
        Some(pause) => MailSettled::Again { at: now + pause, attempted: true },
        None => given_up(claimed),
    }
}

/// The mail itself has not been tried: an outage costs it no attempt, and a short one no long pause. But nothing waits for ever.
fn waits(claimed: &ClaimedMail, at: DateTime<Utc>, now: DateTime<Utc>) -> MailSettled {
    if now - claimed.created_at > WAITS_MAX { given_up(claimed) } else { MailSettled::Again { at, attempted: false } }
}

fn unasked(claimed: &ClaimedMail, code: Code, now: DateTime<Utc>) -> MailSettled {
    let (event, kind) = (claimed.mail.event.to_string(), claimed.mail.kind.name());
    tracing::info!(event, kind, code = format!("{code:?}"), "the envelope service cannot be asked");
    let pause = ((now - claimed.created_at) / 20).clamp(CANNOT_ASK.0, CANNOT_ASK.1);
    waits(claimed, now + pause, now)
}

fn given_up(claimed: &ClaimedMail) -> MailSettled {
    let (event, kind) = (claimed.mail.event.to_string(), claimed.mail.kind.name());
    tracing::error!(event, kind, "a mail is given up");
    MailSettled::Dead
}

/// Between 0 and 1.
fn spread() -> f64 {
    let [a, b, ..] = countersign_chassis::keys::random::<4>();
    f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX)
}
