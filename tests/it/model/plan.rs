//! What a sequence does, drawn from its seed alone.

use countersign::v1::{
    CreateEnvelopeRequest, DeclineEffect, DeclinePolicy, FieldType, NewField, NewRecipient, Placement, Quorum,
    ReasonRule, RecipientRole, Routing,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Most recipients of an envelope.
pub const RECIPIENTS_MAX: usize = 4;

/// A sequence.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Without its documents.
    pub envelope: CreateEnvelopeRequest,
    /// Milliseconds until the first recipients are asked, if they are not asked at once.
    pub schedule_ms: Option<i64>,
    /// The first invitations are made to look old enough to be sent again.
    pub aged: bool,
    /// What each caller asks, in order.
    pub callers: Vec<Vec<Step>>,
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub what: What,
    pub guard: Guard,
    /// Microseconds to wait first.
    pub pause_us: u64,
}

/// Which revision a call says that it expects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guard {
    None,
    /// What the caller last saw.
    LastSeen,
    /// What the envelope had in the beginning.
    First,
}

/// With which link a recipient comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// The very first one, given out or not.
    First,
    /// The good one, if the service gives it; the first one if not.
    Fresh,
}

/// What a recipient says that they saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// What the caller last saw.
    Latest,
    /// The envelope as it was in the beginning.
    First,
    /// A revision that there never was.
    Future,
    /// Another document.
    Other,
}

/// What is asked. Recipients and fields are named by place.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Send,
    Subject,
    /// Changes how often places may be passed on, and how a refusal is taken.
    Policies(u32),
    RemoveField(usize),
    Discard,
    View(usize, Link),
    Fill(usize, Link, Filling),
    Sign(usize, Link, Seen, Filling),
    Approve(usize, Link, Seen, Filling),
    /// With a reason, or without.
    Decline(usize, Link, bool),
    DeclineFor(usize, bool),
    DeclineAsUser(usize, Link, bool),
    Delegate(usize, Link, To),
    Reassign(usize, To),
    Resend(Option<usize>, bool),
    Remind(Option<usize>),
    Mute(usize, Link),
    /// To so many days after the beginning.
    Extend(i64),
    Void(By),
    Replace,
}

/// What is put into fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Filling {
    /// Nothing.
    Empty,
    /// Text in the first text field.
    Text,
    /// Something that only the signer's own hand puts in, or too long a text.
    Odd,
}

/// Who takes a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum To {
    /// Somebody new.
    New,
    /// A recipient.
    Recipient(usize),
}

/// Who takes an envelope back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    Sender,
    Operator,
}

/// Draws a sequence.
pub fn plan(seed: u64) -> Plan {
    let mut rng = StdRng::seed_from_u64(seed);
    let rng = &mut rng;
    let stage = *[Stage::Sent, Stage::Sent, Stage::Sent, Stage::Draft, Stage::Scheduled].choose(rng).unwrap();
    let envelope = envelope(rng, stage);
    let callers = (0..rng.random_range(2..=6))
        .map(|_| (0..rng.random_range(1..=4)).map(|_| step(rng, &envelope, stage)).collect())
        .collect();
    let schedule_ms = match stage {
        Stage::Sent => None,
        Stage::Draft => rng.random_bool(0.2).then_some(30),
        // Some never start within the test, some start in its midst.
        Stage::Scheduled => Some(*[3_600_000, 30].choose(rng).unwrap()),
    };
    Plan { seed, envelope, schedule_ms, aged: rng.random_bool(0.5), callers }
}

/// How far an envelope is when the callers come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Draft,
    Scheduled,
    Sent,
}

fn envelope(rng: &mut StdRng, stage: Stage) -> CreateEnvelopeRequest {
    use RecipientRole::{Approver, Assistant, Cc, Signer, Viewer};
    let routing = *[Routing::Parallel, Routing::Sequential, Routing::Groups].choose(rng).unwrap();
    let grouped = routing == Routing::Groups;
    let mut recipients: Vec<NewRecipient> = Vec::new();
    for index in 0..rng.random_range(1..=RECIPIENTS_MAX) {
        let signer = recipients.iter().position(|other| other.role == i32::from(Signer));
        let roles = [Signer, Signer, Signer, Signer, Approver, Approver, Viewer, Cc, Assistant];
        let mut role = *roles.choose(rng).unwrap();
        if index == 0 && !matches!(role, Signer | Approver) || role == Assistant && signer.is_none() {
            role = Signer;
        }
        let numbered = grouped && matches!(role, Signer | Approver | Viewer);
        let lowest = u32::from(role == Signer);
        // Now and then somebody is in it twice.
        let address = if rng.random_bool(0.1) { 0 } else { index };
        recipients.push(NewRecipient {
            name: format!("Person {index}"),
            email: format!("r{address}@example.com"),
            role: role.into(),
            group: if numbered { rng.random_range(lowest..=2) } else { 0 },
            assists_index: signer.filter(|_| role == Assistant).map(|at| u32::try_from(at).unwrap()),
            copy_on_send: role == Cc && rng.random_bool(0.5),
            decline_policy: (matches!(role, Signer | Approver) && rng.random_bool(0.25)).then(|| policy(rng)),
            ..NewRecipient::default()
        });
    }
    if stage != Stage::Draft {
        // Nobody may be left to read when all have acted: such an envelope cannot be sent.
        let gates = recipients.iter().filter(|it| [i32::from(Signer), i32::from(Approver)].contains(&it.role));
        let last = gates.map(|it| it.group).max().unwrap_or_default();
        recipients.iter_mut().for_each(|it| it.group = it.group.min(last));
    }
    let quorums = if grouped { quorums(rng, &recipients) } else { Vec::new() };
    CreateEnvelopeRequest {
        subject: "Model".into(),
        fields: fields(rng, &recipients),
        recipients,
        routing: routing.into(),
        quorums,
        send: stage != Stage::Draft,
        decline_policy: rng.random_bool(0.6).then(|| policy(rng)),
        delegations_max: rng.random_range(0..=2),
        ..CreateEnvelopeRequest::default()
    }
}

fn policy(rng: &mut StdRng) -> DeclinePolicy {
    use DeclineEffect::{Abort, Continue, ReturnForCorrection};
    DeclinePolicy {
        disabled: rng.random_bool(0.1),
        reason: (*[ReasonRule::Optional, ReasonRule::Optional, ReasonRule::Disabled, ReasonRule::Required]
            .choose(rng)
            .unwrap())
        .into(),
        effect: (*[Abort, Continue, Continue, Continue, ReturnForCorrection].choose(rng).unwrap()).into(),
    }
}

fn quorums(rng: &mut StdRng, recipients: &[NewRecipient]) -> Vec<Quorum> {
    let gates = [i32::from(RecipientRole::Signer), i32::from(RecipientRole::Approver)];
    let mut quorums = Vec::new();
    for group in 0..=2 {
        let members = recipients.iter().filter(|it| gates.contains(&it.role) && it.group == group).count();
        let most = u32::try_from(members).unwrap();
        if most > 0 && rng.random_bool(0.75) {
            quorums.push(Quorum { group, needed: rng.random_range(1..=most) });
        }
    }
    quorums
}

fn fields(rng: &mut StdRng, recipients: &[NewRecipient]) -> Vec<NewField> {
    let mut fields = Vec::new();
    for (index, recipient) in (0_u32..).zip(recipients) {
        let mut field = |kind: FieldType, required: bool| {
            let at = f64::from(u32::try_from(fields.len()).unwrap());
            fields.push(NewField {
                r#type: kind.into(),
                recipient_index: index,
                placement: Some(Placement {
                    page: 1,
                    x_percent: 10.0,
                    y_percent: 5.0 + 8.0 * at,
                    width_percent: 30.0,
                    height_percent: 5.0,
                }),
                required,
                ..NewField::default()
            });
        };
        if recipient.role == i32::from(RecipientRole::Signer) {
            field(FieldType::Signature, true);
        }
        let gates = [i32::from(RecipientRole::Signer), i32::from(RecipientRole::Approver)];
        // Whoever has an assistant has something for them to fill.
        let assisted = recipients.iter().any(|other| other.assists_index == Some(index));
        if assisted || gates.contains(&recipient.role) && rng.random_bool(0.4) {
            field(FieldType::Text, rng.random_bool(0.3));
        }
    }
    fields
}

fn step(rng: &mut StdRng, envelope: &CreateEnvelopeRequest, stage: Stage) -> Step {
    let guards = [Guard::None, Guard::None, Guard::None, Guard::None, Guard::LastSeen, Guard::First];
    let guard = *guards.choose(rng).unwrap();
    let pause_us = if rng.random_bool(0.3) { rng.random_range(0..20_000) } else { 0 };
    Step { what: what(rng, envelope, stage), guard, pause_us }
}

/// Most often somebody of that role, at times anybody.
fn somebody(rng: &mut StdRng, envelope: &CreateEnvelopeRequest, role: RecipientRole) -> usize {
    let of_role: Vec<usize> =
        (0..envelope.recipients.len()).filter(|at| envelope.recipients[*at].role == i32::from(role)).collect();
    match of_role.choose(rng) {
        Some(index) if rng.random_bool(0.85) => *index,
        _ => anybody(rng, envelope),
    }
}

fn anybody(rng: &mut StdRng, envelope: &CreateEnvelopeRequest) -> usize {
    rng.random_range(0..envelope.recipients.len())
}

fn what(rng: &mut StdRng, envelope: &CreateEnvelopeRequest, stage: Stage) -> What {
    let has = |role: RecipientRole| envelope.recipients.iter().any(|other| other.role == i32::from(role));
    let (draft, often) = (stage == Stage::Draft, |holds: bool, high: u32, low: u32| if holds { high } else { low });
    let kinds = [
        ("send", often(draft, 30, 3)),
        ("subject", often(draft, 10, 2)),
        ("policies", often(draft, 10, 1)),
        ("remove", often(draft, 6, 1)),
        ("discard", often(draft, 4, 1)),
        ("view", 18),
        ("fill", often(has(RecipientRole::Assistant), 24, 1)),
        ("sign", 36),
        ("approve", often(has(RecipientRole::Approver), 24, 2)),
        ("decline", 6),
        ("decline for", often(stage == Stage::Scheduled, 12, 4)),
        ("decline as user", 4),
        ("delegate", 10),
        ("reassign", 9),
        ("resend", 10),
        ("remind", 8),
        ("mute", 6),
        ("extend", 9),
        ("void", 3),
        ("replace", 7),
    ];
    let link = if rng.random_bool(0.3) { Link::First } else { Link::Fresh };
    let seen = *[Seen::First, Seen::First, Seen::First, Seen::Future, Seen::Other].choose(rng).unwrap();
    let seen = if rng.random_bool(0.6) { Seen::Latest } else { seen };
    let filling = *[Filling::Text, Filling::Text, Filling::Text, Filling::Empty, Filling::Odd].choose(rng).unwrap();
    let to = if rng.random_bool(0.8) { To::New } else { To::Recipient(anybody(rng, envelope)) };
    let (who, flag) = (anybody(rng, envelope), rng.random_bool(0.6));
    match kinds.choose_weighted(rng, |(_, weight)| *weight).unwrap().0 {
        "send" => What::Send,
        "subject" => What::Subject,
        "policies" => What::Policies(rng.random_range(0..=2)),
        "remove" => What::RemoveField(rng.random_range(0..8)),
        "discard" => What::Discard,
        "view" => What::View(who, link),
        "fill" => What::Fill(somebody(rng, envelope, RecipientRole::Assistant), link, filling),
        "sign" => What::Sign(somebody(rng, envelope, RecipientRole::Signer), link, seen, filling),
        "approve" => What::Approve(somebody(rng, envelope, RecipientRole::Approver), link, seen, filling),
        "decline" => What::Decline(somebody(rng, envelope, RecipientRole::Signer), link, flag),
        "decline for" => What::DeclineFor(somebody(rng, envelope, RecipientRole::Signer), flag),
        "decline as user" => What::DeclineAsUser(somebody(rng, envelope, RecipientRole::Signer), link, flag),
        "delegate" => What::Delegate(somebody(rng, envelope, RecipientRole::Signer), link, to),
        "reassign" => What::Reassign(who, to),
        "resend" => What::Resend(flag.then_some(who), rng.random_bool(0.6)),
        "remind" => What::Remind(flag.then(|| somebody(rng, envelope, RecipientRole::Signer))),
        "mute" => What::Mute(somebody(rng, envelope, RecipientRole::Signer), link),
        "extend" => What::Extend(rng.random_range(80..110)),
        "void" => What::Void(if flag { By::Sender } else { By::Operator }),
        _ => What::Replace,
    }
}
