//! What envelopes cost and what comes back, against a small ledger of this file's own that knows no code of the rules.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::command::{By, Command};
use countersign_envelope::domain::credit::{
    Amount, Billing, ChargeAt, Movement, RefundCause, RefundPolicy, RefundRule, Unit, settle,
};
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::{Cause, Envelope, Version};
use countersign_envelope::domain::event::{Event, EventType};
use countersign_envelope::domain::limits::AMOUNT_MAX;
use countersign_envelope::domain::recipient::{Channel, Role};
use countersign_envelope::domain::record::seal;
use countersign_envelope::domain::status::Status;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::shape::{Count, act, deadline, decline, draft, env, rcp, read, start, store, unread, with_quorum};
use crate::small::small;

/// Random histories of a run.
const HISTORIES: u32 = 10_000;
/// Steps of a history at most.
const STEPS_MAX: usize = 24;

/// What can happen next; people are numbered, and the number is taken modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    Discard,
    Void(Cause),
    Sign(usize),
    Approve(usize),
    Decline(usize, Channel),
    Ingest(usize, bool),
    Release,
    Expire,
    Store,
    Replace,
    Wait,
    WaitForTheEnd,
    /// The operator sets other prices and policies.
    Reprice,
}

/// A history to be: how the envelope begins, and what happens to it.
#[derive(Clone, Debug)]
struct Plan {
    shape: usize,
    livemode: bool,
    sent_at_once: bool,
    billings: [Billing; 2],
    steps: Vec<Step>,
}

fn cause() -> impl Strategy<Value = RefundCause> {
    prop_oneof![Just(RefundCause::Declined), Just(RefundCause::Voided), Just(RefundCause::Expired)]
}

/// Small amounts, where rounding shows, and the largest.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![0..=20_u64, 0..=AMOUNT_MAX, Just(AMOUNT_MAX)]
}

fn policy() -> impl Strategy<Value = RefundPolicy> {
    let share = prop_oneof![Just(10_000_u16), 1..=10_000_u16];
    let rule = (cause(), proptest::option::of(0..4_u16), share)
        .prop_map(|(cause, signed_max, share_basis_points)| RefundRule { cause, signed_max, share_basis_points });
    let table = (proptest::collection::vec(rule, 0..=6), proptest::option::of(value()));
    prop_oneof![
        1 => Just(RefundPolicy::void_unsigned()),
        1 => proptest::option::of(value()).prop_map(RefundPolicy::terminal_capped),
        4 => table.prop_map(|(rules, cap)| RefundPolicy { rules, cap }),
    ]
}

fn billing() -> impl Strategy<Value = Billing> {
    let unit = prop_oneof![Just(Unit::Credit), Just(Unit::Currency(*b"EUR"))];
    let charge_at = prop_oneof![Just(ChargeAt::Dispatch), Just(ChargeAt::Create)];
    (charge_at, unit, value(), policy()).prop_map(|(charge_at, unit, value, refund)| Billing {
        charge_at,
        price: Amount { unit, value },
        refund,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let person = || 0..4_usize;
    let channel = prop_oneof![Just(Channel::SigningToken), Just(Channel::OnBehalf), Just(Channel::User)];
    prop_oneof![
        4 => Just(Step::Send),
        1 => Just(Step::Discard),
        1 => prop_oneof![Just(Cause::Sender), Just(Cause::Operator)].prop_map(Step::Void),
        6 => person().prop_map(Step::Sign),
        2 => person().prop_map(Step::Approve),
        2 => (person(), channel).prop_map(|(person, channel)| Step::Decline(person, channel)),
        2 => (0..2_usize, any::<bool>()).prop_map(|(document, ready)| Step::Ingest(document, ready)),
        1 => Just(Step::Release),
        1 => Just(Step::Expire),
        2 => Just(Step::Store),
        1 => Just(Step::Replace),
        2 => Just(Step::Wait),
        1 => Just(Step::WaitForTheEnd),
        1 => Just(Step::Reprice),
    ]
}

/// The shapes of the walk, and larger ones with quorums.
static SHAPES: LazyLock<Vec<Envelope>> = LazyLock::new(|| {
    use Role::{Approver, Signer};
    let mut shapes = small();
    shapes.push(draft(&[(Signer, 1), (Signer, 1), (Signer, 1), (Approver, 1)]));
    shapes.push(with_quorum(draft(&[(Signer, 1), (Signer, 1), (Signer, 1), (Signer, 1)]), 1, 3));
    let mut reading = draft(&[(Signer, 1), (Signer, 1)]);
    reading.documents = vec![unread(0), unread(1)];
    shapes.push(reading);
    shapes
});

fn plan() -> impl Strategy<Value = Plan> {
    let steps = proptest::collection::vec(step(), 0..=STEPS_MAX);
    let live = prop_oneof![9 => Just(true), 1 => Just(false)];
    (0..SHAPES.len(), live, any::<bool>(), [billing(), billing()], steps).prop_map(
        |(shape, livemode, sent_at_once, billings, steps)| Plan { shape, livemode, sent_at_once, billings, steps },
    )
}

/// The ledger of one envelope, kept from what happened: who signed, whether it was dispatched, how it ended.
#[derive(Default)]
struct Reference {
    billing: Option<Billing>,
    charged: bool,
    refunded: bool,
    dispatched: bool,
    signatures: u16,
    balance: i128,
}

impl Reference {
    /// What moves with these events. `billing` is what an envelope costs now.
    fn moves(&mut self, kinds: &[EventType], billing: &Billing, failed: bool) -> Option<Movement> {
        use EventType as E;
        let has = |kind: E| kinds.contains(&kind);
        self.signatures += u16::from(has(E::RecipientSigned));
        self.dispatched |= has(E::EnvelopeDispatched) || has(E::EnvelopeSent);
        let due = self.dispatched || has(E::EnvelopeCreated) && billing.charge_at == ChargeAt::Create;
        if !self.charged && due {
            self.charged = true;
            self.billing = Some(billing.clone());
            let amount = billing.price;
            self.balance -= i128::from(amount.value);
            return (amount.value > 0).then_some(Movement::Charge(amount));
        }
        let ends = [
            (E::EnvelopeDeclined, RefundCause::Declined),
            (E::EnvelopeVoided, RefundCause::Voided),
            (E::EnvelopeDiscarded, RefundCause::Voided),
            (E::EnvelopeExpired, RefundCause::Expired),
        ];
        let (_, cause) = ends.into_iter().find(|(kind, _)| has(*kind))?;
        assert!(!self.refunded, "it ends once");
        let paid = self.billing.clone()?;
        self.refunded = true;
        let value = if failed { paid.price.value } else { self.comes_back(&paid, cause) };
        self.balance += i128::from(value);
        let amount = Amount { unit: paid.price.unit, value };
        (value > 0).then_some(Movement::Refund { amount, charged: paid.price.value })
    }

    /// In whole units, by the first line that fits.
    fn comes_back(&self, paid: &Billing, cause: RefundCause) -> u64 {
        for rule in &paid.refund.rules {
            let few_enough = match rule.signed_max {
                Some(most) => self.signatures <= most,
                None => true,
            };
            if rule.cause == cause && few_enough {
                let share = i128::from(paid.price.value) * i128::from(rule.share_basis_points);
                let whole = u64::try_from((share - share % 10_000) / 10_000).unwrap();
                return match paid.refund.cap {
                    Some(cap) if cap < whole => cap,
                    _ => whole,
                };
            }
        }
        0
    }
}

/// The envelope of a plan as it goes.
struct Walk {
    envelope: Envelope,
    now: DateTime<Utc>,
    mint: Count,
    prices: usize,
}

impl Walk {
    fn command(&mut self, step: Step) -> Option<Command> {
        let person = |number: usize| rcp((number % self.envelope.recipients.len()) as u128);
        let command = match step {
            Step::Send => Command::Send,
            Step::Discard => Command::Discard,
            Step::Void(cause) => Command::Void { cause, reason: None },
            Step::Sign(number) => Command::Sign(act(&self.envelope, person(number))),
            Step::Approve(number) => Command::Approve(act(&self.envelope, person(number))),
            Step::Decline(number, channel) => decline(person(number), channel, Some("no")),
            Step::Ingest(number, ready) => read(number as u128, ready),
            Step::Release => Command::Release,
            Step::Expire => Command::Expire,
            Step::Store => {
                let declined = self.envelope.status() == Status::Declined;
                store(&self.envelope, if declined { Version::Declined } else { Version::Signed })
            }
            Step::Replace => Command::Replace { by: env(9), lost: None },
            Step::Wait => {
                self.now += TimeDelta::hours(13);
                return None;
            }
            Step::WaitForTheEnd => {
                self.now = self.now.max(deadline());
                return None;
            }
            Step::Reprice => {
                self.prices += 1;
                return None;
            }
        };
        Some(command)
    }

    /// As `execute` does it: what happens, and what moves with it. Who sends is charged; nobody else can be.
    fn moved(
        &mut self,
        events: &[Event],
        billing: Option<&Billing>,
        is_new: bool,
    ) -> (Vec<EventType>, Option<Movement>) {
        let before = (!is_new).then(|| self.envelope.clone());
        let recorded = seal(&mut self.envelope, events, &By::system(), self.now, &mut self.mint);
        let movement = settle(before.as_ref(), &mut self.envelope, billing, self.now);
        if recorded.is_empty() {
            // Nothing is stored then.
            assert_eq!(movement, None, "money moves without an event");
            assert_eq!(before.as_ref(), Some(&self.envelope));
        }
        (recorded.iter().map(|event| event.kind).collect(), movement)
    }
}

/// What the envelope says of its cost is what the reference has.
fn agrees(envelope: &Envelope, reference: &Reference) {
    let Some(charge) = &envelope.charge else {
        assert!(!reference.charged || !envelope.livemode);
        return;
    };
    let paid = reference.billing.as_ref().expect("charged");
    assert_eq!((charge.amount, &charge.refund), (paid.price, &paid.refund), "as it was when it was charged");
    assert!(charge.refunded.is_none_or(|refunded| refunded <= charge.amount.value), "more came back than was taken");
    let completed = envelope.status() == Status::Completed;
    assert_eq!(charge.refunded.is_some(), reference.refunded || completed, "known when it has ended");
    let left = -i128::from(charge.amount.value) + i128::from(charge.refunded.unwrap_or(0));
    assert_eq!(left, reference.balance);
}

/// What has been met: how it was charged, and after which end it was refunded.
fn play(plan: &Plan) -> Vec<String> {
    let mut envelope = SHAPES[plan.shape].clone();
    envelope.livemode = plan.livemode;
    let mut walk = Walk { envelope, now: start(), mint: Count(1_000_000), prices: 0 };
    let mut reference = Reference::default();
    let (mut movements, mut met) = (Vec::new(), Vec::new());
    let mut check = |walk: &mut Walk, events: &[Event], billing: (&Billing, bool), is_new: bool| {
        let (kinds, movement) = walk.moved(events, Some(billing.0).filter(|_| billing.1), is_new);
        if walk.envelope.livemode {
            let failed = walk.envelope.end.is_some_and(|end| end.cause == Cause::IngestFailed);
            assert_eq!(movement, reference.moves(&kinds, billing.0, failed), "{kinds:?}");
            agrees(&walk.envelope, &reference);
        } else {
            assert_eq!((movement, &walk.envelope.charge), (None, &None), "a test costs nothing");
        }
        let (status, cause) = (walk.envelope.status(), walk.envelope.end.map(|end| end.cause));
        met.extend(movement.map(|movement| match movement {
            Movement::Charge(_) => format!("charged as {status:?}"),
            Movement::Refund { .. } => format!("refunded {status:?} {cause:?}"),
        }));
        movements.extend(movement);
    };
    let mut events = vec![Event::Created];
    if plan.sent_at_once {
        let decision = decide(&walk.envelope, &Command::Send, None, walk.now);
        if decision.verdict == Verdict::Done {
            events.extend(decision.events);
        }
    }
    check(&mut walk, &events, (&plan.billings[0], true), true);
    for step in &plan.steps {
        let Some(command) = walk.command(*step) else { continue };
        let decision = decide(&walk.envelope, &command, None, walk.now);
        let sends = command == Command::Send;
        let billing = &plan.billings[walk.prices % plan.billings.len()];
        check(&mut walk, &decision.events, (billing, sends), false);
    }
    let is_charge = |movement: &Movement| matches!(movement, Movement::Charge(_));
    assert!(movements.iter().filter(|movement| is_charge(movement)).count() <= 1, "charged once: {movements:?}");
    assert!(movements.iter().filter(|movement| !is_charge(movement)).count() <= 1, "refunded once: {movements:?}");
    assert!(movements.first().is_none_or(is_charge), "nothing comes back that was not taken: {movements:?}");
    met
}

/// D5, T-48 to T-53, C-11, C-12: 10,000 random histories under random prices and policies cost what the reference says; and
/// they are not all alike: each way to be charged and to be refunded is met often.
#[test]
fn d5_random_histories_cost_what_the_reference_says() {
    let config = ProptestConfig { cases: HISTORIES, failure_persistence: None, ..ProptestConfig::default() };
    let met = RefCell::new(BTreeMap::<String, u32>::new());
    let played = TestRunner::new(config).run(&plan(), |plan| {
        for what in play(&plan) {
            *met.borrow_mut().entry(what).or_default() += 1;
        }
        Ok(())
    });
    played.unwrap_or_else(|failure| panic!("{failure}"));
    let met = met.into_inner();
    let ends = [(Status::Draft, None), (Status::Voided, Some(Cause::IngestFailed))].into_iter();
    let ends = ends.chain([Cause::Sender, Cause::Operator].map(|cause| (Status::Voided, Some(cause))));
    let ends =
        ends.chain([(Status::Expired, Some(Cause::Deadline)), (Status::Declined, Some(Cause::SignatureRefused))]);
    let expected = ends.map(|(status, cause)| format!("refunded {status:?} {cause:?}"));
    for what in expected.chain(["charged as Draft", "charged as Sent", "charged as Pending"].map(str::to_owned)) {
        assert!(met.get(&what).is_some_and(|times| *times >= HISTORIES / 500), "{what} is hardly met: {met:#?}");
    }
}

fn rule(cause: RefundCause, signed_max: Option<u16>, share_basis_points: u16) -> RefundRule {
    RefundRule { cause, signed_max, share_basis_points }
}

fn rules(rules: &[RefundRule], cap: Option<u64>) -> RefundPolicy {
    RefundPolicy { rules: rules.to_vec(), cap }
}

/// S1.22, S3.87, C-12: the two that have a name.
#[test]
fn c12_presets_say_when_what_comes_back() {
    use RefundCause::{Declined, Expired, Voided};
    let unsigned = RefundPolicy::void_unsigned();
    let at = |policy: &RefundPolicy, cause, signed| policy.refund(10, cause, signed);
    assert_eq!([at(&unsigned, Voided, 0), at(&unsigned, Voided, 1), at(&unsigned, Voided, 70_000)], [10, 0, 0]);
    assert_eq!([at(&unsigned, Declined, 0), at(&unsigned, Expired, 0)], [0, 0]);
    for (cap, back) in [(None, 10), (Some(7), 7), (Some(10), 10), (Some(11), 10), (Some(0), 0)] {
        let capped = RefundPolicy::terminal_capped(cap);
        for cause in [Declined, Voided, Expired] {
            assert_eq!([0, 1, 70_000].map(|signed| at(&capped, cause, signed)), [back; 3], "{cap:?} {cause:?}");
        }
    }
}

/// C-12: the first rule that fits counts, also where a later one gives more, and where it gives nothing at all.
#[test]
fn c12_the_first_rule_that_fits_counts() {
    use RefundCause::{Declined, Voided};
    let policy = rules(
        &[
            rule(Declined, None, 9_000),
            rule(Voided, Some(1), 2_500),
            rule(Voided, Some(0), 10_000),
            rule(Voided, Some(3), 5_000),
        ],
        None,
    );
    assert_eq!([0, 1, 2, 3, 4].map(|signed| policy.refund(100, Voided, signed)), [25, 25, 50, 50, 0]);
    assert_eq!([0, 9].map(|signed| policy.refund(100, Declined, signed)), [90, 90]);
    assert_eq!(policy.refund(100, RefundCause::Expired, 0), 0);
    assert_eq!(rules(&[], None).refund(100, Voided, 0), 0);
    assert_eq!(rules(&[rule(Voided, None, 1), rule(Voided, None, 10_000)], None).refund(100, Voided, 0), 0);
}

/// C-12, T-54: parts of a unit are dropped, and the cap cuts what is left, not what was charged.
#[test]
fn t54_parts_of_a_unit_are_dropped() {
    let share =
        |share, charged| rules(&[rule(RefundCause::Voided, None, share)], None).refund(charged, RefundCause::Voided, 0);
    assert_eq!([share(5_000, 1), share(5_000, 3), share(3_333, 10), share(9_999, 1)], [0, 1, 3, 0]);
    assert_eq!([share(1, 9_999), share(1, 10_000), share(9_999, 10_000), share(10_000, 9_999)], [0, 1, 9_999, 9_999]);
    assert_eq!([share(10_000, 0), share(1, 0)], [0, 0]);
    // A share that cannot be set gives no more than there was.
    assert_eq!(share(u16::MAX, 10), 10);
    let capped = rules(&[rule(RefundCause::Voided, None, 5_000)], Some(60));
    assert_eq!(
        [100, 119, 120, 122, 1_000].map(|charged| capped.refund(charged, RefundCause::Voided, 0)),
        [50, 59, 60, 60, 60]
    );
}

/// T-54: the largest amounts are reckoned to the unit.
#[test]
fn t54_large_amounts_are_exact() {
    let share = |share, charged| {
        rules(&[rule(RefundCause::Expired, None, share)], None).refund(charged, RefundCause::Expired, 0)
    };
    assert_eq!(share(10_000, AMOUNT_MAX), 1_000_000_000_000);
    assert_eq!(share(9_999, AMOUNT_MAX), 999_900_000_000);
    assert_eq!(share(3_333, AMOUNT_MAX - 1), 333_299_999_999);
    assert_eq!(share(1, AMOUNT_MAX - 1), 99_999_999);
    // Far beyond what can be set.
    assert_eq!([share(10_000, u64::MAX), share(5_000, u64::MAX)], [u64::MAX, u64::MAX / 2]);
}

/// S1.40, S1.42, S3.86, T-53: when an envelope is charged, and that a test is not.
#[test]
fn s1_40_a_charge_comes_with_the_dispatch_or_the_creation() {
    let bill = |charge_at| Billing { charge_at, ..Billing::default() };
    let credit = Some(Movement::Charge(Amount { unit: Unit::Credit, value: 1 }));
    let (at_dispatch, at_create) = (bill(ChargeAt::Dispatch), bill(ChargeAt::Create));
    let mut new = draft(&[(Role::Signer, 1)]);
    assert_eq!(settle(None, &mut new.clone(), Some(&at_dispatch), start()), None);
    assert_eq!(settle(None, &mut new.clone(), Some(&at_create), start()), credit);
    let mut test = Envelope { livemode: false, ..new.clone() };
    assert_eq!((settle(None, &mut test, Some(&at_create), start()), test.charge), (None, None));
    // An edit of a draft is no creation, and nobody but who sends is charged.
    let before = new.clone();
    assert_eq!(settle(Some(&before), &mut new, Some(&at_create), start()), None);
    let sent = crate::play::Play::sent(new).envelope;
    assert_eq!(settle(Some(&before), &mut sent.clone(), None, start()), None);
    for billing in [&at_dispatch, &at_create] {
        let mut sent = sent.clone();
        assert_eq!(settle(Some(&before), &mut sent, Some(billing), start()), credit);
        let charged = sent.clone();
        assert_eq!(settle(Some(&charged), &mut sent, Some(billing), start()), None, "once");
        assert_eq!(sent, charged);
    }
}
