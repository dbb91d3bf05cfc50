//! Settings of the operator.

use std::path::PathBuf;
use std::time::Duration;

use konnector_documents::rate::HourlyLimits;
use konnector_jobs::job::JobRetention;
use konnector_sandbox::LimitPolicy;
use url::Url;

/// Settings of the operator.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of compiled components; may be emptied at any time.
    pub cache_dir: PathBuf,
    /// Maximum number of jobs that run at the same time.
    pub workers: u32,
    /// How long a worker's lease lasts without a heartbeat; five heartbeats fit into that period.
    pub lease_ttl: Duration,
    /// First delay before a run is retried; it doubles with each attempt, up to six hours, with full jitter.
    pub retry_delay: Duration,
    /// How many jobs of the whole server may contact one vendor host at the same time; 0 means no limit.
    pub vendor_concurrency: u32,
    /// How many jobs of one konnector the whole server runs at the same time; 0 means no limit.
    pub konnector_concurrency: u32,
    /// How many finished jobs are retained, and for how long.
    pub job_retention: JobRetention,
    /// Resource limits of runs.
    pub run_limits: LimitPolicy,
    /// Default quota: bytes that the files of one instance may take.
    pub disk_quota: u64,
    /// Registries in which konnectors are looked up, in this order.
    pub registries: Vec<Url>,
    /// Installs updates that request more permissions without asking the user.
    pub permissions_skip_verification: bool,
    /// Lets clients with the permission install konnectors from the registry, not only the store.
    pub allow_install_via_a_permission: bool,
    /// The program that reaches repositories over SSH.
    pub ssh_program: PathBuf,
    /// Rate limits of an instance per hour.
    pub hourly_limits: HourlyLimits,
    /// URL scheme under which clients reach the public API, for links in responses and for `COZY_URL`.
    pub scheme: &'static str,
}

impl Config {
    /// Returns the defaults, with compiled components in `cache_dir`.
    #[must_use]
    pub fn new(cache_dir: PathBuf) -> Self {
        Self {
            cache_dir,
            workers: 4,
            lease_ttl: Duration::from_secs(45),
            retry_delay: Duration::from_secs(300),
            vendor_concurrency: 1,
            konnector_concurrency: 0,
            job_retention: JobRetention::default(),
            run_limits: LimitPolicy::default(),
            disk_quota: 10 << 30,
            registries: Vec::new(),
            permissions_skip_verification: false,
            allow_install_via_a_permission: false,
            ssh_program: PathBuf::from("ssh"),
            hourly_limits: HourlyLimits::default(),
            scheme: "http",
        }
    }
}
