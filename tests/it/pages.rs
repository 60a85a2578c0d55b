//! Pages of the documentation that are made from the code: reasons of errors, and who may call what. `UPDATE=1 cargo test`
//! writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use countersign_chassis::problem::codes;
use countersign_envelope::rpc::access::{TABLE, Who};
use prost_reflect::prost_types::FileDescriptorSet;
use prost_reflect::{DescriptorPool, prost::Message as _};

pub fn hold(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/{page} is not what the code says; UPDATE=1 writes it anew:\n{made}");
}

/// The comments of the values of `ErrorReason`, in order.
fn reasons() -> Vec<(String, i32, String)> {
    let files = FileDescriptorSet::decode(countersign::FILE_DESCRIPTOR_SET).unwrap();
    let file = files.file.iter().find(|file| file.name().ends_with("error_reason.proto")).unwrap();
    let locations = &file.source_code_info.as_ref().unwrap().location;
    let values = file.enum_type[0].value.iter().enumerate();
    let comment = |place: usize| {
        // The path of a value: enum 0 of the file, value `place` of that.
        let path = [5, 0, 2, i32::try_from(place).unwrap()];
        locations.iter().find(|it| it.path == path).unwrap().leading_comments().to_owned()
    };
    values.map(|(place, value)| (value.name().to_owned(), value.number(), comment(place))).collect()
}

/// S2.51, S2.64, S2.66: each reason has its place on a page, under the anchor that errors link to, with its code, what
/// comes with it and what to do.
#[test]
fn s2_64_the_page_of_errors_is_what_the_contract_says() {
    let mut page = String::from(
        "# Errors\n\nEvery refused call is a `google.rpc.Status` whose details hold `google.rpc.ErrorInfo` (domain `countersign`, one of \
         these reasons,\nmetadata with `http_status`), `google.rpc.RequestInfo` with the id under which the call is found in the \
         service's logs, and\n`google.rpc.Help` with a link to the reason's place here. `google.rpc.BadRequest` names fields, \
         `google.rpc.RetryInfo` says when to\ntry again (in whole seconds also as the metadata `retry-after`). Branch on the reason, \
         never on the message.\n",
    );
    for (name, number, comment) in reasons().into_iter().filter(|(_, number, _)| *number != 0) {
        let reason = countersign::v1::ErrorReason::try_from(number).unwrap();
        let (_, http) = codes(reason);
        let text = comment.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let (meaning, remedy) = text.split_once(" Remedy: ").unwrap_or_else(|| panic!("{name} has no remedy"));
        let (named, meaning) = meaning.split_once(&format!(" ({http}). ")).unwrap_or_else(|| panic!("{name}: {text}"));
        let name = name.trim_start_matches("ERROR_REASON_");
        write!(
            page,
            "\n<a id=\"{name}\"></a>\n\n## {name}\n\ngRPC `{named}`, HTTP {http}. {meaning}\n\nWhat to do: {}\n",
            remedy.trim()
        )
        .unwrap();
    }
    hold("errors.md", &page);
}

/// Each call says who may make it, and the page is made from the table by which they are let in.
#[test]
fn t55_the_page_of_access_is_what_is_enforced() {
    let mut page = String::from(
        "# Who may call what\n\nA sender is known by an API key (or a token of the identity provider) that has the scope; a recipient by \
         their signing token; the\nnotifier and the operator by their own credentials, with the metadata `countersign-account` where a \
         call is about an account. A call\nthat changes something is refused for the keys of a suspended account. CreateEnvelope with `send` \
         needs `envelopes.send` besides.\n",
    );
    let mut service = "";
    for access in &TABLE {
        let (of, call) = access.path.trim_start_matches("/countersign.v1.").split_once('/').unwrap();
        if of != service {
            service = of;
            write!(page, "\n## {of}\n\n| call | scope | also by | changes |\n|---|---|---|---|\n").unwrap();
        }
        let others: Vec<_> =
            access.callers.iter().filter(|who| **who != Who::Sender).map(|who| format!("{who:?}")).collect();
        let scope = match access.permission {
            Some(permission) => format!("`{}`", permission.name()),
            None if access.callers.contains(&Who::Sender) => "any".to_owned(),
            None => "–".to_owned(),
        };
        let others = if others.is_empty() { "–".to_owned() } else { others.join(", ").to_lowercase() };
        writeln!(page, "| {call} | {scope} | {others} | {} |", if access.changes { "yes" } else { "no" }).unwrap();
    }
    page.push_str(
        "\n## WebhookService\n\nServed by the notifier, which asks the envelope service whose a key is.\n\n| call | scope | also by | changes \
         |\n|---|---|---|---|\n",
    );
    for access in countersign_notifier::rpc::access::TABLE {
        let scope = if access.writes { "webhooks.write" } else { "webhooks.read" };
        writeln!(page, "| {} | `{scope}` | – | {} |", access.call, if access.changes { "yes" } else { "no" }).unwrap();
    }
    hold("access.md", &page);
    let pool = DescriptorPool::decode(countersign::FILE_DESCRIPTOR_SET).unwrap();
    let ours = pool.services().filter(|service| service.full_name().starts_with("countersign."));
    let calls = ours.flat_map(|service| service.methods().collect::<Vec<_>>());
    for call in calls {
        assert!(page.contains(&format!("| {} |", call.name())), "{} has no line", call.full_name());
    }
}

/// The comments of the fields of a message, in order.
fn fields(file: &str, message: &str) -> Vec<(String, String)> {
    let files = FileDescriptorSet::decode(countersign::FILE_DESCRIPTOR_SET).unwrap();
    let file = files.file.iter().find(|it| it.name().ends_with(file)).unwrap();
    let locations = &file.source_code_info.as_ref().unwrap().location;
    let number = |place: usize| i32::try_from(place).unwrap();
    let (at, found) = file.message_type.iter().enumerate().find(|(_, it)| it.name() == message).unwrap();
    let comment = |place: usize| {
        // The path of a field: message `at` of the file, field `place` of that.
        let path = [4, number(at), 2, number(place)];
        let lines = locations.iter().find(|it| it.path == path).unwrap().leading_comments().to_owned();
        lines.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    };
    found.field.iter().enumerate().map(|(place, field)| (field.name().to_owned(), comment(place))).collect()
}

/// C-18, T-71: limits and rates stand on a page, as the contract words them.
#[test]
fn c18_the_page_of_limits_is_what_the_contract_says() {
    let mut page = String::from(
        "# Limits\n\nThe operator sets them for each account (AccountService.UpdateAccountSettings); 0 is the usual value. More than a limit is \
         refused\nwith OUT_OF_SCOPE_V1 and the metadata `limit`, `actual` and `allowed`; more than a rate with RATE_LIMIT_EXCEEDED, \
         `google.rpc.RetryInfo`\nand the metadata `retry-after` in seconds. Rates are token buckets, one for each key and each signing token \
         in each process of the\nservice. A refused request uses up no idempotency key and no credit.\n\n| limit | meaning |\n|---|---|\n",
    );
    for (name, comment) in fields("v1/account.proto", "Limits") {
        writeln!(page, "| `{name}` | {comment} |").unwrap();
    }
    page.push_str(
        "\nThe same for everybody: a request has at most 64 MiB, its headers 16 KiB, a connection 100 calls at a time, a key 20 \
         streams, 20 downloads and 20 uploads at a time and an account 200 of each in each process; a subject, a name \
         and an\nexternal reference 200 characters; an e-mail address 254 octets; a deadline lies 1 minute to 366 days ahead; an invitation \
         goes out\nagain after an hour.\n",
    );
    hold("limits.md", &page);
}
