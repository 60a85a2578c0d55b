//! The dashboard and the alert rules, held to what the services really tell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use axum::http::StatusCode;
use countersign::v1::{EnvelopeStatus, Routing};
use countersign_test_support::Receiver;
use countersign_test_support::notifier::{mails, register};
use countersign_test_support::outside::program;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Stack;
use crate::clients::text;
use crate::webhooks::until;

pub const PROMTOOL: &str = "the Debian package prometheus, or promtool out of it (.ci/run does it)";

/// Asks for a page over HTTP.
pub async fn asked(method: &str, url: &str) -> (u16, String) {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("{method} /{path} HTTP/1.0\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub async fn get(url: &str) -> (u16, String) {
    asked("GET", url).await
}

pub fn helm(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("helm").join(path)
}

/// The labels of each metric that is told.
fn told(pages: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in pages.iter().flat_map(|page| page.lines()).filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let labels = told.entry(name.to_owned()).or_default();
        // Values are ours and hold no quotes.
        let named = rest.split('"').step_by(2).filter_map(|part| part.strip_suffix('='));
        labels.extend(named.map(|name| name.trim_start_matches(',').to_owned()));
    }
    told
}

/// What an expression asks for: metrics, and the labels that it selects or groups by.
fn wanted(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    let ours = |word: &str| ["countersign_", "rpc_", "db_"].iter().any(|start| word.starts_with(start));
    let mut quoted = false;
    let plain: String = expression
        .chars()
        .filter(|c| {
            quoted ^= *c == '"';
            !quoted && *c != '"'
        })
        .collect();
    let (mut word, mut depth, mut grouping) = (String::new(), 0, false);
    for c in plain.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || c == '_' || c == ':' {
            word.push(c);
            continue;
        }
        if word == "by" {
            grouping = true;
        } else if ours(&word) {
            let among = if depth > 0 || grouping { &mut labels } else { &mut metrics };
            among.insert(word.clone());
        } else if word.ends_with("_type") {
            labels.insert(word.clone());
        }
        word.clear();
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ')' => grouping = false,
            _ => {}
        }
    }
    (metrics, labels)
}

#[test]
fn expressions_are_read() {
    let (metrics, labels) = wanted("sum by (le, rpc_method) (rate(rpc_x_bucket{error_type!=\"db_no\"}[5m])) > 1");
    assert_eq!(metrics, BTreeSet::from(["rpc_x_bucket".to_owned()]));
    assert_eq!(labels, BTreeSet::from(["error_type".to_owned(), "rpc_method".to_owned()]));
}

/// Every expression of the dashboard and of the rules, by where it stands.
fn expressions() -> Vec<(String, String)> {
    let dashboard = std::fs::read_to_string(helm("dashboards/countersign.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    let panels = all.len();
    let rules = rules();
    let mut alert = String::new();
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            name.clone_into(&mut alert);
        } else if let Some(expression) = line.strip_prefix("expr: ") {
            all.push((alert.clone(), expression.trim_matches('\'').to_owned()));
        }
    }
    assert!(panels >= 30 && all.len() >= panels + 15, "{panels} and {}", all.len());
    all
}

pub fn rules() -> String {
    std::fs::read_to_string(helm("alerts/countersign.yaml")).unwrap()
}

/// Lives a little, so that everything that there is to be told has happened once.
async fn live(stack: &Stack) {
    let receiver = Receiver::start(|at| if at == 0 { StatusCode::GONE } else { StatusCode::OK }).await;
    register(&stack.webhooks, &stack.caller, &receiver.url).await.unwrap();
    let story = stack.caller.story(1, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    story.until(EnvelopeStatus::Completed).await;
    let refused = stack.caller.get("env_00000000000000000000000000").await;
    assert!(refused.is_err());
    until("an attempt", || receiver.received().first().cloned()).await;
    until("a mail", || mails(&stack.mails).into_iter().next()).await;
}

/// Whatever the dashboard and the rules ask for is told by the services, under that name and with those labels; and whatever
/// they tell of their own is asked for somewhere.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_rules_ask_for_what_is_told() {
    let stack = Stack::start(&[("COUNTERSIGN_METRICS_LISTEN", "127.0.0.1:0")]).await;
    live(&stack).await;
    let urls = [stack.envelope.metrics().await, stack.notifier.metrics().await];
    let all = expressions();
    let mut missing = Vec::new();
    // Some are looked at every ten seconds.
    for _ in 0..60 {
        let pages = [get(&urls[0]).await.1, get(&urls[1]).await.1];
        let told = told(&pages);
        missing.clear();
        for (whose, expression) in &all {
            let (metrics, labels) = wanted(expression);
            assert!(!metrics.is_empty(), "{whose} asks for nothing: {expression}");
            let known: BTreeSet<_> = metrics.iter().filter_map(|name| told.get(name)).flatten().collect();
            missing.extend(metrics.iter().filter(|name| !told.contains_key(*name)).map(|it| format!("{whose}: {it}")));
            // An error of the server is something that a healthy one does not tell.
            let lacking = labels.iter().filter(|label| *label != "error_type" && !known.contains(label));
            missing.extend(lacking.map(|label| format!("{whose}: {metrics:?} has no {label}")));
        }
        if missing.is_empty() {
            is_all_asked_for(&told, &all);
            are_well_named(&pages);
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{missing:#?}");
}

fn is_all_asked_for(told: &BTreeMap<String, BTreeSet<String>>, all: &[(String, String)]) {
    let asked: BTreeSet<_> = all.iter().flat_map(|(_, expression)| wanted(expression).0).collect();
    let family = |name: &str| {
        let name = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        name.to_owned()
    };
    // A gauge may end like the parts of a histogram.
    let asked: BTreeSet<_> = asked.iter().flat_map(|name| [name.clone(), family(name)]).collect();
    for name in told.keys().filter(|name| *name != "target_info") {
        assert!(asked.contains(name) || asked.contains(&family(name)), "nobody looks at {name}");
    }
    // Whatever is told is bounded: no id, no address, no host.
    let known = ["countersign_", "rpc_", "db_", "error_type", "le"];
    for (name, labels) in told.iter().filter(|(name, _)| *name != "target_info") {
        for label in labels {
            assert!(known.iter().any(|start| label.starts_with(start)), "{name} has the label {label}");
        }
    }
}

/// Prometheus' own judge of names and units.
fn are_well_named(pages: &[String]) {
    let Some(promtool) = program("promtool", PROMTOOL) else { return };
    for page in pages {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), page).unwrap();
        let input = std::fs::File::open(file.path()).unwrap();
        let judged = Command::new(&promtool).args(["check", "metrics"]).stdin(input).output().unwrap();
        assert!(judged.status.code() != Some(1), "{}", text(&judged));
    }
}

/// Prometheus takes the rules.
#[test]
fn the_rules_are_rules() {
    let Some(promtool) = program("promtool", PROMTOOL) else { return };
    let judged =
        Command::new(&promtool).args(["check", "rules"]).arg(helm("alerts/countersign.yaml")).output().unwrap();
    assert!(judged.status.success(), "{}", text(&judged));
    let wrong = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(wrong.path(), rules().replace(" > 60'", " > > 60'")).unwrap();
    let judged = Command::new(&promtool).args(["check", "rules"]).arg(wrong.path()).output().unwrap();
    assert!(!judged.status.success(), "the judge looks");
}

/// Whoever is woken by an alert finds on the page for operators what it means and what to do, under its name.
#[test]
fn every_alert_has_a_place_on_the_page_for_operators() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let (rules, mut found) = (rules(), 0);
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(page.contains(&format!("\n### {name}\n")), "{name} has no place");
        assert!(rules.contains(&format!("docs/operating.md#{}'", name.to_lowercase())), "{name} names another");
        found += 1;
    }
    let named = page.lines().filter(|line| line.starts_with("### Countersign")).count();
    assert!(found >= 15 && found == named, "{found} alerts and {named} places");
}
