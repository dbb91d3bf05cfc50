//! The interfaces that a component can import. WASI is linked interface by interface and never as a whole, because this
//! list is the security review. Anything else does not exist for a guest. There are no sockets, no name resolution and
//! no directory of this machine.

use wasmtime::Engine;
use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi_http::p2::bindings::http;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView as _};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::bindings::konnector::host as interfaces;
use crate::filesystem::interfaces as filesystem;
use crate::host::Host;

/// Links every interface that a konnector may import.
pub(crate) fn new_linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    link_wasi(&mut linker)?;
    crate::wasi_overrides::link(&mut linker)?;
    link_konnector_interfaces(&mut linker)?;
    Ok(linker)
}

/// The streams and pollables of `wasi:io` need only the resource table.
struct ResourceTableData;

impl HasData for ResourceTableData {
    type Data<'a> = &'a mut ResourceTable;
}

fn link_wasi(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    // Only `TZ` and `LANG`, no arguments; standard input is empty; the outputs become lines of the run's log.
    cli::environment::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::exit::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::stdin::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::stdout::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::stderr::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    // The standard library checks with these whether it writes to a terminal, which is never the case.
    cli::terminal_input::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_output::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_stdin::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_stdout::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    cli::terminal_stderr::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
    io::error::add_to_linker::<Host, ResourceTableData>(linker, |host| host.ctx().table)?;
    io::poll::add_to_linker::<Host, ResourceTableData>(linker, |host| host.ctx().table)?;
    io::streams::add_to_linker::<Host, ResourceTableData>(linker, |host| host.ctx().table)?;
    clocks::wall_clock::add_to_linker::<Host, WasiClocks>(linker, Host::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Host, WasiClocks>(linker, Host::clocks)?;
    random::random::add_to_linker::<Host, WasiRandom>(linker, Host::random)?;
    random::insecure::add_to_linker::<Host, WasiRandom>(linker, Host::random)?;
    random::insecure_seed::add_to_linker::<Host, WasiRandom>(linker, Host::random)?;
    // Only the HTTP client, which goes through the gate; there is no server.
    http::types::add_to_linker::<Host, WasiHttp>(linker, &http::types::LinkOptions::default(), Host::http)?;
    http::outgoing_handler::add_to_linker::<Host, WasiHttp>(linker, Host::http)?;
    // Our own implementation: `/tmp` in memory and `/files` through a capability, no directory of this machine.
    filesystem::types::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    filesystem::preopens::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    Ok(())
}

fn link_konnector_interfaces(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type HostData = HasSelf<Host>;
    interfaces::types::add_to_linker::<Host, HostData>(linker, |host| host)?;
    interfaces::account::add_to_linker::<Host, HostData>(linker, |host| host)?;
    interfaces::secrets::add_to_linker::<Host, HostData>(linker, |host| host)?;
    interfaces::reveal::add_to_linker::<Host, HostData>(linker, |host| host)?;
    interfaces::documents::add_to_linker::<Host, HostData>(linker, |host| host)?;
    interfaces::files::add_to_linker::<Host, HostData>(linker, |host| host)?;
    interfaces::http::add_to_linker::<Host, HostData>(linker, |host| host)?;
    interfaces::log::add_to_linker::<Host, HostData>(linker, |host| host)?;
    interfaces::progress::add_to_linker::<Host, HostData>(linker, |host| host)?;
    Ok(())
}
