//! The walls between accounts and between modes: asked by every call and every id of the contract, by every page and resume
//! token, and with the service's own conditions taken away.

mod modes;
mod rows;
pub mod things;
mod tokens;
pub mod wire;

use std::collections::BTreeSet;

use countersign::v1;
use countersign::v1::watch_status_changes_response::Item;
use countersign_envelope::domain::id::EnvelopeId;
use countersign_test_support::Caller;
use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Value, json};
use tonic::Code;

use self::things::{Line, Scene, Things, World, is_live, line};
use self::wire::{Answer, call, service};

/// Calls that name nothing.
const WITHOUT_IDS: [&str; 21] = [
    "AccountService.CreateAccount",
    "AccountService.CreateApiKey",
    "AccountService.CreateUserToken",
    "AccountService.GetAccount",
    "AccountService.GetCallerIdentity",
    "AccountService.GetCreditBalance",
    "AccountService.GrantCredits",
    "AccountService.ListApiKeys",
    "AccountService.ResumeAccount",
    "AccountService.SuspendAccount",
    "AccountService.UpdateAccountSettings",
    "EnvelopeService.UploadDocument",
    "EnvelopeService.VerifyDocument",
    "SignerService.Decline",
    "SignerService.DeclineByUser",
    "SignerService.DelegateSigning",
    "SignerService.GetSigningSession",
    "SignerService.MarkViewed",
    "SignerService.MuteReminders",
    "WebhookService.CreateWebhookEndpoint",
    "WebhookService.ListWebhookEndpoints",
];

/// Where ids stand in a message: at its top and one level down.
fn ids(message: &MessageDescriptor, within: &[String], found: &mut Vec<Vec<String>>) {
    for field in message.fields().filter(|field| !field.is_map()) {
        let path = [within, &[field.name().to_owned()]].concat();
        match field.kind() {
            Kind::String if field.name().ends_with("_id") || field.name().ends_with("_ids") => found.push(path),
            Kind::Message(inner) if within.is_empty() && inner.full_name().starts_with("countersign.") => {
                ids(&inner, &path, found);
            }
            _ => {}
        }
    }
}

fn name(method: &MethodDescriptor) -> String {
    format!("{}.{}", method.parent_service().name(), method.name())
}

/// The calls of some services that name things, with the places of the ids.
fn calls(services: &[&str]) -> Vec<(MethodDescriptor, Vec<Vec<String>>)> {
    let methods = services.iter().flat_map(|name| service(name).methods().collect::<Vec<_>>());
    let with_ids = methods.map(|method| {
        let mut found = Vec::new();
        ids(&method.input(), &[], &mut found);
        (method, found)
    });
    with_ids.filter(|(_, found)| !found.is_empty()).collect()
}

/// The request with another id in one place.
fn put(request: &Value, path: &[String], id: &str) -> Value {
    let mut request = request.clone();
    let (last, parents) = path.split_last().unwrap();
    let mut at = &mut request;
    for parent in parents {
        at = &mut at[parent.as_str()];
        if at.is_array() {
            at = &mut at[0];
        }
        assert!(at.is_object(), "the good request lacks {path:?}");
    }
    at[last.as_str()] = if last.ends_with("_ids") { json!([id]) } else { json!(id) };
    request
}

/// How ids that name nothing are answered.
struct Expected {
    absent: Code,
    /// False where leaving the id out means something.
    required: bool,
}

fn expected(method: &str, field: &str) -> Expected {
    let (absent, required) = match (method, field) {
        // A list of nothing.
        ("ListLedger" | "ListStatusChanges" | "WatchStatusChanges", "envelope_id") | ("ListDeliveries", _) => {
            (Code::Ok, false)
        }
        // Either an endpoint or deliveries.
        ("RedeliverEvents", "delivery_ids") => (Code::InvalidArgument, false),
        ("RedeliverEvents", "endpoint_id") => (Code::NotFound, false),
        // One's own, if it is not named.
        (_, "account_id") => (Code::NotFound, false),
        // A place within the request.
        ("CreateEnvelope" | "AddFields", "document_id") => (Code::InvalidArgument, false),
        (_, "field_id") => (Code::InvalidArgument, true),
        // The only one, if it is not named.
        ("DownloadDocument" | "RenderPage", "document_id") => (Code::NotFound, false),
        // What was shown is not what is there.
        ("Sign" | "Approve", "document_id") => (Code::Aborted, true),
        _ => (Code::NotFound, true),
    };
    Expected { absent, required }
}

/// An id that is of that kind and names nothing.
fn random(like: &str) -> String {
    let fresh = || EnvelopeId::new().to_string()[4..].to_owned();
    match like.split_once(':') {
        Some((one, other)) => format!("{}{}:{}{}", &one[..4], fresh(), &other[..4], fresh()),
        None => format!("{}{}", &like[..4], fresh()),
    }
}

/// No ids of that kind.
fn malformed(id: &str) -> Vec<String> {
    let other = if id.starts_with("acc_") { "env" } else { "acc" };
    let (head, last) = id.split_at(id.len() - 1);
    let spoilt = [format!("{other}{}", &id[3..]), format!("{id}0"), head.to_owned(), format!("{head}u")];
    let more = [id.to_uppercase(), format!(" {id}"), format!("{id}\n"), id[4..].to_owned(), id.replace('_', "-")];
    let odd = ["x".to_owned(), "_".to_owned(), "%".to_owned(), "00000000-0000-0000-0000-000000000000".to_owned()];
    let overflow = [format!("{}8{}", &id[..4], &id[5..]), "\u{0}".to_owned(), last.repeat(10_000)];
    [&spoilt[..], &more, &odd, &overflow].concat()
}

/// Things of the asker, and like things that are none of theirs.
struct Sides {
    asker: Caller,
    own: Things,
    others: Vec<(&'static str, Things)>,
}

/// Puts all that is not theirs into one place of a request, and compares the answers.
async fn ask(world: &World, method: &MethodDescriptor, line: &Line, sides: &Sides, path: &[String]) {
    let (name, field) = (name(method), path.last().unwrap().as_str());
    let channel = channel(world, method);
    let good = line.1(&sides.own);
    let Expected { absent, required } = expected(method.name(), field);
    let send = async |id: &str| quiet(method, call(&channel, &sides.asker, method, &put(&good, path, id)).await);
    let none = random(sides.own.of(field));
    let nothing = send(&none).await.without(&none);
    assert_eq!(nothing.code, absent, "{name} {path:?}: {nothing:?}");
    for (whose, others) in &sides.others {
        if *whose == "another envelope"
            && !["recipient_id", "document_id", "field_id"].iter().any(|it| field.starts_with(it))
        {
            continue;
        }
        let id = others.of(field);
        if id == sides.own.of(field) {
            // An account has two modes.
            continue;
        }
        assert_eq!(send(id).await.without(id), nothing, "{name} {path:?}: of {whose}");
    }
    let mut answers: Vec<(String, Answer)> = Vec::new();
    for id in malformed(sides.own.of(field)) {
        answers.push((id.clone(), send(&id).await));
    }
    if required {
        answers.push((String::new(), send("").await));
    }
    for (id, answer) in &answers {
        assert_eq!(answer.code, Code::InvalidArgument, "{name} {path:?} {id:?}: {answer:?}");
        assert_eq!((answer.reason.as_str(), answer), ("INVALID_FIELD", &answers[0].1), "{name} {path:?} {id:?}");
    }
}

/// The feed moves on meanwhile, and with it the tokens: of an answer that tells no event, that it was one is enough.
fn quiet(method: &MethodDescriptor, answer: Answer) -> Answer {
    let events = match method.name() {
        "WatchStatusChanges" => {
            answer.read::<v1::WatchStatusChangesResponse>().any(|it| matches!(it.item, Some(Item::Event(_))))
        }
        "ListStatusChanges" => answer.read::<v1::ListStatusChangesResponse>().any(|it| !it.events.is_empty()),
        _ => return answer,
    };
    assert!(!events, "{}: an event of what is not theirs", method.name());
    answer.wordless()
}

fn channel(world: &World, method: &MethodDescriptor) -> tonic::transport::Channel {
    let of_notifier = method.parent_service().name() == "WebhookService";
    if of_notifier { world.notifier.channel.clone() } else { world.service.channel.clone() }
}

/// All places of all calls of some services; each call once with what is right, at last.
async fn ask_all(world: &World, services: &[&str], asker: &Caller, others: [(&'static str, &Caller); 2]) {
    for (method, paths) in calls(services) {
        let name = name(&method);
        let line = line(&name).unwrap_or_else(|| panic!("{name} has no line in the table"));
        // By design: a live key looks after test keys, and nobody with a live key gets a link.
        let open = ["RotateApiKey", "RevokeApiKey", "GetSigningLink"].contains(&method.name());
        if is_live(asker) && open {
            continue;
        }
        let mut sides = Sides { asker: asker.clone(), own: world.things(asker, line.0).await, others: Vec::new() };
        sides.others.push(("another envelope", world.things(asker, line.0).await));
        for (whose, other) in others {
            // A live key gives no link; what matters is whose the ids are.
            let scene = match line.0 {
                Scene::Due(_) if is_live(other) => Scene::Sent,
                scene => scene,
            };
            sides.others.push((whose, world.things(other, scene).await));
        }
        if let Some(signer) = &sides.own.signer {
            sides.asker = signer.clone();
        }
        // The notifier's own call, for the account that it names, whose modes it sees both.
        if method.name() == "ReportBounce" {
            sides.asker = world.service.notifier(&asker.account);
            sides.others.retain(|(whose, _)| *whose != "the other mode");
        }
        for path in &paths {
            ask(world, &method, &line, &sides, path).await;
        }
        let right = call(&channel(world, &method), &sides.asker, &method, &line.1(&sides.own)).await;
        let through = right.code == Code::Ok || right.reason == "RESEND_TOO_SOON";
        assert!(through, "{name}: the request is good otherwise, and nothing was changed before: {right:?}");
        // An account has few, and each scene makes its own.
        world.notifier.database.connect().await.execute("DELETE FROM endpoint", &[]).await.unwrap();
    }
}

/// T-55, S2.53, C-29: whatever a sender puts into an id, nobody else's thing looks different from none.
#[tokio::test(flavor = "multi_thread")]
async fn t55_every_id_of_every_call_looks_the_same_whose_ever_it_is() {
    let world = World::start().await;
    let test = world.service.account(false).await;
    let live = world.service.key_of(&test, true).await;
    let stranger = world.service.account(false).await;
    let services = ["EnvelopeService", "AccountService", "WebhookService"];
    ask_all(&world, &services, &test, [("another account", &stranger), ("the other mode", &live)]).await;
}

/// C-29, T-55: the same for a live key.
#[tokio::test(flavor = "multi_thread")]
async fn c29_every_id_of_every_call_looks_the_same_to_a_live_key() {
    let world = World::start().await;
    let live = world.service.account(true).await;
    let test = world.service.key_of(&live, false).await;
    let stranger = world.service.account(true).await;
    let services = ["EnvelopeService", "AccountService", "WebhookService"];
    ask_all(&world, &services, &live, [("another account", &stranger), ("the other mode", &test)]).await;
}

/// T-55: the same for what a recipient names.
#[tokio::test(flavor = "multi_thread")]
async fn t55_every_id_that_a_recipient_names_looks_the_same_whose_ever_it_is() {
    let world = World::start().await;
    let test = world.service.account(false).await;
    let live = world.service.key_of(&test, true).await;
    let stranger = world.service.account(false).await;
    let others = [("another account", &stranger), ("the other mode", &live)];
    ask_all(&world, &["SignerService"], &test, others).await;
}

/// A call that is new, or names something new, has to have its line.
#[test]
fn the_table_has_a_line_for_each_call_that_names_something() {
    let mut without = BTreeSet::new();
    for service in wire::pool().services().filter(|service| service.full_name().starts_with("countersign.v1.")) {
        for method in service.methods() {
            let mut found = Vec::new();
            ids(&method.input(), &[], &mut found);
            let name = name(&method);
            assert_eq!(line(&name).is_some(), !found.is_empty(), "{name} names {found:?}");
            let things = Things::default();
            found.iter().for_each(|path| drop(things.of(path.last().unwrap()).to_owned()));
            if found.is_empty() {
                without.insert(name);
            }
        }
    }
    assert_eq!(without, WITHOUT_IDS.iter().map(|name| (*name).to_owned()).collect());
}
