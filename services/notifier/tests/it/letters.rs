//! Envelopes and their people for tests of mails, and mails as a mail program reads them.
//! Must never reuse an address between tests: what is logged is searched for them.

use std::path::Path;

use countersign::v1;
use countersign::v1::{EnvelopeStatus, EventType, RecipientStatus};
use countersign_chassis::wire::timestamp;
use countersign_notifier::id::RecipientId;
use mail_parser::{Message, MessageParser};

use crate::stand::Stand;

/// The word by which all secrets and addresses of these tests can be found in a log.
pub const PERSONAL: [&str; 3] = ["@people.example", "cst_", "Zanzibar"];
/// Never in a mail to anybody else.
pub const REASON: &str = "Zanzibar is too far";

/// A recipient to be: their name and where they stand.
pub fn person(number: usize, name: &str, status: RecipientStatus, invited: bool) -> v1::Recipient {
    let declined = status == RecipientStatus::Declined;
    v1::Recipient {
        id: RecipientId::new().to_string(),
        name: name.to_owned(),
        email: format!("p{number}@people.example"),
        role: v1::RecipientRole::Signer.into(),
        group: 1,
        status: status.into(),
        released_at: invited.then(|| timestamp(chrono::Utc::now())),
        decline: declined.then(|| v1::Decline { reason: REASON.to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

impl Stand {
    /// The envelope as the envelope service tells it now.
    pub fn envelope_is(&self, status: EnvelopeStatus, recipients: &[v1::Recipient]) {
        let mut envelope = v1::Envelope {
            id: self.envelope.to_string(),
            account_id: self.account.to_string(),
            livemode: true,
            status: status.into(),
            subject: "Lease of 12 Quay Street".to_owned(),
            recipients: recipients.to_vec(),
            ..Default::default()
        };
        envelope.terminal = !matches!(status, EnvelopeStatus::Sent | EnvelopeStatus::PartiallySigned);
        let mut script = self.double.script();
        for recipient in recipients {
            let link = format!("https://sign.example.com/s#cst_{}", recipient.id);
            script.links.insert(recipient.id.clone(), link);
        }
        if envelope.terminal {
            script.links.clear();
        }
        script.envelopes.insert(envelope.id.clone(), envelope);
    }

    /// Changes what the envelope service tells.
    pub fn envelope_changes(&self, change: impl FnOnce(&mut v1::Envelope)) {
        change(self.double.script().envelopes.get_mut(&self.envelope.to_string()).unwrap());
    }

    /// Something happens to the envelope whose recipients these are.
    pub fn happens_among(
        &self,
        kind: EventType,
        people: &[v1::Recipient],
        concerned: Option<&v1::Recipient>,
    ) -> String {
        let state = |recipient: &v1::Recipient| v1::RecipientState {
            id: recipient.id.clone(),
            role: recipient.role,
            group: recipient.group,
            status: recipient.status,
            not_effective: recipient.not_effective,
        };
        let (sequence, watcher_ids) = {
            let script = self.double.script();
            let watchers = script.envelopes.get(&self.envelope.to_string()).map(|envelope| &envelope.watchers);
            let ids = watchers.into_iter().flatten().map(|watcher| watcher.id.clone()).collect();
            (script.feed.len() as u64 + 1, ids)
        };
        let recipients = people.iter().map(state).collect();
        let state = v1::EnvelopeState { recipients, watcher_ids, ..Default::default() };
        let concerned = concerned.map(|recipient| recipient.id.parse::<RecipientId>().unwrap());
        self.happens_with(kind, sequence, state, concerned).id
    }

    /// The mail to that recipient, if there is one.
    pub fn mail(&self, event: &str, recipient: &v1::Recipient, kind: &str) -> Option<Vec<u8>> {
        self.mail_to(event, &recipient.id, kind)
    }

    /// The mail to the recipient or watcher with that id, if there is one.
    pub fn mail_to(&self, event: &str, id: &str, kind: &str) -> Option<Vec<u8>> {
        std::fs::read(self.mail_folder().join(format!("{event}.{id}.{kind}.eml"))).ok()
    }

    pub fn is_mailed(&self, event: &str, recipient: &v1::Recipient, kind: &str) -> bool {
        self.mail(event, recipient, kind).is_some()
    }
}

/// The same in another role than that of a signer.
pub fn with_role(recipient: v1::Recipient, role: v1::RecipientRole) -> v1::Recipient {
    v1::Recipient { role: role.into(), ..recipient }
}

/// Both bodies of a mail.
pub fn words(mail: &Message<'_>) -> String {
    format!("{}{}", mail.body_text(0).unwrap(), mail.body_html(0).unwrap())
}

/// Reads a mail.
pub fn read(bytes: &[u8]) -> Message<'_> {
    MessageParser::default().parse(bytes).unwrap()
}

/// Who gets it.
pub fn addressee(message: &Message<'_>) -> (String, String) {
    let to = message.to().unwrap();
    assert_eq!(to.iter().count(), 1, "a mail goes to one person");
    let to = to.first().unwrap();
    (to.name().unwrap_or_default().to_owned(), to.address().unwrap().to_owned())
}

/// The names of all headers.
pub fn headers(message: &Message<'_>) -> Vec<String> {
    message.headers().iter().map(|header| header.name().to_ascii_lowercase()).collect()
}

/// A folder without anything half-written.
pub fn is_tidy(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().all(|entry| entry.unwrap().path().extension().is_some_and(|end| end == "eml"))
}
