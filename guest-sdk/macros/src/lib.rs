//! `#[konnector]`: makes a function the entry point of a konnector.

use proc_macro::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

/// Makes a function the program's entry point, the export `run.start` of the contract.
///
/// The function is one of
/// - `fn(Context) -> Result<Report>`, where `()` and the answer of `save_bills` may stand for the report,
/// - `fn(Job) -> Result<Report, Failure>` with the types of `konnector_sdk::bindings`, for a konnector that uses the contract as it is.
///
/// On targets other than WebAssembly nothing is exported, so that the same crate can be tested natively.
#[proc_macro_attribute]
pub fn konnector(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    if let Some(problem) = problem(&arguments.into(), &function) {
        return problem.to_compile_error().into();
    }
    let name = &function.sig.ident;
    let start = quote_spanned! { function.sig.span() => ::konnector_sdk::entry::start(super::#name, job) };
    quote! {
        #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a component calls its entry point"))]
        #function

        #[cfg(target_family = "wasm")]
        #[doc(hidden)]
        mod __konnector {
            struct Konnector;
            impl ::konnector_sdk::bindings::exports::konnector::host::run::Guest for Konnector {
                fn start(
                    job: ::konnector_sdk::bindings::exports::konnector::host::run::Job,
                ) -> ::core::result::Result<
                    ::konnector_sdk::bindings::exports::konnector::host::run::Report,
                    ::konnector_sdk::bindings::exports::konnector::host::run::Failure,
                > {
                    #start
                }
            }
            ::konnector_sdk::bindings::export!(Konnector with_types_in ::konnector_sdk::bindings);
        }
    }
    .into()
}

fn problem(arguments: &proc_macro2::TokenStream, function: &syn::ItemFn) -> Option<syn::Error> {
    let signature = &function.sig;
    if !arguments.is_empty() {
        return Some(syn::Error::new(arguments.span(), "#[konnector] takes no arguments"));
    }
    if let Some(word) = &signature.asyncness {
        return Some(syn::Error::new(word.span(), "a konnector is not async: the host's imports wait by themselves"));
    }
    if !signature.generics.params.is_empty() {
        return Some(syn::Error::new(signature.generics.span(), "a konnector has no generic parameters"));
    }
    if signature.inputs.len() != 1 {
        return Some(syn::Error::new(signature.span(), "a konnector is `fn run(context: Context) -> Result<Report>`"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn text(arguments: proc_macro2::TokenStream, function: &syn::ItemFn) -> Option<String> {
        problem(&arguments, function).map(|error| error.to_string())
    }

    #[test]
    fn what_is_no_konnector_is_explained() {
        let run: syn::ItemFn = parse_quote! { fn run(context: Context) -> Result<Report> { todo!() } };
        assert_eq!(text(quote! {}, &run), None);
        assert_eq!(text(quote! { name = 1 }, &run).as_deref(), Some("#[konnector] takes no arguments"));
        let cases: [(syn::ItemFn, &str); 3] = [
            (
                parse_quote! { async fn run(context: Context) {} },
                "a konnector is not async: the host's imports wait by themselves",
            ),
            (parse_quote! { fn run<T>(context: T) {} }, "a konnector has no generic parameters"),
            (parse_quote! { fn run() {} }, "a konnector is `fn run(context: Context) -> Result<Report>`"),
        ];
        for (function, expected) in cases {
            assert_eq!(text(quote! {}, &function).as_deref(), Some(expected));
        }
    }
}
