//! The contract: guarded against breaking, linted, and light to depend on.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use countersign_test_support::outside::{absent, program};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(countersign::FILE_DESCRIPTOR_SET).unwrap()
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(en) => en.full_name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// One line for each field, value and call of the contract.
fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    let ours = |name: &str| name.starts_with("countersign.");
    for service in pool().services().filter(|service| ours(service.full_name())) {
        for method in service.methods() {
            let (input, output) = (method.input(), method.output());
            let stream = |is| if is { "stream " } else { "" };
            let (of, to) = (stream(method.is_client_streaming()), stream(method.is_server_streaming()));
            lines.push(format!("{}({of}{}) -> {to}{}", method.full_name(), input.full_name(), output.full_name()));
        }
    }
    for message in pool().all_messages().filter(|message: &MessageDescriptor| ours(message.full_name())) {
        for field in message.fields() {
            let mut line = format!("{} = {} {}", field.full_name(), field.number(), kind(&field.kind()));
            if field.is_list() {
                line.push_str(" repeated");
            }
            if let Some(oneof) = field.containing_oneof() {
                write!(line, " oneof {}", oneof.name()).unwrap();
            }
            lines.push(line);
        }
    }
    for en in pool().all_enums().filter(|en| ours(en.full_name())) {
        lines.extend(en.values().map(|value| format!("{} = {}", value.full_name(), value.number())));
    }
    lines.sort();
    lines
}

/// A line that goes or changes breaks somebody's client. New lines are added with `UPDATE=1`; old ones never go.
#[test]
fn the_contract_only_grows() {
    let path = root().join("proto/contract.txt");
    let golden: BTreeSet<String> =
        std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
    let now: BTreeSet<String> = lines().into_iter().collect();
    let gone: Vec<_> = golden.difference(&now).collect();
    assert!(gone.is_empty(), "these lines of the contract are gone or changed: {gone:#?}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, lines().join("\n") + "\n").unwrap();
        return;
    }
    let new: Vec<_> = now.difference(&golden).collect();
    assert!(new.is_empty(), "new in the contract; UPDATE=1 writes them to proto/contract.txt: {new:#?}");
}

/// Each reason tells its code, and the code that is sent is the one that is told.
#[test]
fn every_error_reason_documents_its_code() {
    let proto = std::fs::read_to_string(root().join("proto/countersign/v1/error_reason.proto")).unwrap();
    let reasons = pool().get_enum_by_name("countersign.v1.ErrorReason").unwrap();
    for value in reasons.values().filter(|value| value.number() != 0) {
        let at = proto.find(&format!("  {} =", value.name())).unwrap();
        let comment = proto[..at].rsplit("\n\n").next().unwrap().rsplit(";\n").next().unwrap();
        let reason = countersign::v1::ErrorReason::try_from(value.number()).unwrap();
        let (code, http) = countersign_chassis::problem::codes(reason);
        let code = format!("{code:?}");
        let mut name = String::new();
        for (index, letter) in code.chars().enumerate() {
            if letter.is_uppercase() && index > 0 {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        assert!(
            comment.contains(&format!("// {name} ({http}).")),
            "{}: {name} ({http}) is not in: {comment}",
            value.name()
        );
    }
}

/// Everything is commented: the protos are the API reference.
#[test]
fn buf_lint_finds_nothing() {
    let Some(buf) = program("buf", "npm install -g @bufbuild/buf") else { return };
    for arguments in [["lint"].as_slice(), &["format", "-d", "--exit-code"]] {
        let output = Command::new(&buf).args(arguments).current_dir(root().join("proto")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "buf {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Whoever calls the service needs its messages and a gRPC client, not its database.
#[test]
fn a_client_pulls_in_no_database() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["tree", "--package", "countersign", "--edges", "normal", "--prefix", "none", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    if !output.status.success() {
        absent("cargo's offline index", "cargo fetch");
        return;
    }
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("tonic v"));
    for heavy in ["diesel", "tokio-postgres", "lopdf", "krilla", "opentelemetry", "countersign-"] {
        assert!(!tree.lines().any(|line| line.starts_with(heavy)), "{heavy} is in the client's tree");
    }
}
