//! Handles: the operations of one noun, as a view of the context that its layer shares.

use ref_cast::RefCast;

use crate::Core;

/// Declares handles. Each is a view of a context that costs nothing to obtain and carries the context's lease; the
/// module of each noun implements its handle.
#[macro_export]
macro_rules! handles {
    ($context:ty, $field:ident; $($(#[$doc:meta])+ $accessor:ident: $handle:ident;)+) => {
        $(
            $(#[$doc])+
            #[derive(Clone, RefCast)]
            #[repr(transparent)]
            pub struct $handle {
                pub(crate) $field: $context,
            }
        )+

        impl $context {
            $(
                #[doc = concat!("Returns the handle of ", stringify!($accessor), ".")]
                #[must_use]
                pub fn $accessor(&self) -> &$handle {
                    $handle::ref_cast(self)
                }
            )+
        }
    };
}

handles! {
    Core, core;
    /// JSON documents, their indexes and their change feeds.
    documents: Documents;
    /// Spaces of persons.
    instances: Instances;
    /// Limits on what an instance does per hour.
    rate_limits: RateLimits;
    /// Events for websocket and SSE listeners.
    realtime: Realtime;
}
