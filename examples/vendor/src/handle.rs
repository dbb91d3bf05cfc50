//! A running vendor.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::control::Control;
use crate::error::Error;
use crate::options::VendorOptions;
use crate::web;

/// How long [`VendorHandle::shutdown`] lets open requests finish.
const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Starts vendors.
#[derive(Debug)]
pub struct Vendor;

/// A vendor that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct VendorHandle {
    address: SocketAddr,
    url: String,
    control: Control,
    stop: DropGuard,
    server: JoinHandle<std::io::Result<()>>,
}

impl Vendor {
    /// Starts a vendor on the current Tokio runtime; it accepts connections when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the vendor cannot listen on the address.
    pub async fn start(options: VendorOptions) -> Result<VendorHandle, Error> {
        let listen = |source| Error::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let control = Control::new(options);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serve = axum::serve(listener, web::router(control.clone())).with_graceful_shutdown(stopped);
        let server = tokio::spawn(serve.into_future());
        Ok(VendorHandle { address, url: format!("http://{address}"), control, stop: stop.drop_guard(), server })
    }
}

impl VendorHandle {
    /// Returns the address on which the vendor listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the root of the site, such as `http://127.0.0.1:9091`, without a final slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the handle that sets the switches and reads the counters.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops listening and lets open requests finish for up to five seconds.
    ///
    /// Dropping the vendor stops it as well, without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Serve`] if the server had stopped by itself.
    pub async fn shutdown(self) -> Result<(), Error> {
        drop(self.stop);
        let abort = self.server.abort_handle();
        match tokio::time::timeout(SHUTDOWN_GRACE_PERIOD, self.server).await {
            Ok(Ok(served)) => served.map_err(Error::Serve),
            Ok(Err(failed)) => Err(Error::Serve(failed.into())),
            Err(_) => {
                abort.abort();
                Ok(())
            }
        }
    }
}
