//! What the host keeps for the handles of a guest: requests, headers, bodies, streams, timers, open files. It counts as memory of the run.
//!
//! Most of these are made by the implementations of WASI, which do not ask anybody. So the table is weighed again and again: each call of
//! an interface that can put something into it comes by here. A run whose handles do not fit into its memory gets an empty table in which
//! there is no place: whatever it does next with a handle traps, and the run ends with a sentence of its own.

use std::any::Any;
use std::sync::Arc;

use http::HeaderMap;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::{Method, Scheme};
use wasmtime_wasi_http::p2::body::{HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};

use super::Host;
use super::files::{OpenContent, OpenUpload};
use crate::filesystem::Entries;
use crate::memory::{Charge, RunMemory};
use crate::meter::Meter;

/// Calls between two weighings. One call adds little more than the 64 KiB of the headers of one request.
const INTERVAL: u32 = 64;
/// Any handle: its entry in two tables, and what is boxed behind it.
const HANDLE: usize = 512;
/// A stream: what it fetched ahead, or what was written to it and not taken yet.
const STREAM: usize = 32 << 10;
/// An upload or a file that is open: the buffers of its reader or writer.
const OPEN_FILE: usize = 256 << 10;
/// What a header takes besides its name and value: an entry of a hash map, and room for it to grow.
const HEADER: usize = 256;

/// The charge for the handles of one run.
pub(crate) struct Handles {
    charge: Charge,
    meter: Arc<Meter>,
    calls: u32,
    /// Has no place for anything.
    none: ResourceTable,
}

impl Handles {
    pub(crate) fn new(memory: &Arc<RunMemory>, meter: Arc<Meter>) -> Self {
        let mut none = ResourceTable::new();
        none.set_max_capacity(0);
        Self { charge: memory.charge(), meter, calls: 0, none }
    }

    /// The table for one call.
    pub(super) fn table<'a>(&'a mut self, table: &'a mut ResourceTable) -> &'a mut ResourceTable {
        self.calls += 1;
        if self.calls >= INTERVAL {
            self.calls = 0;
            self.weigh(table);
        }
        if self.meter.handles_were_refused() { &mut self.none } else { table }
    }

    fn weigh(&mut self, table: &mut ResourceTable) {
        let weight: usize = table.iter_mut().map(|entry| HANDLE + weight(entry)).sum();
        if !self.charge.resize(weight as u64) {
            self.meter.refuse_handles();
        }
    }
}

impl Host {
    /// The table of handles, for a call that may put something into it.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        self.handles.table(&mut self.table)
    }

    /// Gives the guest a handle.
    pub(crate) fn keep<T: Send + 'static>(&mut self, resource: T) -> Result<Resource<T>, ResourceTableError> {
        self.table().push(resource)
    }
}

/// Bytes behind one handle, besides [`HANDLE`]. Where they cannot be seen, the most that there can be.
fn weight(entry: &mut (dyn Any + Send)) -> usize {
    let entry: &(dyn Any + Send) = entry;
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        headers(fields)
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let texts = [&request.authority, &request.path_with_query].into_iter().flatten().map(String::len);
        let other = [
            if let Method::Other(method) = &request.method { method.len() } else { 0 },
            if let Some(Scheme::Other(scheme)) = &request.scheme { scheme.len() } else { 0 },
        ];
        headers(&request.headers) + texts.chain(other).sum::<usize>()
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        headers(&response.headers)
    } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        headers(&response.headers) + STREAM
    } else if let Some(response) = entry.downcast_ref::<HostFutureIncomingResponse>() {
        match response {
            HostFutureIncomingResponse::Ready(Ok((response, _))) => headers(response.headers()) + STREAM,
            _ => STREAM,
        }
    } else if let Some(entries) = entry.downcast_ref::<Entries>() {
        entries.weight()
    } else if entry.is::<DynInputStream>()
        || entry.is::<DynOutputStream>()
        || entry.is::<HostIncomingBody>()
        || entry.is::<HostOutgoingBody>()
    {
        STREAM
    } else if entry.is::<OpenUpload>() || entry.is::<OpenContent>() {
        OPEN_FILE
    } else {
        0
    }
}

fn headers(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| HEADER + name.as_str().len() + value.len()).sum()
}
