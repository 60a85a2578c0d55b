//! Whose a file is that the service made.

use countersign_chassis::database::DatabaseError;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::schema::{artifact, envelope};
use super::{Scope, Store, corrupt};
use crate::domain::envelope::{Digest, SealLevel, Version};
use crate::domain::id::{DocumentId, EnvelopeId};

/// A file of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// In which envelope.
    pub envelope: EnvelopeId,
    /// Of which document.
    pub document: DocumentId,
    /// Which version.
    pub version: Version,
    /// Whether it was sealed.
    pub is_sealed: bool,
}

impl Store {
    /// What the file with that hash is, if it was made for the account and mode; the oldest, where several are the same.
    pub async fn known(&self, scope: Scope, sha256: Digest) -> Result<Option<Known>, DatabaseError> {
        let query = artifact::table
            .inner_join(
                envelope::table
                    .on(envelope::account_id.eq(artifact::account_id).and(envelope::id.eq(artifact::envelope_id))),
            )
            .filter(artifact::account_id.eq(scope.account.uuid()))
            .filter(artifact::sha256.eq(sha256.to_vec()))
            .filter(envelope::livemode.eq(scope.livemode.unwrap_or(true)))
            .order((artifact::created_at, artifact::document_id))
            .select((artifact::envelope_id, artifact::document_id, artifact::version, artifact::seal))
            .limit(1);
        let row: Option<(Uuid, Uuid, i16, i16)> = self
            .read_one(scope.account, move |mut conn| {
                async move { query.get_result(&mut conn).await.optional() }.boxed()
            })
            .await?;
        let known = row.map(|(envelope, document, version, seal)| {
            let version = Version::ALL.into_iter().find(|it| *it as i16 == version);
            QueryResult::Ok(Known {
                envelope: EnvelopeId::from_uuid(envelope),
                document: DocumentId::from_uuid(document),
                version: version.ok_or_else(|| corrupt("version"))?,
                is_sealed: seal != SealLevel::None as i16,
            })
        });
        Ok(known.transpose()?)
    }
}
