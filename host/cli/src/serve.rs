//! `konnector serve`: runs the server.

pub mod config;
mod file_limits;
mod first_instance;
mod key;
pub mod listeners;
mod logging;
mod memory_dumps;
mod shutdown;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use konnector_api::{InProcessApi, Passphrase, ServerInfo};
use konnector_egress::{Gate, GateOptions};
use konnector_platform::clock::SystemClock;
use konnector_platform::{Config, Platform, PlatformParts};
use konnector_sandbox::compile::CompileLimits;
use konnector_sandbox::{CodeKey, Sandbox};
use konnector_store::Store;
use toml::{Table, Value};

use crate::client::Connection;
use crate::data_dir::ServerAddresses;
use crate::error::{Error, Result, io};
use crate::fsck;

use self::config::{LogFormat, Settings};
use self::listeners::Listeners;

const EXAMPLES: &str = "Examples:
  konnector serve                                            data in ./data, public API at http://127.0.0.1:8080
  konnector --data-dir /var/lib/konnector serve              another data folder
  konnector serve --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0   any free ports; see server.json in the data folder
  konnector serve --allow-address 192.168.1.20:5232          konnectors may reach this private address
  konnector serve --config /etc/konnector.toml               settings from a file, one per line: listen = \"127.0.0.1:8080\"

Each setting has a key in the file (admin_listen), an environment variable (KONNECTOR_ADMIN_LISTEN, or
KONNECTOR_ADMIN_LISTEN_FILE for a file that contains the value) and a flag (--admin-listen). A flag overrides the
variable, and the variable overrides the file.";

/// Time for running jobs, requests and the store to end. Docker kills the process after ten seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(9);
/// Time for pending responses after a disk failure.
const RESPONSE_GRACE_PERIOD: Duration = Duration::from_millis(200);

/// Flags of `konnector serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Address of the public API; port 0 takes any free port [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of the admin API [default: 127.0.0.1:6060].
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// File with settings, in TOML.
    #[arg(long, value_name = "FILE", env = "KONNECTOR_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// File with the master key, which encrypts secrets [default: master-key in the data folder].
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Private address or network that konnectors may reach, with or without a port; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    allow_address: Vec<String>,
    /// URL of a registry of konnectors; may be repeated. The first registry that has a konnector is used.
    #[arg(long, value_name = "URL")]
    registry: Vec<String>,
    /// Maximum number of concurrent jobs [default: 4].
    #[arg(long, value_name = "NUMBER")]
    workers: Option<u32>,
    /// Number of seconds after which another worker takes over the job of an unresponsive worker [default: 45].
    #[arg(long, value_name = "SECONDS")]
    lease_seconds: Option<u32>,
    /// Number of seconds before the first retry of a failed run; the delay doubles with each retry [default: 300].
    #[arg(long, value_name = "SECONDS")]
    retry_delay_seconds: Option<u32>,
    /// Maximum number of concurrent jobs, in the whole server, that contact one vendor host; 0 means no limit
    /// [default: 1].
    #[arg(long, value_name = "NUMBER")]
    vendor_concurrency: Option<u32>,
    /// Maximum number of concurrent jobs of one konnector, in the whole server; 0 means no limit [default: 0].
    #[arg(long, value_name = "NUMBER")]
    konnector_concurrency: Option<u32>,
    /// Number of ended jobs to keep for each trigger [default: 50].
    #[arg(long, value_name = "NUMBER")]
    keep_jobs: Option<u32>,
    /// Number of days to keep ended jobs [default: 90].
    #[arg(long, value_name = "DAYS")]
    keep_jobs_days: Option<u32>,
    /// Disk space that new data leaves free, in MiB [default: 256, or 5 % of a small disk].
    #[arg(long, value_name = "MIB")]
    disk_reserve_mib: Option<u32>,
    /// Maximum of a limit that a konnector may request, as in memory_mib=1024; may be repeated. See docs/operators.md
    /// for the list.
    #[arg(long, value_name = "LIMIT=NUMBER")]
    limit: Vec<String>,
    /// Default of a limit for konnectors that do not request it, as in wall_s=600; may be repeated.
    #[arg(long, value_name = "LIMIT=NUMBER")]
    default_limit: Vec<String>,
    /// Hourly limit of an instance, as in jobs=100; 0 means no limit; may be repeated. See docs/operators.md for the
    /// list.
    #[arg(long, value_name = "LIMIT=NUMBER")]
    hourly_limit: Vec<String>,
    /// Format of the log on standard error [default: text].
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Arguments {
    /// Returns the configuration layer of the flags.
    fn to_table(&self, connection: &Connection) -> Result<Table> {
        let text = |text: &String| Value::String(text.clone());
        let path = |path: &PathBuf| Value::String(path.to_string_lossy().into_owned());
        let format = |format: LogFormat| {
            Value::String(match format {
                LogFormat::Text => "text".to_owned(),
                LogFormat::Json => "json".to_owned(),
            })
        };
        let limits = |name: &str, entries: &[String]| {
            let entries = Some(entries).filter(|entries| !entries.is_empty());
            entries.map(|entries| config::read_limits(name, entries.iter().map(String::as_str))).transpose()
        };
        let list = |list: &Vec<String>| (!list.is_empty()).then(|| Value::Array(list.iter().map(text).collect()));
        let layer = [
            ("data_dir", connection.data_dir.as_ref().map(path)),
            ("domain", connection.domain.as_ref().map(text)),
            ("listen", self.listen.as_ref().map(text)),
            ("admin_listen", self.admin_listen.as_ref().map(text)),
            ("key_file", self.key_file.as_ref().map(path)),
            ("allow_address", list(&self.allow_address)),
            ("registries", list(&self.registry)),
            ("workers", self.workers.map(|number| Value::Integer(number.into()))),
            ("lease_seconds", self.lease_seconds.map(|number| Value::Integer(number.into()))),
            ("retry_delay_seconds", self.retry_delay_seconds.map(|number| Value::Integer(number.into()))),
            ("vendor_concurrency", self.vendor_concurrency.map(|number| Value::Integer(number.into()))),
            ("konnector_concurrency", self.konnector_concurrency.map(|number| Value::Integer(number.into()))),
            ("keep_jobs", self.keep_jobs.map(|number| Value::Integer(number.into()))),
            ("keep_jobs_days", self.keep_jobs_days.map(|number| Value::Integer(number.into()))),
            ("disk_reserve_mib", self.disk_reserve_mib.map(|number| Value::Integer(number.into()))),
            ("limits", limits("--limit", &self.limit)?),
            ("default_limits", limits("--default-limit", &self.default_limit)?),
            ("hourly_limits", limits("--hourly-limit", &self.hourly_limit)?),
            ("log_format", self.log_format.map(format)),
        ];
        Ok(layer.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
    }
}

/// Runs the server until a signal requests shutdown.
pub async fn run(connection: &Connection, arguments: Arguments) -> Result<()> {
    let file = arguments.config.as_deref().map(config::read_file).transpose()?.unwrap_or_default();
    let variable = |name: &str| std::env::var(name).ok();
    let settings = Settings::merge(file, &variable, arguments.to_table(connection)?)?;
    logging::init(settings.log_format);
    let signals = shutdown::ShutdownSignals::listen()?;
    memory_dumps::disable()?;
    let connection_limits = file_limits::raise_file_limit();
    // Before the data is touched, because a port in use is the most frequent reason for a failed start.
    let listeners = Listeners::bind(&settings).await?;
    settings.data_dir.create()?;
    let platform = build_platform(&settings).await?;
    let domain = first_instance::ensure(&platform, &settings, listeners.public_address()).await?;
    let passphrase = match &settings.admin_passphrase {
        Some(passphrase) => passphrase.clone(),
        None => settings.data_dir.passphrase_or_new()?,
    };
    let public = konnector_api::public(platform.clone());
    platform.set_internal_api(Arc::new(InProcessApi::default()));
    platform.start().await?;

    let addresses = listeners.addresses();
    let info = ServerInfo { version: env!("CARGO_PKG_VERSION").to_owned(), public_url: addresses.public_url.clone() };
    let admin = konnector_api::admin(platform.clone(), Passphrase::new(&passphrase), info);
    let server_file = settings.data_dir.write_server_file(&addresses)?;
    print_addresses(&settings, &addresses, &domain);

    let stop = signals.stop_token();
    let store_failure = platform.store_failure();
    let serving = async {
        tokio::try_join!(
            konnector_api::serve_with_limits(
                connection_limits.public,
                listeners.public,
                public,
                stop.clone().cancelled_owned()
            ),
            konnector_api::serve_with_limits(
                connection_limits.admin,
                listeners.admin,
                admin,
                stop.clone().cancelled_owned()
            ),
            async {
                stop.cancelled().await;
                tracing::info!("stopping: jobs that do not end within a few seconds return to the queue");
                let (force, forced) = (signals.force_token(), platform.clone());
                let forcing = tokio::spawn(async move {
                    force.cancelled().await;
                    forced.force_shutdown();
                });
                // Concurrently with the shutdown of requests, so that both fit into the time a container allows.
                let stopped = tokio::time::timeout(SHUTDOWN_TIMEOUT, platform.stop()).await;
                forcing.abort();
                if stopped.is_err() {
                    tracing::warn!("some jobs did not end in time; they restart with the server");
                }
                Ok(())
            },
        )
    };
    tokio::select! {
        served = serving => {
            drop(server_file);
            served.map(drop).map_err(io("serving"))
        }
        reason = store_failure => {
            drop(server_file);
            exit_after_disk_failure(connection, &settings, &reason).await
        }
    }
}

/// Exits after a failed disk write, because only a restart shows which data is stored. Nothing is closed cleanly,
/// because that would write more.
async fn exit_after_disk_failure(connection: &Connection, settings: &Settings, reason: &str) -> ! {
    // Pending requests receive an error response.
    tokio::time::sleep(RESPONSE_GRACE_PERIOD).await;
    let error = Error::failed(
        format!(
            "a write to {} failed: {reason}; all data acknowledged before it is stored",
            settings.data_dir.store().display()
        ),
        "check the disk and free some space (df -h), then start the server again",
    );
    if connection.json {
        error.print_json();
    } else {
        error.print();
    }
    std::process::exit(1)
}

async fn build_platform(settings: &Settings) -> Result<Platform> {
    let key = key::load(settings)?;
    let store = {
        let (folder, reserve) = (settings.data_dir.store(), settings.disk_reserve);
        let options =
            konnector_store::StoreOptions { reserve_bytes: reserve, ..konnector_store::StoreOptions::default() };
        // Reading the log of a large store may take a long time.
        tokio::task::spawn_blocking(move || Store::open(&folder, options))
            .await
            .map_err(|error| Error::failed(format!("opening the store was interrupted: {error}"), ""))??
    };
    if store.was_unclean() {
        fsck::repair_after_crash(&store).await?;
    }
    let sandbox = Sandbox::new(konnector_sandbox::SandboxOptions {
        memory_ceiling: usize::try_from(settings.limits.max.memory).unwrap_or(usize::MAX),
        max_runs: settings.workers.max(konnector_sandbox::SandboxOptions::default().max_runs),
        // Separate threads, so that a busy guest delays no request.
        worker_threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        compiler: crate::compile::compiler(CompileLimits::default())?,
        code_key: Some(CodeKey::new(&key.derive("compiled-code"))),
        ..konnector_sandbox::SandboxOptions::default()
    })?;
    let gate = Gate::new(GateOptions { allowed_private: settings.allow_address.clone(), ..GateOptions::default() })?;
    let config = Config {
        workers: settings.workers,
        lease_ttl: settings.lease_duration,
        retry_delay: settings.retry_delay,
        vendor_concurrency: settings.vendor_concurrency,
        konnector_concurrency: settings.konnector_concurrency,
        job_retention: settings.job_retention,
        registries: settings.registries.clone(),
        permissions_skip_verification: settings.permissions_skip_verification,
        allow_install_via_a_permission: settings.allow_install_via_a_permission,
        run_limits: settings.limits.clone(),
        hourly_limits: settings.hourly_limits,
        ..Config::new(settings.data_dir.cache())
    };
    let parts = PlatformParts { store, sandbox: Arc::new(sandbox), gate, key, clock: Arc::new(SystemClock), config };
    Ok(Platform::new(parts).await?)
}

/// Prints the server's addresses and how to log in.
fn print_addresses(settings: &Settings, addresses: &ServerAddresses, domain: &str) {
    let folder = settings.data_dir.path().display();
    say!("konnector {} is ready", env!("CARGO_PKG_VERSION"));
    say!("  public API  {}", addresses.public_url);
    say!("  admin API   {}", addresses.admin_url);
    say!("  data        {folder}");
    say!("  get a token konnector --data-dir {folder} instances token {domain} --scope '*'");
}
