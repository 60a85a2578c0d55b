//! The stored events of one envelope.

use countersign_chassis::database::{DatabaseError, acquire};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::event;
use super::{Scope, Store, corrupt, int8};
use crate::domain::envelope::Digest;
use crate::domain::id::EnvelopeId;

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The bytes that were hashed.
    pub record: Vec<u8>,
    /// Hash of the event before.
    pub prev_hash: Digest,
    /// Its hash.
    pub hash: Digest,
}

impl Stored {
    pub(super) fn new(record: Vec<u8>, prev_hash: Vec<u8>, hash: Vec<u8>) -> QueryResult<Self> {
        let digest = |bytes: Vec<u8>| bytes.try_into().map_err(|_| corrupt("digest"));
        Ok(Self { record, prev_hash: digest(prev_hash)?, hash: digest(hash)? })
    }
}

impl Store {
    /// The events of an envelope after a sequence, oldest first. The caller has made sure that the scope has the envelope.
    pub async fn history(
        &self,
        scope: Scope,
        id: EnvelopeId,
        after: u64,
        limit: i64,
    ) -> Result<Vec<Stored>, DatabaseError> {
        let mut conn = acquire(&self.pool).await?;
        let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = event::table
            .filter(event::account_id.eq(scope.account.uuid()))
            .filter(event::envelope_id.eq(id.uuid()))
            .filter(event::sequence.gt(int8(after)))
            .order(event::sequence)
            .limit(limit)
            .select((event::record, event::prev_hash, event::hash))
            .load(&mut *conn)
            .await?;
        Ok(rows.into_iter().map(|(record, prev, hash)| Stored::new(record, prev, hash)).collect::<QueryResult<_>>()?)
    }
}
