//! The stored events of one envelope, with what is personal about them.

use countersign_chassis::database::DatabaseError;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;

use super::schema::{event, event_particulars};
use super::{Scope, Store, corrupt, int8};
use crate::domain::id::EnvelopeId;
use crate::domain::verify::Entry;

type Row = (i64, Vec<u8>, Vec<u8>, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// An event as it is stored.
pub(super) fn entry((sequence, record, prev_hash, hash, salt, content): Row) -> QueryResult<Entry> {
    let digest = |bytes: Vec<u8>| bytes.try_into().map_err(|_| corrupt("digest"));
    let salt = salt.map(|salt| salt.try_into().map_err(|_| corrupt("salt"))).transpose()?;
    Ok(Entry {
        sequence: sequence.unsigned_abs(),
        record,
        prev_hash: digest(prev_hash)?,
        hash: digest(hash)?,
        kept: salt.zip(content),
    })
}

impl Store {
    /// The events of an envelope after a sequence, oldest first. The caller has made sure that the scope has the envelope.
    pub async fn history(
        &self,
        scope: Scope,
        id: EnvelopeId,
        after: u64,
        limit: i64,
    ) -> Result<Vec<Entry>, DatabaseError> {
        let beside = event_particulars::account_id
            .eq(event::account_id)
            .and(event_particulars::envelope_id.eq(event::envelope_id))
            .and(event_particulars::sequence.eq(event::sequence));
        let query = event::table
            .left_join(event_particulars::table.on(beside))
            .filter(event::account_id.eq(scope.account.uuid()))
            .filter(event::envelope_id.eq(id.uuid()))
            .filter(event::sequence.gt(int8(after)))
            .order(event::sequence)
            .limit(limit)
            .select((
                event::sequence,
                event::record,
                event::prev_hash,
                event::hash,
                event_particulars::salt.nullable(),
                event_particulars::content.nullable(),
            ));
        let rows: Vec<Row> =
            self.read_one(scope.account, move |mut conn| async move { query.load(&mut conn).await }.boxed()).await?;
        Ok(rows.into_iter().map(entry).collect::<QueryResult<_>>()?)
    }
}
