//! Ids: TypeIDs over UUIDv7, `env_01h455vb4pex5vsknk084sn02q`. One type for each kind, so that none is taken for another.

use type_safe_id::{StaticType, TypeSafeId};

macro_rules! kinds {
    ($($kind:ident $alias:ident $prefix:literal),+ $(,)?) => {$(
        #[doc = concat!("Kind of `", $prefix, "_…`.")]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $kind;
        impl StaticType for $kind {
            const TYPE: &'static str = $prefix;
        }
        #[doc = concat!("`", $prefix, "_…`.")]
        pub type $alias = TypeSafeId<$kind>;
    )+};
}

kinds! {
    Account AccountId "acc",
    ApiKey KeyId "key",
    Envelope EnvelopeId "env",
    Recipient RecipientId "rcp",
    Document DocumentId "doc",
    Field FieldId "fld",
    Upload UploadId "upl",
    Source SourceId "src",
    Event EventId "evt",
    Watcher WatcherId "wch",
    User UserId "usr",
    LedgerEntry LedgerId "led",
}
