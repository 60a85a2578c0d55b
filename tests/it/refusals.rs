//! Bad input: a clear error that names the field, nothing half-made, never INTERNAL.

use countersign::v1::document_source::Source;
use countersign::v1::upload_document_request::Part;
use countersign::v1::{
    CreateEnvelopeRequest, DeclineRecipientRequest, DeclineRequest, DownloadDocumentRequest, FieldEntry,
    GetEnvelopeRequest, GetSigningLinkRequest, GetSigningSessionRequest, ListEnvelopesRequest, ListEventsRequest,
    Routing, SeenDocument, SendEnvelopeRequest, UploadDocumentRequest, UploadInfo, VoidEnvelopeRequest,
    WatchStatusChangesRequest,
};
use countersign_test_support::client::{pdf, request, signature};
use countersign_test_support::{Caller, Errors as _, Notifier, Service, notifier};
use tonic::{Code, Status};

/// What a request is refused with: reason, field.
type Case = (&'static str, fn(&mut CreateEnvelopeRequest), &'static str, &'static str);

fn content(bytes: Vec<u8>) -> Option<Source> {
    Some(Source::Content(bytes.into()))
}

const BAD: &str = "INVALID_FIELD";
const OVER: &str = "OUT_OF_SCOPE_V1";

const CASES: [Case; 44] = [
    ("no subject", |r| r.subject.clear(), BAD, "subject"),
    ("blank subject", |r| r.subject = "  ".into(), BAD, "subject"),
    ("long subject", |r| r.subject = "ä".repeat(201), BAD, "subject"),
    ("subject of two lines", |r| r.subject = "a\r\nBcc: b".into(), BAD, "subject"),
    ("long message", |r| r.message = "ä".repeat(2001), BAD, "message"),
    ("no documents", |r| r.documents.clear(), BAD, "documents"),
    ("no source", |r| r.documents[0].source = None, BAD, "documents[0].content"),
    ("no file name", |r| r.documents[0].name.clear(), BAD, "documents[0].name"),
    (
        "malformed upload",
        |r| r.documents[0].source = Some(Source::UploadId("doc_1".into())),
        BAD,
        "documents[0].upload_id",
    ),
    ("empty document", |r| r.documents[0].source = content(vec![]), "UNREADABLE_DOCUMENT", "documents[0].content"),
    (
        "not a PDF",
        |r| r.documents[0].source = content(b"GIF89a".repeat(100)),
        "UNSUPPORTED_DOCUMENT_TYPE",
        "documents[0].content",
    ),
    (
        "cut PDF",
        |r| r.documents[0].source = content(pdf()[..300].to_vec()),
        "UNREADABLE_DOCUMENT",
        "documents[0].content",
    ),
    ("huge document", |r| r.documents[0].source = content(vec![b'x'; 26 * 1024 * 1024]), OVER, "documents[0].content"),
    ("eleven documents", |r| r.documents = vec![r.documents[0].clone(); 11], OVER, "documents"),
    (
        "no recipients",
        |r| {
            r.recipients.clear();
            r.fields.clear()
        },
        BAD,
        "recipients",
    ),
    ("eleven recipients", |r| r.recipients = vec![r.recipients[0].clone(); 11], OVER, "recipients"),
    ("no name", |r| r.recipients[0].name.clear(), BAD, "recipients[0].name"),
    ("name with a line end", |r| r.recipients[0].name = "A\nB".into(), BAD, "recipients[0].name"),
    ("no address", |r| r.recipients[0].email.clear(), BAD, "recipients[0].email"),
    ("no address at all", |r| r.recipients[0].email = "ada".into(), BAD, "recipients[0].email"),
    ("two addresses", |r| r.recipients[0].email = "a@b.example, c@d.example".into(), BAD, "recipients[0].email"),
    (
        "address with a header",
        |r| r.recipients[0].email = "a@b.example\r\nBcc: c@d.example".into(),
        BAD,
        "recipients[0].email",
    ),
    ("display text and an address", |r| r.recipients[0].email = "Ada <a@b.example>".into(), BAD, "recipients[0].email"),
    (
        "a zero byte before an address",
        |r| r.recipients[0].email = "x\0 <a@b.example>".into(),
        BAD,
        "recipients[0].email",
    ),
    (
        "a header before an address",
        |r| r.recipients[0].email = "x\r\nBcc: y <a@b.example>".into(),
        BAD,
        "recipients[0].email",
    ),
    ("address literal", |r| r.recipients[0].email = "a@[127.0.0.1]".into(), BAD, "recipients[0].email"),
    ("unknown role", |r| r.recipients[0].role = 99, BAD, "recipients[0].role"),
    ("long label", |r| r.recipients[0].label = "x".repeat(101), BAD, "recipients[0].label"),
    ("unknown routing", |r| r.routing = 9, BAD, "routing"),
    ("deadline behind", |r| r.expires_at = Some(at(1_000_000_000)), BAD, "expires_at"),
    ("deadline too far", |r| r.expires_at = Some(at(9_000_000_000)), BAD, "expires_at"),
    (
        "no time at all",
        |r| r.expires_at = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 }),
        BAD,
        "expires_at",
    ),
    ("201 fields", |r| r.fields = vec![r.fields[0].clone(); 201], OVER, "fields"),
    ("no type", |r| r.fields[0].r#type = 0, BAD, "fields[0].type"),
    ("unknown type", |r| r.fields[0].r#type = 77, BAD, "fields[0].type"),
    ("unknown recipient", |r| r.fields[0].recipient_index = 7, BAD, "fields[0].recipient_index"),
    ("unknown document", |r| r.fields[0].document_index = u32::MAX, BAD, "fields[0].document_index"),
    ("nowhere", |r| r.fields[0].placement = None, BAD, "fields[0].placement"),
    ("page 0", |r| place(r).page = 0, BAD, "fields[0].placement.page"),
    ("page that does not exist", |r| place(r).page = 99, BAD, "fields[0].placement.page"),
    ("outside on the left", |r| place(r).x_percent = -1.0, BAD, "fields[0].placement.x_percent"),
    ("outside on the right", |r| place(r).width_percent = 95.0, BAD, "fields[0].placement.width_percent"),
    ("no height", |r| place(r).height_percent = 0.0, BAD, "fields[0].placement.height_percent"),
    ("no number", |r| place(r).y_percent = f64::NAN, BAD, "fields[0].placement.y_percent"),
];

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn place(request: &mut CreateEnvelopeRequest) -> &mut countersign::v1::Placement {
    request.fields[0].placement.as_mut().unwrap()
}

/// C-18, S3.82, T-12, T-68.
#[tokio::test(flavor = "multi_thread")]
async fn s3_82_a_bad_envelope_is_refused_by_field_and_leaves_nothing() {
    let service = Service::start().await;
    let sender = service.account(true).await;
    for (name, spoil, reason, field) in CASES {
        let mut new = request(2, Routing::Parallel, true);
        spoil(&mut new);
        let status = sender.create(new).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
        assert_eq!(status.reason(), reason, "{name}: {status:?}");
        assert!(status.fields().contains(&field.to_owned()), "{name}: {field} is not in {:?}", status.fields());
        assert_eq!(status.fact("http_status"), "400");
        if reason == OVER {
            assert!(!status.fact("limit").is_empty() && !status.fact("actual").is_empty(), "{name}");
        }
    }
    // Several faults come in one answer.
    let mut new = request(2, Routing::Parallel, true);
    new.subject.clear();
    new.recipients[1].email.clear();
    assert_eq!(sender.create(new).await.unwrap_err().fields(), ["subject", "recipients[1].email"]);
    for table in ["envelope", "recipient", "document", "event", "outbox", "feed"] {
        assert_eq!(service.database.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    let kept = std::fs::read_dir(service.documents.path()).unwrap().count();
    assert_eq!(kept, 0, "no bytes are kept of what was refused");
}

/// The transport's own limit is worded as ours.
#[tokio::test(flavor = "multi_thread")]
async fn s3_82_a_request_over_the_message_limit_is_refused_as_such() {
    let service = Service::start().await;
    let sender = service.account(true).await;
    let mut new = request(1, Routing::Parallel, true);
    new.documents[0].source = content(vec![b'x'; 65 * 1024 * 1024]);
    let status = sender.create(new).await.unwrap_err();
    assert_eq!((status.code(), status.reason().as_str()), (Code::InvalidArgument, OVER));
}

/// Answers stay small enough for every client, however much is wrong; bytes that are no message are no defect of ours.
#[tokio::test(flavor = "multi_thread")]
async fn s2_51_answers_stay_small_and_undecodable_bytes_are_refused() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let mut new = request(1, Routing::Parallel, true);
    new.fields = vec![new.fields[0].clone(); 200];
    new.fields.iter_mut().for_each(|field| field.placement.as_mut().unwrap().x_percent = 300.0);
    let status = sender.create(new).await.unwrap_err();
    assert_eq!((status.reason().as_str(), status.fields().len()), (BAD, 26));
    assert!(status.details().len() < 8 * 1024, "{} bytes", status.details().len());
    let story = sender.story(1, Routing::Parallel).await;
    let mut many = signature(&story.envelope);
    many.values = vec![FieldEntry { field_id: "fld_1".into(), value: None }; 5000];
    let status = story.signer(0).signer().sign(many).await.unwrap_err();
    assert_eq!((status.reason().as_str(), status.fact("allowed").as_str()), (OVER, "2000"));
    // Two bytes that are not UTF-8, where a string belongs.
    let codec = tonic_prost::ProstCodec::<UploadedBytes, countersign::v1::GetEnvelopeResponse>::default();
    let mut message = tonic::Request::new(UploadedBytes { bytes: vec![0xff, 0xfe] });
    message.metadata_mut().insert("authorization", format!("Bearer {}", sender.token).parse().unwrap());
    let mut grpc = tonic::client::Grpc::new(sender.channel.clone());
    grpc.ready().await.unwrap();
    let path = "/countersign.v1.EnvelopeService/GetEnvelope".parse().unwrap();
    let undecodable = grpc.unary(message, path, codec).await.unwrap_err();
    assert_eq!((undecodable.code(), undecodable.reason().as_str()), (Code::InvalidArgument, BAD), "{undecodable:?}");
}

/// A message with bytes under the number under which others have a string.
#[derive(Clone, PartialEq, prost::Message)]
struct UploadedBytes {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_35_a_bad_upload_is_refused_by_field() {
    let service = Service::start().await;
    let sender = service.account(true).await;
    let info = |name: &str, sha256: &str| UploadDocumentRequest {
        part: Some(Part::Info(UploadInfo { name: name.into(), sha256: sha256.into(), ..Default::default() })),
    };
    let chunk = |bytes: Vec<u8>| UploadDocumentRequest { part: Some(Part::Chunk(bytes.into())) };
    let wrong = "00".repeat(32);
    let cases = [
        (vec![], "info", BAD),
        (vec![chunk(pdf())], "info", BAD),
        (vec![info("", ""), chunk(pdf())], "info.name", BAD),
        (vec![info("a.pdf", "xyz"), chunk(pdf())], "info.sha256", BAD),
        (vec![info("a.pdf", &wrong), chunk(pdf())], "info.sha256", BAD),
        (vec![info("a.pdf", ""), info("a.pdf", "")], "chunk", BAD),
        (vec![info("a.pdf", "")], "chunk", "UNREADABLE_DOCUMENT"),
        (vec![info("a.pdf", ""), chunk(b"hello".to_vec())], "chunk", "UNREADABLE_DOCUMENT"),
        (
            std::iter::once(info("a.pdf", "")).chain((0..27).map(|_| chunk(vec![0; 1024 * 1024]))).collect(),
            "chunk",
            OVER,
        ),
    ];
    for (parts, field, reason) in cases {
        let status = sender.envelopes().upload_document(tokio_stream::iter(parts)).await.unwrap_err();
        assert_eq!((status.reason().as_str(), status.fields()), (reason, vec![field.to_owned()]), "{status:?}");
    }
    assert_eq!(service.database.number("SELECT count(*) FROM upload").await, 0);
}

/// Every call that names an envelope, with an id.
async fn by_id(caller: &Caller, envelope: &str, recipient: &str) -> Vec<(&'static str, Status)> {
    let (envelope_id, recipient_id) = (envelope.to_owned(), recipient.to_owned());
    let mut client = caller.envelopes();
    let mut answers = Vec::new();
    let request = GetEnvelopeRequest { envelope_id: envelope_id.clone(), ..Default::default() };
    answers.push(("get", client.get_envelope(request).await.map(drop)));
    let request = SendEnvelopeRequest { envelope_id: envelope_id.clone(), ..Default::default() };
    answers.push(("send", client.send_envelope(request).await.map(drop)));
    let request = VoidEnvelopeRequest { envelope_id: envelope_id.clone(), ..Default::default() };
    answers.push(("void", client.void_envelope(request).await.map(drop)));
    let request = DeclineRecipientRequest {
        envelope_id: envelope_id.clone(),
        recipient_id: recipient_id.clone(),
        ..Default::default()
    };
    answers.push(("decline", client.decline_recipient(request).await.map(drop)));
    let request = DownloadDocumentRequest { envelope_id: envelope_id.clone(), ..Default::default() };
    answers.push(("download", client.download_document(request).await.map(drop)));
    let request = ListEventsRequest { envelope_id: envelope_id.clone(), ..Default::default() };
    answers.push(("events", client.list_events(request).await.map(drop)));
    let request = GetSigningLinkRequest { envelope_id, recipient_id };
    answers.push(("link", client.get_signing_link(request).await.map(drop)));
    answers.into_iter().map(|(name, answer)| (name, answer.expect_err(name))).collect()
}

/// S2.53, T-55, T-26: foreign, unknown and other-mode ids look the same; malformed ones name the field.
#[tokio::test(flavor = "multi_thread")]
async fn t55_foreign_and_unknown_ids_look_the_same() {
    let service = Service::start().await;
    let owner = service.account(false).await;
    let envelope = owner.create(request(1, Routing::Parallel, true)).await.unwrap();
    let recipient = envelope.recipients[0].id.as_str();
    let stranger = service.account(false).await;
    let unknown = "env_01h455vb4pex5vsknk084sn02q";
    let foreign = by_id(&stranger, &envelope.id, recipient).await;
    let absent = by_id(&stranger, unknown, "rcp_01h455vb4pex5vsknk084sn02q").await;
    for ((name, foreign), (_, absent)) in foreign.iter().zip(&absent) {
        assert_eq!((foreign.code(), foreign.message()), (Code::NotFound, absent.message()), "{name}: {foreign:?}");
        assert_eq!(foreign.reason(), "NOT_FOUND");
    }
    for malformed in ["", "env_", "rcp_01h455vb4pex5vsknk084sn02q", "1", "env_01h455vb4pex5vsknk084sn02q'--", "\u{0}"] {
        for (name, status) in by_id(&owner, malformed, recipient).await {
            assert_eq!((status.code(), status.fields()), (Code::InvalidArgument, vec!["envelope_id".into()]), "{name}");
        }
    }
    assert_eq!(owner.get(&envelope.id).await.unwrap().revision, envelope.revision, "nothing happened to it");
}

/// S2.52, S1.9, D7: credentials.
#[tokio::test(flavor = "multi_thread")]
async fn s2_52_bad_credentials_get_nowhere() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    let mut spoilt = sender.token.clone();
    spoilt.replace_range(20..21, if &spoilt[20..21] == "x" { "y" } else { "x" });
    for token in ["nonsense", "cs_live_1111", &spoilt] {
        let status = sender.with_token(token).get(&story.envelope.id).await.unwrap_err();
        assert_eq!((status.code(), status.reason().as_str()), (Code::Unauthenticated, "AUTHENTICATION_REQUIRED"));
    }
    let good = story.signer(0).token.clone();
    let other = sender.story(1, Routing::Parallel).await.signer(0).token.clone();
    let mut unknown = good.clone();
    unknown.replace_range(30..31, if &unknown[30..31] == "x" { "y" } else { "x" });
    for token in ["cst_", "cst_11111", &unknown] {
        let caller = sender.with_token(token);
        let session = caller.signer().get_signing_session(GetSigningSessionRequest {}).await.unwrap_err();
        let decline = caller.signer().decline(DeclineRequest::default()).await.unwrap_err();
        assert_eq!((session.code(), decline.code()), (Code::NotFound, Code::NotFound));
        assert_eq!(session.message(), decline.message());
    }
    assert_ne!(good, other);
    // Each kind of credential is for its own service.
    let api_key_as_token = sender.signer().decline(DeclineRequest::default()).await.unwrap_err();
    let token_as_api_key = story.signer(0).get(&story.envelope.id).await.unwrap_err();
    assert_eq!((api_key_as_token.code(), token_as_api_key.code()), (Code::PermissionDenied, Code::PermissionDenied));
    // A live key never gets a link; the notifier does not change anything.
    let live = service.account(true).await;
    let envelope = live.create(request(1, Routing::Parallel, true)).await.unwrap();
    let link = live.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap_err();
    assert_eq!(link.code(), Code::PermissionDenied);
    let notifier = service.notifier(&live.account);
    notifier.signer_of(&envelope.id, &envelope.recipients[0].id).await.unwrap();
    assert_eq!(notifier.void(&envelope.id, "").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(notifier.create(request(1, Routing::Parallel, true)).await.unwrap_err().code(), Code::PermissionDenied);
    let elsewhere = service.notifier(&sender.account).get(&envelope.id).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::NotFound);
}

/// T-70, S3.23: what a signature must have.
#[tokio::test(flavor = "multi_thread")]
async fn t70_a_signature_names_what_was_seen() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(2, Routing::Parallel).await;
    let good = signature(&story.envelope);
    let mut changed = good.clone();
    changed.seen_documents[0].sha256 = "ab".repeat(32);
    let mut unseen = good.clone();
    unseen.seen_documents.clear();
    let mut malformed = good.clone();
    malformed.seen_documents = vec![SeenDocument { document_id: "x".into(), sha256: "y".into() }];
    let mut unwilling = good.clone();
    unwilling.consent = false;
    let mut foreign = good.clone();
    let of_second = story.envelope.fields.iter().find(|field| field.recipient_id == story.envelope.recipients[1].id);
    let value =
        Some(countersign::v1::FieldValue { value: Some(countersign::v1::field_value::Value::Text("Mallory".into())) });
    foreign.values = vec![FieldEntry { field_id: of_second.unwrap().id.clone(), value }];
    let mut empty = good.clone();
    empty.values = vec![FieldEntry { field_id: "fld_1".into(), value: None }];
    let seen = ["seen_documents[0].document_id", "seen_documents[0].sha256"];
    for (request, code, fields) in [
        (changed, Code::Aborted, vec![]),
        (unseen, Code::InvalidArgument, vec!["seen_documents"]),
        (malformed, Code::InvalidArgument, seen.to_vec()),
        (unwilling, Code::InvalidArgument, vec!["consent"]),
        (foreign, Code::InvalidArgument, vec!["values[0]"]),
        (empty, Code::InvalidArgument, vec!["values[0].field_id", "values[0].value"]),
    ] {
        let status = story.signer(0).signer().sign(request).await.unwrap_err();
        assert_eq!((status.code(), status.fields()), (code, fields.into_iter().map(str::to_owned).collect()));
    }
    let long = DeclineRequest { reason: "x".repeat(2001), ..Default::default() };
    let status = story.signer(0).signer().decline(long).await.unwrap_err();
    assert_eq!(status.fields(), ["reason"]);
    assert_eq!(story.now().await.revision, story.envelope.revision, "nothing happened");
    story.signer(0).signer().sign(good.clone()).await.unwrap();
    let twice = story.signer(0).signer().sign(good).await.unwrap_err();
    assert_eq!(twice.reason(), "ALREADY_ACTED");
    assert_eq!(story.signer(0).decline("no").await.unwrap_err().reason(), "ALREADY_ACTED");
}

/// T-63, C-27: lists and streams take only what the service gave.
#[tokio::test(flavor = "multi_thread")]
async fn t63_bad_pages_and_tokens_are_refused_by_field() {
    let service = Service::start().await;
    let (sender, stranger) = (service.account(false).await, service.account(false).await);
    for _ in 0..3 {
        sender.create(request(1, Routing::Parallel, true)).await.unwrap();
    }
    let list = |caller: &Caller, status: i32, page_size: i32, page_token: &str| {
        let request =
            ListEnvelopesRequest { status, page_size, page_token: page_token.to_owned(), ..Default::default() };
        let mut client = caller.envelopes();
        async move { client.list_envelopes(request).await.map(tonic::Response::into_inner) }
    };
    let token = list(&sender, 0, 1, "").await.unwrap().next_page_token;
    for (caller, status, page_size, page_token, field) in [
        (&sender, 42, 0, "", "status"),
        (&sender, 0, -1, "", "page_size"),
        (&sender, 0, 0, "AAAA", "page_token"),
        (&sender, 3, 0, token.as_str(), "page_token"),
        (&stranger, 0, 0, token.as_str(), "page_token"),
    ] {
        let refused = list(caller, status, page_size, page_token).await.unwrap_err();
        assert_eq!((refused.code(), refused.fields()), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    for resume_token in ["x", "AAAAAAAA", &token] {
        let request =
            WatchStatusChangesRequest { resume_token: resume_token.to_owned(), start: 0, ..Default::default() };
        let refused = sender.envelopes().watch_status_changes(request).await.unwrap_err();
        assert_eq!(refused.fields(), ["resume_token"]);
    }
    let request = WatchStatusChangesRequest { resume_token: String::new(), start: 9, ..Default::default() };
    let refused = sender.envelopes().watch_status_changes(request).await.unwrap_err();
    assert_eq!(refused.fields(), ["start"]);
}

/// What is larger than a request may be is refused by the limit's name, by each service by its own limit; what is not is read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_be_a_request_is_refused_by_name() {
    const MIB: usize = 1024 * 1024;
    let service = Service::start().await;
    let (sender, notifier) = (service.account(false).await, Notifier::start(&service).await);
    let story = sender.story(1, Routing::Parallel).await;
    let text = |bytes: usize| "x".repeat(bytes);
    let create = async |bytes| {
        let new = CreateEnvelopeRequest { message: text(bytes), ..request(1, Routing::Parallel, true) };
        sender.create(new).await.unwrap_err()
    };
    let decline = async |bytes| story.signer(0).decline(&text(bytes)).await.unwrap_err();
    let subscribe = async |bytes| {
        let url = format!("https://example.com/{}", text(bytes));
        notifier::register(&notifier.channel, &sender, &url).await.unwrap_err()
    };
    let (large, read) = (
        [create(64 * MIB).await, decline(4 * MIB).await, subscribe(MIB / 4).await],
        [create(63 * MIB).await, decline(3 * MIB).await, subscribe(MIB / 5).await],
    );
    for refused in large {
        let told = (refused.code(), refused.reason(), refused.fact("limit"));
        assert_eq!(told, (Code::InvalidArgument, OVER.into(), "message_bytes_max".into()), "{refused:?}");
    }
    for refused in read {
        assert_eq!((refused.reason().as_str(), refused.fact("limit").as_str()), (BAD, ""), "{refused:?}");
    }
    assert_eq!(service.database.number("SELECT count(*) FROM envelope").await, 1);
}
