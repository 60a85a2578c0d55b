//! Uploads: documents that wait to be put into envelopes.

use chrono::{DateTime, Utc};
use countersign_chassis::database::DatabaseError;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::schema::upload;
use super::{Keep, Scope, Store, corrupt, int8};
use crate::domain::envelope::Digest;
use crate::domain::id::UploadId;
use crate::domain::ingest::ContentType;

/// A kept upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the contract's UploadDocumentResponse")]
pub struct Upload {
    pub id: UploadId,
    pub name: String,
    pub sha256: Digest,
    pub size_bytes: u64,
    pub page_count: u32,
    pub content_type: ContentType,
    /// The PDF that is signed in its place, where it could not stay as it came.
    pub base: Option<(Digest, u64)>,
}

impl Store {
    /// Keeps an upload.
    pub async fn keep_upload(
        &self,
        scope: Scope,
        new: Upload,
        at: DateTime<Utc>,
        keep: Option<Keep<()>>,
    ) -> Result<(), DatabaseError> {
        self.write(scope.account, keep, move |mut conn| {
            async move {
                let row = (
                    upload::account_id.eq(scope.account.uuid()),
                    upload::id.eq(new.id.uuid()),
                    upload::livemode.eq(scope.livemode.unwrap_or(true)),
                    upload::name.eq(&new.name),
                    upload::sha256.eq(new.sha256.as_slice()),
                    upload::size_bytes.eq(int8(new.size_bytes)),
                    upload::content_type.eq(new.content_type as i16),
                    upload::base_sha256.eq(new.base.map(|(sha256, _)| sha256.to_vec())),
                    upload::base_size_bytes.eq(new.base.map(|(_, size)| int8(size))),
                    upload::page_count.eq(new.page_count.cast_signed()),
                    upload::created_at.eq(at),
                );
                diesel::insert_into(upload::table).values(row).execute(&mut conn).await.map(drop)
            }
            .boxed()
        })
        .await
    }

    /// An upload of the account and mode.
    pub async fn upload(&self, scope: Scope, id: UploadId) -> Result<Option<Upload>, DatabaseError> {
        type Row = (Uuid, String, Vec<u8>, i64, i32, i16, Option<Vec<u8>>, Option<i64>);
        let query = upload::table
            .filter(upload::account_id.eq(scope.account.uuid()))
            .filter(upload::id.eq(id.uuid()))
            .filter(upload::livemode.eq(scope.livemode.unwrap_or(true)))
            .select((
                upload::id,
                upload::name,
                upload::sha256,
                upload::size_bytes,
                upload::page_count,
                upload::content_type,
                upload::base_sha256,
                upload::base_size_bytes,
            ));
        let row: Option<Row> = self
            .read_one(scope.account, move |mut conn| {
                async move { query.get_result(&mut conn).await.optional() }.boxed()
            })
            .await?;
        let upload = row
            .map(|(id, name, sha256, size_bytes, page_count, content_type, base, base_size)| {
                let base = base.map(Digest::try_from).transpose().map_err(|_| corrupt("digest"))?;
                let content_type = ContentType::ALL.into_iter().find(|it| *it as i16 == content_type);
                QueryResult::Ok(Upload {
                    id: UploadId::from_uuid(id),
                    name,
                    sha256: sha256.try_into().map_err(|_| corrupt("digest"))?,
                    size_bytes: size_bytes.unsigned_abs(),
                    page_count: page_count.unsigned_abs(),
                    content_type: content_type.ok_or_else(|| corrupt("content type"))?,
                    base: base.zip(base_size.map(i64::unsigned_abs)),
                })
            })
            .transpose()?;
        Ok(upload)
    }
}
