//! What `docs/stream.md` tells its readers to do, done.

use std::process::Command;

use countersign::v1::Routing;
use countersign_test_support::Service;
use countersign_test_support::outside::python_module;

use super::settle;
use crate::clients::{generated, text};

/// The block of that language in the guide that begins with that line.
fn block(language: &str, first: &str) -> String {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/stream.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let mut blocks = guide.split("```").skip(1).step_by(2);
    let found =
        blocks.find_map(|block| block.strip_prefix(&format!("{language}\n")).filter(|it| it.starts_with(first)));
    found.unwrap_or_else(|| panic!("no {language} block begins with {first}")).to_owned()
}

/// Around the example: what a reader has to have, and an end after four events.
const AROUND: &str = r"
import sys
stored = {'token': '', 'seen': []}
def load_token():
    return stored['token']
def work_and_store(event, token):
    stored['token'] = token
    if event is not None:
        stored['seen'].append(event.sequence)
    if len(stored['seen']) == 4:
        print('seen', stored['seen'])
        sys.exit(0)
def resync(token):
    raise SystemExit('resync')
ADDRESS, KEY = sys.argv[1:3]
";

/// S1.6, D3: the example in Python follows the stream.
#[tokio::test(flavor = "multi_thread")]
async fn s1_6_the_python_example_of_the_guide_follows_the_stream() {
    if !python_module("grpc_tools, google.rpc", "pip install grpcio grpcio-tools googleapis-common-protos") {
        return;
    }
    let service = Service::start().await;
    let sender = service.account(false).await;
    let envelope = sender.story(1, Routing::Parallel).await.envelope;
    sender.void(&envelope.id, "").await.unwrap();
    settle(&service).await;
    let folder = tempfile::tempdir().unwrap();
    generated(folder.path());
    let script = format!("{AROUND}{}", block("python", "import grpc"));
    let mut python = Command::new("python3");
    python.args(["-c", &script, &service.address, &sender.token]).env("PYTHONPATH", folder.path());
    let played = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    assert!(played.status.success() && text(&played).contains("seen [1, 2, 3, 4]"), "{}", text(&played));
}
