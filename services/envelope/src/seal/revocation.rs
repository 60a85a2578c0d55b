//! Gathers what shows that the certificates of the seals and of their timestamps are not revoked: answers of OCSP responders
//! or, where there are none to be had, lists.
//!
//! It must never keep a document waiting for long, nor let one be sealed with a certificate that is known to be revoked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::clock::Clock;
use countersign_paper::{Finding, Good, Identity, Issued, Path, Validation};
use futures_util::future;
use reqwest::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::sync;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::http;

/// How long all of them together may take.
const ALL_MAX: Duration = Duration::from_secs(15);
/// Sizes of an answer and of a list.
const OCSP_BYTES_MAX: usize = 64 * 1024;
/// A list is part of each document that it is put into: of what a mail attaches, and of what VerifyDocument allows a seal to add.
const CRL_BYTES_MAX: usize = 1024 * 1024;
/// For how long an answer is kept, and that there was none.
const KEPT_MAX: TimeDelta = TimeDelta::hours(1);
const MISSED: TimeDelta = TimeDelta::minutes(1);
/// Certificates of which answers are kept.
const SLOTS_MAX: usize = 256;
/// Responders whose own certificates are asked about, one after the other.
const RESPONDERS_MAX: usize = 2;
/// How often it is said that something is missing.
const WARNED: Duration = Duration::from_secs(600);

/// Answers about the certificates of seals.
pub struct Revocation {
    client: Client,
    clock: Clock,
    /// Certificates that complete a chain, in DER.
    others: Vec<Vec<u8>>,
    /// Whether authorities lead to roots that are trusted. Anybody can write addresses into a certificate of their own.
    knows_authorities: bool,
    seal: Path,
    /// Of the authority that gave the last timestamp.
    authority: Mutex<Option<Path>>,
    answers: Mutex<HashMap<[u8; 32], Slot>>,
    warned_at: Mutex<Option<Instant>>,
}

/// What is known of one certificate. Whoever asks locks it: the others wait for what comes of that.
type Slot = Arc<sync::Mutex<Option<Known>>>;

struct Known {
    answer: Answer,
    /// Of when it is; long ago if there is none.
    since_unix_s: u64,
    until: DateTime<Utc>,
}

impl Known {
    fn nothing(now: DateTime<Utc>) -> Self {
        Self { answer: Answer::Missing, since_unix_s: 0, until: now + MISSED }
    }

    /// What is known after what was known before: a revocation counts until somebody says later that there is none.
    fn after(self, before: Option<&Self>) -> Self {
        let stands =
            |before: &&Self| matches!(before.answer, Answer::Revoked) && self.since_unix_s <= before.since_unix_s;
        match before.filter(stands) {
            Some(before) => Self { answer: Answer::Revoked, since_unix_s: before.since_unix_s, until: self.until },
            None => self,
        }
    }
}

#[derive(Clone)]
enum Answer {
    Ocsp(Vec<u8>, Option<Box<Issued>>),
    Crl(Vec<u8>),
    Revoked,
    Missing,
}

/// What is to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) validation: Validation,
    /// Whether it says of each certificate that it is good.
    pub(super) is_complete: bool,
}

/// Whose certificates are no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Revoked {
    #[error("a certificate of the seals is revoked: no document is sealed by it")]
    Seals,
    #[error("a certificate of the timestamping authority is revoked: no document is sealed by it")]
    Authority,
}

impl Revocation {
    /// About that key's certificates. `others` may complete its chain and that of an authority. With `knows_authorities` those
    /// that give timestamps are known to lead to trusted roots: the addresses in other certificates are never asked.
    ///
    /// # Errors
    ///
    /// If there is no HTTP client to be had.
    pub fn new(
        identity: &Identity,
        mut others: Vec<Vec<u8>>,
        knows_authorities: bool,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let seal = Path::of_identity(identity, &others);
        others.extend(seal.certificates());
        let (authority, answers, warned_at) = (Mutex::default(), Mutex::default(), Mutex::default());
        let client = http::client()?;
        Ok(Self { client, clock, others, knows_authorities, seal, authority, answers, warned_at })
    }

    /// Why it can never be shown that the key's certificate is good, if it cannot.
    pub(super) fn never(&self) -> Option<&'static str> {
        let is_asked_nowhere = |step: &Issued| step.ocsp_urls().is_empty() && step.crl_urls().is_empty();
        if !self.seal.ends_at_root {
            return Some("the certificates do not lead to a root");
        }
        let nowhere = self.seal.steps.iter().any(is_asked_nowhere);
        nowhere.then_some("a certificate names neither a responder (OCSP) nor a revocation list")
    }

    /// Whose timestamp that is, which is remembered; nobody whose certificates may be asked about if any authority will do.
    pub(super) fn learn(&self, token: &[u8]) -> Option<Path> {
        let path = Path::of_token(token, &self.others).filter(|_| self.knows_authorities)?;
        *self.authority.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
        Some(path)
    }

    /// What is to be had now about the key's certificates and those of the authority that is likely to be asked.
    ///
    /// # Errors
    ///
    /// If one of the key's is revoked.
    pub(super) async fn likely(&self) -> Result<Evidence, Revoked> {
        let authority = self.authority.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.evidence(authority.as_ref()).await {
            // It may have another certificate by now: its next timestamp tells.
            Err(Revoked::Authority) => self.evidence(None).await,
            other => other,
        }
    }

    /// What is to be had now about the key's certificates and those of an authority.
    ///
    /// # Errors
    ///
    /// If one of them is revoked.
    pub(super) async fn evidence(&self, authority: Option<&Path>) -> Result<Evidence, Revoked> {
        let deadline = Instant::now() + ALL_MAX;
        let stamp = async {
            match authority {
                Some(path) => self.about(path, deadline).await,
                None => Some(Evidence::default()),
            }
        };
        let (seal, stamp) = future::join(self.about(&self.seal, deadline), stamp).await;
        let (mut all, stamp) = (seal.ok_or(Revoked::Seals)?, stamp.ok_or(Revoked::Authority)?);
        all.is_complete &= stamp.is_complete;
        all.validation.certificates.extend(stamp.validation.certificates);
        all.validation.ocsps.extend(stamp.validation.ocsps);
        all.validation.crls.extend(stamp.validation.crls);
        Ok(all)
    }

    /// About all certificates of a chain; nothing if one is revoked.
    async fn about(&self, path: &Path, deadline: Instant) -> Option<Evidence> {
        let mut evidence = Evidence { is_complete: path.ends_at_root, ..Evidence::default() };
        evidence.validation.certificates = path.certificates();
        let answers = future::join_all(path.steps.iter().map(|step| self.answers(step, deadline))).await;
        for answer in answers.into_iter().flatten() {
            match answer {
                Answer::Ocsp(answer, _) => evidence.validation.ocsps.push(answer),
                Answer::Crl(list) => evidence.validation.crls.push(list),
                Answer::Revoked => return None,
                Answer::Missing => evidence.is_complete = false,
            }
        }
        Some(evidence)
    }

    /// What is known of a certificate, and of those of the responders who said so.
    async fn answers(&self, step: &Issued, deadline: Instant) -> Vec<Answer> {
        let mut answers = vec![self.answer(step, deadline).await];
        while let Some(Answer::Ocsp(_, Some(responder))) = answers.last() {
            let answer = match answers.len() > RESPONDERS_MAX {
                true => Answer::Missing,
                false => self.answer(responder, deadline).await,
            };
            // What a revoked responder says is worth nothing; nobody revoked whom it was asked about.
            answers.push(if matches!(answer, Answer::Revoked) { Answer::Missing } else { answer });
        }
        answers
    }

    async fn answer(&self, step: &Issued, deadline: Instant) -> Answer {
        let slot = self.slot(step.id());
        let Ok(mut slot) = timeout_at(deadline, slot.lock()).await else { return Answer::Missing };
        let now = self.clock.now();
        if let Some(known) = slot.as_ref().filter(|known| now < known.until) {
            return known.answer.clone();
        }
        let asked = timeout_at(deadline, self.ask(step)).await;
        let known = asked.unwrap_or_else(|_| Known::nothing(now)).after(slot.as_ref());
        slot.insert(known).answer.clone()
    }

    fn slot(&self, id: [u8; 32]) -> Slot {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= SLOTS_MAX {
            let is_revoked = |known: &Option<Known>| matches!(known, Some(Known { answer: Answer::Revoked, .. }));
            answers.retain(|_, slot| slot.try_lock().is_ok_and(|known| is_revoked(&known)));
        }
        Arc::clone(answers.entry(id).or_default())
    }

    /// Asks everybody whom the certificate names until one answers rightly.
    async fn ask(&self, step: &Issued) -> Known {
        let now = self.clock.now();
        for url in step.ocsp_urls() {
            let asked = self.ask_responder(step, &url).await;
            if let Some(known) = known(asked, now, &url, |answer, good| Answer::Ocsp(answer, good.responder)) {
                return known;
            }
        }
        for url in step.crl_urls() {
            if let Some(known) = known(self.fetch_list(step, &url).await, now, &url, |list, _| Answer::Crl(list)) {
                return known;
            }
        }
        Known::nothing(now)
    }

    async fn ask_responder(&self, step: &Issued, url: &str) -> anyhow::Result<(Vec<u8>, Finding)> {
        let request = self.client.post(url).body(step.ocsp_request()?);
        let request =
            request.header(CONTENT_TYPE, "application/ocsp-request").header(ACCEPT, "application/ocsp-response");
        let answer = http::ask(request, OCSP_BYTES_MAX).await?;
        let finding = step.judge_ocsp(&answer, self.now_unix_s())?;
        Ok((answer, finding))
    }

    async fn fetch_list(&self, step: &Issued, url: &str) -> anyhow::Result<(Vec<u8>, Finding)> {
        let list = http::ask(self.client.get(url), CRL_BYTES_MAX).await?;
        let (step, now) = (step.clone(), self.now_unix_s());
        // Some millions of bytes are read: not on a thread that serves calls.
        let judge = move || step.judge_crl(&list, now).map(|finding| (list, finding));
        Ok(tokio::task::spawn_blocking(judge).await.context("reading the list was cut")??)
    }

    fn now_unix_s(&self) -> u64 {
        u64::try_from(self.clock.now().timestamp()).unwrap_or_default()
    }

    /// Says that something is missing, once in a while.
    pub(super) fn warn(&self) {
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        if warned_at.is_none_or(|at| at.elapsed() >= WARNED) {
            *warned_at = Some(Instant::now());
            tracing::warn!(
                "documents are sealed without all revocation data: it could not be had, or is named nowhere"
            );
        }
    }
}

/// What came of asking there; nothing if another has to be asked.
fn known(
    asked: anyhow::Result<(Vec<u8>, Finding)>,
    now: DateTime<Utc>,
    url: &str,
    keep: impl FnOnce(Vec<u8>, Good) -> Answer,
) -> Option<Known> {
    match asked {
        Ok((bytes, Finding::Good(good))) => {
            let until = i64::try_from(good.until_unix_s).ok().and_then(|until| DateTime::from_timestamp(until, 0));
            let until = until.unwrap_or(now).clamp(now + MISSED, now + KEPT_MAX);
            Some(Known { since_unix_s: good.since_unix_s, answer: keep(bytes, good), until })
        }
        Ok((_, Finding::Revoked { since_unix_s })) => {
            Some(Known { answer: Answer::Revoked, since_unix_s, until: now + MISSED })
        }
        Err(error) => {
            let url = Url::parse(url).ok();
            let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
            tracing::info!(host, error = format!("{error:#}"), "revocation data could not be had there");
            None
        }
    }
}
