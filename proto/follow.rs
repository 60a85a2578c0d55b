//! Follows the status stream for as long as the caller likes: connects, resumes, and connects again whenever a stream ends.
//! Never skips an event, and never goes on by itself where events may be missing.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::v1::envelope_service_client::EnvelopeServiceClient;
use crate::v1::watch_status_changes_response::Item;
use crate::v1::{Event, WatchStatusChangesRequest, WatchStatusChangesResponse};

/// The first pause before another stream; each further one is twice as long …
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest pause that the service may ask for.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a call for a stream may take to be answered.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Pauses between heartbeats without a message after which a stream is dead.
const SILENT_BEATS_MAX: u32 = 3;
/// The pause between heartbeats as long as the service has not told its own.
const BEAT: Duration = Duration::from_secs(5);

type Answer = Result<Streaming<WatchStatusChangesResponse>, Status>;
type Opening = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Open = Box<dyn FnMut(WatchStatusChangesRequest) -> Opening + Send>;

/// What a follower hands out.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What happened; `None` if only the place has moved.
    pub event: Option<Event>,
    /// Stands for the place behind this step. To be stored together with what was done about the event.
    pub resume_token: String,
}

/// Why a follower cannot go on.
#[derive(Clone, Debug)]
pub enum Ended {
    /// Events between the place and what can be read are gone: resync, see `docs/stream.md`. Then follow from another token.
    Resync {
        /// Resumes at the oldest event that is kept; none if the feed was restored from a backup.
        floor_resume_token: Option<String>,
        /// What the service said.
        status: Status,
    },
    /// The service refuses the request or the credential, and will again.
    Refused(Status),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resync { status, .. } => write!(f, "the stream cannot be resumed, resync: {}", status.message()),
            Self::Refused(status) => write!(f, "the stream is refused: {:?}: {}", status.code(), status.message()),
        }
    }
}

impl Error for Ended {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let (Self::Resync { status, .. } | Self::Refused(status)) = self;
        Some(status)
    }
}

/// Follows the status stream.
///
/// Each call of [`Follower::next`] says that the step before it has been dealt with: after a break the stream goes on behind
/// that step. A process that dies goes on from the token that it stored, and sees again what it had not stored. So every event
/// comes **at least once**; `Event.id` tells a repeat.
///
/// ```no_run
/// # async fn resync() -> Result<String, Box<dyn std::error::Error>> { Ok(String::new()) }
/// # async fn work(event: &countersign::v1::Event, resume_token: &str) {}
/// # async fn example(stored: String) -> Result<(), Box<dyn std::error::Error>> {
/// use countersign::follow::{Ended, Follower};
/// use countersign::v1::WatchStatusChangesRequest;
/// use countersign::v1::envelope_service_client::EnvelopeServiceClient;
/// use tonic::Request;
/// use tonic::metadata::{Ascii, MetadataValue};
/// use tonic::transport::Endpoint;
///
/// let key: MetadataValue<Ascii> = "Bearer cs_live_…".parse()?;
/// let channel = Endpoint::from_static("https://countersign.example.com").connect_lazy();
/// let client = EnvelopeServiceClient::with_interceptor(channel, move |mut request: Request<()>| {
///     request.metadata_mut().insert("authorization", key.clone());
///     Ok(request)
/// });
/// let request = WatchStatusChangesRequest { resume_token: stored, ..Default::default() };
/// let mut follower = Follower::new(client.clone(), request);
/// loop {
///     match follower.next().await {
///         // Store the token with what follows from the event, in one transaction if you can.
///         Ok(step) => if let Some(event) = &step.event { work(event, &step.resume_token).await },
///         // Take a token for now, list the envelopes, go on from that token: see docs/stream.md.
///         Err(Ended::Resync { .. }) => {
///             let request = WatchStatusChangesRequest { resume_token: resync().await?, ..Default::default() };
///             follower = Follower::new(client.clone(), request);
///         }
///         Err(Ended::Refused(status)) => return Err(status.into()),
///     }
/// }
/// # }
/// ```
pub struct Follower {
    open: Open,
    request: WatchStatusChangesRequest,
    stream: Option<Streaming<WatchStatusChangesResponse>>,
    /// The call for a stream. Kept here, so that a caller who is impatient does not begin it again each time.
    opening: Option<Opening>,
    /// The token of the step that was handed out last.
    handed: Option<String>,
    /// Messages of the stream at hand.
    messages: u64,
    /// Streams that came to nothing, one after another.
    failures: u32,
    not_before: Instant,
    deaf_at: Instant,
    beat: Duration,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("request", &self.request)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// Follows what `request` asks for, from its token or start. Connects at the first [`Follower::next`].
    pub fn new<T>(client: EnvelopeServiceClient<T>, request: WatchStatusChangesRequest) -> Self
    where
        T: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + 'static,
        T::Future: Send,
        T::Error: Into<tonic::codegen::StdError>,
        T::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
        <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
    {
        Self::with(request, move |request| {
            let mut client = client.clone();
            async move { Ok(client.watch_status_changes(request).await?.into_inner()) }
        })
    }

    /// The same for a caller who makes the calls, with metadata of their own.
    pub fn with<F>(
        request: WatchStatusChangesRequest,
        mut open: impl FnMut(WatchStatusChangesRequest) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let now = Instant::now();
        Self {
            open: Box::new(move |request| Box::pin(open(request))),
            request,
            stream: None,
            opening: None,
            handed: None,
            messages: 0,
            failures: 0,
            not_before: now,
            deaf_at: now,
            beat: BEAT,
        }
    }

    /// The place from which it would go on after a break: behind the last step that has been dealt with. Empty before the
    /// first.
    #[must_use]
    pub fn resume_token(&self) -> &str {
        &self.request.resume_token
    }

    /// The next step, however long it takes and however often the service goes away meanwhile. Says that the step before has
    /// been dealt with. May be dropped and called again: nothing is lost.
    ///
    /// # Errors
    /// Where going on would skip events, or cannot succeed. The same again then, after a pause: go on with another follower.
    pub async fn next(&mut self) -> Result<Step, Ended> {
        if let Some(token) = self.handed.take() {
            self.request.resume_token = token;
        }
        loop {
            let status = match self.message().await {
                Ok(Some(message)) => return Ok(self.step(message)),
                Ok(None) => None,
                Err(status) => Some(status),
            };
            self.stream = None;
            // Before an end too: a caller who only calls again must not ask without a pause.
            self.rest(status.as_ref());
            if let Some(ended) = status.and_then(end) {
                return Err(ended);
            }
        }
    }

    /// The next message of the stream at hand or of another; none at a clean end.
    async fn message(&mut self) -> Result<Option<WatchStatusChangesResponse>, Status> {
        if self.stream.is_none() {
            sleep_until(self.not_before).await;
            if self.opening.is_none() {
                self.opening = Some((self.open)(self.request.clone()));
                self.deaf_at = Instant::now() + ANSWER_MAX;
            }
            let Some(opening) = &mut self.opening else { return Ok(None) };
            let answer = timeout_at(self.deaf_at, opening).await;
            self.opening = None;
            self.stream = Some(answer.map_err(|_| Status::unavailable("no answer in time"))??);
            (self.messages, self.deaf_at) = (0, Instant::now() + self.beat * SILENT_BEATS_MAX);
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let message = timeout_at(self.deaf_at, stream.message()).await;
        message.map_err(|_| Status::unavailable("silent for too long"))?
    }

    fn step(&mut self, message: WatchStatusChangesResponse) -> Step {
        self.messages += 1;
        if self.messages > 1 {
            // The first message is a greeting; with the second the stream has come to something.
            self.failures = 0;
        }
        let event = match message.item {
            Some(Item::Event(event)) => Some(event),
            Some(Item::Heartbeat(heartbeat)) => {
                let told = heartbeat.interval.and_then(|interval| Duration::try_from(interval).ok());
                self.beat = told.filter(|told| !told.is_zero()).unwrap_or(self.beat);
                None
            }
            None => None,
        };
        self.deaf_at = Instant::now() + self.beat * SILENT_BEATS_MAX;
        self.handed = Some(message.resume_token.clone());
        Step { event, resume_token: message.resume_token }
    }

    /// Puts the next stream off, the longer the more have failed; as long as the service asks for, if that is longer.
    fn rest(&mut self, status: Option<&Status>) {
        let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(self.failures.min(16))).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        let asked = status.and_then(Status::get_details_retry_info).and_then(|info| info.retry_delay);
        let pause = pause.max(asked.unwrap_or_default().min(ASKED_PAUSE_MAX));
        // Between half and one and a half: those who lost the same service do not come back in step.
        self.not_before = Instant::now() + pause.mul_f64(0.5 + random());
    }
}

/// What a status means for good; `None` if another stream may succeed.
fn end(status: Status) -> Option<Ended> {
    let info = status.get_details_error_info();
    let reason = info.as_ref().map(|info| info.reason.as_str()).unwrap_or_default();
    if matches!(reason, "RESUME_TOKEN_TOO_OLD" | "FEED_INCARNATION") {
        let floor_resume_token = info.and_then(|info| info.metadata.get("floor_resume_token").cloned());
        return Some(Ended::Resync { floor_resume_token, status });
    }
    match status.code() {
        // Also what a broken connection looks like.
        Code::Ok
        | Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::DataLoss => None,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Some(Ended::Refused(status)),
    }
}

/// From 0 to 1. Good enough for pauses, and needs no library.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX)
}
