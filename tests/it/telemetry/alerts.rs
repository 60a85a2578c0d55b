//! The alert rules by Prometheus' own tests of rules: each fires of what it is about, after its time and alone; none fires of a
//! service that is well, nor of one where everything is just within its bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use countersign_test_support::outside::program;
use serde_json::{Value, json};

use super::dashboards::{PROMTOOL, helm, rules};
use crate::clients::text;

/// Series with a value for each minute, as promtool writes them: `value x times`, `begin + step x times`, `_` for none.
type Series = (&'static str, &'static str);

/// How a service tells of itself that is well, besides the partitions of the feed.
const WELL: [Series; 24] = [
    ("countersign_outbox_events", "0x180"),
    ("countersign_outbox_age_seconds", "0x180"),
    ("countersign_replica_age_seconds", "1x180"),
    ("countersign_timer_lag_seconds{countersign_duty=\"expire\"}", "0x180"),
    ("countersign_jobs_age_seconds{countersign_job=\"seal\"}", "0x180"),
    ("countersign_jobs_age_seconds{countersign_job=\"ingest\"}", "0x180"),
    ("countersign_deliveries_pending{countersign_channel=\"webhook\"}", "0x180"),
    ("countersign_delivery_lag_seconds{countersign_channel=\"webhook\"}", "0x180"),
    ("countersign_delivery_lag_seconds{countersign_channel=\"mail\"}", "0x180"),
    ("rpc_server_call_duration_seconds_count{rpc_method=\"Get\",rpc_response_status_code=\"OK\"}", "0+90x180"),
    ("rpc_server_call_duration_seconds_count{rpc_method=\"Get\",error_type=\"INTERNAL\"}", "0x180"),
    ("rpc_server_call_duration_seconds_bucket{rpc_method=\"Get\",le=\"1\"}", "0+90x180"),
    ("rpc_server_call_duration_seconds_bucket{rpc_method=\"Get\",le=\"2.5\"}", "0+90x180"),
    ("rpc_server_call_duration_seconds_bucket{rpc_method=\"Get\",le=\"5\"}", "0+90x180"),
    ("rpc_server_call_duration_seconds_bucket{rpc_method=\"Get\",le=\"+Inf\"}", "0+90x180"),
    ("countersign_calls_shed_total{countersign_resource=\"turns\"}", "0x180"),
    ("countersign_connections_refused_total", "0x180"),
    ("countersign_refusals_total{countersign_reason=\"INTERNAL\"}", "0x180"),
    ("db_client_connection_timeouts_total{db_client_connection_pool_name=\"serve\"}", "0x180"),
    ("countersign_loop_ticks_total{countersign_loop=\"sweep\",countersign_outcome=\"error\"}", "0x180"),
    ("countersign_webhook_attempt_duration_seconds_count{countersign_outcome=\"2xx\"}", "0+10x180"),
    ("countersign_webhook_attempt_duration_seconds_count{countersign_outcome=\"5xx\"}", "0x180"),
    ("countersign_webhook_endpoints_disabled_total{countersign_reason=\"failing\"}", "0x180"),
    ("countersign_mails_total{countersign_mail_kind=\"invitation\",countersign_outcome=\"dead\"}", "0x180"),
];

/// The same where everything is as bad as it may be.
const JUST_WELL: [Series; 12] = [
    ("countersign_outbox_age_seconds", "60x180"),
    ("countersign_replica_age_seconds", "60x180"),
    ("countersign_feed_lag_seconds{countersign_feed_partition=\"3\"}", "120x180"),
    ("countersign_timer_lag_seconds{countersign_duty=\"expire\"}", "120x180"),
    ("countersign_jobs_age_seconds{countersign_job=\"seal\"}", "600x180"),
    ("countersign_jobs_age_seconds{countersign_job=\"ingest\"}", "1800x180"),
    ("countersign_delivery_lag_seconds{countersign_channel=\"webhook\"}", "120x180"),
    ("countersign_delivery_lag_seconds{countersign_channel=\"mail\"}", "600x180"),
    ("rpc_server_call_duration_seconds_count{rpc_method=\"Get\",error_type=\"INTERNAL\"}", "0+1x180"),
    // What a caller may ask for in vain is none of the service's failures.
    ("rpc_server_call_duration_seconds_count{rpc_method=\"Get\",error_type=\"UNIMPLEMENTED\"}", "0+90x180"),
    ("rpc_server_call_duration_seconds_bucket{rpc_method=\"Get\",le=\"1\"}", "0x180"),
    ("countersign_webhook_attempt_duration_seconds_count{countersign_outcome=\"5xx\"}", "0+10x180"),
];

/// An alert with the labels that it bears, and what it fires of. At the first of the minutes it does not fire yet.
struct Case {
    alert: &'static str,
    labels: &'static str,
    of: &'static [Series],
    minutes: (u32, u32),
}

const fn case(alert: &'static str, labels: &'static str, of: &'static [Series], minutes: (u32, u32)) -> Case {
    Case { alert, labels, of, minutes }
}

const CASES: [Case; 20] = [
    case(
        "Absent",
        r#"severity="critical""#,
        &[("countersign_deliveries_pending{countersign_channel=\"webhook\"}", "_x180")],
        (4, 6),
    ),
    case(
        "CallsFail",
        r#"severity="critical",rpc_method="Get""#,
        &[("rpc_server_call_duration_seconds_count{rpc_method=\"Get\",error_type=\"INTERNAL\"}", "0+2x180")],
        (5, 8),
    ),
    case(
        "CallsSlow",
        r#"severity="warning",rpc_method="Get""#,
        &[
            ("rpc_server_call_duration_seconds_bucket{rpc_method=\"Get\",le=\"1\"}", "0+80x180"),
            ("rpc_server_call_duration_seconds_bucket{rpc_method=\"Get\",le=\"2.5\"}", "0+88x180"),
        ],
        (10, 13),
    ),
    case(
        "CallsShed",
        r#"severity="warning",countersign_resource="turns""#,
        &[("countersign_calls_shed_total{countersign_resource=\"turns\"}", "0+1x180")],
        (5, 8),
    ),
    case(
        "ConnectionsRefused",
        r#"severity="warning""#,
        &[("countersign_connections_refused_total", "0+1x180")],
        (5, 8),
    ),
    case(
        "InternalErrors",
        r#"severity="warning""#,
        &[("countersign_refusals_total{countersign_reason=\"INTERNAL\"}", "0x30 1x150")],
        (30, 32),
    ),
    case(
        "DatabaseConnectionsShort",
        r#"severity="critical",db_client_connection_pool_name="serve""#,
        &[("db_client_connection_timeouts_total{db_client_connection_pool_name=\"serve\"}", "0+1x180")],
        (5, 8),
    ),
    case(
        "LoopFails",
        r#"severity="warning",countersign_loop="sweep""#,
        &[("countersign_loop_ticks_total{countersign_loop=\"sweep\",countersign_outcome=\"error\"}", "0+1x180")],
        (10, 13),
    ),
    case("ReplicaBehind", r#"severity="warning""#, &[("countersign_replica_age_seconds", "61x180")], (9, 11)),
    case("FeedLags", r#"severity="critical""#, &[("countersign_outbox_age_seconds", "61x180")], (1, 3)),
    case(
        "NotifierLags",
        r#"severity="critical",countersign_feed_partition="3""#,
        &[("countersign_feed_lag_seconds{countersign_feed_partition=\"3\"}", "121x180")],
        (1, 3),
    ),
    case(
        "PartitionsUnfollowed",
        r#"severity="critical""#,
        &[("countersign_feed_lag_seconds{countersign_feed_partition=\"3\"}", "_x180")],
        (1, 3),
    ),
    case(
        "TimersLate",
        r#"severity="warning",countersign_duty="expire""#,
        &[("countersign_timer_lag_seconds{countersign_duty=\"expire\"}", "121x180")],
        (4, 6),
    ),
    case(
        "SealsLate",
        r#"severity="warning""#,
        &[("countersign_jobs_age_seconds{countersign_job=\"seal\"}", "601x180")],
        (4, 6),
    ),
    case(
        "DocumentsUnread",
        r#"severity="warning""#,
        &[("countersign_jobs_age_seconds{countersign_job=\"ingest\"}", "1801x180")],
        (4, 6),
    ),
    case(
        "WebhooksLate",
        r#"severity="warning""#,
        &[("countersign_delivery_lag_seconds{countersign_channel=\"webhook\"}", "121x180")],
        (4, 6),
    ),
    case(
        "WebhooksFail",
        r#"severity="warning""#,
        &[("countersign_webhook_attempt_duration_seconds_count{countersign_outcome=\"5xx\"}", "0+11x180")],
        (15, 18),
    ),
    case(
        "EndpointDisabled",
        r#"severity="info",countersign_reason="failing""#,
        &[("countersign_webhook_endpoints_disabled_total{countersign_reason=\"failing\"}", "0x30 1x150")],
        (30, 32),
    ),
    case(
        "MailsLate",
        r#"severity="warning""#,
        &[("countersign_delivery_lag_seconds{countersign_channel=\"mail\"}", "601x180")],
        (9, 11),
    ),
    case(
        "MailsGivenUp",
        r#"severity="warning",countersign_mail_kind="invitation""#,
        &[("countersign_mails_total{countersign_mail_kind=\"invitation\",countersign_outcome=\"dead\"}", "0x30 1x150")],
        (30, 32),
    ),
];

/// A test of what fires at which minutes, of a service that is well but for that.
fn test(of: &[Series], expected: &[(u32, Vec<String>)]) -> Value {
    let followed =
        (0..16).map(|partition| format!("countersign_feed_lag_seconds{{countersign_feed_partition=\"{partition}\"}}"));
    let mut series: BTreeMap<_, _> = followed.map(|partition| (partition, "1x180")).collect();
    series.extend(WELL.iter().chain(of).map(|(name, values)| ((*name).to_owned(), *values)));
    let series: Vec<_> = series.iter().map(|(name, values)| json!({ "series": name, "values": values })).collect();
    let looks = expected.iter().map(|(minute, firing)| {
        let firing: Vec<_> = firing.iter().map(|labels| json!({ "labels": labels, "value": 1 })).collect();
        json!({ "expr": "ALERTS{alertstate=\"firing\"}", "eval_time": format!("{minute}m"), "exp_samples": firing })
    });
    json!({ "interval": "1m", "input_series": series, "promql_expr_test": looks.collect::<Vec<_>>() })
}

/// What promtool says of these tests.
fn judged(promtool: &std::path::Path, tests: &[Value]) -> (bool, String) {
    let all = json!({ "rule_files": [helm("alerts/countersign.yaml")], "evaluation_interval": "1m", "tests": tests });
    // JSON is YAML.
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), all.to_string()).unwrap();
    let judged = Command::new(promtool).args(["test", "rules"]).arg(file.path()).output().unwrap();
    (judged.status.success(), text(&judged))
}

#[test]
fn each_alert_fires_of_what_it_is_about_and_alone() {
    let Some(promtool) = program("promtool", PROMTOOL) else { return };
    let (rules, tested) = (rules(), CASES.iter().map(|case| format!("Countersign{}", case.alert)));
    let named = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned);
    assert_eq!(named.collect::<BTreeSet<_>>(), tested.collect::<BTreeSet<_>>(), "each alert has its case");
    let mut tests = vec![test(&[], &[(170, vec![])]), test(&JUST_WELL, &[(170, vec![])])];
    tests.extend(CASES.iter().map(|case| {
        let firing = format!("ALERTS{{alertname=\"Countersign{}\",alertstate=\"firing\",{}}}", case.alert, case.labels);
        test(case.of, &[(case.minutes.0, vec![]), (case.minutes.1, vec![firing])])
    }));
    let (holds, said) = judged(&promtool, &tests);
    assert!(holds, "{said}");
    let (holds, _) = judged(&promtool, &[test(CASES[0].of, &[(60, vec![])])]);
    assert!(!holds, "the judge looks");
}
