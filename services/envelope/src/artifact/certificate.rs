//! What the certificate of an ended envelope says: gathered from the envelope and its history up to the end of the business.
//!
//! It must never depend on when it is drawn: the same envelope gives the same certificate.

use std::collections::BTreeMap;

use countersign_paper::{Certificate, Fact, Listed, Party, Reason, Step, Tone};

use super::marks::{self, Drawings};
use super::words;
use crate::domain::envelope::{Document, Envelope, Version};
use crate::domain::event::EventType;
use crate::domain::field::{Field, Value};
use crate::domain::id::DocumentId;
use crate::domain::particulars::{Named, Particulars};
use crate::domain::recipient::{Recipient, RecipientState};
use crate::domain::record::{Record, RecordedActor};
use crate::domain::verify::Entry;

/// Digits of a hash in the history; the whole chain is checked with the last hash.
const HASH_DIGITS: usize = 12;

/// So many first and so many last events are shown; no ordinary history is longer.
const STEPS_MAX: usize = 1_000;

/// An event with what is personal about it, as far as it has not been erased.
pub(super) struct Happened {
    pub(super) record: Record,
    pub(super) particulars: Particulars,
    pub(super) hash: String,
}

impl Happened {
    /// What was stored. Fails only if that is not one of ours; the error does not quote it.
    pub(super) fn read(entry: &Entry) -> anyhow::Result<Self> {
        let unreadable = |error: serde_json::Error| anyhow::anyhow!("unreadable record: {:?}", error.classify());
        let kept = entry.kept.as_ref().map(|(_, bytes)| serde_json::from_slice(bytes));
        let mut record: Record = serde_json::from_slice(&entry.record).map_err(unreadable)?;
        let mut particulars: Particulars = kept.transpose().map_err(unreadable)?.unwrap_or_default();
        // Most of an event is the state after it, which a certificate does not show.
        (record.state.recipients, record.state.documents, particulars.values) = Default::default();
        Ok(Self { record, particulars, hash: hex::encode(entry.hash) })
    }
}

/// The event that ends the business of an envelope, after which its documents are made.
pub(super) fn ending(version: Version) -> EventType {
    match version {
        Version::Signed | Version::Certificate => EventType::EnvelopeAllActed,
        Version::Declined => EventType::EnvelopeDeclined,
    }
}

/// The certificate. `history` ends with the change that ended the business.
pub(super) fn certificate(
    envelope: &Envelope,
    history: &[Happened],
    drawings: &Drawings,
    issuer: String,
    version: Version,
) -> Certificate {
    let refused = version == Version::Declined;
    let (title, outcome) = if refused {
        ("Certificate of refusal", words::mood("Refused", Tone::Bad))
    } else {
        ("Certificate of completion", words::mood("Completed", Tone::Good))
    };
    let people = envelope.recipients.iter().map(|own| party(envelope, own, history, drawings));
    Certificate {
        issuer,
        title: title.to_owned(),
        subject: envelope.terms.subject.clone(),
        outcome,
        reference: envelope.id.to_string(),
        facts: facts(envelope, refused),
        reason: refused.then(|| reason(envelope)).flatten(),
        documents: envelope.documents.iter().map(listed).collect(),
        people: people.collect(),
        history: steps(envelope, history),
        chain: chain(history),
        checks: checks(),
        note: (!envelope.livemode).then(|| "TEST".to_owned()),
    }
}

fn fact(label: &str, value: impl Into<String>) -> Fact {
    Fact { label: label.to_owned(), value: value.into() }
}

fn facts(envelope: &Envelope, refused: bool) -> Vec<Fact> {
    let times = &envelope.facts;
    let ended = if refused { ("Refused", times.declined_at) } else { ("Signed by all", times.all_acted_at) };
    let mut facts = vec![fact("Envelope", envelope.id.to_string())];
    if !envelope.terms.external_reference.is_empty() {
        facts.push(fact("Reference", envelope.terms.external_reference.clone()));
    }
    for (label, at) in [("Created", Some(times.created_at)), ("Sent", times.sent_at), ended] {
        facts.extend(at.map(|at| fact(label, words::time(at))));
    }
    facts.push(fact("Documents", envelope.documents.len().to_string()));
    facts.push(fact("Recipients", envelope.recipients.len().to_string()));
    facts
}

/// Who refused, when, and in which words.
fn reason(envelope: &Envelope) -> Option<Reason> {
    let own = envelope.end.and_then(|end| end.by).and_then(|id| envelope.recipient(id))?;
    let RecipientState::Declined { at, reason, .. } = &own.state else { return None };
    let (name, role) = (own.person.name.reveal(), words::role(own.role));
    Some(Reason {
        by: format!("Refused by {name} ({role}) on {}", words::time(*at)),
        words: reason.as_ref().map(|reason| reason.reveal().to_owned()).unwrap_or_default(),
    })
}

/// Who refused and when, for the pages themselves.
pub(super) fn refused_by(envelope: &Envelope) -> Option<String> {
    let own = envelope.end.and_then(|end| end.by).and_then(|id| envelope.recipient(id));
    let at = words::time(envelope.facts.declined_at?);
    Some(own.map_or_else(|| at.clone(), |own| format!("by {} on {at}", own.person.name.reveal())))
}

fn listed(document: &Document) -> Listed {
    let mut facts = Vec::new();
    if document.is_read() {
        facts.push(fact("SHA-256", hex::encode(document.sha256)));
        facts.push(fact("Size", format!("{} bytes", document.size_bytes)));
    }
    facts.push(fact("Document", document.id.to_string()));
    // What came, where what was signed was made of it.
    if let Some(original) = document.original.filter(|original| original.sha256 != document.sha256) {
        facts.push(fact("SHA-256 of the original", hex::encode(original.sha256)));
    }
    Listed {
        name: document.name.clone(),
        summary: match document.page_count {
            // It was refused before it was there.
            0 => "not read".to_owned(),
            1 => "1 page".to_owned(),
            pages => format!("{pages} pages"),
        },
        facts,
    }
}

/// Adds what was put into fields of documents on whose pages nothing could be drawn.
pub(super) fn add_values(said: &mut Certificate, envelope: &Envelope, bare: &[DocumentId]) {
    for (listed, document) in said.documents.iter_mut().zip(&envelope.documents) {
        if !bare.contains(&document.id) {
            continue;
        }
        let why = "It was signed before it came. These signatures stay valid, so nothing is drawn on its pages.";
        listed.facts.push(fact("Put in", why));
        let fields = envelope.fields.iter().filter(|field| field.document == document.id);
        listed.facts.extend(fields.filter_map(|field| put_in(envelope, field)));
    }
}

/// What stands in a field, and where that is.
fn put_in(envelope: &Envelope, field: &Field) -> Option<Fact> {
    let value = match field.value.as_ref()? {
        Value::Text(text) => text.reveal().to_owned(),
        Value::Checked(true) => "Ticked".to_owned(),
        Value::Checked(false) => "Not ticked".to_owned(),
        Value::Drawn(_) => {
            let name = envelope.recipient(field.recipient).map(|own| own.person.name.reveal().to_owned());
            format!("Drawn by {}", name.unwrap_or_default())
        }
    };
    Some(fact(&format!("Page {}", field.placement.page), format!("{}: {value}", words::field(field.kind))))
}

fn party(envelope: &Envelope, own: &Recipient, history: &[Happened], drawings: &Drawings) -> Party {
    let id = own.id;
    let theirs = || history.iter().filter(move |it| it.record.recipient == Some(id));
    let mut facts = vec![fact("E-mail", own.person.email.reveal())];
    if !own.label.is_empty() {
        facts.push(fact("Label", own.label.clone()));
    }
    let passed =
        |it: &Happened| matches!(it.record.kind, EventType::RecipientReassigned | EventType::RecipientDelegated);
    for event in theirs().filter(|it| passed(it)) {
        facts.push(fact("In the place of", before(event)));
    }
    // What happened to somebody else in the same place is not theirs.
    let from = theirs().filter(|it| passed(it)).map(|it| it.record.sequence).max().unwrap_or_default();
    let first = |kind: EventType| theirs().find(|it| it.record.kind == kind && it.record.sequence > from);
    let released = first(EventType::RecipientReleased).map(|it| it.record.occurred_at).or(own.released_at());
    facts.extend(released.map(|at| fact("Asked to act", words::time(at))));
    facts.extend(first(EventType::RecipientViewed).map(|it| fact("Opened", words::time(it.record.occurred_at))));
    let act = [EventType::RecipientSigned, EventType::RecipientApproved, EventType::RecipientDeclined];
    if let Some(act) = act.into_iter().find_map(first) {
        facts.extend(acted(own, act));
    }
    let signature = matches!(own.state, RecipientState::Acted { .. });
    Party {
        name: own.person.name.reveal().to_owned(),
        role: words::role(own.role).to_owned(),
        state: words::state(own),
        facts,
        signature: signature.then(|| marks::signature(envelope, id, drawings)).flatten(),
    }
}

/// Whose place it was, and why it was passed on.
fn before(event: &Happened) -> String {
    let who = event.particulars.before.as_ref().map_or_else(|| "(erased)".to_owned(), named);
    let why = event.particulars.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let how = words::event(event.record.kind).to_lowercase();
    format!("{who}, {how} on {}{why}", words::time(event.record.occurred_at))
}

fn named(person: &Named) -> String {
    format!("{} <{}>", person.name, person.email)
}

/// What proves an act.
fn acted(own: &Recipient, act: &Happened) -> Vec<Fact> {
    let mut facts = vec![fact(words::event(act.record.kind), words::time(act.record.occurred_at))];
    let mut told = None;
    if let RecipientState::Declined { channel, reason, note, .. } = &own.state {
        told = Some(*channel);
        facts.extend(reason.as_ref().map(|reason| fact("Reason", reason.reveal())));
        facts.extend(note.as_ref().map(|note| fact("Evidence", note.reveal())));
    }
    facts.push(fact("Known by", words::door(told)));
    facts.extend(act.particulars.client_ip.map(|ip| fact("IP address", ip.to_string())));
    facts.extend(act.particulars.user_agent.as_ref().map(|agent| fact("Program", agent.clone())));
    let consent = act.record.evidence.as_ref().and_then(|evidence| evidence.consent_sha256.as_ref());
    facts.extend(consent.map(|sha256| fact("Agreed to sign", format!("electronically; text with SHA-256 {sha256}"))));
    facts
}

fn steps(envelope: &Envelope, history: &[Happened]) -> Vec<Step> {
    // From the end to the beginning, because what is known is who has each place now.
    let mut names: BTreeMap<String, String> =
        envelope.recipients.iter().map(|own| (own.id.to_string(), own.person.name.reveal().to_owned())).collect();
    let mut steps: Vec<Step> = Vec::with_capacity(history.len());
    for event in history.iter().rev() {
        let record = &event.record;
        let concerned = record.recipient.map(|id| id.to_string());
        let is_passed = matches!(record.kind, EventType::RecipientReassigned | EventType::RecipientDelegated);
        let after = concerned.as_ref().and_then(|id| names.get(id)).cloned();
        if let (true, Some(id)) = (is_passed, &concerned) {
            let before = event.particulars.before.as_ref().map_or("(erased)", |before| before.name.as_str());
            names.insert(id.clone(), before.to_owned());
        }
        let own = matches!(&record.actor, RecordedActor::Recipient(actor) if concerned.as_ref() == Some(actor));
        let what = match after {
            Some(name) if is_passed => format!("{} to {name}", words::event(record.kind)),
            Some(name) if !own => format!("{}: {name}", words::event(record.kind)),
            _ => words::event(record.kind).to_owned(),
        };
        let place = event.particulars.client_ip.map(|ip| format!(", {ip}")).unwrap_or_default();
        steps.push(Step {
            number: record.sequence,
            at: words::instant(record.occurred_at),
            what,
            who: format!("{}{place}", actor(&record.actor, &names)),
            hash: event.hash.chars().take(HASH_DIGITS).collect(),
        });
    }
    steps.reverse();
    if steps.len() > 2 * STEPS_MAX {
        let left_out = steps.len() - 2 * STEPS_MAX;
        let what = format!("{left_out} more events, which the service lists");
        let row = Step { number: 0, at: "…".to_owned(), what, who: "…".to_owned(), hash: "…".to_owned() };
        steps.splice(STEPS_MAX..steps.len() - STEPS_MAX, [row]);
    }
    steps
}

fn actor(actor: &RecordedActor, names: &BTreeMap<String, String>) -> String {
    match actor {
        RecordedActor::Sender(_) => "Sender".to_owned(),
        RecordedActor::Recipient(id) => names.get(id).cloned().unwrap_or_else(|| "Recipient".to_owned()),
        RecordedActor::System => "Service".to_owned(),
        RecordedActor::Operator => "Operator".to_owned(),
        RecordedActor::User(_) => "User of the account".to_owned(),
    }
}

fn chain(history: &[Happened]) -> Vec<Fact> {
    let Some(last) = history.last() else { return Vec::new() };
    vec![fact("Events so far", last.record.sequence.to_string()), fact("Hash of the last", last.hash.clone())]
}

fn checks() -> Vec<String> {
    let paragraphs = [
        "Every document stands above with the SHA-256 of the file that was shown to the recipients. It is the beginning of \
         the file to which this certificate belongs, or is kept beside it as the original: any change, however small, gives \
         another hash.",
        "Every line of the history is hashed together with the hash of the line before it (SHA-256), so no line can be \
         changed, left out or put in without changing all hashes after it. The service recomputes the chain on request \
         (VerifyHistory), and lists its lines in full (ListEvents); the line with the number above must have the hash above.",
        "Names, addresses and reasons are kept beside the history, which holds salted hashes of them: they can be erased, \
         and the history can still be checked.",
    ];
    paragraphs.map(str::to_owned).to_vec()
}
