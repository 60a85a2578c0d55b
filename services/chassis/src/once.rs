//! Idempotency keys: a change is made once for each key, and its reply is kept in the transaction of its effect.
//!
//! A transaction claims its key first ([`claim`]) and keeps its reply last ([`keep`]). Each service has the table
//! `idempotency` and the function `claim_idempotency_key` in its own database. Keys and requests are kept as MACs only: under the
//! master key, and looked for under former ones too. All are claimed, so that replicas with the same keys in another order meet.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use countersign::v1::{self, ErrorReason};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::database::prepared;
use crate::keys::{Key, Ring, same, sha256};
use crate::metrics;
use crate::problem::Problem;

/// Carries a key as metadata.
const KEY_HEADER: &str = "idempotency-key";
/// Says that a reply is that to an earlier request.
const REPLAYED_HEADER: &str = "idempotency-replayed";
/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 255;
/// For how many hours a reply is kept.
const KEPT_HOURS: i64 = 48;
/// When to ask again while the first request is being dealt with.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A request that may carry a key.
pub trait Keyed: Message {
    /// The call, by which keys are told apart.
    const CALL: &'static str;
    /// Takes the key out, so that the request is the same with and without it.
    fn take_key(&mut self) -> String;
}

macro_rules! keyed {
    ($($request:ident),+ $(,)?) => {$(
        impl Keyed for v1::$request {
            const CALL: &'static str = stringify!($request);
            fn take_key(&mut self) -> String {
                std::mem::take(&mut self.idempotency_key)
            }
        }
    )+};
}

keyed! {
    AddFieldsRequest, ApproveRequest, CreateAccountRequest, CreateApiKeyRequest, CreateEnvelopeRequest,
    CreateUserTokenRequest, CreateWebhookEndpointRequest, DeclineByUserRequest, DeclineRecipientRequest, DeclineRequest,
    DelegateSigningRequest, DeleteWebhookEndpointRequest, DiscardEnvelopeRequest, ExtendEnvelopeRequest,
    FillFieldsRequest, GrantCreditsRequest, MarkViewedRequest, MuteRemindersRequest, ReassignRecipientRequest,
    RemindRecipientsRequest, RemoveFieldsRequest, ReportBounceRequest,
    ReplaceDocumentRequest, ReplaceEnvelopeRequest, ResendEnvelopeRequest, ResumeAccountRequest, RevokeApiKeyRequest,
    RevokeUserTokenRequest, RotateApiKeyRequest, SendEnvelopeRequest, SignRequest, SuspendAccountRequest,
    UpdateAccountSettingsRequest, UpdateEnvelopeRequest, UploadInfo, VoidEnvelopeRequest,
    UpdateRetentionRequest, SetLegalHoldRequest, DeleteEnvelopeContentRequest,
    EnableWebhookEndpointRequest, RedeliverEventsRequest, RotateWebhookSecretRequest, SendTestEventRequest,
    UpdateWebhookEndpointRequest, VerifyWebhookEndpointRequest,
}

/// Whose key it is: keys of different callers never meet.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The account, nil for who has none.
    pub account: Uuid,
    /// Live, test, or neither.
    pub livemode: Option<bool>,
    /// What else tells callers apart: a recipient's credential.
    pub within: &'a [u8],
}

/// How a key and its request are known under one master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    id: [u8; 32],
    fingerprint: [u8; 32],
}

/// A request with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    account: Uuid,
    /// As it is kept.
    known: Known,
    /// As it may have been kept before the master key was changed.
    formerly: Vec<Known>,
    about: Option<Uuid>,
    now: DateTime<Utc>,
}

/// The reply to an earlier request with the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    known: Known,
    /// None once what it told of was purged.
    reply: Option<Vec<u8>>,
    used_at: DateTime<Utc>,
}

/// Reads keys, and keeps those that are in use in this process.
#[derive(Clone)]
pub struct Onces {
    keys: Arc<Ring>,
    in_use: Arc<Mutex<HashSet<[u8; 32]>>>,
}

/// A key in use. Dropping it lets the next request with the key in.
pub struct Claimed {
    /// For the transaction.
    pub once: Once,
    in_use: Arc<Mutex<HashSet<[u8; 32]>>>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.once.known.id);
    }
}

impl Onces {
    /// With keys derived from the master keys.
    #[must_use]
    pub fn new(master: &Ring) -> Self {
        Self { keys: Arc::new(master.derive("idempotency")), in_use: Arc::default() }
    }

    /// The request's key, if it has one, taken out of it. Refuses a malformed one, and one that is in use here just now
    /// without asking the database.
    pub fn claim<T: Keyed>(
        &self,
        metadata: &MetadataMap,
        request: &mut T,
        caller: Caller<'_>,
        now: DateTime<Utc>,
    ) -> Result<Option<Claimed>, Status> {
        let Some(key) = read(metadata, &request.take_key())? else { return Ok(None) };
        let mode = [match caller.livemode {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        }];
        let (call, account) = (T::CALL.as_bytes(), caller.account);
        // Once for all keys: requests can be large.
        let request = sha256(&request.encode_to_vec());
        let known = |by: &Key| Known {
            id: by.mac(&[b"key", account.as_bytes(), &mode, call, caller.within, key.as_bytes()]),
            fingerprint: by.mac(&[b"request", call, &request]),
        };
        let formerly = self.keys.former().iter().map(known).collect();
        self.enter(Once { account, known: known(self.keys.current()), formerly, about: None, now }).map(Some)
    }

    fn enter(&self, once: Once) -> Result<Claimed, Status> {
        if self.in_use.lock().unwrap_or_else(PoisonError::into_inner).insert(once.known.id) {
            Ok(Claimed { once, in_use: Arc::clone(&self.in_use) })
        } else {
            Err(in_progress())
        }
    }
}

/// The key of a request, from the field or the metadata.
fn read(metadata: &MetadataMap, field: &str) -> Result<Option<String>, Status> {
    let header = metadata.get(KEY_HEADER).map(|value| value.to_str().unwrap_or("\0"));
    let fault = |why: String| {
        let problem = Problem::new(ErrorReason::InvalidField, format!("idempotency_key: {why}"));
        Err(problem.field("idempotency_key", why).into())
    };
    let key = match (header, field) {
        (None, "") => return Ok(None),
        (Some(header), field) if !field.is_empty() && header != field => {
            return fault("differs from the metadata `idempotency-key`".to_owned());
        }
        (Some(header), _) => header,
        (None, field) => field,
    };
    let printable = key.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    if key.is_empty() || key.len() > KEY_CHARS_MAX || !printable {
        return fault(format!("must be 1 to {KEY_CHARS_MAX} printable ASCII characters"));
    }
    Ok(Some(key.to_owned()))
}

/// The first request is still being dealt with.
#[must_use]
pub fn in_progress() -> Status {
    let message = "The first request with this idempotency key is still being dealt with.";
    Problem::new(ErrorReason::IdempotencyInProgress, message).retry_after(RETRY_AFTER).into()
}

/// The answer to a repeat of a call that showed a secret names what it made, and not the secret.
pub fn shown_once<R>(response: Response<R>, id: impl FnOnce(&R) -> String) -> Result<Response<R>, Status> {
    if !response.metadata().contains_key(REPLAYED_HEADER) {
        return Ok(response);
    }
    let message = "The first call with this idempotency key has shown the secret. It is not kept.";
    Err(Problem::new(ErrorReason::SecretShownOnce, message).with("id", id(response.get_ref())).into())
}

impl Kept {
    /// The answer to a repeat: the reply to the first request, or why not.
    pub fn answer<R: Message + Default>(&self, once: &Once) -> Result<Response<R>, Status> {
        if !once.all().any(|known| same(&self.known.id, &known.id) && same(&self.known.fingerprint, &known.fingerprint))
        {
            let message = "The idempotency key was used for another request.";
            let problem = Problem::new(ErrorReason::IdempotencyMismatch, message);
            return Err(problem.with("key_used_at", self.used_at.to_rfc3339()).into());
        }
        let Some(reply) = &self.reply else {
            let message = "What the reply to this idempotency key told of has been purged, and the reply with it.";
            return Err(Problem::new(ErrorReason::ContentPurged, message).into());
        };
        let reply = R::decode(reply.as_slice()).map_err(|_| Status::from(Problem::internal()))?;
        let mut response = Response::new(reply);
        response.metadata_mut().insert(REPLAYED_HEADER, tonic::metadata::MetadataValue::from_static("true"));
        Ok(response)
    }
}

enum Claim {}
enum Keep {}
enum Find {}
enum Forget {}

#[derive(QueryableByName)]
struct KeptRow {
    #[diesel(sql_type = Bytea)]
    id: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    fingerprint: Vec<u8>,
    #[diesel(sql_type = Nullable<Bytea>)]
    reply: Option<Vec<u8>>,
    #[diesel(sql_type = Timestamptz)]
    used_at: DateTime<Utc>,
}

/// Runs a change. Whatever came of it, a reply that is kept for the key is the answer: also where the change was refused
/// because it had been made, or where nobody knows whether it was.
pub async fn run<R: Message + Default>(
    claimed: Option<&Claimed>,
    change: impl Future<Output = Result<R, Status>>,
    kept: impl AsyncFnOnce(&Once) -> Result<Option<Kept>, Status>,
) -> Result<Response<R>, Status> {
    let refused = match change.await {
        Ok(reply) => return Ok(Response::new(reply)),
        Err(refused) => refused,
    };
    let Some(Claimed { once, .. }) = claimed else { return Err(refused) };
    match kept(once).await? {
        Some(kept) => {
            metrics::replayed();
            kept.answer(once)
        }
        None => Err(refused),
    }
}

/// Claims a request's key, if it has one; see [`claim`].
pub async fn claimed(conn: &AsyncPgConnection, once: Option<&Once>) -> QueryResult<()> {
    match once {
        Some(once) => claim(conn, once).await.map(drop),
        None => Ok(()),
    }
}

/// Claims the key until the end of the transaction, or fails: as used, if a reply is kept for it, or as in use. Waits for
/// nobody.
pub fn claim(mut conn: &AsyncPgConnection, once: &Once) -> impl Future<Output = QueryResult<usize>> {
    let query = diesel::sql_query("SELECT claim_idempotency_key($1, key, $3) FROM unnest($2) AS key")
        .bind::<SqlUuid, _>(once.account)
        .bind::<Array<Bytea>, _>(once.ids())
        .bind::<Timestamptz, _>(once.now);
    async move { prepared::<Claim, _>(query).execute(&mut conn).await }
}

/// Keeps the reply. Belongs into the transaction of the effect.
pub fn keep<'a>(
    mut conn: &'a AsyncPgConnection,
    once: &Once,
    reply: Vec<u8>,
) -> impl Future<Output = QueryResult<usize>> + use<'a> {
    let insert = "INSERT INTO idempotency (account_id, id, fingerprint, reply, used_at, kept_until, about) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let query = diesel::sql_query(insert)
        .bind::<SqlUuid, _>(once.account)
        .bind::<Bytea, _>(once.known.id.to_vec())
        .bind::<Bytea, _>(once.known.fingerprint.to_vec())
        .bind::<Bytea, _>(reply)
        .bind::<Timestamptz, _>(once.now)
        .bind::<Timestamptz, _>(once.now + TimeDelta::hours(KEPT_HOURS))
        .bind::<Nullable<SqlUuid>, _>(once.about);
    async move { prepared::<Keep, _>(query).execute(&mut conn).await }
}

/// The reply that is kept for the key.
pub async fn find(mut conn: &AsyncPgConnection, once: &Once) -> QueryResult<Option<Kept>> {
    let select = "SELECT id, fingerprint, reply, used_at FROM idempotency \
                  WHERE account_id = $1 AND id = ANY($2) AND kept_until > $3";
    let query = diesel::sql_query(select)
        .bind::<SqlUuid, _>(once.account)
        .bind::<Array<Bytea>, _>(once.ids())
        .bind::<Timestamptz, _>(once.now);
    let row: Option<KeptRow> = prepared::<Find, _>(query).get_result(&mut conn).await.optional()?;
    row.map(|row| {
        let known = Known { id: mac(row.id, "id")?, fingerprint: mac(row.fingerprint, "fingerprint")? };
        Ok(Kept { known, reply: row.reply, used_at: row.used_at })
    })
    .transpose()
}

fn mac(bytes: Vec<u8>, column: &str) -> QueryResult<[u8; 32]> {
    bytes.try_into().map_err(|_| diesel::result::Error::DeserializationError(format!("corrupt row: {column}").into()))
}

/// Forgets the replies whose time is over, at most `limit`; says how many.
pub async fn forget(mut conn: &AsyncPgConnection, now: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    let forget = "DELETE FROM idempotency WHERE (account_id, id) IN \
                  (SELECT account_id, id FROM idempotency WHERE kept_until <= $1 ORDER BY kept_until LIMIT $2)";
    let query = diesel::sql_query(forget).bind::<Timestamptz, _>(now).bind::<BigInt, _>(limit);
    prepared::<Forget, _>(query).execute(&mut conn).await
}

impl Once {
    /// The same for a reply that tells of one thing: it goes when that is purged.
    #[must_use]
    pub fn about(mut self, id: Uuid) -> Self {
        self.about = Some(id);
        self
    }

    /// Whose.
    #[must_use]
    pub fn account(&self) -> Uuid {
        self.account
    }

    fn all(&self) -> impl Iterator<Item = &Known> {
        std::iter::once(&self.known).chain(&self.formerly)
    }

    fn ids(&self) -> Vec<Vec<u8>> {
        self.all().map(|known| known.id.to_vec()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn onces() -> Onces {
        Onces::new(&key("07").into())
    }

    fn key(byte: &str) -> Key {
        Key::master(&byte.repeat(32).into()).unwrap()
    }

    fn claim(onces: &Onces, header: Option<&str>, field: &str) -> Result<Option<Claimed>, Status> {
        let mut metadata = MetadataMap::new();
        if let Some(header) = header {
            metadata.insert(KEY_HEADER, header.parse().unwrap());
        }
        let mut request = v1::VoidEnvelopeRequest { idempotency_key: field.to_owned(), ..Default::default() };
        onces.claim(
            &metadata,
            &mut request,
            Caller { account: Uuid::nil(), livemode: None, within: &[] },
            DateTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_key_may_come_as_field_or_as_metadata_but_not_as_two() {
        let onces = onces();
        assert!(claim(&onces, None, "").unwrap().is_none());
        let field = claim(&onces, None, "decline-envelope-api-create-1").unwrap().unwrap().once.known.id;
        let header = claim(&onces, Some("decline-envelope-api-create-1"), "").unwrap().unwrap().once.known.id;
        let both = claim(&onces, Some("k"), "k").unwrap().unwrap().once.known.id;
        assert_eq!(field, header);
        assert_ne!(field, both);
        for (header, field) in [(Some("a"), "b"), (Some(""), ""), (None, "ä"), (None, "a\nb")] {
            assert!(claim(&onces, header, field).is_err(), "{header:?} {field:?}");
        }
        assert!(claim(&onces, None, &"k".repeat(255)).is_ok());
        assert!(claim(&onces, None, &"k".repeat(256)).is_err());
    }

    #[test]
    fn a_key_in_use_is_refused_until_it_is_free() {
        let onces = onces();
        let first = claim(&onces, None, "k").unwrap();
        assert!(claim(&onces, None, "k").is_err());
        drop(first);
        assert!(claim(&onces, None, "k").is_ok());
    }

    #[test]
    fn a_reply_of_a_former_key_is_the_answer_to_the_same_request_alone() {
        let rotated = Onces::new(&Ring::new(key("08"), vec![key("07")]));
        let first = claim(&onces(), None, "k").unwrap().unwrap();
        let again = claim(&rotated, None, "k").unwrap().unwrap();
        assert_ne!(first.once.known, again.once.known, "new replies are kept under the first");
        assert!(again.once.ids().contains(&first.once.known.id.to_vec()));
        let reply = Some(v1::VoidEnvelopeResponse::default().encode_to_vec());
        let mut kept = Kept { known: first.once.known, reply, used_at: DateTime::UNIX_EPOCH };
        assert!(kept.answer::<v1::VoidEnvelopeResponse>(&again.once).is_ok());
        // Another request, and one of a key that is in the ring no more.
        kept.known.fingerprint[0] ^= 1;
        assert!(kept.answer::<v1::VoidEnvelopeResponse>(&again.once).is_err());
        kept.known = first.once.known;
        let dropped = claim(&Onces::new(&key("08").into()), None, "k").unwrap().unwrap();
        assert!(!dropped.once.ids().contains(&kept.known.id.to_vec()));
        assert!(kept.answer::<v1::VoidEnvelopeResponse>(&dropped.once).is_err());
    }

    #[test]
    fn callers_never_share_a_key() {
        let onces = onces();
        let id = |account: u128, livemode, within: &[u8]| {
            let mut request = v1::VoidEnvelopeRequest { idempotency_key: "k".into(), ..Default::default() };
            let caller = Caller { account: Uuid::from_u128(account), livemode, within };
            let claimed =
                onces.claim(&MetadataMap::new(), &mut request, caller, DateTime::UNIX_EPOCH).unwrap().unwrap();
            claimed.once.known.id
        };
        let ids =
            [id(1, None, b""), id(2, None, b""), id(1, Some(true), b""), id(1, Some(false), b""), id(1, None, b"r")];
        for (index, one) in ids.iter().enumerate() {
            assert!(ids[index + 1..].iter().all(|other| one != other));
        }
    }
}
