//! `demo-vendor`: the web site of Bank101, for the demo and for konnector authors.

use std::io::IsTerminal;
use std::num::NonZeroU32;

use anyhow::Context;
use clap::Parser;
use demo_vendor::{DEFAULT_BILLS, DEFAULT_LOGIN, DEFAULT_PASSWORD, Layout, Switches, Vendor, VendorOptions};
use tracing_subscriber::EnvFilter;

/// Runs the web site of Bank101, a vendor that does not exist.
///
/// Every flag from --maintenance on can also be changed while it runs: PATCH /_control/state.
#[derive(Debug, Parser)]
#[command(name = "demo-vendor", version)]
struct Arguments {
    /// Address to listen on; port 0 takes any free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9091")]
    listen: std::net::SocketAddr,
    /// The customer's login name.
    #[arg(long, default_value = DEFAULT_LOGIN)]
    login: String,
    /// Number of initial bills.
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_BILLS)]
    bills: usize,
    /// The customer's password.
    #[arg(long, default_value = DEFAULT_PASSWORD)]
    password: String,
    /// Respond to every page with 503.
    #[arg(long)]
    maintenance: bool,
    /// Delay every page by this many milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    slow_ms: u64,
    /// Ask for a one-time code after the password; GET /_control/state shows it.
    #[arg(long)]
    otp: bool,
    /// Break the HTML of the list of bills.
    #[arg(long)]
    malformed: bool,
    /// Show the site after a redesign that no konnector supports.
    #[arg(long)]
    new_layout: bool,
    /// Respond with 500 to requests for the PDFs of these bills.
    #[arg(long, value_name = "REFERENCE", value_delimiter = ',')]
    pdf_error: Vec<String>,
    /// Respond with 200 and an HTML page to requests for the PDFs of these bills.
    #[arg(long, value_name = "REFERENCE", value_delimiter = ',')]
    pdf_html: Vec<String>,
    /// Lock the account after this many wrong passwords in a row.
    #[arg(long, value_name = "COUNT")]
    locked_after: Option<NonZeroU32>,
}

impl From<Arguments> for VendorOptions {
    fn from(arguments: Arguments) -> Self {
        let switches = Switches {
            maintenance: arguments.maintenance,
            slow_ms: arguments.slow_ms,
            otp: arguments.otp,
            malformed: arguments.malformed,
            layout: if arguments.new_layout { Layout::New } else { Layout::Old },
            pdf_error: arguments.pdf_error,
            pdf_html: arguments.pdf_html,
            password: arguments.password,
            locked_after: arguments.locked_after,
        };
        Self { listen: arguments.listen, login: arguments.login, bills: arguments.bills, switches }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();

    let options = VendorOptions::from(Arguments::parse());
    let (login, password) = (options.login.clone(), options.switches.password.clone());
    let vendor = Vendor::start(options).await?;
    println!("Bank101 is at {}", vendor.url());
    println!("login: {login}");
    println!("password: {password}");
    println!("switches: {}/_control/state", vendor.url());

    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    vendor.shutdown().await?;
    Ok(())
}
