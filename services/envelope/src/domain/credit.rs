//! What envelopes cost and what comes back: pure. The ledger in `store/ledger.rs` keeps what is decided here.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::envelope::{Cause, Envelope};
use super::limits::BASIS_POINTS;
use super::recipient::{RecipientState, Role};
use super::status::Status;

/// What is counted: credits, or minor units of a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// `CREDIT`.
    Credit,
    /// Minor units of the currency with that ISO 4217 code.
    Currency([u8; 3]),
}

/// The name of [`Unit::Credit`].
const CREDIT: &str = "CREDIT";

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credit => f.write_str(CREDIT),
            Self::Currency(code) => code.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter))),
        }
    }
}

/// A text that names no unit.
#[derive(Debug, thiserror::Error)]
#[error("must be CREDIT or the three letters of a currency")]
pub struct NoUnit;

impl FromStr for Unit {
    type Err = NoUnit;

    fn from_str(text: &str) -> Result<Self, NoUnit> {
        if text == CREDIT {
            return Ok(Self::Credit);
        }
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| NoUnit)?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self::Currency(code)) } else { Err(NoUnit) }
    }
}

/// So much of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Of what.
    pub unit: Unit,
    /// How much.
    pub value: u64,
}

/// When an envelope is charged. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeAt {
    /// When it is dispatched.
    Dispatch = 1,
    /// When it is created; at the latest when it is dispatched.
    Create = 2,
}

/// How an envelope ended, as far as refunds go. The numbers are those of the contract and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundCause {
    /// A recipient refused.
    Declined = 1,
    /// Taken back; a discarded draft counts as that.
    Voided = 2,
    /// The deadline passed.
    Expired = 3,
}

/// One line of a refund policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundRule {
    /// For envelopes that ended so …
    pub cause: RefundCause,
    /// … after at most that many had signed.
    pub signed_max: Option<u16>,
    /// … this share of the charge comes back, in hundredths of a percent.
    pub share_basis_points: u16,
}

/// What comes back when an envelope ends without completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundPolicy {
    /// The first that fits counts.
    pub rules: Vec<RefundRule>,
    /// The most that comes back.
    pub cap: Option<u64>,
}

impl RefundPolicy {
    /// All of it, if voided before anybody has signed.
    #[must_use]
    pub fn void_unsigned() -> Self {
        let rule = RefundRule { cause: RefundCause::Voided, signed_max: Some(0), share_basis_points: BASIS_POINTS };
        Self { rules: vec![rule], cap: None }
    }

    /// All of it up to the cap, however it ended without completion.
    #[must_use]
    pub fn terminal_capped(cap: Option<u64>) -> Self {
        let causes = [RefundCause::Declined, RefundCause::Voided, RefundCause::Expired];
        let rule = |cause| RefundRule { cause, signed_max: None, share_basis_points: BASIS_POINTS };
        Self { rules: causes.map(rule).to_vec(), cap }
    }

    /// How much of a charge comes back; never more than the charge.
    #[must_use]
    pub fn refund(&self, charged: u64, cause: RefundCause, signed: usize) -> u64 {
        let fits =
            |rule: &&RefundRule| rule.cause == cause && rule.signed_max.is_none_or(|most| signed <= usize::from(most));
        let share = self.rules.iter().find(fits).map_or(0, |rule| rule.share_basis_points.min(BASIS_POINTS));
        // In 128 bits nothing overflows; a share of at most one leaves no more than there was.
        let part = u128::from(charged) * u128::from(share) / u128::from(BASIS_POINTS);
        u64::try_from(part).unwrap_or(charged).min(self.cap.unwrap_or(u64::MAX))
    }
}

/// What envelopes cost an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billing {
    /// When.
    pub charge_at: ChargeAt,
    /// How much.
    pub price: Amount,
    /// What comes back.
    pub refund: RefundPolicy,
}

impl Default for Billing {
    fn default() -> Self {
        let price = Amount { unit: Unit::Credit, value: 1 };
        Self { charge_at: ChargeAt::Dispatch, price, refund: RefundPolicy::void_unsigned() }
    }
}

/// What an envelope has cost. Price and policy are as they were when it was charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// How much.
    pub amount: Amount,
    /// When.
    pub at: DateTime<Utc>,
    /// What comes back.
    pub refund: RefundPolicy,
    /// What came back; known once the envelope has ended.
    pub refunded: Option<u64>,
}

/// What moves between an account's balance and what it has spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movement {
    /// An envelope costs it.
    Charge(Amount),
    /// It comes back.
    Refund {
        /// How much.
        amount: Amount,
        /// Of how much.
        charged: u64,
    },
}

/// Charges an envelope that has come to be or was dispatched, and refunds one that has ended: once each, because what is
/// charged has a charge and what is refunded says so. `before` is none for a new envelope, `billing` is the sender's where
/// a sender acts. Test envelopes cost nothing.
pub fn settle(
    before: Option<&Envelope>,
    after: &mut Envelope,
    billing: Option<&Billing>,
    now: DateTime<Utc>,
) -> Option<Movement> {
    if !after.livemode {
        return None;
    }
    match (after.charge.as_mut(), billing) {
        (None, Some(billing)) => {
            let is_new = before.is_none();
            if after.facts.dispatched_at.is_none() && !(is_new && billing.charge_at == ChargeAt::Create) {
                return None;
            }
            let (amount, refund) = (billing.price, billing.refund.clone());
            after.charge = Some(Charge { amount, at: now, refund, refunded: None });
            (amount.value > 0).then_some(Movement::Charge(amount))
        }
        (Some(_), _) => refund(after),
        (None, None) => None,
    }
}

fn refund(after: &mut Envelope) -> Option<Movement> {
    let charge = after.charge.as_ref().filter(|charge| charge.refunded.is_none())?;
    let charged = charge.amount.value;
    let value = owed(after, charge)?;
    let amount = Amount { value, ..charge.amount };
    if let Some(charge) = &mut after.charge {
        charge.refunded = Some(value);
    }
    (value > 0).then_some(Movement::Refund { amount, charged })
}

/// What comes back of a charge by how the envelope has ended; none while it has not.
#[must_use]
pub fn owed(envelope: &Envelope, charge: &Charge) -> Option<u64> {
    let charged = charge.amount.value;
    let signed = envelope.recipients.iter().filter(|other| has_signed(other.role, &other.state)).count();
    let back = |cause| Some(charge.refund.refund(charged, cause, signed));
    match (envelope.status(), envelope.facts.discarded_at, envelope.end.map(|end| end.cause)) {
        (_, _, Some(Cause::IngestFailed)) => Some(charged),
        (Status::Declined, ..) => back(RefundCause::Declined),
        (Status::Expired, ..) => back(RefundCause::Expired),
        (Status::Voided, ..) | (Status::Draft, Some(_), _) => back(RefundCause::Voided),
        (Status::Completed, ..) => Some(0),
        (Status::Draft | Status::Pending | Status::Sent | Status::PartiallySigned, ..) => None,
    }
}

fn has_signed(role: Role, state: &RecipientState) -> bool {
    role == Role::Signer && matches!(state, RecipientState::Acted { .. })
}
