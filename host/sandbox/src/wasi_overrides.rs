//! WASI functions whose arguments the implementation does not bound. These versions are linked in their place.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest as _, Method, OutgoingRequest};
use wasmtime_wasi_io::bindings::wasi::io::poll::Host as _;

use crate::host::Host;
use konnector_egress::MAX_METHOD_LENGTH;

/// Name of the interface in `wasmtime-wasi-http`.
const HTTP_TYPES: &str = "wasi:http/types@0.2.12";
/// Name of the interface in `wasmtime-wasi-io`.
const IO_POLL: &str = "wasi:io/poll@0.2.12";

/// Replaces the functions of the implementation with ours.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(HTTP_TYPES)?.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store, (request, method): (Resource<OutgoingRequest>, Method)| {
            let too_long = matches!(&method, Method::Other(name) if name.len() > MAX_METHOD_LENGTH);
            let set = if too_long { Err(()) } else { store.data_mut().http().set_method(request, method)? };
            Ok((set,))
        },
    )?;
    linker.instance(IO_POLL)?.func_wrap_async("poll", |mut store, (pollables,): (Vec<Resource<DynPollable>>,)| {
        Box::new(async move {
            let host = store.data_mut();
            let max = host.context.capabilities.limits.handles;
            if pollables.len() > max {
                let number = pollables.len();
                return Err(wasmtime::format_err!("`poll` takes at most {max} pollables, but got {number}"));
            }
            Ok((host.table().poll(pollables).await?,))
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}
