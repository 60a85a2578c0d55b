//! Page tokens, resume tokens and signing tokens where they do not belong.

use countersign::v1::{
    ListApiKeysRequest, ListEnvelopesRequest, ListEventsRequest, ListLedgerRequest, ListStatusChangesRequest, Routing,
    WatchStatusChangesRequest,
};
use countersign_envelope::credential::Keyring;
use countersign_envelope::domain::id::{EnvelopeId, RecipientId};
use countersign_test_support::{Caller, Service, Story};
use prost_reflect::Kind;
use serde_json::{Value, json};
use tonic::Code;

use super::wire::{Answer, call, method, pool, service};
use crate::steps::keyring;

/// The calls that take a token of the service's, and the fields for it.
const TOKENS: [(&str, &str, &str); 6] = [
    ("AccountService", "ListApiKeys", "page_token"),
    ("AccountService", "ListLedger", "page_token"),
    ("EnvelopeService", "ListEnvelopes", "page_token"),
    ("EnvelopeService", "ListEvents", "page_token"),
    ("EnvelopeService", "ListStatusChanges", "resume_token"),
    ("EnvelopeService", "WatchStatusChanges", "resume_token"),
];

/// Somebody with two envelopes, the first of which is listed.
struct Side {
    caller: Caller,
    envelope: String,
}

impl Side {
    async fn new(caller: Caller) -> Self {
        let new = countersign_test_support::client::request(1, Routing::Parallel, true);
        caller.create(new.clone()).await.unwrap();
        let envelope = caller.create(new).await.unwrap().id;
        Self { caller, envelope }
    }

    /// A token that the service gave them.
    async fn token(&self, name: &str) -> String {
        let (caller, page_size) = (&self.caller, 1);
        match name {
            "ListApiKeys" => {
                let request = ListApiKeysRequest { page_size, ..Default::default() };
                caller.accounts().list_api_keys(request).await.unwrap().into_inner().next_page_token
            }
            "ListLedger" => {
                let request = ListLedgerRequest { page_size, ..Default::default() };
                caller.accounts().list_ledger(request).await.unwrap().into_inner().next_page_token
            }
            "ListEnvelopes" => {
                let request = ListEnvelopesRequest { page_size, ..Default::default() };
                caller.envelopes().list_envelopes(request).await.unwrap().into_inner().next_page_token
            }
            "ListEvents" => {
                let envelope_id = self.envelope.clone();
                let request = ListEventsRequest { envelope_id, page_size, ..Default::default() };
                caller.envelopes().list_events(request).await.unwrap().into_inner().next_page_token
            }
            "ListStatusChanges" => {
                let request = ListStatusChangesRequest::default();
                caller.envelopes().list_status_changes(request).await.unwrap().into_inner().resume_token
            }
            _ => {
                let request = WatchStatusChangesRequest::default();
                let mut stream = caller.envelopes().watch_status_changes(request).await.unwrap().into_inner();
                stream.message().await.unwrap().unwrap().resume_token
            }
        }
    }

    async fn present(&self, (service, name, field): (&str, &str, &str), token: &str) -> Answer {
        let mut request = json!({});
        request[field] = json!(token);
        if name == "ListEvents" {
            request["envelope_id"] = json!(self.envelope);
        }
        call(&self.caller.channel, &self.caller, &method(service, name), &request).await
    }
}

/// Each list and stream that takes a token is among those that are tried.
#[test]
fn every_call_with_a_token_is_tried() {
    let mut found = Vec::new();
    for service in pool().services().filter(|service| service.full_name().starts_with("countersign.v1.")) {
        for method in service.methods() {
            let fields: Vec<_> = method.input().fields().collect();
            for field in fields.iter().filter(|it| it.kind() == Kind::String && it.name().ends_with("_token")) {
                found.push((service.name().to_owned(), method.name().to_owned(), field.name().to_owned()));
            }
        }
    }
    // The notifier's are tried in its own tests, against lists of its own.
    found.retain(|(service, method, _)| method != "DeclineByUser" && service != "WebhookService");
    found.sort();
    let tried = TOKENS.map(|(service, method, field)| (service.to_owned(), method.to_owned(), field.to_owned()));
    assert_eq!(found, tried);
}

/// C-29, T-55: a token of another account, of the other mode or of another list is no better than garbage.
#[tokio::test(flavor = "multi_thread")]
async fn c29_tokens_are_good_for_their_own_account_mode_and_list_alone() {
    let service = Service::start().await;
    let test = service.account(false).await;
    let live = service.key_of(&test, true).await;
    service.key_of(&test, false).await;
    let own = Side::new(test).await;
    let (other, stranger) = (Side::new(live).await, Side::new(service.account(false).await).await);
    for key in [&stranger.caller, &other.caller] {
        service.key_of(key, false).await;
    }
    for tried in TOKENS {
        let name = tried.1;
        // A test key's ledger is empty: that list has pages for live keys only.
        let (own, other) = if name == "ListLedger" { (&other, &own) } else { (&own, &other) };
        let good = own.token(name).await;
        assert!(!good.is_empty(), "{name}: there is more");
        assert_eq!(own.present(tried, &good).await.code, Code::Ok, "{name}");
        let caller = service.key_of(&own.caller, name == "ListLedger").await;
        let of_second = Side { caller, envelope: own.envelope.clone() };
        assert_eq!(of_second.present(tried, &good).await.code, Code::Ok, "{name}: of another key of that mode");
        let garbage = own.present(tried, "garbage").await;
        assert_eq!((garbage.code, garbage.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{name}");
        let mut bad = vec![stranger.token(name).await, good[1..].to_owned(), format!("{good}A"), "A".repeat(5_000)];
        bad.push(other.token(name).await);
        // A place in the feed is one place, however it is read on from.
        let of_feed = |list: &str| list.ends_with("StatusChanges");
        let of_others = |list: &str| list != name && !(of_feed(list) && of_feed(name));
        for (_, list, _) in TOKENS.iter().filter(|(_, list, _)| of_others(list)) {
            bad.push(own.token(list).await);
        }
        for token in bad.into_iter().filter(|token| !token.is_empty()) {
            assert_eq!(own.present(tried, &token).await, garbage, "{name}: {token}");
        }
    }
    // A history's token is good for that history alone.
    let sibling =
        Side { envelope: own.caller.story(1, Routing::Parallel).await.envelope.id, caller: own.caller.clone() };
    let events = TOKENS[3];
    assert_eq!(own.present(events, &sibling.token("ListEvents").await).await.code, Code::InvalidArgument);
}

/// Tokens as the service would word them, of which none is right: the secret is another's, or none.
fn spoilt(ring: &Keyring, story: &Story, sibling: &Story, stranger: &Story) -> Vec<String> {
    let ids = |story: &Story, index: usize| {
        let envelope: EnvelopeId = story.envelope.id.parse().unwrap();
        let recipient: RecipientId = story.envelope.recipients[index].id.parse().unwrap();
        (story.sender.account.parse().unwrap(), envelope, recipient)
    };
    let word = |account, envelope, recipient| {
        let credential = ring.credential(recipient, 1);
        ring.signing_token(account, envelope, recipient, &credential).unwrap()
    };
    let (account, envelope, recipient) = ids(story, 0);
    let (_, other_envelope, other_recipient) = ids(sibling, 0);
    let (other_account, foreign_envelope, foreign_recipient) = ids(stranger, 0);
    let later = ring.credential(recipient, 2);
    let good = &story.signer(0).token;
    let typed = format!("{}{}", &good[..good.len() - 1], if good.ends_with('x') { 'y' } else { 'x' });
    vec![
        word(account, envelope, recipient),
        word(account, envelope, ids(story, 1).2),
        word(account, other_envelope, recipient),
        word(account, envelope, other_recipient),
        word(other_account, envelope, recipient),
        word(account, foreign_envelope, foreign_recipient),
        word(account, EnvelopeId::new(), recipient),
        word(account, envelope, RecipientId::new()),
        word(countersign_envelope::domain::id::AccountId::new(), envelope, recipient),
        ring.signing_token(account, envelope, recipient, &later).unwrap(),
        typed,
        "cst_x".into(),
        "cst_".into(),
    ]
}

/// A request that each of the recipient's calls would take.
fn request_of(name: &str, story: &Story) -> Value {
    match name {
        "DelegateSigning" => json!({"person": {"name": "Ada", "email": "ada@example.com"}}),
        "Sign" | "Approve" => {
            let seen = story.envelope.documents.iter().map(|it| json!({"document_id": it.id, "sha256": it.sha256}));
            json!({"seen_documents": seen.collect::<Vec<_>>(), "seen_revision": story.envelope.revision})
        }
        "FillFields" => {
            json!({"values": [{"field_id": story.envelope.fields[0].id, "value": {"text": "x"}}]})
        }
        _ => json!({}),
    }
}

/// T-55, S2.53: whatever is wrong with a signing token, every call of the recipient's gives it the same answer.
#[tokio::test(flavor = "multi_thread")]
async fn t55_a_token_that_is_not_right_gets_one_answer_from_every_call() {
    let envelopes = Service::start().await;
    let sender = envelopes.account(false).await;
    let (story, sibling) = (sender.story(2, Routing::Parallel).await, sender.story(2, Routing::Parallel).await);
    let stranger = envelopes.account(false).await.story(2, Routing::Parallel).await;
    let ring = keyring(&envelopes);
    for method in service("SignerService").methods().filter(|method| method.name() != "DeclineByUser") {
        let request = request_of(method.name(), &story);
        let mut first = None;
        for token in spoilt(&ring, &story, &sibling, &stranger) {
            let answer = call(&envelopes.channel, &sender.with_token(&token), &method, &request).await;
            assert_eq!((answer.code, answer.reason.as_str()), (Code::NotFound, "NOT_FOUND"), "{}", method.name());
            assert_eq!(&answer, first.get_or_insert(answer.clone()), "{}", method.name());
        }
    }
    assert_eq!(story.now().await, story.envelope, "nothing happened");
}
