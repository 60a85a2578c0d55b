//! Every reason for which a call is refused, provoked over the wire.

use std::collections::BTreeMap;

use countersign::v1::document_source::Source;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign::v1::{
    AccountSettings, AddFieldsRequest, Amount, ApproveRequest, Billing, ChargeAt, CreateEnvelopeRequest,
    CreateUserTokenRequest, DeclineByUserRequest, DeclinePolicy, DelegateSigningRequest, DeleteEnvelopeContentRequest,
    DownloadDocumentRequest, Envelope, ErrorReason, FieldEntry, FieldType, FieldValue, FillFieldsRequest, Freshness,
    GetCallerIdentityRequest, GetEnvelopeDataRequest, GetEnvelopeRequest, Limits, MuteRemindersRequest, NewField,
    NewRecipient, Person, Quorum, ReassignRecipientRequest, RecipientRole, RefundPolicy, RemindRecipientsRequest,
    RenderPageRequest, ResendEnvelopeRequest, Routing, SendEnvelopeRequest, SendTestEventRequest, SetLegalHoldRequest,
    SuspendAccountRequest, UpdateAccountSettingsRequest, VerifyWebhookEndpointRequest, VoidEnvelopeRequest, WatchStart,
    WatchStatusChangesRequest, field_value,
};
use countersign_chassis::clock::Clock;
use countersign_test_support::client::{request, signature};
use countersign_test_support::notifier::{self, authorised, register};
use countersign_test_support::service::config;
use countersign_test_support::{Caller, Database, Errors as _, Notifier, Receiver, Service, Story, binary};
use prost_types::FieldMask;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::intake::markers::{marked, paper};
use crate::worker::stand_in;

/// What comes with a refusal besides its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
enum With {
    /// Nothing else.
    Nothing,
    /// These facts.
    Facts(&'static [&'static str]),
    /// The paths of fields.
    Fields,
    /// The state, what was tried, what would be possible, and the revision.
    State,
}

/// The contract, as `error_reason.proto` words it.
const TABLE: [(&str, Code, u16, With); 46] = {
    use Code::*;
    [
        ("INVALID_FIELD", InvalidArgument, 400, With::Fields),
        ("OUT_OF_SCOPE_V1", InvalidArgument, 400, With::Facts(&["limit", "actual", "allowed"])),
        ("UNREADABLE_DOCUMENT", InvalidArgument, 400, With::Fields),
        ("AUTHENTICATION_REQUIRED", Unauthenticated, 401, With::Nothing),
        ("PERMISSION_DENIED", PermissionDenied, 403, With::Nothing),
        ("NOT_FOUND", NotFound, 404, With::Nothing),
        ("INVALID_STATE_TRANSITION", FailedPrecondition, 409, With::State),
        ("NOT_YOUR_TURN", FailedPrecondition, 409, With::State),
        ("ALREADY_ACTED", FailedPrecondition, 409, With::State),
        ("ENVELOPE_INCOMPLETE", FailedPrecondition, 409, With::State),
        ("DOCUMENT_CHANGED", Aborted, 409, With::State),
        ("VERSION_NOT_AVAILABLE", FailedPrecondition, 409, With::Facts(&["current_state"])),
        ("SIGNING_CLOSED", FailedPrecondition, 409, With::Facts(&["current_state"])),
        ("RESUME_TOKEN_TOO_OLD", OutOfRange, 400, With::Facts(&["floor_resume_token"])),
        ("FEED_INCARNATION", FailedPrecondition, 409, With::Nothing),
        ("UNAVAILABLE", Unavailable, 503, With::Nothing),
        ("DEADLINE_EXCEEDED", DeadlineExceeded, 504, With::Nothing),
        ("INTERNAL", Internal, 500, With::Nothing),
        ("DECLINE_NOT_ALLOWED", PermissionDenied, 403, With::State),
        ("ACTOR_SUBJECT_MISMATCH", InvalidArgument, 400, With::Nothing),
        ("REVISION_MISMATCH", Aborted, 409, With::State),
        ("REVISION_NOT_REACHED", FailedPrecondition, 409, With::Facts(&["revision"])),
        ("AMBIGUOUS_RECIPIENT", InvalidArgument, 400, With::Fields),
        ("ROLE_NOT_ALLOWED", PermissionDenied, 403, With::Facts(&["current_state"])),
        ("RESEND_TOO_SOON", ResourceExhausted, 429, With::State),
        ("DELEGATION_NOT_ALLOWED", PermissionDenied, 403, With::State),
        ("NOT_NEEDED", FailedPrecondition, 409, With::State),
        ("FIELDS_CHANGED", Aborted, 409, With::State),
        ("IDEMPOTENCY_MISMATCH", AlreadyExists, 409, With::Facts(&["key_used_at"])),
        ("IDEMPOTENCY_IN_PROGRESS", Aborted, 409, With::Nothing),
        ("INSUFFICIENT_CREDITS", FailedPrecondition, 402, With::Facts(&["unit", "needed"])),
        ("RATE_LIMIT_EXCEEDED", ResourceExhausted, 429, With::Facts(&["limit", "allowed"])),
        ("ACCOUNT_SUSPENDED", PermissionDenied, 403, With::Nothing),
        ("SECRET_SHOWN_ONCE", AlreadyExists, 409, With::Facts(&["id"])),
        ("REMINDERS_MUTED", FailedPrecondition, 409, With::State),
        ("ENDPOINT_NOT_ACTIVE", FailedPrecondition, 409, With::Facts(&["current_state"])),
        ("CHALLENGE_FAILED", FailedPrecondition, 409, With::Facts(&["cause"])),
        ("PAGE_NOT_DRAWABLE", FailedPrecondition, 409, With::Facts(&["fault"])),
        ("UNSUPPORTED_DOCUMENT_TYPE", InvalidArgument, 400, With::Fields),
        ("CONVERTER_NOT_INSTALLED", Unimplemented, 501, With::Fields),
        ("MARKERS_UNMATCHED", InvalidArgument, 400, With::Fields),
        ("DOCUMENT_DAMAGED", DataLoss, 500, With::Nothing),
        ("OFFSET_OUT_OF_RANGE", OutOfRange, 416, With::Facts(&["size_bytes"])),
        ("DATA_NOT_AVAILABLE", FailedPrecondition, 409, With::Facts(&["current_state"])),
        ("CONTENT_PURGED", FailedPrecondition, 410, With::State),
        ("LEGAL_HOLD", FailedPrecondition, 409, With::State),
    ]
};

/// What the contract says of a refusal is so.
fn hold(status: &Status) {
    let reason = status.reason();
    let (_, code, http_status, with) = *TABLE.iter().find(|row| row.0 == reason).expect(&reason);
    assert_eq!((status.code(), status.fact("http_status")), (code, http_status.to_string()), "{reason}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "countersign", "{reason}");
    let request = status.get_details_request_info().expect(&reason);
    assert!(request.request_id.starts_with("req_"), "{reason}");
    assert!(!status.message().is_empty(), "{reason}");
    let facts: &[&str] = match with {
        With::State => &["current_state", "attempted_transition", "allowed_transitions", "revision"],
        With::Facts(facts) => facts,
        With::Fields | With::Nothing => &[],
    };
    for fact in facts {
        assert!(info.metadata.contains_key(*fact), "{reason} comes without {fact}: {:?}", info.metadata);
    }
    if with == With::Fields {
        assert!(!status.fields().is_empty(), "{reason}");
    }
    let help = status.get_details_help().expect(&reason).links;
    assert!(help.len() == 1 && help[0].url.ends_with(&format!("/errors#{reason}")), "{reason}: {help:?}");
    let waits = ["UNAVAILABLE", "RESEND_TOO_SOON", "IDEMPOTENCY_IN_PROGRESS", "RATE_LIMIT_EXCEEDED"];
    if waits.contains(&reason.as_str()) {
        let seconds = status.metadata().get("retry-after").expect(&reason).to_str().unwrap();
        assert!(seconds.parse::<u64>().unwrap() > 0, "{reason}");
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert!(delay.is_some_and(|delay| !delay.is_zero()), "{reason} says when to try again");
    }
}

fn person(email: &str, role: RecipientRole) -> NewRecipient {
    NewRecipient { name: "P".into(), email: email.into(), role: role.into(), ..NewRecipient::default() }
}

fn text(text: &str) -> Option<FieldValue> {
    Some(FieldValue { value: Some(field_value::Value::Text(text.into())) })
}

fn send(envelope: &Envelope) -> SendEnvelopeRequest {
    SendEnvelopeRequest { envelope_id: envelope.id.clone(), if_revision: 0, ..Default::default() }
}

async fn resend(story: &Story) -> Status {
    let envelope_id = story.envelope.id.clone();
    let request = ResendEnvelopeRequest { envelope_id, ..ResendEnvelopeRequest::default() };
    story.sender.envelopes().resend_envelope(request).await.unwrap_err()
}

/// What is wrong with a request or a credential.
async fn requests(service: &Service, sender: &Caller) -> Vec<Status> {
    let mut told = Vec::new();
    let good = || request(2, Routing::Parallel, true);
    let fault = sender.create(CreateEnvelopeRequest { subject: String::new(), ..good() }).await.unwrap_err();
    let over = sender.create(request(11, Routing::Parallel, true)).await.unwrap_err();
    let mut unreadable = good();
    unreadable.documents[0].source = Some(Source::Content(b"%PDF-1.7 and no more".to_vec().into()));
    let unreadable = sender.create(unreadable).await.unwrap_err();
    told.extend([fault, over, unreadable]);
    told.push(sender.with_token("nonsense").get("env_01h455vb4pex5vsknk084sn02q").await.unwrap_err());
    told.push(sender.get("env_01h455vb4pex5vsknk084sn02q").await.unwrap_err());
    told.push(service.notifier(&sender.account).create(good()).await.unwrap_err());
    let incomplete = sender.create(CreateEnvelopeRequest { fields: Vec::new(), ..good() }).await.unwrap_err();
    told.push(incomplete);
    let mut twins = CreateEnvelopeRequest { send: false, ..good() };
    twins.recipients[1].email = twins.recipients[0].email.clone();
    let draft = sender.create(twins).await.unwrap();
    let field = NewField { recipient: draft.recipients[0].email.clone(), ..good().fields[0].clone() };
    let add =
        AddFieldsRequest { envelope_id: draft.id.clone(), fields: vec![field], if_revision: 0, ..Default::default() };
    told.push(sender.envelopes().add_fields(add).await.unwrap_err());
    let again = GetEnvelopeRequest {
        envelope_id: draft.id.clone(),
        freshness: Freshness::Live.into(),
        min_revision: draft.revision + 1,
    };
    told.push(sender.envelopes().get_envelope(again).await.unwrap_err());
    let original = DownloadDocumentRequest { envelope_id: draft.id, ..DownloadDocumentRequest::default() };
    told.push(sender.envelopes().download_document(original).await.unwrap_err());
    told
}

/// Who may not do what they try, or not now.
async fn acts(sender: &Caller) -> Vec<Status> {
    let mut new = request(2, Routing::Parallel, true);
    new.quorums = vec![Quorum { group: 1, needed: 1 }];
    new.recipients.push(person("approver@example.com", RecipientRole::Approver));
    new.recipients.push(NewRecipient { assists_index: Some(0), ..person("a@example.com", RecipientRole::Assistant) });
    let first = new.fields[0].clone();
    new.fields.push(NewField { r#type: FieldType::Text.into(), name: "text".into(), required: false, ..first.clone() });
    new.recipients.push(person("second@example.com", RecipientRole::Signer));
    new.fields.push(NewField { recipient_index: 4, ..first });
    (new.routing, new.quorums[0].group) = (Routing::Groups.into(), 1);
    (new.recipients[0].group, new.recipients[1].group, new.recipients[4].group) = (1, 1, 2);
    let story = sender.story_of(new).await;
    let (id, envelope) = (&story.envelope.id, &story.envelope);
    let link = |index: usize| sender.signer_of(id, &envelope.recipients[index].id);
    let approver = story.signer(2);
    let role = approver.sign(envelope).await.unwrap_err();
    let early = link(0).await.unwrap_err();
    assert_eq!((early.reason(), early.fact("current_state")), ("NOT_YOUR_TURN".into(), "SENT".into()));
    let given = signature(envelope);
    let (seen_documents, seen_revision) = (given.seen_documents, given.seen_revision);
    let approve = ApproveRequest { values: Vec::new(), seen_documents, seen_revision, ..Default::default() };
    approver.signer().approve(approve.clone()).await.unwrap();
    let acted = approver.signer().approve(approve).await.unwrap_err();
    let signer = link(0).await.unwrap();
    let seen = sender.get(id).await.unwrap();
    let field = envelope.fields.iter().find(|field| field.name == "text").unwrap();
    let fill = FillFieldsRequest {
        values: vec![FieldEntry { field_id: field.id.clone(), value: text("x") }],
        ..Default::default()
    };
    link(3).await.unwrap().signer().fill_fields(fill).await.unwrap();
    let filled = signer.sign(&seen).await.unwrap_err();
    let person = Some(Person { name: "D".into(), email: "d@example.com".into(), ..Default::default() });
    let delegate = DelegateSigningRequest { person: person.clone(), reason: String::new(), ..Default::default() };
    let delegated = signer.signer().delegate_signing(delegate).await.unwrap_err();
    let soon = resend(&story).await;
    signer.signer().mute_reminders(MuteRemindersRequest::default()).await.unwrap();
    let (envelope_id, recipient_ids) = (id.clone(), vec![envelope.recipients[0].id.clone()]);
    let remind = RemindRecipientsRequest { envelope_id, recipient_ids, ..Default::default() };
    let muted = sender.envelopes().remind_recipients(remind).await.unwrap_err();
    let mut changed = signature(&sender.get(id).await.unwrap());
    changed.seen_documents[0].sha256 = "ab".repeat(32);
    let changed = signer.signer().sign(changed).await.unwrap_err();
    let other = link(1).await.unwrap();
    signer.sign(&sender.get(id).await.unwrap()).await.unwrap();
    let spared = other.sign(&seen).await.unwrap_err();
    let (envelope_id, recipient_id) = (id.clone(), envelope.recipients[1].id.clone());
    let reassign = ReassignRecipientRequest { envelope_id, recipient_id, person, ..Default::default() };
    let replaced = sender.envelopes().reassign_recipient(reassign).await.unwrap_err();
    assert_eq!(replaced.reason(), "NOT_NEEDED");
    vec![role, acted, filled, delegated, soon, muted, changed, spared, replaced]
}

/// Ends, drafts, revisions and policies.
async fn states(sender: &Caller) -> Vec<Status> {
    let story = sender.story(2, Routing::Sequential).await;
    let (id, envelope) = (&story.envelope.id, &story.envelope);
    let resend = ResendEnvelopeRequest {
        envelope_id: id.clone(),
        recipient_ids: vec![envelope.recipients[1].id.clone()],
        ..ResendEnvelopeRequest::default()
    };
    let early = sender.envelopes().resend_envelope(resend).await.unwrap_err();
    let stale =
        VoidEnvelopeRequest { envelope_id: id.clone(), reason: String::new(), if_revision: 77, ..Default::default() };
    let stale = sender.envelopes().void_envelope(stale).await.unwrap_err();
    let twice = sender.envelopes().send_envelope(send(envelope)).await.unwrap_err();
    sender.void(id, "").await.unwrap();
    let closed = story.signer(0).session().await.unwrap_err();
    let ended = story.signer(0).sign(envelope).await.unwrap_err();
    assert_eq!((ended.fact("current_state"), ended.fact("cause")), ("VOIDED".into(), "SENDER".into()));
    assert_eq!(ended.fact("allowed_transitions"), "");
    let policy = DeclinePolicy { disabled: true, ..DeclinePolicy::default() };
    let strict = CreateEnvelopeRequest { decline_policy: Some(policy), ..request(1, Routing::Parallel, true) };
    let strict = sender.story_of(strict).await;
    let forbidden = strict.signer(0).decline("no").await.unwrap_err();
    let user = CreateUserTokenRequest { email: "somebody@example.com".into(), ..Default::default() };
    let user_token = sender.accounts().create_user_token(user).await.unwrap().into_inner().user_token;
    let signing_token = strict.signer(0).token.clone();
    let by_user = DeclineByUserRequest { user_token, signing_token, reason: String::new(), ..Default::default() };
    let mismatch = sender.signer().decline_by_user(by_user).await.unwrap_err();
    vec![early, stale, twice, closed, ended, forbidden, mismatch]
}

async fn watch(caller: &Caller, resume_token: &str, start: WatchStart) -> Result<String, Status> {
    let request =
        WatchStatusChangesRequest { resume_token: resume_token.to_owned(), start: start.into(), ..Default::default() };
    let mut stream = caller.envelopes().watch_status_changes(request).await?.into_inner();
    stream.next().await.expect("a first message").map(|message| message.resume_token)
}

/// The service looks at the feed every few milliseconds.
async fn until_refused(caller: &Caller, token: &str) -> Status {
    for _ in 0..250 {
        match watch(caller, token, WatchStart::Now).await {
            Err(status) => return status,
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
    panic!("never refused");
}

/// What only a restore, a purge, a broken disk or a damaged database brings about.
/// An endpoint that has not answered its challenge, and one that answers otherwise.
async fn endpoints(service: &Service, sender: &Caller) -> Vec<Status> {
    let (database, mails) = (notifier::database().await, tempfile::tempdir().unwrap());
    let mut config = notifier::config(&database, &service.address, &mails);
    config.webhook_challenge = true;
    let running = Notifier::start_with(database, mails, config).await;
    let receiver = Receiver::start(|_| axum::http::StatusCode::OK).await;
    let (endpoint_id, _) = register(&running.channel, sender, &receiver.url).await.unwrap();
    let mut client = WebhookServiceClient::new(running.channel.clone());
    let test = SendTestEventRequest { endpoint_id: endpoint_id.clone(), ..Default::default() };
    let inactive = client.send_test_event(authorised(sender, test)).await.unwrap_err();
    let verify = VerifyWebhookEndpointRequest { endpoint_id, ..Default::default() };
    let failed = client.verify_webhook_endpoint(authorised(sender, verify)).await.unwrap_err();
    running.stop().await;
    vec![inactive, failed]
}

async fn documents(service: &Service, sender: &Caller) -> Vec<Status> {
    let of = |content: Vec<u8>| {
        let mut new = marked(Source::Content(content.into()), true);
        new.recipients[0].label = "Buyer".into();
        new
    };
    let unsupported = sender.create(of(b"\x89PNG\r\n\x1a\n".to_vec())).await.unwrap_err();
    let unmatched = sender.create(of(paper("{{signature:Nobody}}"))).await.unwrap_err();
    let envelope = sender.create(of(paper("{{signature:Buyer}}"))).await.unwrap();
    let id = envelope.id.clone();
    let early = sender.envelopes().get_envelope_data(GetEnvelopeDataRequest { envelope_id: id.clone() }).await;
    let original = DownloadDocumentRequest { envelope_id: id.clone(), version: 1, ..Default::default() };
    let beyond = DownloadDocumentRequest { offset_bytes: 1_000_000, ..original.clone() };
    let beyond = sender.envelopes().download_document(beyond).await.unwrap_err();
    let name = &envelope.documents[0].original_sha256;
    let file = service.documents.path().join(&name[..2]).join(&name[2..]);
    std::fs::write(file, "not that").unwrap();
    let damaged = sender.envelopes().download_document(original).await.unwrap_err();
    sender.void(&id, "").await.unwrap();
    hold_content(sender, &id, true).await.unwrap();
    let erase = || DeleteEnvelopeContentRequest { envelope_id: id.clone(), reason: "x".into(), ..Default::default() };
    let held = sender.envelopes().delete_envelope_content(erase()).await.unwrap_err();
    hold_content(sender, &id, false).await.unwrap();
    sender.envelopes().delete_envelope_content(erase()).await.unwrap();
    let purged = hold_content(sender, &id, true).await.unwrap_err();
    vec![unsupported, unmatched, early.unwrap_err(), beyond, damaged, held, purged]
}

/// By a service that has no converter, and whose children die when they are asked a second time.
async fn converted() -> Vec<Status> {
    let (folder, own) = (tempfile::tempdir().unwrap(), binary::path("countersign-envelope").await);
    let asked = folder.path().join("asked");
    let script = format!("/bin/mkdir {} 2>/dev/null && exec {} \"$@\"; kill -XCPU $$", asked.display(), own.display());
    let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
    let mut config = config(&database, &documents);
    config.ingest.converter = Some("none".into());
    config.paper_worker = Some(stand_in(&folder, &script));
    let service = Service::start_with(database, Clock::database(), documents, config).await;
    let sender = service.account(false).await;
    let envelope = sender.create(request(1, Routing::Parallel, true)).await.unwrap();
    let page = RenderPageRequest { envelope_id: envelope.id, page: 1, ..Default::default() };
    let undrawn = sender.envelopes().render_page(page).await.unwrap_err();
    let mut docx = request(1, Routing::Parallel, true);
    docx.documents[0].source = Some(Source::Content(countersign_test_support::docx::docx(&["Lease"]).into()));
    vec![undrawn, sender.create(docx).await.unwrap_err()]
}

async fn hold_content(sender: &Caller, id: &str, hold: bool) -> Result<(), Status> {
    let request = SetLegalHoldRequest { envelope_id: id.into(), hold, reason: "x".into(), ..Default::default() };
    sender.envelopes().set_legal_hold(request).await.map(drop)
}

async fn accidents(service: &Service, sender: &Caller) -> Vec<Status> {
    let client = service.database.connect().await;
    let start = watch(sender, "", WatchStart::Oldest).await.unwrap();
    let story = sender.story(1, Routing::Parallel).await;
    for _ in 0..250 {
        if service.database.number("SELECT count(*) FROM outbox").await == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    client.execute("UPDATE feed_head SET floor_position = (SELECT coalesce(max(position), 0) FROM feed WHERE feed.part = feed_head.part)", &[]).await.unwrap();
    let old = until_refused(sender, &start).await;
    let now = watch(sender, "", WatchStart::Now).await.unwrap();
    client.execute("UPDATE feed_incarnation SET id = gen_random_uuid()", &[]).await.unwrap();
    let restored = until_refused(sender, &now).await;
    std::fs::remove_dir_all(service.documents.path()).unwrap();
    let original = DownloadDocumentRequest { envelope_id: story.envelope.id.clone(), version: 1, ..Default::default() };
    let away = sender.envelopes().download_document(original).await.unwrap_err();
    let damage = "ALTER TABLE event DISABLE TRIGGER ALL; UPDATE event SET record = 'no record'";
    client.batch_execute(damage).await.unwrap();
    let broken = sender.history(&story.envelope.id).await.unwrap_err();
    assert!(!broken.message().contains("record") && !broken.message().contains("JSON"), "{broken:?}");
    client.batch_execute("BEGIN; LOCK TABLE api_key").await.unwrap();
    let (path, bearer) = ("/countersign.v1.AccountService/ListApiKeys", format!("Bearer {}", sender.token));
    let headers = [("grpc-timeout", "50m"), ("authorization", bearer.as_str())];
    let late = countersign_test_support::raw::refused(&service.address, path, &headers).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    vec![late, old, restored, away, broken]
}

/// Keys, money, rates and suspension.
async fn accounts(service: &Service) -> Vec<Status> {
    let sender = service.account(true).await;
    let operator = service.operator(&sender.account);
    let keyed = |subject: &str| CreateEnvelopeRequest {
        subject: subject.into(),
        idempotency_key: "one".into(),
        ..request(1, Routing::Parallel, true)
    };
    let envelope = sender.create(keyed("First")).await.unwrap();
    let mismatch = sender.create(keyed("Second")).await.unwrap_err();
    let void = VoidEnvelopeRequest { envelope_id: envelope.id, idempotency_key: "two".into(), ..Default::default() };
    let sql = service.database.connect().await;
    sql.batch_execute("BEGIN; SELECT FROM envelope FOR UPDATE").await.unwrap();
    let (mut first, mut second) = (sender.envelopes(), sender.envelopes());
    let first = first.void_envelope(void.clone());
    let later = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let refused = second.void_envelope(void.clone()).await.unwrap_err();
        sql.batch_execute("COMMIT").await.unwrap();
        refused
    };
    let (voided, in_progress) = tokio::join!(first, later);
    voided.unwrap();
    let user = || CreateUserTokenRequest { email: "u@example.com".into(), idempotency_key: "three".into() };
    sender.accounts().create_user_token(user()).await.unwrap();
    let shown = sender.accounts().create_user_token(user()).await.unwrap_err();
    set(
        &operator,
        Billing {
            charge_at: ChargeAt::Dispatch.into(),
            price: Some(Amount { unit: "EUR".into(), value: 199 }),
            refund_policy: Some(RefundPolicy { preset: "void_unsigned".into(), ..RefundPolicy::default() }),
        },
    )
    .await;
    let poor = sender.create(request(1, Routing::Parallel, true)).await.unwrap_err();
    operator.accounts().suspend_account(SuspendAccountRequest::default()).await.unwrap();
    let suspended = sender.create(request(1, Routing::Parallel, true)).await.unwrap_err();
    let limits = Limits { key_calls_per_second: 1, key_calls_burst: 1, ..Limits::default() };
    let settings = AccountSettings { limits: Some(limits), ..AccountSettings::default() };
    change(&operator, settings, "limits").await;
    let mut rate = sender.accounts();
    let mut told = rate.get_caller_identity(GetCallerIdentityRequest {}).await;
    while told.is_ok() {
        told = rate.get_caller_identity(GetCallerIdentityRequest {}).await;
    }
    vec![mismatch, in_progress, shown, poor, suspended, told.unwrap_err()]
}

async fn set(operator: &Caller, billing: Billing) {
    change(operator, AccountSettings { billing: Some(billing), ..AccountSettings::default() }, "billing").await;
}

async fn change(operator: &Caller, settings: AccountSettings, path: &str) {
    let update_mask = Some(FieldMask { paths: vec![path.into()] });
    let request = UpdateAccountSettingsRequest { settings: Some(settings), update_mask, ..Default::default() };
    operator.accounts().update_account_settings(request).await.unwrap();
}

/// S2.51 to S2.57: each reason of the contract can be met, and comes as the contract says. None is left out but UNSPECIFIED.
#[tokio::test(flavor = "multi_thread")]
async fn s2_54_every_reason_comes_as_the_contract_says() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = requests(&service, &sender).await;
    all.extend(acts(&sender).await);
    all.extend(states(&sender).await);
    all.extend(accounts(&service).await);
    all.extend(endpoints(&service, &sender).await);
    all.extend(documents(&service, &sender).await);
    all.extend(converted().await);
    all.extend(accidents(&service, &sender).await);
    for status in &all {
        hold(status);
        *met.entry(status.reason()).or_default() += 1;
    }
    let reasons = (1..1_000).filter_map(|number| ErrorReason::try_from(number).ok());
    let mut names: Vec<_> = reasons.map(|it| it.as_str_name().trim_start_matches("ERROR_REASON_").to_owned()).collect();
    assert_eq!(names.len(), TABLE.len(), "the table has every reason");
    names.sort();
    assert_eq!(met.into_keys().collect::<Vec<_>>(), names);
}

/// S2.55 to S2.57: who gets a copy has no link, and is told so as the contract says.
#[tokio::test(flavor = "multi_thread")]
async fn s2_55_a_role_without_a_session_is_refused_with_its_state() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(1, Routing::Parallel, true);
    new.recipients.push(NewRecipient { copy_on_send: true, ..person("cc@example.com", RecipientRole::Cc) });
    let story = sender.story_of(new).await;
    let status = sender.signer_of(&story.envelope.id, &story.envelope.recipients[1].id).await.unwrap_err();
    assert_eq!(status.reason(), "ROLE_NOT_ALLOWED");
    hold(&status);
}
