//! What a credential must be for to make a call: one line for each call of WebhookService. `docs/access.md` is made from
//! this table.

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The call's name.
    pub call: &'static str,
    /// True: `webhooks.write`. False: `webhooks.read`.
    pub writes: bool,
    /// Whether it changes something.
    pub changes: bool,
}

const fn read(call: &'static str) -> Access {
    Access { call, writes: false, changes: false }
}

const fn change(call: &'static str) -> Access {
    Access { call, writes: true, changes: true }
}

pub(super) const CREATE: Access = change("CreateWebhookEndpoint");
pub(super) const GET: Access = read("GetWebhookEndpoint");
pub(super) const LIST: Access = read("ListWebhookEndpoints");
pub(super) const UPDATE: Access = change("UpdateWebhookEndpoint");
pub(super) const ROTATE: Access = change("RotateWebhookSecret");
pub(super) const VERIFY: Access = change("VerifyWebhookEndpoint");
pub(super) const ENABLE: Access = change("EnableWebhookEndpoint");
pub(super) const DELETE: Access = change("DeleteWebhookEndpoint");
pub(super) const TEST: Access = change("SendTestEvent");
pub(super) const LIST_DELIVERIES: Access = read("ListDeliveries");
pub(super) const GET_DELIVERY: Access = read("GetDelivery");
pub(super) const REDELIVER: Access = change("RedeliverEvents");
/// It changes nothing, but who has it can sign.
pub(super) const ENVELOPE_SECRET: Access = Access { call: "GetEnvelopeWebhookSecret", writes: true, changes: false };

/// All calls.
pub const TABLE: [Access; 13] = [
    CREATE,
    GET,
    LIST,
    UPDATE,
    ROTATE,
    VERIFY,
    ENABLE,
    DELETE,
    TEST,
    LIST_DELIVERIES,
    GET_DELIVERY,
    REDELIVER,
    ENVELOPE_SECRET,
];
