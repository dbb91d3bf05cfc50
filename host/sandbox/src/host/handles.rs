//! Memory that the host holds for the handles of a guest: requests, headers, bodies, streams, timers, open files. It
//! counts as memory of the run.
//!
//! The WASI implementations create most of these without any check. Therefore, the table is weighed repeatedly. Each
//! call of an interface that can add to it passes through this module. A run whose handles exceed its memory gets an
//! empty table without capacity. Its next use of a handle traps, and the run ends with a specific message.

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
use super::files::{OpenFileHandle, OpenUpload};
use crate::filesystem::DirectoryEntryStream;
use crate::memory::{MemoryCharge, RunMemory};
use crate::meter::Meter;

/// Calls between two weighings. One call adds little more than the 64 KiB of the headers of one request.
const CALLS_PER_WEIGHING: u32 = 64;
/// Size of any handle in bytes, that is, of its entries in two tables and its boxed value.
const HANDLE_SIZE: usize = 512;
/// Size of a stream in bytes, that is, of its read-ahead or its written bytes that were not consumed yet.
const STREAM_SIZE: usize = 32 << 10;
/// Size of an upload or an open file in bytes, that is, of the buffers of its reader or writer.
const OPEN_FILE_SIZE: usize = 256 << 10;
/// Overhead of a header in bytes, without its name and value: an entry of a hash map, and room for growth.
const HEADER_OVERHEAD: usize = 256;

/// The charge for the handles of one run.
pub(crate) struct HandleCharge {
    charge: MemoryCharge,
    meter: Arc<Meter>,
    calls_since_weighing: u32,
    /// Empty table without capacity.
    full_table: ResourceTable,
}

impl HandleCharge {
    pub(crate) fn new(memory: &Arc<RunMemory>, meter: Arc<Meter>) -> Self {
        let mut none = ResourceTable::new();
        none.set_max_capacity(0);
        Self { charge: memory.new_charge(), meter, calls_since_weighing: 0, full_table: none }
    }

    /// Returns the table for one call.
    pub(super) fn table<'a>(&'a mut self, table: &'a mut ResourceTable) -> &'a mut ResourceTable {
        self.calls_since_weighing += 1;
        if self.calls_since_weighing >= CALLS_PER_WEIGHING {
            self.calls_since_weighing = 0;
            self.weigh(table);
        }
        if self.meter.is_handles_denied() { &mut self.full_table } else { table }
    }

    fn weigh(&mut self, table: &mut ResourceTable) {
        let weight: usize = table.iter_mut().map(|entry| HANDLE_SIZE + weight(entry)).sum();
        if !self.charge.resize(weight as u64) {
            self.meter.record_handles_denied();
        }
    }
}

impl Host {
    /// Returns the table of handles, for a call that may add to it.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        self.handles.table(&mut self.table)
    }

    /// Adds a resource to the table and returns its handle.
    pub(crate) fn push_handle<T: Send + 'static>(&mut self, resource: T) -> Result<Resource<T>, ResourceTableError> {
        self.table().push(resource)
    }
}

/// Returns the bytes that one handle holds in addition to [`HANDLE_SIZE`]; the maximum if this number is unknown.
fn weight(entry: &mut (dyn Any + Send)) -> usize {
    let entry: &(dyn Any + Send) = entry;
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        headers_size(fields)
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let texts = [&request.authority, &request.path_with_query].into_iter().flatten().map(String::len);
        let other = [
            if let Method::Other(method) = &request.method { method.len() } else { 0 },
            if let Some(Scheme::Other(scheme)) = &request.scheme { scheme.len() } else { 0 },
        ];
        headers_size(&request.headers) + texts.chain(other).sum::<usize>()
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        headers_size(&response.headers)
    } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        headers_size(&response.headers) + STREAM_SIZE
    } else if let Some(response) = entry.downcast_ref::<HostFutureIncomingResponse>() {
        match response {
            HostFutureIncomingResponse::Ready(Ok((response, _))) => headers_size(response.headers()) + STREAM_SIZE,
            _ => STREAM_SIZE,
        }
    } else if let Some(entries) = entry.downcast_ref::<DirectoryEntryStream>() {
        entries.memory_size()
    } else if entry.is::<DynInputStream>()
        || entry.is::<DynOutputStream>()
        || entry.is::<HostIncomingBody>()
        || entry.is::<HostOutgoingBody>()
    {
        STREAM_SIZE
    } else if entry.is::<OpenUpload>() || entry.is::<OpenFileHandle>() {
        OPEN_FILE_SIZE
    } else {
        0
    }
}

fn headers_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| HEADER_OVERHEAD + name.as_str().len() + value.len()).sum()
}
