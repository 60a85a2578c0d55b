//! Plays a sequence against the real service and writes down what was answered, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use countersign::v1::document_source::Source;
use countersign::v1::{
    ApproveRequest, DeclineByUserRequest, DeclineRecipientRequest, DeclineRequest, DelegateSigningRequest,
    DiscardEnvelopeRequest, DocumentSource, Envelope, EnvelopeChanges, ExtendEnvelopeRequest, FieldEntry, FieldValue,
    FillFieldsRequest, MarkViewedRequest, MuteRemindersRequest, Person, ReassignRecipientRequest,
    RemindRecipientsRequest, RemoveFieldsRequest, ReplaceEnvelopeRequest, ResendEnvelopeRequest, SeenDocument,
    SendEnvelopeRequest, SigningSession, UpdateEnvelopeRequest, VoidEnvelopeRequest, field_value,
};
use countersign_chassis::wire::{datetime, timestamp};
use countersign_envelope::credential::Keyring;
use countersign_envelope::domain::id::RecipientId;
use countersign_envelope::domain::recipient::Credential;
use countersign_test_support::client::signature;
use countersign_test_support::{Caller, Errors as _};
use futures_util::future::join_all;
use prost_types::FieldMask;
use tokio::sync::Barrier;
use tonic::Status;

use super::history::{Entry, history};
use super::plan::{By, Guard, Link, Plan, Seen, Step, To, What};
use super::world;

/// Where sequences are played.
pub struct Stand {
    pub sender: Caller,
    pub operator: Caller,
    /// The tokens of the users `r0@example.com` and so on.
    pub users: Vec<String>,
    pub upload_id: String,
    pub keyring: Keyring,
    pub sql: tokio_postgres::Client,
}

/// A sequence that was played.
#[derive(Clone, Debug)]
pub struct Trace {
    pub plan: Plan,
    /// As it was before the callers came.
    pub start: Envelope,
    pub records: Vec<Record>,
    pub history: Vec<Entry>,
    /// As it was at the end of the history; `None` if it was thrown away.
    pub last: Option<Envelope>,
}

/// A call and its answer.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who called, and which of their calls it was.
    pub tag: String,
    pub what: What,
    pub if_revision: u64,
    pub seen_revision: u64,
    /// When the link was asked for and got, if it was not the very first one.
    pub link: Option<(Instant, Instant)>,
    pub start: Instant,
    pub end: Instant,
    pub answer: Result<Done, Refused>,
}

/// What an accepted call was told.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Of the envelope, where it is told.
    pub revision: Option<u64>,
    /// Whether it had been done before, where that is told.
    pub already: Option<bool>,
    /// To whom the invitation went again.
    pub resent: Vec<String>,
    /// The draft in its place.
    pub replacement: String,
}

/// What a refused call was told.
#[derive(Clone, Debug)]
pub struct Refused {
    pub reason: String,
    pub revision: Option<u64>,
    pub current: String,
    pub cause: String,
    pub attempted: String,
    pub allowed: String,
    /// For the story of a failure.
    pub _message: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self {
            reason: status.reason(),
            revision: status.fact("revision").parse().ok(),
            current: status.fact("current_state"),
            cause: status.fact("cause"),
            attempted: status.fact("attempted_transition"),
            allowed: status.fact("allowed_transitions"),
            _message: status.message().to_owned(),
        }
    }
}

/// Plays a sequence.
pub async fn play(stand: &Stand, plan: Plan) -> Trace {
    let start = begin(stand, &plan).await;
    let tokens: Arc<Vec<String>> = Arc::new(first_tokens(stand, &start).await);
    let shared = Arc::new(start.clone());
    let barrier = Arc::new(Barrier::new(plan.callers.len()));
    let callers = plan.callers.iter().enumerate().map(|(caller, steps)| {
        let (steps, barrier) = (steps.clone(), Arc::clone(&barrier));
        let mut client = Client {
            sender: stand.sender.clone(),
            operator: stand.operator.clone(),
            user_tokens: stand.users.clone(),
            first_tokens: Arc::clone(&tokens),
            start: Arc::clone(&shared),
            last_seen: start.revision,
        };
        tokio::spawn(async move {
            barrier.wait().await;
            let mut records = Vec::new();
            for (index, step) in steps.into_iter().enumerate() {
                records.push(client.record(format!("{caller}-{index}"), step).await);
            }
            records
        })
    });
    let records = join_all(callers).await.into_iter().flat_map(Result::unwrap).collect();
    let (history, last) = history(stand, &start.id).await;
    Trace { plan, start, records, history, last }
}

async fn begin(stand: &Stand, plan: &Plan) -> Envelope {
    let mut request = plan.envelope.clone();
    let source = Some(Source::UploadId(stand.upload_id.clone()));
    request.documents = vec![DocumentSource { name: "nda.pdf".into(), source, ..Default::default() }];
    request.scheduled_send_at = plan.schedule_ms.map(|ms| timestamp(Utc::now() + TimeDelta::milliseconds(ms)));
    let created = stand.sender.create(request).await.unwrap();
    if plan.aged {
        let sql = "UPDATE recipient SET invited_at = invited_at - interval '2 hours' WHERE envelope_id = $1";
        stand.sql.execute(sql, &[&world::envelope_id(&created).uuid()]).await.unwrap();
    }
    stand.sender.get(&created.id).await.unwrap()
}

/// The links of generation 1, given out or not.
async fn first_tokens(stand: &Stand, start: &Envelope) -> Vec<String> {
    let envelope = world::envelope_id(start);
    let sql = "SELECT token_salt, token_hash, account_id FROM recipient WHERE envelope_id = $1 ORDER BY position";
    let rows = stand.sql.query(sql, &[&envelope.uuid()]).await.unwrap();
    let token = |(row, recipient): (&tokio_postgres::Row, &countersign::v1::Recipient)| {
        let id: RecipientId = recipient.id.parse().unwrap();
        let (salt, hash): (Vec<u8>, Vec<u8>) = (row.get(0), row.get(1));
        let (salt, hash) = (salt.try_into().unwrap(), hash.try_into().unwrap());
        let account = start.account_id.parse().unwrap();
        stand.keyring.signing_token(account, envelope, id, &Credential { generation: 1, salt, hash }).unwrap()
    };
    rows.iter().zip(&start.recipients).map(token).collect()
}

/// One caller.
struct Client {
    sender: Caller,
    operator: Caller,
    user_tokens: Vec<String>,
    first_tokens: Arc<Vec<String>>,
    start: Arc<Envelope>,
    last_seen: u64,
}

impl Client {
    async fn record(&mut self, tag: String, step: Step) -> Record {
        tokio::time::sleep(Duration::from_micros(step.pause_us)).await;
        let what = step.what;
        let (token, link) = match what.link() {
            Some((recipient, link)) => self.link(recipient, link).await,
            None => (String::new(), None),
        };
        let if_revision = match step.guard {
            _ if what.link().is_some() => 0,
            Guard::None => 0,
            Guard::LastSeen => self.last_seen,
            Guard::First => self.start.revision,
        };
        let seen_revision = match &what {
            What::Sign(_, _, seen, _) | What::Approve(_, _, seen, _) => match seen {
                Seen::Latest | Seen::Other => self.last_seen,
                Seen::First => self.start.revision,
                Seen::Future => 1_000_000,
            },
            _ => 0,
        };
        let start = Instant::now();
        let call = Call { client: self, tag: &tag, if_revision, seen_revision };
        let answer = match what.link() {
            Some((recipient, _)) => call.as_recipient(&what, recipient, token).await,
            None => call.as_owner(&what).await,
        };
        let end = Instant::now();
        let answer = answer.map_err(Refused::from);
        let told = answer.as_ref().map_or_else(|refused| refused.revision, |done| done.revision);
        self.last_seen = self.last_seen.max(told.unwrap_or_default());
        Record { tag, what, if_revision, seen_revision, link, start, end, answer }
    }

    /// A link of the recipient, and when it was got.
    async fn link(&self, recipient: usize, link: Link) -> (String, Option<(Instant, Instant)>) {
        let from = Instant::now();
        if link == Link::Fresh
            && let Ok(signer) = self.sender.signer_of(&self.start.id, &self.start.recipients[recipient].id).await
        {
            return (signer.token, Some((from, Instant::now())));
        }
        (self.first_tokens[recipient].clone(), None)
    }
}

struct Call<'a> {
    client: &'a Client,
    tag: &'a str,
    if_revision: u64,
    seen_revision: u64,
}

fn of_envelope(envelope: Option<Envelope>) -> Done {
    Done { revision: envelope.map(|it| it.revision), ..Done::default() }
}

fn of_session(session: Option<SigningSession>) -> Done {
    Done { revision: session.map(|it| it.revision), ..Done::default() }
}

impl Call<'_> {
    fn reason(&self, with: bool) -> String {
        if with { format!("Because {}", self.tag) } else { String::new() }
    }

    fn values(&self, what: &What) -> Vec<FieldEntry> {
        let values = world::values(what, &self.client.start).into_iter();
        values
            .map(|(field_id, text)| FieldEntry {
                field_id,
                value: Some(FieldValue { value: Some(field_value::Value::Text(text)) }),
            })
            .collect()
    }

    fn seen(&self, seen: Seen) -> Vec<SeenDocument> {
        let mut documents = signature(&self.client.start).seen_documents;
        if seen == Seen::Other {
            documents[0].sha256 = "0".repeat(64);
        }
        documents
    }

    fn person(&self, to: To) -> Option<Person> {
        let (name, email) = world::person(to, self.tag, &self.client.start);
        Some(Person { name, email, ..Default::default() })
    }

    async fn as_recipient(&self, what: &What, recipient: usize, token: String) -> Result<Done, Status> {
        let mut signer = self.client.sender.with_token(&token).signer();
        let (values, seen_revision) = (self.values(what), self.seen_revision);
        Ok(match *what {
            What::View(..) => {
                of_session(signer.mark_viewed(MarkViewedRequest { ..Default::default() }).await?.into_inner().session)
            }
            What::Fill(..) => of_session(
                signer.fill_fields(FillFieldsRequest { values, ..Default::default() }).await?.into_inner().session,
            ),
            What::Sign(_, _, seen, _) => {
                let seen_documents = self.seen(seen);
                let request = countersign::v1::SignRequest {
                    values,
                    consent: true,
                    seen_documents,
                    seen_revision,
                    ..Default::default()
                };
                of_session(signer.sign(request).await?.into_inner().session)
            }
            What::Approve(_, _, seen, _) => {
                let request =
                    ApproveRequest { values, seen_documents: self.seen(seen), seen_revision, ..Default::default() };
                of_session(signer.approve(request).await?.into_inner().session)
            }
            What::Decline(_, _, with) => {
                let told = signer
                    .decline(DeclineRequest { reason: self.reason(with), ..Default::default() })
                    .await?
                    .into_inner();
                Done { already: Some(told.already_declined), ..of_session(told.session) }
            }
            What::DeclineAsUser(_, _, with) => {
                let user_token = self.client.user_tokens[world::address(&self.client.start, recipient)].clone();
                let reason = self.reason(with);
                let request = DeclineByUserRequest { user_token, signing_token: token, reason, ..Default::default() };
                let told = self.client.sender.signer().decline_by_user(request).await?.into_inner();
                Done { already: Some(told.already_declined), ..of_envelope(told.envelope) }
            }
            What::Delegate(_, _, to) => {
                let request =
                    DelegateSigningRequest { person: self.person(to), reason: String::new(), ..Default::default() };
                signer.delegate_signing(request).await?;
                Done::default()
            }
            What::Mute(..) => {
                let told = signer.mute_reminders(MuteRemindersRequest::default()).await?.into_inner();
                of_session(told.session)
            }
            _ => unreachable!("no recipient's call: {what:?}"),
        })
    }

    async fn as_owner(&self, what: &What) -> Result<Done, Status> {
        let (start, if_revision) = (&self.client.start, self.if_revision);
        let envelope_id = start.id.clone();
        let mut owner = self.client.sender.envelopes();
        Ok(match *what {
            What::Send => {
                let request = SendEnvelopeRequest { envelope_id, if_revision, ..Default::default() };
                of_envelope(owner.send_envelope(request).await?.into_inner().envelope)
            }
            What::Subject | What::Policies(_) => {
                let (changes, paths) = self.changes(what);
                let (changes, update_mask) = (Some(changes), Some(FieldMask { paths }));
                let request =
                    UpdateEnvelopeRequest { envelope_id, changes, update_mask, if_revision, ..Default::default() };
                of_envelope(owner.update_envelope(request).await?.into_inner().envelope)
            }
            What::RemoveField(index) => {
                let field_ids = vec![world::field_id(start, index).to_string()];
                let request = RemoveFieldsRequest { envelope_id, field_ids, if_revision, ..Default::default() };
                of_envelope(owner.remove_fields(request).await?.into_inner().envelope)
            }
            What::Discard => {
                owner
                    .discard_envelope(DiscardEnvelopeRequest { envelope_id, if_revision, ..Default::default() })
                    .await?;
                Done::default()
            }
            What::DeclineFor(recipient, with) => {
                let recipient_id = start.recipients[recipient].id.clone();
                let (reason, evidence_note) = (self.reason(with), "Phone call".to_owned());
                let request = DeclineRecipientRequest {
                    envelope_id,
                    recipient_id,
                    reason,
                    evidence_note,
                    if_revision,
                    ..Default::default()
                };
                let told = owner.decline_recipient(request).await?.into_inner();
                Done { already: Some(told.already_declined), ..of_envelope(told.envelope) }
            }
            What::Reassign(recipient, to) => {
                let recipient_id = start.recipients[recipient].id.clone();
                let (person, reason) = (self.person(to), self.reason(true));
                let request = ReassignRecipientRequest {
                    envelope_id,
                    recipient_id,
                    person,
                    reason,
                    if_revision,
                    ..Default::default()
                };
                of_envelope(owner.reassign_recipient(request).await?.into_inner().envelope)
            }
            _ => return self.as_steerer(what).await,
        })
    }

    async fn as_steerer(&self, what: &What) -> Result<Done, Status> {
        let (start, if_revision) = (&self.client.start, self.if_revision);
        let envelope_id = start.id.clone();
        let mut owner = self.client.sender.envelopes();
        Ok(match *what {
            What::Resend(recipient, rotate) => {
                let recipient_ids = recipient.map(|at| start.recipients[at].id.clone()).into_iter().collect();
                let request =
                    ResendEnvelopeRequest { envelope_id, recipient_ids, rotate, if_revision, ..Default::default() };
                let told = owner.resend_envelope(request).await?.into_inner();
                Done { resent: told.recipient_ids, ..of_envelope(told.envelope) }
            }
            What::Remind(recipient) => {
                let recipient_ids = recipient.map(|at| start.recipients[at].id.clone()).into_iter().collect();
                let request = RemindRecipientsRequest { envelope_id, recipient_ids, if_revision, ..Default::default() };
                let told = owner.remind_recipients(request).await?.into_inner();
                Done { resent: told.recipient_ids, ..of_envelope(told.envelope) }
            }
            What::Extend(days) => {
                let expires_at = datetime(&start.expires_at.unwrap()).unwrap() + TimeDelta::days(days - 90);
                let expires_at = Some(timestamp(expires_at));
                let request = ExtendEnvelopeRequest { envelope_id, expires_at, if_revision, ..Default::default() };
                of_envelope(owner.extend_envelope(request).await?.into_inner().envelope)
            }
            What::Void(by) => {
                let mut owner = if by == By::Sender { owner } else { self.client.operator.envelopes() };
                let request =
                    VoidEnvelopeRequest { envelope_id, reason: self.reason(true), if_revision, ..Default::default() };
                of_envelope(owner.void_envelope(request).await?.into_inner().envelope)
            }
            What::Replace => {
                let request = ReplaceEnvelopeRequest { envelope_id, if_revision, ..Default::default() };
                let told = owner.replace_envelope(request).await?.into_inner();
                let replacement = told.envelope.unwrap().id;
                Done { already: Some(told.already_replaced), replacement, ..Done::default() }
            }
            _ => unreachable!("a recipient's call: {what:?}"),
        })
    }

    fn changes(&self, what: &What) -> (EnvelopeChanges, Vec<String>) {
        match *what {
            What::Policies(delegations_max) => {
                let decline_policy = Some(world::wire_policy(delegations_max));
                let changes = EnvelopeChanges { delegations_max, decline_policy, ..EnvelopeChanges::default() };
                (changes, vec!["delegations_max".into(), "decline_policy".into()])
            }
            _ => {
                let subject = format!("Model {}", self.tag);
                (EnvelopeChanges { subject, ..EnvelopeChanges::default() }, vec!["subject".into()])
            }
        }
    }
}

impl What {
    /// The recipient who calls, and with which link; none if the sender or the operator does.
    pub fn link(&self) -> Option<(usize, Link)> {
        match *self {
            Self::View(recipient, link)
            | Self::Mute(recipient, link)
            | Self::Fill(recipient, link, _)
            | Self::Sign(recipient, link, _, _)
            | Self::Approve(recipient, link, _, _)
            | Self::Decline(recipient, link, _)
            | Self::DeclineAsUser(recipient, link, _)
            | Self::Delegate(recipient, link, _) => Some((recipient, link)),
            _ => None,
        }
    }
}
