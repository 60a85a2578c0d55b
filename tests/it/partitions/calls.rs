//! Every call of the contract, made once, and what each said to the database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::v1::RecipientRole;
use countersign_envelope::rpc::access::TABLE;
use countersign_notifier::rpc::access::TABLE as TABLE_OF_NOTIFIER;
use countersign_test_support::client::pdf;
use countersign_test_support::plans::{Plans, Ran};
use countersign_test_support::{Caller, Notifier};
use serde_json::{Value, json};
use tonic::Code;

use crate::isolation::things::{Scene as Setting, Things, World, line};
use crate::isolation::wire::{call, method};
use crate::once::SECRETS;
use crate::once::calls::every_call;
use crate::once::scene::Scene;
use crate::once::wire::Key;

/// A statement, and while which call it was run.
pub struct Played {
    pub call: String,
    pub of_notifier: bool,
    pub ran: Ran,
}

/// What is heard of both services.
struct Ears<'a> {
    plans: [&'a Plans; 2],
    played: Vec<Played>,
}

impl Ears<'_> {
    /// All that was run since the last time was for that.
    fn note(&mut self, call: &str) {
        for (plans, of_notifier) in self.plans.iter().zip([false, true]) {
            let played = |ran| Played { call: call.to_owned(), of_notifier, ran };
            self.played.extend(plans.take().into_iter().map(played));
        }
    }
}

/// Makes every call: first those that change something, each twice with one key, then those that read.
pub async fn play(scene: Scene, plans: [&Plans; 2]) -> Vec<Played> {
    let mut ears = Ears { plans, played: Vec::new() };
    let calls = every_call(&scene).await;
    ears.note("what came before");
    for (number, call) in calls.iter().enumerate() {
        let key = format!("the {number}th key");
        call.send(Key::Field(&key)).await.unwrap_or_else(|status| panic!("{}: {status:?}", call.message));
        let again = call.send(Key::Field(&key)).await;
        assert_eq!(again.is_ok(), !SECRETS.contains(&call.message), "{}", call.message);
        ears.note(call.message);
    }
    let Scene { service, notifier, sender, .. } = scene;
    let world = World { service, notifier };
    let mut made = Vec::new();
    for path in reads() {
        read(&world, &sender, &path, &mut made).await;
        ears.note(&path);
    }
    let World { service, notifier } = world;
    Notifier::stop(notifier).await;
    service.stop().await;
    ears.note("the end");
    ears.played
}

/// The calls that change nothing, as `Service.Call`.
fn reads() -> Vec<String> {
    let ours = TABLE.iter().filter(|access| !access.changes);
    let ours = ours.map(|access| access.path.trim_start_matches("/countersign.v1.").replace('/', "."));
    let theirs = TABLE_OF_NOTIFIER.iter().filter(|access| !access.changes);
    ours.chain(theirs.map(|access| format!("WebhookService.{}", access.call))).collect()
}

/// Makes a call that reads. Things that were made for one are there for the next ones.
async fn read(world: &World, sender: &Caller, path: &str, made: &mut Vec<(Setting, Things)>) {
    let (service, name) = path.split_once('.').unwrap();
    let nothing: fn(&_) -> Value = |_| json!({});
    let without_ids = match path {
        "SignerService.GetSigningSession" => (Setting::Due(RecipientRole::Signer), nothing),
        _ => (Setting::Sent, nothing),
    };
    let (setting, request) = line(path).unwrap_or(without_ids);
    if !made.iter().any(|(known, _)| *known == setting) {
        made.push((setting, world.things(sender, setting).await));
    }
    let (_, things) = made.iter().find(|(known, _)| *known == setting).unwrap();
    let request = match path {
        // What is cached says nothing to the database.
        "EnvelopeService.GetEnvelope" => json!({"envelope_id": things.envelope}),
        "EnvelopeService.VerifyDocument" => json!({"chunk": STANDARD.encode(pdf())}),
        _ => request(things),
    };
    let operator = world.service.operator(&sender.account);
    let caller = match path {
        // A test key is told nothing of it.
        "AccountService.ListLedger" => &operator,
        _ if service == "SignerService" => things.signer.as_ref().unwrap(),
        _ => sender,
    };
    let channel = if service == "WebhookService" { &world.notifier.channel } else { &world.service.channel };
    let answer = call(channel, caller, &method(service, name), &request).await;
    assert_eq!(answer.code, Code::Ok, "{path}: {answer:?}");
}
