//! The people of a request.

use chrono::{DateTime, Utc};
use countersign::v1;
use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization as _;

use super::notices::locality;
use super::parse::Faults;
use super::terms::policy;
use crate::credential::Keyring;
use crate::domain::id::RecipientId;
use crate::domain::limits::{EMAIL_BYTES_MAX, GROUP_MAX, LABEL_CHARS_MAX, NAME_CHARS_MAX};
use crate::domain::locality::Locality;
use crate::domain::personal::Personal;
use crate::domain::recipient::{Person, Recipient, RecipientState, Role};
use crate::domain::reminder::Notices;
use crate::domain::terms::Routing;
use crate::execute::new_id;

/// The first group of those for whom none is given.
const FIRST: u16 = 1;

/// An address alone, as the mail that goes there needs it: no display text, no quotes, no address literal.
pub(super) fn address(path: impl Into<String>, email: &str, faults: &mut Faults) -> Personal {
    let email: String = email.trim().nfc().collect();
    let email = email.as_str();
    let options = Options::default().without_display_text().without_domain_literal();
    let plain = EmailAddress::parse_with_options(email, options).is_ok()
        && !email.contains(['"', '\0'])
        && !email.contains(char::is_control);
    if email.len() > EMAIL_BYTES_MAX || !plain {
        faults.add(path, "must be an e-mail address");
    }
    Personal::new(email)
}

/// Somebody who is to take a recipient's place.
pub(super) fn person(given: Option<&v1::Person>, faults: &mut Faults) -> Person {
    let Some(given) = given else {
        faults.add("person", "must be there");
        return Person { name: Personal::default(), email: Personal::default(), locality: Locality::default() };
    };
    Person {
        name: Personal::new(faults.line("person.name", &given.name, true, NAME_CHARS_MAX)),
        email: address("person.email", &given.email, faults),
        locality: locality(&given.locale, &given.time_zone, "person.", faults),
    }
}

/// The recipients of a new envelope.
pub(super) fn recipients(
    keyring: &Keyring,
    given: &[v1::NewRecipient],
    routing: Routing,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> Vec<Recipient> {
    if given.is_empty() {
        faults.add("recipients", "must name at least one");
    }
    let mut signers = 0;
    let mut recipients = Vec::new();
    for (index, given) in given.iter().enumerate() {
        let role = role(given, index, faults);
        signers += u16::from(role == Role::Signer);
        let group = group(given, role, routing, signers, index, faults);
        recipients.push(recipient(keyring, given, role, group, now, index, faults));
    }
    assistants(given, &mut recipients, faults);
    recipients
}

fn path(index: usize, field: &str) -> String {
    format!("recipients[{index}].{field}")
}

fn role(given: &v1::NewRecipient, index: usize, faults: &mut Faults) -> Role {
    match v1::RecipientRole::try_from(given.role) {
        Ok(v1::RecipientRole::Unspecified | v1::RecipientRole::Signer) => Role::Signer,
        Ok(v1::RecipientRole::Approver) => Role::Approver,
        Ok(v1::RecipientRole::Viewer) => Role::Viewer,
        Ok(v1::RecipientRole::Cc) => Role::Cc,
        Ok(v1::RecipientRole::Assistant) => Role::Assistant,
        Err(_) => {
            faults.add(path(index, "role"), "is not a value that the service knows");
            Role::Signer
        }
    }
}

/// The group; `nth` counts the signers so far.
fn group(given: &v1::NewRecipient, role: Role, routing: Routing, nth: u16, index: usize, faults: &mut Faults) -> u16 {
    let numbered = routing == Routing::Groups && matches!(role, Role::Signer | Role::Approver | Role::Viewer);
    if given.group != 0 && !numbered {
        faults.add(path(index, "group"), "is for signers, approvers and viewers with ROUTING_GROUPS");
    } else if given.group > GROUP_MAX || numbered && role == Role::Signer && given.group == 0 {
        faults.add(path(index, "group"), format!("must be 1 to {GROUP_MAX}"));
    }
    match (routing, role) {
        (Routing::Groups, _) => u16::try_from(given.group).unwrap_or(u16::MAX),
        (Routing::Parallel, Role::Signer) => FIRST,
        (Routing::Sequential, Role::Signer) => nth,
        // Approvers ahead of all signers, readers from the beginning.
        (_, _) => 0,
    }
}

fn recipient(
    keyring: &Keyring,
    given: &v1::NewRecipient,
    role: Role,
    group: u16,
    now: DateTime<Utc>,
    index: usize,
    faults: &mut Faults,
) -> Recipient {
    let id = RecipientId::from_uuid(new_id(now));
    if given.copy_on_send && role != Role::Cc {
        faults.add(path(index, "copy_on_send"), "is for a CC only");
    }
    if given.decline_policy.is_some() && !role.gates() {
        faults.add(path(index, "decline_policy"), "is for signers and approvers only");
    }
    let decline = given.decline_policy.as_ref().map(|it| policy(it, &path(index, "decline_policy"), faults));
    Recipient {
        id,
        person: Person {
            name: Personal::new(faults.line(path(index, "name"), &given.name, true, NAME_CHARS_MAX)),
            email: address(path(index, "email"), &given.email, faults),
            locality: locality(&given.locale, &given.time_zone, &path(index, ""), faults),
        },
        role,
        assists: None,
        copy_on_send: given.copy_on_send,
        label: faults.line(path(index, "label"), &given.label, false, LABEL_CHARS_MAX),
        group,
        decline,
        state: RecipientState::Waiting,
        viewed_at: None,
        invited_at: None,
        notices: Notices::default(),
        delegations: 0,
        filled_revision: 0,
        credential: keyring.credential(id, 1),
    }
}

/// Binds each assistant to their signer, whose group is theirs.
fn assistants(given: &[v1::NewRecipient], recipients: &mut [Recipient], faults: &mut Faults) {
    for (index, given) in given.iter().enumerate() {
        let signer = given.assists_index.and_then(|at| recipients.get(usize::try_from(at).ok()?));
        let signer = signer.filter(|signer| signer.role == Role::Signer).map(|signer| (signer.id, signer.group));
        let Some(recipient) = recipients.get_mut(index) else { continue };
        match (recipient.role, given.assists_index, signer) {
            (Role::Assistant, _, Some((id, group))) => {
                recipient.assists = Some(id);
                recipient.group = group;
            }
            (Role::Assistant, _, None) => faults.add(path(index, "assists_index"), "must be the place of a signer"),
            (_, Some(_), _) => faults.add(path(index, "assists_index"), "is for an ASSISTANT only"),
            (_, None, _) => {}
        }
    }
}
