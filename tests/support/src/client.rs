//! Clients of the contract, and the usual envelopes in one line.

use countersign::v1::account_service_client::AccountServiceClient;
use countersign::v1::document_source::Source;
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::signer_service_client::SignerServiceClient;
use countersign::v1::{
    CreateEnvelopeRequest, DeclineRequest, DocumentSource, Envelope, EnvelopeStatus, FieldType, GetEnvelopeRequest,
    GetSigningLinkRequest, GetSigningSessionRequest, HistoryEntry, ListEventsRequest, NewField, NewRecipient,
    Placement, RecipientRole, RecipientStatus, ReminderPolicy, Routing, SeenDocument, SignRequest, SigningSession,
    VoidEnvelopeRequest,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// Somebody with a credential.
#[derive(Clone, Debug)]
pub struct Caller {
    pub account: String,
    pub token: String,
    pub channel: Channel,
}

/// Puts the credential into each call.
#[derive(Clone)]
pub struct Bearer {
    authorization: MetadataValue<Ascii>,
    account: MetadataValue<Ascii>,
}

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request.metadata_mut().insert("countersign-account", self.account.clone());
        Ok(request)
    }
}

pub type Authorised = InterceptedService<Channel, Bearer>;

/// Most tests send and receive whole documents.
const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;

impl Caller {
    fn channel(&self) -> Authorised {
        let authorization = format!("Bearer {}", self.token).parse().unwrap();
        InterceptedService::new(self.channel.clone(), Bearer { authorization, account: self.account.parse().unwrap() })
    }

    /// The same place with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    #[must_use]
    pub fn envelopes(&self) -> EnvelopeServiceClient<Authorised> {
        EnvelopeServiceClient::new(self.channel()).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    #[must_use]
    pub fn signer(&self) -> SignerServiceClient<Authorised> {
        SignerServiceClient::new(self.channel())
    }

    #[must_use]
    pub fn accounts(&self) -> AccountServiceClient<Authorised> {
        AccountServiceClient::new(self.channel())
    }

    /// Creates what a request says.
    pub async fn create(&self, request: CreateEnvelopeRequest) -> Result<Envelope, Status> {
        Ok(self.envelopes().create_envelope(request).await?.into_inner().envelope.unwrap())
    }

    pub async fn get(&self, id: &str) -> Result<Envelope, Status> {
        let request = GetEnvelopeRequest { envelope_id: id.to_owned(), ..GetEnvelopeRequest::default() };
        Ok(self.envelopes().get_envelope(request).await?.into_inner().envelope.unwrap())
    }

    pub async fn void(&self, id: &str, reason: &str) -> Result<Envelope, Status> {
        let request = VoidEnvelopeRequest {
            envelope_id: id.to_owned(),
            reason: reason.to_owned(),
            if_revision: 0,
            ..Default::default()
        };
        Ok(self.envelopes().void_envelope(request).await?.into_inner().envelope.unwrap())
    }

    /// The whole history.
    pub async fn history(&self, id: &str) -> Result<Vec<HistoryEntry>, Status> {
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListEventsRequest { envelope_id: id.to_owned(), page_size: 7, page_token };
            let page = self.envelopes().list_events(request).await?.into_inner();
            entries.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// A sent test envelope with that many signers.
    pub async fn story(&self, signers: usize, routing: Routing) -> Story {
        self.story_of(request(signers, routing, true)).await
    }

    /// A sent test envelope as a request says.
    pub async fn story_of(&self, request: CreateEnvelopeRequest) -> Story {
        let envelope = self.create(request).await.expect("created");
        let mut signers = Vec::new();
        for recipient in &envelope.recipients {
            let has_link = recipient.status() == RecipientStatus::Released && recipient.role() != RecipientRole::Cc;
            signers.push(if has_link {
                Some(self.signer_of(&envelope.id, &recipient.id).await.expect("link"))
            } else {
                None
            });
        }
        Story { sender: self.clone(), envelope, signers }
    }

    /// What the recipient whose token this is sees.
    pub async fn session(&self) -> Result<SigningSession, Status> {
        let answer = self.signer().get_signing_session(GetSigningSessionRequest {}).await?;
        Ok(answer.into_inner().session.unwrap())
    }

    /// The recipient's own credential.
    pub async fn signer_of(&self, envelope_id: &str, recipient_id: &str) -> Result<Self, Status> {
        let request =
            GetSigningLinkRequest { envelope_id: envelope_id.to_owned(), recipient_id: recipient_id.to_owned() };
        let link = self.envelopes().get_signing_link(request).await?.into_inner();
        Ok(self.with_token(&link.token))
    }

    /// Signs as the recipient whose token this is, having seen what the envelope holds.
    pub async fn sign(&self, envelope: &Envelope) -> Result<(), Status> {
        self.signer().sign(signature(envelope)).await.map(drop)
    }

    /// Declines as the recipient whose token this is.
    pub async fn decline(&self, reason: &str) -> Result<bool, Status> {
        let request = DeclineRequest { reason: reason.to_owned(), ..Default::default() };
        Ok(self.signer().decline(request).await?.into_inner().already_declined)
    }
}

/// A sent envelope and who may act.
pub struct Story {
    pub sender: Caller,
    pub envelope: Envelope,
    /// In the recipients' order; `None` whose turn has not come.
    pub signers: Vec<Option<Caller>>,
}

impl Story {
    #[must_use]
    pub fn signer(&self, index: usize) -> &Caller {
        self.signers[index].as_ref().expect("in turn")
    }

    /// As it is now.
    pub async fn now(&self) -> Envelope {
        self.sender.get(&self.envelope.id).await.expect("there")
    }

    /// Waits until its artefacts are there.
    pub async fn until_artifact(&self) -> Envelope {
        for _ in 0..600 {
            let now = self.now().await;
            if now.documents.iter().all(|document| !document.artifacts.is_empty()) {
                return now;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("waited for the artefacts of {}", self.envelope.id);
    }

    /// Waits until the envelope has that status, and says so clearly if it never has.
    pub async fn until(&self, status: EnvelopeStatus) -> Envelope {
        let mut last = self.now().await;
        for _ in 0..600 {
            if last.status == status as i32 {
                return last;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            last = self.now().await;
        }
        panic!("waited for {status:?}, but it is {:?}", last.status());
    }
}

/// Whether nobody knows what became of a call, or somebody else is at it: the same again is the way to know. A connection that
/// ends before the request has left is `CANCELLED` to tonic.
#[must_use]
pub fn is_passing(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Aborted, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown];
    codes.contains(&status.code())
}

/// A signature that fits an envelope.
#[must_use]
pub fn signature(envelope: &Envelope) -> SignRequest {
    let seen = |document: &countersign::v1::Document| SeenDocument {
        document_id: document.id.clone(),
        sha256: document.sha256.clone(),
    };
    SignRequest {
        values: Vec::new(),
        consent: true,
        seen_documents: envelope.documents.iter().map(seen).collect(),
        seen_revision: envelope.revision,
        ..Default::default()
    }
}

/// A good request.
#[must_use]
pub fn request(signers: usize, routing: Routing, send: bool) -> CreateEnvelopeRequest {
    let recipient = |index: usize| NewRecipient {
        name: format!("Signer {index}"),
        email: format!("signer{index}@example.com"),
        ..NewRecipient::default()
    };
    let field = |index: u32| NewField {
        r#type: FieldType::Signature.into(),
        recipient_index: index,
        document_index: 0,
        placement: Some(Placement {
            page: 1,
            x_percent: 10.0,
            y_percent: 10.0 + 8.0 * f64::from(index),
            width_percent: 30.0,
            height_percent: 6.0,
        }),
        required: true,
        ..NewField::default()
    };
    CreateEnvelopeRequest {
        subject: "Agreement".into(),
        message: String::new(),
        documents: vec![DocumentSource {
            name: "nda.pdf".into(),
            source: Some(Source::Content(pdf().into())),
            ..Default::default()
        }],
        recipients: (0..signers).map(recipient).collect(),
        fields: (0..u32::try_from(signers).unwrap()).map(field).collect(),
        routing: routing.into(),
        send,
        // Tests that walk the clock for other reasons meet no reminders; those of reminders say when.
        reminder_policy: Some(ReminderPolicy { disabled: true, ..ReminderPolicy::default() }),
        ..CreateEnvelopeRequest::default()
    }
}

/// A real PDF, made once.
#[must_use]
pub fn pdf() -> Vec<u8> {
    static PDF: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    PDF.get_or_init(|| countersign_paper::samples::nda().expect("sample").bytes.clone()).clone()
}

/// What an error says to programs.
pub trait Errors {
    fn reason(&self) -> String;
    fn fact(&self, key: &str) -> String;
    fn fields(&self) -> Vec<String>;
}

impl Errors for Status {
    fn reason(&self) -> String {
        self.get_details_error_info().map(|info| info.reason).unwrap_or_default()
    }

    fn fact(&self, key: &str) -> String {
        self.get_details_error_info().and_then(|info| info.metadata.get(key).cloned()).unwrap_or_default()
    }

    fn fields(&self) -> Vec<String> {
        let violations = self.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
        violations.into_iter().map(|violation| violation.field).collect()
    }
}
