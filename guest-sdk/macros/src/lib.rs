//! `#[konnector]`: makes a function the entry point of a konnector.

use proc_macro::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

/// Makes a function the program's entry point, the export `run.run` of the contract.
///
/// The function has one of these signatures:
/// - `fn(Context) -> Result<Report>`, where `()` or the result of `save_bills` may replace the report,
/// - `fn(Job) -> Result<Report, Failure>` with the types of `konnector_sdk::bindings`, for a konnector that uses the
///   contract directly.
///
/// `#[konnector(saves("io.cozy.bills", "io.cozy.files"))]` names the doctypes that the konnector will save. The
/// host checks these rights before the function begins, so a rule that is missing from the manifest ends the run
/// before any request is sent.
///
/// On targets other than WebAssembly nothing is exported, so that the same crate can be tested natively.
#[proc_macro_attribute]
pub fn konnector(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = syn::parse_macro_input!(item as syn::ItemFn);
    let saves = match doctypes(arguments.into()).and_then(|saves| signature_error(&function).map_or(Ok(saves), Err)) {
        Ok(saves) => saves,
        Err(problem) => return problem.to_compile_error().into(),
    };
    let name = &function.sig.ident;
    let call = quote_spanned! { function.sig.span() => ::konnector_sdk::entry::run(&[#(#saves),*], super::#name, job) };
    quote! {
        #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a component calls its entry point"))]
        #function

        #[cfg(target_family = "wasm")]
        #[doc(hidden)]
        mod __konnector {
            struct Konnector;
            impl ::konnector_sdk::bindings::exports::konnector::host::run::Guest for Konnector {
                fn run(
                    job: ::konnector_sdk::bindings::exports::konnector::host::run::Job,
                ) -> ::core::result::Result<
                    ::konnector_sdk::bindings::exports::konnector::host::run::Report,
                    ::konnector_sdk::bindings::exports::konnector::host::run::Failure,
                > {
                    #call
                }
            }
            ::konnector_sdk::bindings::export!(Konnector with_types_in ::konnector_sdk::bindings);
        }
    }
    .into()
}

/// Parses the doctypes in `saves("…", "…")`.
fn doctypes(arguments: proc_macro2::TokenStream) -> syn::Result<Vec<syn::LitStr>> {
    let mut saves = Vec::new();
    let parser = syn::meta::parser(|argument| {
        if !argument.path.is_ident("saves") {
            return Err(argument.error("#[konnector] accepts only saves(\"io.cozy.bills\", …)"));
        }
        let list;
        syn::parenthesized!(list in argument.input);
        saves.extend(list.parse_terminated(<syn::LitStr as syn::parse::Parse>::parse, syn::Token![,])?);
        Ok(())
    });
    syn::parse::Parser::parse2(parser, arguments)?;
    Ok(saves)
}

fn signature_error(function: &syn::ItemFn) -> Option<syn::Error> {
    let signature = &function.sig;
    if let Some(word) = &signature.asyncness {
        return Some(syn::Error::new(
            word.span(),
            "a konnector cannot be async: the imports of the host block until they are done",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Some(syn::Error::new(signature.generics.span(), "a konnector cannot have generic parameters"));
    }
    if signature.inputs.len() != 1 {
        return Some(syn::Error::new(
            signature.span(),
            "a konnector must have the signature `fn run(context: Context) -> Result<Report>`",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn text(function: &syn::ItemFn) -> Option<String> {
        signature_error(function).map(|error| error.to_string())
    }

    #[test]
    fn what_is_saved_is_a_list_of_texts() {
        let saves =
            |arguments| doctypes(arguments).map(|saves| saves.iter().map(syn::LitStr::value).collect::<Vec<_>>());
        assert_eq!(saves(quote! {}).expect("nothing"), Vec::<String>::new());
        assert_eq!(saves(quote! { saves("a.b", "c.d") }).expect("two"), ["a.b", "c.d"]);
        let error = saves(quote! { name = 1 }).expect_err("unknown").to_string();
        assert_eq!(error, "#[konnector] accepts only saves(\"io.cozy.bills\", …)");
        assert!(saves(quote! { saves(bills) }).is_err());
    }

    #[test]
    fn an_invalid_signature_is_explained() {
        let run: syn::ItemFn = parse_quote! { fn run(context: Context) -> Result<Report> { todo!() } };
        assert_eq!(text(&run), None);
        let cases: [(syn::ItemFn, &str); 3] = [
            (
                parse_quote! { async fn run(context: Context) {} },
                "a konnector cannot be async: the imports of the host block until they are done",
            ),
            (parse_quote! { fn run<T>(context: T) {} }, "a konnector cannot have generic parameters"),
            (
                parse_quote! { fn run() {} },
                "a konnector must have the signature `fn run(context: Context) -> Result<Report>`",
            ),
        ];
        for (function, expected) in cases {
            assert_eq!(text(&function).as_deref(), Some(expected));
        }
    }
}
