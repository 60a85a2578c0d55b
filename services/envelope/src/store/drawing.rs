//! What people drew in an envelope, by hash.

use std::collections::BTreeMap;

use countersign_chassis::database::DatabaseError;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;

use super::schema::drawing;
use super::{Scope, Store, corrupt};
use crate::domain::envelope::Digest;
use crate::domain::id::EnvelopeId;

/// Drawings of an envelope at most: each of its fields may hold one, and an act brings only so many bytes.
const DRAWINGS_MAX: i64 = 2_000;

impl Store {
    /// The drawings of an envelope. The caller has made sure that the scope has the envelope.
    pub async fn drawings(&self, scope: Scope, id: EnvelopeId) -> Result<BTreeMap<Digest, Vec<u8>>, DatabaseError> {
        let query = drawing::table
            .filter(drawing::account_id.eq(scope.account.uuid()))
            .filter(drawing::envelope_id.eq(id.uuid()))
            .order(drawing::sha256)
            .limit(DRAWINGS_MAX)
            .select((drawing::sha256, drawing::content));
        let rows: Vec<(Vec<u8>, Vec<u8>)> =
            self.read_one(scope.account, move |mut conn| async move { query.load(&mut conn).await }.boxed()).await?;
        let digest = |bytes: Vec<u8>| bytes.try_into().map_err(|_| corrupt("digest"));
        let kept: QueryResult<_> = rows.into_iter().map(|(sha256, content)| Ok((digest(sha256)?, content))).collect();
        Ok(kept?)
    }
}
