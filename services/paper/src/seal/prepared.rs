//! A base that was read before it is sealed, so that sealing costs as little for a large file as for a small one.
//!
//! It must never be used for a base that it was not made of: the seal would not hold.

use lopdf::{Document, Object};

use super::base::BaseDigest;
use super::earlier::{self, Standing};
use super::{AlreadySigned, Identity, SealError, SealKind, SealOptions, Unsealed, continued};
use crate::delta::{self, Update};
use crate::inspect::{self, Opened, Unreadable};
use crate::limits::Limits;
use crate::pages::Page;

/// All that sealing a base as it is needs to know of it.
pub struct Prepared {
    /// Without the content of its streams.
    document: Document,
    pages: Vec<Page>,
    digest: BaseDigest,
    standing: Standing,
}

impl Prepared {
    /// Reads a base; `None` if it has to be written anew to be sealed, so that nothing is gained.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] as of [`inspect()`](crate::inspect()).
    pub fn new(base: &[u8]) -> Result<Option<Self>, Unreadable> {
        let Opened { mut document, pages } = inspect::open(base, &Limits::CEILING)?;
        if !delta::can_be_continued(base, &document) {
            return Ok(None);
        }
        for object in document.objects.values_mut() {
            if let Object::Stream(stream) = object {
                stream.content = Vec::new();
            }
        }
        let standing = earlier::standing(&document);
        Ok(Some(Self { document, pages, digest: BaseDigest::of(base), standing }))
    }

    /// The hash of the base, which can be kept.
    #[must_use]
    pub fn digest(&self) -> &BaseDigest {
        &self.digest
    }

    /// As [`seal()`](crate::seal()) of the base. Earlier signatures cannot be taken out here.
    ///
    /// # Errors
    ///
    /// As of [`seal()`](crate::seal()).
    pub fn seal(&self, identity: &Identity, options: &SealOptions) -> Result<Unsealed, SealError> {
        if self.standing.is_signed {
            let may_follow = options.already_signed == AlreadySigned::Preserve && options.kind == SealKind::Approval;
            if !may_follow {
                return Err(SealError::AlreadySigned);
            }
            if self.standing.allows_nothing {
                return Err(SealError::NoChangesAllowed);
            }
        }
        let update = Update::of(&self.document);
        continued(self.digest.clone(), &self.document, update, &self.pages, identity, options)
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Prepared").field("digest", &self.digest).finish_non_exhaustive()
    }
}
