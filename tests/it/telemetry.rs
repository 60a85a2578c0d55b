//! What the services tell of themselves: real processes, a collector that takes down what comes over OTLP, and a scraper.

mod alerts;
mod collector;
mod dashboards;
mod delays;

use std::collections::HashSet;
use std::time::Duration;

use axum::http::StatusCode;
use countersign::v1::document_source::Source;
use countersign::v1::{CreateEnvelopeRequest, DocumentSource, Routing};
use countersign_chassis::clock::Clock;
use countersign_envelope::store::{OPEN, Store};
use countersign_test_support::binary::Process;
use countersign_test_support::certificates::{Authority, Use, write};
use countersign_test_support::client::request;
use countersign_test_support::notifier::{database, mails, register};
use countersign_test_support::service::SERVICE_TOKEN;
use countersign_test_support::{Caller, Database, Errors as _, Receiver, Service};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use self::collector::{Collector, text};
use crate::webhooks::until;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Server and client, as OTLP numbers the kinds of spans.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// Both services as processes, and somebody who calls.
struct Stack {
    envelope: Process,
    notifier: Process,
    caller: Caller,
    webhooks: Channel,
    mails: TempDir,
    kept: (Database, Database, TempDir),
}

impl Stack {
    async fn start(more: &[(&str, &str)]) -> Self {
        let seed = Service::start().await;
        let caller = seed.account(false).await;
        let (database_of_envelopes, documents) = seed.stop().await;
        let (notices, mails, master) = (database().await, tempfile::tempdir().unwrap(), "5c".repeat(32));
        let shared = [("COUNTERSIGN_MASTER_KEY", master.as_str()), ("COUNTERSIGN_SERVICE_TOKEN", SERVICE_TOKEN)];
        let own = [
            ("COUNTERSIGN_DATABASE_URL", database_of_envelopes.url.as_str()),
            ("COUNTERSIGN_UNSEALED", "true"),
            // For what is told of a replica it need not be another server.
            ("COUNTERSIGN_REPLICA_URL", &database_of_envelopes.url),
            ("COUNTERSIGN_DOCUMENTS", documents.path().to_str().unwrap()),
        ];
        let envelope = Process::start("countersign-envelope", &[&shared[..], &own, more].concat()).await;
        let url = format!("http://{}", envelope.address);
        let own = [
            ("COUNTERSIGN_DATABASE_URL", notices.url.as_str()),
            ("COUNTERSIGN_ENVELOPE_URL", &url),
            ("COUNTERSIGN_WEBHOOK_ALLOW_PRIVATE", "true"),
            ("COUNTERSIGN_WEBHOOK_CHALLENGE", "false"),
            ("COUNTERSIGN_MAIL_FOLDER", mails.path().to_str().unwrap()),
        ];
        let notifier = Process::start("countersign-notifier", &[&shared[..], &own, more].concat()).await;
        let channel = |address: &str| Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let (caller, webhooks) = (envelope.caller(&caller), channel(&notifier.address));
        Self { envelope, notifier, caller, webhooks, mails, kept: (database_of_envelopes, notices, documents) }
    }

    fn database(&self) -> &Database {
        &self.kept.0
    }

    /// Creates and sends, as part of a trace.
    async fn create_in(&self, traceparent: &str, request: CreateEnvelopeRequest) -> countersign::v1::Envelope {
        let mut request = Request::new(request);
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        self.caller.envelopes().create_envelope(request).await.unwrap().into_inner().envelope.unwrap()
    }
}

/// D1: who sends a `traceparent` finds in its trace the call, what the database did for it, the notifier's part, its calls, the
/// attempts at the webhook and the mail; the receiver and the mail have it in their headers; logs name it. Of another call,
/// which nobody chose to be told of, there is nothing. Nothing of anybody's person is in any of it.
#[tokio::test(flavor = "multi_thread")]
async fn d1_one_trace_from_the_call_to_the_delivery() {
    let collector = Collector::start().await;
    let stack = Stack::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        ("COUNTERSIGN_TRACE_SAMPLE_RATIO", "0"),
        ("COUNTERSIGN_LOG_JSON", "true"),
        // What carries OTLP speaks at each sending.
        ("COUNTERSIGN_LOG", "info,h2=debug"),
    ])
    .await;
    // The first attempt fails, so that there is something to log.
    let receiver = Receiver::start(|at| if at == 0 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }).await;
    register(&stack.webhooks, &stack.caller, &receiver.url).await.unwrap();
    let envelope = stack.create_in(&format!("00-{TRACE}-{PARENT}-01"), request(1, Routing::Parallel, true)).await;
    let taken = until("an attempt that succeeds", || receiver.received().get(1).cloned()).await;
    let (of_webhook, of_span) =
        (taken.header("traceparent").to_owned(), taken.header("traceparent")[36..52].to_owned());
    assert!(of_webhook.starts_with(&format!("00-{TRACE}-")) && of_webhook.ends_with("-01"), "{of_webhook}");
    assert!(taken.headers.get("baggage").is_none());
    let mail = until("a mail", || mails(&stack.mails).into_iter().next()).await.1;
    let header = mail.lines().find_map(|line| line.strip_prefix("Traceparent: ")).expect("a header").to_owned();
    assert!(header.starts_with(&format!("00-{TRACE}-")), "{header}");

    // A call of somebody else, whose trace nobody wants.
    stack.caller.get(&envelope.id).await.unwrap();
    stack.caller.void(&envelope.id, "Overtaken").await.unwrap();
    let refused = stack.caller.get("env_00000000000000000000000000").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let spans = the_whole(&collector, &hex::decode(&of_span).unwrap()).await;
    hang_together(&spans);
    // Of the other call nothing is kept.
    let database = stack.database().connect().await;
    let kept = database.query("SELECT DISTINCT coalesce(traceparent, '') FROM event ORDER BY 1", &[]).await.unwrap();
    let kept: Vec<String> = kept.iter().map(|row| row.get(0)).collect();
    assert!(kept.len() == 2 && kept[0].is_empty() && kept[1].starts_with(&format!("00-{TRACE}-")), "{kept:?}");
    // Nobody else's calls are told of, nor what the loops do all day.
    let others: Vec<_> = collector.spans().into_iter().filter(|(_, it)| hex::encode(&it.trace_id) != TRACE).collect();
    assert!(others.is_empty(), "{others:?}");

    logs_name_the_trace(&stack, &collector).await;
    let metrics = ["rpc.server.call.duration", "rpc.client.call.duration", "countersign.webhook.attempt.duration"];
    until("the metrics", || metrics.iter().all(|it| collector.metrics().iter().any(|name| name == it)).then_some(()))
        .await;
    nothing_personal_is_told(&stack, &collector, &receiver);
}

/// D1: a document that is fetched later is read in the trace of whoever asked for it; and what is told goes over TLS to a collector
/// whose certificate is known, and to no other.
#[tokio::test(flavor = "multi_thread")]
async fn d1_reading_goes_on_with_the_trace_and_is_told_over_tls() {
    let (authority, folder) = (Authority::new("Collectors"), tempfile::tempdir().unwrap());
    let (known, pem) =
        (authority.issue(Use::Server, &["dns:localhost"]), write(folder.path(), "ca.pem", &authority.pem));
    let unknown = Authority::new("Somebody").issue(Use::Server, &["dns:localhost"]);
    let document = serves_documents().await;
    for (issued, is_told) in [(&known, true), (&unknown, false)] {
        let collector = Collector::start_over_tls(issued).await;
        let stack = Stack::start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("SSL_CERT_FILE", pem.to_str().unwrap()),
            ("COUNTERSIGN_FETCH_ALLOW_PRIVATE", "true"),
        ])
        .await;
        let source = Some(Source::Url(document.clone()));
        let documents = vec![DocumentSource { name: "nda.pdf".into(), source, ..Default::default() }];
        let form = CreateEnvelopeRequest { documents, ..request(1, Routing::Parallel, true) };
        let made = stack.create_in(&format!("00-{TRACE}-{PARENT}-01"), form).await;
        let sent = async || stack.caller.get(&made.id).await.unwrap().sent_at.is_some();
        while !sent().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let read = || {
            let spans = collector.spans().into_iter();
            let mut ours = spans.filter(|(_, it)| hex::encode(&it.trace_id) == TRACE);
            ours.find(|(_, it)| it.name == "read document")
        };
        if is_told {
            until("the reading", read).await;
        } else {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(collector.bytes().is_empty(), "a stranger is told");
        }
    }
}

/// Where a document can be fetched.
async fn serves_documents() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/nda.pdf", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(|| async { countersign_test_support::client::pdf() });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// The caller's trace, once all of it has come, with the span that the receiver was named.
async fn the_whole(collector: &Collector, told: &[u8]) -> Vec<(String, Span)> {
    let ours = |collector: &Collector| {
        let all = collector.spans().into_iter();
        all.filter(|(_, span)| hex::encode(&span.trace_id) == TRACE).collect::<Vec<_>>()
    };
    let wanted = [
        ("countersign-envelope", "countersign.v1.EnvelopeService/CreateEnvelope", SERVER),
        ("countersign-envelope", "create", CLIENT),
        ("countersign-notifier", "process countersign.events", 5),
        ("countersign-notifier", "POST webhook", CLIENT),
        ("countersign-notifier", "send mail", 4),
        ("countersign-notifier", "countersign.v1.EnvelopeService/GetEnvelope", CLIENT),
        ("countersign-envelope", "countersign.v1.EnvelopeService/GetEnvelope", SERVER),
    ];
    let has = |spans: &[(String, _)], (service, name, kind): &(&str, &str, i32)| {
        let is = |(of, span): &(String, Span)| of == service && span.name == *name && span.kind == *kind;
        spans.iter().any(is)
    };
    until("the whole trace", || {
        let spans = ours(collector);
        let is_whole = wanted.iter().all(|one| has(&spans, one)) && spans.iter().any(|(_, it)| it.span_id == told);
        is_whole.then_some(spans)
    })
    .await
}

/// Each stands under another of them, and all under the caller's; and they say what came of what they are about.
fn hang_together(spans: &[(String, Span)]) {
    let ids: HashSet<_> = spans.iter().map(|(_, span)| hex::encode(&span.span_id)).collect();
    for (service, span) in spans {
        let parent = hex::encode(&span.parent_span_id);
        assert!(parent == PARENT || ids.contains(&parent), "{service}: {} stands alone", span.name);
    }
    let called = spans.iter().find(|(_, span)| span.name.ends_with("/CreateEnvelope")).unwrap();
    assert_eq!(text(&called.1.attributes, "rpc.response.status_code").as_deref(), Some("OK"));
    assert_eq!(text(&called.1.attributes, "rpc.system.name").as_deref(), Some("grpc"));
    let attempt = |status: &str| {
        let posts = spans.iter().filter(|(_, span)| span.name == "POST webhook");
        let of = |span: &Span| text(&span.attributes, "http.response.status_code");
        posts.map(|(_, span)| span.clone()).find(|span| of(span).as_deref() == Some(status)).expect(status)
    };
    assert_eq!((attempt("503").status.unwrap().code, attempt("200").status.unwrap_or_default().code), (2, 0));
}

/// On standard error and over OTLP.
async fn logs_name_the_trace(stack: &Stack, collector: &Collector) {
    let said = until("the line", || {
        let lines = stack.notifier.said().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.into_iter().find(|line| line["message"] == "a webhook was not taken")
    })
    .await;
    assert_eq!(said["trace_id"], TRACE, "{said}");
    assert!(said["span_id"].as_str().is_some_and(|id| id.len() == 16), "{said}");
    assert!(said["level"] == "WARN" && said["timestamp"].is_string() && said["status"] == 503, "{said}");
    let trace = hex::decode(TRACE).unwrap();
    let sent = until("a record", || collector.logs().into_iter().find(|record| record.trace_id == trace)).await;
    assert_eq!(sent.severity_text, "WARN");
    // What is sent is not itself told of.
    let all = collector.logs().len();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(collector.logs().len() < all + 10, "the sending is told of, and that again");
}

fn nothing_personal_is_told(stack: &Stack, collector: &Collector, receiver: &Receiver) {
    let bytes = collector.bytes();
    assert!(bytes.len() > 1_000);
    let said = [stack.envelope.said().concat(), stack.notifier.said().concat()].concat();
    let host = receiver.url.trim_start_matches("http://").split('/').next().unwrap();
    for personal in ["signer0", "example.com", "Signer 0", "Agreement", &stack.caller.token, SERVICE_TOKEN, host] {
        let found = bytes.windows(personal.len()).any(|window| window == personal.as_bytes());
        assert!(!found && !said.contains(personal), "{personal} is told");
    }
}

/// However many envelopes there are, the open ones are counted by an index alone: no row is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn open_envelopes_are_counted_by_an_index() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    sender.story(1, Routing::Parallel).await;
    // As the role that serves, before whom the wall between accounts stands.
    let (database, connection) = tokio_postgres::connect(&service.database.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let plan = format!("EXPLAIN {}", OPEN.replace("$1", "1000000"));
    let choose = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET countersign.across_accounts = on";
    database.batch_execute(choose).await.unwrap();
    let plan = database.query(&plan, &[]).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan.join("\n").contains("Index Only Scan using envelope_deadline"), "{plan:#?}");
    let store = Store::open(&service.database.config(), Clock::database()).await.unwrap();
    assert_eq!(store.open_by_status().await.unwrap(), [(3, 1)]);
}

/// A collector that is away costs no call anything, and no stop more than some seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_no_matter() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // It takes connections and says nothing, which is worse than refusing them.
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    let stack = Stack::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("COUNTERSIGN_TRACE_SAMPLE_RATIO", "1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ])
    .await;
    for _ in 0..20 {
        let began = std::time::Instant::now();
        stack.caller.create(request(1, Routing::Parallel, true)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    let Stack { envelope, notifier, kept: _kept, .. } = stack;
    for process in [notifier, envelope] {
        let took = process.terminate().await;
        assert!(took < Duration::from_secs(12), "{took:?}");
    }
}

/// Only `GET /metrics` is answered where metrics are, and a refusal is counted by the reason that the caller was told.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_scraped_and_nothing_else() {
    let stack = Stack::start(&[("COUNTERSIGN_METRICS_LISTEN", "127.0.0.1:0")]).await;
    let refused = stack.caller.get("env_00000000000000000000000000").await.unwrap_err();
    assert_eq!(refused.reason(), "NOT_FOUND");
    let url = stack.envelope.metrics().await;
    let (status, page) = dashboards::get(&url).await;
    assert_eq!(status, 200);
    let line = |start: &str, parts: &[&str]| {
        let found = page.lines().find(|line| line.starts_with(start) && parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| panic!("no {start} {parts:?} in\n{page}")).to_owned()
    };
    assert!(line("countersign_refusals_total", &["countersign_reason=\"NOT_FOUND\""]).ends_with(" 1"));
    let method = "rpc_method=\"countersign.v1.EnvelopeService/GetEnvelope\"";
    let call = line("rpc_server_call_duration_seconds_count", &[method, "rpc_response_status_code=\"NOT_FOUND\""]);
    assert!(!call.contains("error_type"), "what the caller did wrong is none of the server's: {call}");
    line("target_info", &["service_name=\"countersign-envelope\"", "service_instance_id="]);
    let root = url.trim_end_matches("metrics");
    assert_eq!(dashboards::get(root).await.0, 404);
    assert_eq!(dashboards::asked("POST", &url).await.0, 405);
    let notifier = stack.notifier.metrics().await;
    let page = dashboards::get(&notifier).await.1;
    assert!(page.contains("service_name=\"countersign-notifier\""));
}
