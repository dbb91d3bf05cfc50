//! `#[konnector]`: makes a function the entry point of a konnector.

use proc_macro::TokenStream;
use quote::quote;

/// Exports a function as `run.start`.
#[proc_macro_attribute]
pub fn konnector(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    let name = &function.sig.ident;
    quote! {
        #function
        #[doc(hidden)]
        mod __konnector {
            struct Konnector;
            impl ::konnector_sdk::bindings::exports::konnector::host::run::Guest for Konnector {
                fn start(
                    job: ::konnector_sdk::bindings::exports::konnector::host::run::Job,
                ) -> Result<
                    ::konnector_sdk::bindings::exports::konnector::host::run::Report,
                    ::konnector_sdk::bindings::exports::konnector::host::run::Failure,
                > {
                    super::#name(job)
                }
            }
            ::konnector_sdk::bindings::export!(Konnector with_types_in ::konnector_sdk::bindings);
        }
    }
    .into()
}
