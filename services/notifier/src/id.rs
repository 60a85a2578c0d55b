//! Ids, as the contract writes them.

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
    Envelope EnvelopeId "env",
    Recipient RecipientId "rcp",
    Watcher WatcherId "wch",
    Event EventId "evt",
    Endpoint EndpointId "whe",
}
