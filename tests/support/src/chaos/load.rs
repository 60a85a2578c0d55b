//! Callers who want something done, and ask again with the same key until they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use countersign::v1::document_source::Source;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{
    CreateEnvelopeRequest, DeclineRequest, DocumentSource, Envelope, EnvelopeStatus, Routing, SignRequest,
    UploadDocumentRequest, UploadInfo, VoidEnvelopeRequest,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::Dice;
use crate::Caller;
use crate::client::{is_passing, pdf, request, signature};
use crate::service::SERVICE_TOKEN;
use crate::stack::Stack;

/// How long one try may take, and how long there is between two.
const TRY_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(25);
/// How long a call is repeated.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Where the services are, and whose calls are made there.
#[derive(Clone)]
pub struct Doors {
    /// The same account at each of the envelope services: of tests, and of the live mode.
    test: Vec<Caller>,
    live: Vec<Caller>,
    documents: [DocumentSource; 2],
    answered: Arc<AtomicU64>,
}

/// What was acknowledged: an envelope, and how it may end.
#[derive(Clone, Debug)]
pub struct Promise {
    pub id: String,
    is_live: bool,
    pub ends: Vec<EnvelopeStatus>,
}

impl Promise {
    /// Of the account of tests.
    pub fn in_test(id: &str, end: EnvelopeStatus) -> Self {
        Self { id: id.to_owned(), is_live: false, ends: vec![end] }
    }
}

impl Doors {
    pub async fn new(stack: &Stack) -> Self {
        let of =
            |account: &Caller| (0..stack.envelopes.len()).map(|place| stack.caller(account, place)).collect::<Vec<_>>();
        let (test, live) = (of(&stack.test), of(&stack.live));
        let documents = [upload(&test[0]).await, upload(&live[0]).await];
        Self { test, live, documents, answered: Arc::default() }
    }

    /// Makes a call until it is answered, wherever there is an answer. A refusal is one.
    async fn insist<T, F: Future<Output = Result<T, Status>> + Send>(
        &self,
        (is_live, dice): (bool, &mut Dice),
        call: impl Fn(Caller) -> F + Send,
    ) -> Result<T, Status> {
        let (doors, began) = (if is_live { &self.live } else { &self.test }, Instant::now());
        loop {
            let door = doors[dice.below(doors.len())].clone();
            let answer = tokio::time::timeout(TRY_MAX, call(door)).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
                Err(status) if is_passing(&status) => {
                    assert!(began.elapsed() < ANSWER_MAX, "never answered: {status:?}");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    return answer;
                }
            }
        }
    }

    /// As it is now.
    pub async fn envelope(&self, promise: &Promise) -> Envelope {
        let mut dice = Dice::new(0);
        let read = self
            .insist((promise.is_live, &mut dice), |it| {
                let id = promise.id.clone();
                async move { it.get(&id).await }
            })
            .await;
        read.unwrap_or_else(|status| panic!("{} was acknowledged: {status:?}", promise.id))
    }
}

/// A document that envelopes name.
pub async fn upload(sender: &Caller) -> DocumentSource {
    let info = UploadInfo { name: "nda.pdf".into(), ..UploadInfo::default() };
    let parts = [Part::Info(info), Part::Chunk(pdf().into())].map(|part| UploadDocumentRequest { part: Some(part) });
    let kept = sender.envelopes().upload_document(tokio_stream::iter(parts)).await.expect("an upload").into_inner();
    DocumentSource { name: String::new(), source: Some(Source::UploadId(kept.upload_id)), ..Default::default() }
}

/// Those who work.
pub struct Load {
    doors: Doors,
    stop: watch::Sender<bool>,
    workers: JoinSet<Vec<Promise>>,
}

impl Load {
    /// `soon` is a deadline that passes while the test runs, if one is to.
    pub fn start(doors: &Doors, workers: u64, seed: u64, soon: Option<Duration>) -> Self {
        let stop = watch::Sender::new(false);
        let mut set = JoinSet::new();
        for number in 0..workers {
            let dice = Dice::new(seed.wrapping_mul(1_000).wrapping_add(number));
            let worker = Worker { doors: doors.clone(), number, dice, soon };
            set.spawn(worker.work(stop.subscribe()));
        }
        Self { doors: doors.clone(), stop, workers: set }
    }

    /// Waits until somebody is answered; says how long that took.
    pub async fn next_answer(&self, most: Duration) -> Option<Duration> {
        let (began, before) = (Instant::now(), self.doors.answered.load(Ordering::Relaxed));
        while began.elapsed() < most {
            if self.doors.answered.load(Ordering::Relaxed) > before {
                return Some(began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    /// Lets all finish what they have begun; says what was promised to them.
    pub async fn stop(self) -> Vec<Promise> {
        self.stop.send_replace(true);
        self.workers.join_all().await.concat()
    }
}

struct Worker {
    doors: Doors,
    number: u64,
    dice: Dice,
    soon: Option<Duration>,
}

impl Worker {
    async fn work(mut self, stop: watch::Receiver<bool>) -> Vec<Promise> {
        let mut promises = Vec::new();
        for round in 0_u64.. {
            if *stop.borrow() {
                break;
            }
            promises.push(self.round(round).await);
        }
        promises
    }

    /// One envelope, from its beginning to what becomes of it.
    async fn round(&mut self, round: u64) -> Promise {
        let is_live = self.dice.below(2) == 1;
        let name = format!("{} {round}", self.number);
        // The first ones pass their deadline while the rest goes on.
        let soon = self.soon.filter(|_| round == 0);
        let form = CreateEnvelopeRequest {
            idempotency_key: format!("{name} create"),
            external_reference: name.clone(),
            documents: vec![self.doors.documents[usize::from(is_live)].clone()],
            expires_at: soon.map(|soon| prost_types::Timestamp::from(SystemTime::now() + soon)),
            ..request(2, Routing::Parallel, true)
        };
        let doors = self.doors.clone();
        let made = doors
            .insist((is_live, &mut self.dice), |it| {
                let form = form.clone();
                async move { it.create(form).await }
            })
            .await;
        let made = made.unwrap_or_else(|status| panic!("{name}: {status:?}"));
        let mut promise = Promise { id: made.id.clone(), is_live, ends: Vec::new() };
        promise.ends = match self.dice.below(4) {
            _ if soon.is_some() => vec![EnvelopeStatus::Expired],
            0 => self.void(&made, is_live, &name).await,
            1 => self.decline(&made, is_live, &name).await,
            2 => {
                let mut other = Self { doors: self.doors.clone(), dice: self.dice.clone(), ..*self };
                let (voided, declined) =
                    tokio::join!(self.void(&made, is_live, &name), other.decline(&made, is_live, &name));
                assert_ne!(voided.is_empty(), declined.is_empty(), "{name}: one of the two wins");
                [voided, declined].concat()
            }
            _ => {
                self.sign(&made, is_live, &name).await;
                vec![EnvelopeStatus::Completed]
            }
        };
        promise
    }

    /// How it ends by that; nothing if somebody else came first.
    async fn void(&mut self, made: &Envelope, is_live: bool, name: &str) -> Vec<EnvelopeStatus> {
        let request = VoidEnvelopeRequest {
            envelope_id: made.id.clone(),
            idempotency_key: format!("{name} void"),
            ..VoidEnvelopeRequest::default()
        };
        let doors = self.doors.clone();
        let void = |it: Caller| {
            let request = request.clone();
            async move { it.envelopes().void_envelope(request).await }
        };
        let voided = doors.insist((is_live, &mut self.dice), void).await;
        ended(voided, EnvelopeStatus::Voided)
    }

    async fn decline(&mut self, made: &Envelope, is_live: bool, name: &str) -> Vec<EnvelopeStatus> {
        let token = match self.token(made, is_live, 0).await {
            Ok(token) => token,
            Err(status) => return ended::<()>(Err(status), EnvelopeStatus::Declined),
        };
        let request = DeclineRequest { idempotency_key: format!("{name} decline"), ..DeclineRequest::default() };
        let doors = self.doors.clone();
        let decline = |it: Caller| {
            let (it, request) = (it.with_token(&token), request.clone());
            async move { it.signer().decline(request).await }
        };
        let declined = doors.insist((is_live, &mut self.dice), decline).await;
        ended(declined, EnvelopeStatus::Declined)
    }

    async fn sign(&mut self, made: &Envelope, is_live: bool, name: &str) {
        for index in 0..2 {
            let token = self.token(made, is_live, index).await.expect("a link");
            let request = SignRequest { idempotency_key: format!("{name} sign {index}"), ..signature(made) };
            let doors = self.doors.clone();
            let sign = |it: Caller| {
                let (it, request) = (it.with_token(&token), request.clone());
                async move { it.signer().sign(request).await }
            };
            let signed = doors.insist((is_live, &mut self.dice), sign).await;
            signed.unwrap_or_else(|status| panic!("{name}: {status:?}"));
        }
    }

    /// The link of a recipient, as the notifier has it.
    async fn token(&mut self, made: &Envelope, is_live: bool, index: usize) -> Result<String, Status> {
        let (id, recipient) = (made.id.clone(), made.recipients[index].id.clone());
        let doors = self.doors.clone();
        let ask = |it: Caller| {
            let (it, id, recipient) = (it.with_token(SERVICE_TOKEN), id.clone(), recipient.clone());
            async move { it.signer_of(&id, &recipient).await }
        };
        Ok(doors.insist((is_live, &mut self.dice), ask).await?.token)
    }
}

/// How it ends by what was asked; not so if somebody else came first, and there is no other reason.
fn ended<T>(answer: Result<T, Status>, end: EnvelopeStatus) -> Vec<EnvelopeStatus> {
    let Err(status) = answer else { return vec![end] };
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    Vec::new()
}
