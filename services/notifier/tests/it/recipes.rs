//! `docs/webhooks.md`: its test vectors are what the signer makes, and its recipes accept them.
//! Must never hold a recipe of its own: what is run is what is read.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use countersign_chassis::keys::Key;
use countersign_notifier::id::{AccountId, EndpointId};
use countersign_notifier::webhook::signature::{Secrets, signatures};
use countersign_test_support::outside::{absent, python_module};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/webhooks.md")
}

/// The text of the fenced block that opens so.
fn block(page: &str, opening: &str) -> String {
    let (_, rest) = page.split_once(&format!("```{opening}\n")).unwrap_or_else(|| panic!("no block {opening}"));
    rest.split_once("```").unwrap().0.to_owned()
}

fn vectors() -> String {
    let secrets = Secrets::new(&Key::master(&"07".repeat(32).into()).unwrap().into());
    let account: AccountId = "acc_01h455vb4pex5vsknk084sn02q".parse().unwrap();
    let endpoint: EndpointId = "whe_01h455vb4pex5vsknk084sn02q".parse().unwrap();
    let alive = [2, 1].map(|generation| secrets.of(account, endpoint, generation, secrets.newest()).unwrap());
    let (id, timestamp) = ("evt_01h455vb4pex5vsknk084sn02q", 1_767_225_600);
    let body = r#"{"type":"envelope.declined","timestamp":"2025-12-31T23:59:58Z","data":{"id":"evt_01h455vb4pex5vsknk084sn02q","sequence":"7"}}"#;
    let (standard, countersign) = signatures(&alive, id, timestamp, body.as_bytes());
    let challenge = "5f0c2a7be41d4d0f9a6b8f3f8f0e6d1c";
    let rows = [
        ("secret", alive[0].text()),
        ("previous_secret", alive[1].text()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", standard),
        ("countersign-signature", countersign),
        ("body", body.to_owned()),
        ("challenge", challenge.to_owned()),
        ("response", alive[0].response(challenge)),
    ];
    let rows = rows.map(|(name, value)| format!("  {}: {}", serde_json::json!(name), serde_json::json!(value)));
    format!("{{\n{}\n}}\n", rows.join(",\n"))
}

/// S1.33, T-33: the page shows what is sent.
#[test]
fn s1_33_the_documented_vectors_are_what_is_signed() {
    let mut text = std::fs::read_to_string(page()).unwrap();
    let (kept, made) = (block(&text, "json vectors"), vectors());
    if std::env::var_os("UPDATE").is_some() && kept != made {
        text = text.replace(&format!("```json vectors\n{kept}```"), &format!("```json vectors\n{made}```"));
        std::fs::write(page(), &text).unwrap();
    }
    assert_eq!(block(&text, "json vectors"), made, "UPDATE=1 writes docs/webhooks.md anew");
    let vectors: serde_json::Value = serde_json::from_str(&made).unwrap();
    let of = |name: &str| vectors[name].as_str().unwrap();
    for secret in [of("secret"), of("previous_secret")] {
        let verifier = standardwebhooks::Webhook::new(secret).unwrap();
        let signed = verifier.sign(of("webhook-id"), of("webhook-timestamp").parse().unwrap(), of("body").as_bytes());
        assert!(of("webhook-signature").split(' ').any(|one| one == signed.as_ref().unwrap()));
    }
}

/// Gives the vectors to a recipe, which must take what is good and nothing else.
fn run(program: &str, arguments: &[&str]) {
    let mut child = Command::new(program);
    let mut child = child.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(vectors().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// S1.34, S1.52: as it stands on the page.
#[test]
fn s1_34_the_python_recipe_verifies() {
    if !python_module("hmac", "python3") {
        return;
    }
    let check = r"
import json, sys
v = json.load(sys.stdin)
body, now = v['body'].encode(), int(v['webhook-timestamp'])
for secret in (v['secret'], v['previous_secret']):
    assert verify(secret, v, body, now) and verify(secret, v, body, now + 300)
    assert not verify(secret, v, body + b' ', now)
    assert not verify(secret, v, body, now + 301) and not verify(secret, v, body, now - 301)
    assert not verify(secret, {**v, 'webhook-id': 'evt_other'}, body, now)
assert not verify('whsec_' + 'A' * 43 + '=', v, body, now)
assert respond(v['secret'], v['challenge']) == {'response': v['response']}
";
    let page = std::fs::read_to_string(page()).unwrap();
    run("python3", &["-c", &format!("{}{check}", block(&page, "python"))]);
}

/// S1.34, S1.52: as it stands on the page.
#[test]
fn s1_34_the_node_recipe_verifies() {
    if Command::new("node").arg("--version").output().is_err() {
        absent("node", "apt-get install nodejs");
        return;
    }
    let check = r"
const assert = require('assert');
const v = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const [body, now] = [Buffer.from(v.body), Number(v['webhook-timestamp'])];
for (const secret of [v.secret, v.previous_secret]) {
  assert(verify(secret, v, body, now) && verify(secret, v, body, now + 300));
  assert(!verify(secret, v, Buffer.concat([body, Buffer.from(' ')]), now));
  assert(!verify(secret, v, body, now + 301) && !verify(secret, v, body, now - 301));
  assert(!verify(secret, { ...v, 'webhook-id': 'evt_other' }, body, now));
}
assert(!verify('whsec_' + 'A'.repeat(43) + '=', v, body, now));
assert.deepStrictEqual(respond(v.secret, v.challenge), { response: v.response });
";
    let page = std::fs::read_to_string(page()).unwrap();
    run("node", &["-e", &format!("{}{check}", block(&page, "javascript"))]);
}
