//! Settings of the server. Flags override the environment, which overrides the file.
//!
//! Each layer is a table with the same keys, so that one reader checks them all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use konnector_egress::AddressRule;
use konnector_manifest::{Limit, LimitValues};
use konnector_platform::job::JobRetention;
use konnector_platform::rate::HourlyLimits;
use konnector_sandbox::{LimitPolicy, Limits};
use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use crate::data_dir::{self, DataDir};
use crate::error::{Error, Result};

/// Type of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SettingKind {
    String,
    Number,
    List,
    Boolean,
    /// Limits by key.
    Limits,
}

/// All keys of the configuration file. The variable of a key is `KONNECTOR_` and the key in capitals.
const SETTINGS: [(&str, SettingKind); 22] = [
    ("data_dir", SettingKind::String),
    ("listen", SettingKind::String),
    ("admin_listen", SettingKind::String),
    ("key_file", SettingKind::String),
    ("domain", SettingKind::String),
    ("allow_address", SettingKind::List),
    ("registries", SettingKind::List),
    ("permissions_skip_verification", SettingKind::Boolean),
    ("allow_install_via_a_permission", SettingKind::Boolean),
    ("workers", SettingKind::Number),
    ("lease_seconds", SettingKind::Number),
    ("retry_delay_seconds", SettingKind::Number),
    ("vendor_concurrency", SettingKind::Number),
    ("konnector_concurrency", SettingKind::Number),
    ("keep_jobs", SettingKind::Number),
    ("keep_jobs_days", SettingKind::Number),
    ("disk_reserve_mib", SettingKind::Number),
    ("limits", SettingKind::Limits),
    ("default_limits", SettingKind::Limits),
    ("hourly_limits", SettingKind::Limits),
    ("log_format", SettingKind::String),
    ("admin_passphrase", SettingKind::String),
];

/// Format of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Readable lines.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Complete settings of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// See [`DataDir`].
    pub data_dir: DataDir,
    /// Address of the public API.
    pub listen: String,
    /// Address of the admin API.
    pub admin_listen: String,
    /// File with the master key.
    pub key_file: PathBuf,
    /// Domain of the first instance; `None` for the public address.
    pub domain: Option<String>,
    /// Private addresses that konnectors may reach.
    pub allow_address: Vec<AddressRule>,
    /// Registries of konnectors, in order of precedence.
    pub registries: Vec<Url>,
    /// See [`konnector_platform::Config`].
    pub permissions_skip_verification: bool,
    /// See [`konnector_platform::Config`].
    pub allow_install_via_a_permission: bool,
    /// Maximum number of concurrent jobs.
    pub workers: u32,
    /// Duration of a worker's lease without a heartbeat.
    pub lease_duration: Duration,
    /// Delay before the first retry of a failed run.
    pub retry_delay: Duration,
    /// Maximum number of concurrent jobs, in the whole server, that contact one vendor host; 0 means no limit.
    pub vendor_concurrency: u32,
    /// Maximum number of concurrent jobs of one konnector, in the whole server; 0 means no limit.
    pub konnector_concurrency: u32,
    /// Retention of ended jobs.
    pub job_retention: JobRetention,
    /// Number of bytes of disk space that new data leaves free; `None` for the store's default.
    pub disk_reserve: Option<u64>,
    /// Limits of runs.
    pub limits: LimitPolicy,
    /// Hourly limits of an instance.
    pub hourly_limits: HourlyLimits,
    pub log_format: LogFormat,
    /// Passphrase of the admin API, instead of the one in the data folder.
    pub admin_passphrase: Option<String>,
}

/// Merged layers, before defaults are filled in.
#[derive(Debug, Default, Deserialize)]
struct RawConfig {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    admin_listen: Option<String>,
    key_file: Option<PathBuf>,
    domain: Option<String>,
    allow_address: Option<Vec<AddressRule>>,
    registries: Option<Vec<Url>>,
    permissions_skip_verification: Option<bool>,
    allow_install_via_a_permission: Option<bool>,
    workers: Option<u32>,
    lease_seconds: Option<u64>,
    retry_delay_seconds: Option<u64>,
    vendor_concurrency: Option<u32>,
    konnector_concurrency: Option<u32>,
    keep_jobs: Option<u32>,
    keep_jobs_days: Option<u32>,
    disk_reserve_mib: Option<u32>,
    limits: Option<Table>,
    default_limits: Option<Table>,
    hourly_limits: Option<Table>,
    log_format: Option<LogFormat>,
    admin_passphrase: Option<String>,
}

impl Settings {
    /// Merges the layers; `variable` reads the environment.
    pub fn merge(file: Table, variable: &dyn Fn(&str) -> Option<String>, flags: Table) -> Result<Self> {
        for (key, value) in &flags {
            check_value(&format!("--{}", flag_name(key)), key, value)?;
        }
        let mut merged = file;
        for layer in [read_environment(variable)?, flags] {
            for (key, value) in layer {
                match (merged.get_mut(&key), value) {
                    // Limit by limit, so that a layer that sets one limit leaves the others unchanged.
                    (Some(Value::Table(base)), Value::Table(overrides)) => base.extend(overrides),
                    (_, value) => drop(merged.insert(key, value)),
                }
            }
        }
        let raw: RawConfig = merged.try_into().map_err(|error: toml::de::Error| {
            let message = error.to_string();
            Error::usage(format!("a setting is not valid: {}", message.trim()), "see `konnector serve --help`")
        })?;
        raw.complete()
    }
}

impl RawConfig {
    fn complete(self) -> Result<Settings> {
        let data_dir = DataDir::new(self.data_dir.unwrap_or_else(|| PathBuf::from(data_dir::DEFAULT_DATA_DIR)));
        let at_least_one = |name: &str, value: u64| {
            if value > 0 {
                Ok(value)
            } else {
                Err(Error::usage(format!("{name}: 0 is not allowed"), format!("set {name} to 1 or more")))
            }
        };
        let workers = self.workers.unwrap_or(4);
        at_least_one("workers", workers.into())?;
        Ok(Settings {
            key_file: self.key_file.unwrap_or_else(|| data_dir.key_file()),
            data_dir,
            listen: self.listen.unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
            admin_listen: self.admin_listen.unwrap_or_else(|| "127.0.0.1:6060".to_owned()),
            domain: self.domain,
            allow_address: self.allow_address.unwrap_or_default(),
            registries: self.registries.unwrap_or_default(),
            permissions_skip_verification: self.permissions_skip_verification.unwrap_or_default(),
            allow_install_via_a_permission: self.allow_install_via_a_permission.unwrap_or_default(),
            workers,
            lease_duration: Duration::from_secs(at_least_one("lease_seconds", self.lease_seconds.unwrap_or(45))?),
            retry_delay: Duration::from_secs(at_least_one(
                "retry_delay_seconds",
                self.retry_delay_seconds.unwrap_or(300),
            )?),
            vendor_concurrency: self.vendor_concurrency.unwrap_or(1),
            konnector_concurrency: self.konnector_concurrency.unwrap_or(0),
            job_retention: job_retention(self.keep_jobs, self.keep_jobs_days),
            disk_reserve: self.disk_reserve_mib.map(|mebibytes| u64::from(mebibytes) << 20),
            limits: LimitPolicy {
                max: Limits::default_max().with_requested(&limits("limits", self.limits)?),
                default: Limits::default().with_requested(&limits("default_limits", self.default_limits)?),
            },
            hourly_limits: hourly(self.hourly_limits)?,
            log_format: self.log_format.unwrap_or_default(),
            admin_passphrase: self.admin_passphrase,
        })
    }
}

fn job_retention(jobs: Option<u32>, days: Option<u32>) -> JobRetention {
    let default = JobRetention::default();
    JobRetention {
        max_per_trigger: jobs.map_or(default.max_per_trigger, |jobs| jobs as usize),
        max_age: days.map_or(default.max_age, |days| Duration::from_secs(u64::from(days) * 24 * 3_600)),
    }
}

fn limits(setting: &str, table: Option<Table>) -> Result<LimitValues> {
    let mut values = LimitValues::default();
    for (key, value) in table.into_iter().flatten() {
        let limit = Limit::from_key(&key).ok_or_else(|| unknown_limit(setting, &key))?;
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
        let invalid = || {
            Error::usage(
                format!("{setting}.{key}: {value} is not a positive whole number"),
                format!("for example {key} = {}", limit.default_max()),
            )
        };
        values.set(limit, number.ok_or_else(invalid)?)?;
    }
    Ok(values)
}

/// Parses the hourly limits; 0 means no limit.
fn hourly(table: Option<Table>) -> Result<HourlyLimits> {
    let mut limits = HourlyLimits::default();
    for (key, value) in table.into_iter().flatten() {
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        let invalid = || {
            Error::usage(
                format!("hourly_limits.{key}: {value} is not valid; it must be a whole number from 0 to 4294967295"),
                format!("for example {key} = 100"),
            )
        };
        let unknown = || {
            let known = HourlyLimits::NAMES.join(", ");
            Error::usage(format!("hourly_limits has no limit '{key}'"), format!("the limits are {known}"))
        };
        *limits.limit_mut(&key).ok_or_else(unknown)? = number.ok_or_else(invalid)?;
    }
    Ok(limits)
}

fn unknown_limit(setting: &str, key: &str) -> Error {
    let keys: Vec<_> = Limit::ALL.iter().map(|limit| limit.key()).collect();
    let advice = match closest_match(key, keys.iter().copied()) {
        Some(known) => format!("did you mean '{known}'?"),
        None => format!("the limits are {}", keys.join(", ")),
    };
    Error::usage(format!("{setting} has no limit '{key}'"), advice)
}

/// Parses limits from a flag or a variable, as in `memory_mib=1024`.
pub fn read_limits<'a>(name: &str, parts: impl IntoIterator<Item = &'a str>) -> Result<Value> {
    let read = |part: &'a str| {
        let pair =
            part.split_once('=').and_then(|(key, number)| Some((key.to_owned(), Value::Integer(number.parse().ok()?))));
        pair.ok_or_else(|| {
            Error::usage(format!("{name}: '{part}' is not a valid limit"), "write limits as in memory_mib=1024")
        })
    };
    parts.into_iter().map(read).collect::<Result<Table>>().map(Value::Table)
}

/// Reads a configuration file. Relative paths in it are relative to the folder of the file.
pub fn read_file(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).map_err(crate::error::file("read", path))?;
    let mut table = parse(&text, path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for key in ["data_dir", "key_file"] {
        if let Some(Value::String(value)) = table.get_mut(key) {
            *value = folder.join(&*value).to_string_lossy().into_owned();
        }
    }
    Ok(table)
}

fn parse(text: &str, path: &Path) -> Result<Table> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        Error::usage(
            format!("{} is not valid TOML: {error}", path.display()),
            "correct the line, for example: listen = \"127.0.0.1:8080\"",
        )
    })?;
    match table.keys().find(|key| !SETTINGS.iter().any(|(known, _)| known == key)) {
        Some(unknown) => Err(unknown_key(unknown, path)),
        None => {
            for (key, value) in &table {
                check_value(&format!("{}: {key}", path.display()), key, value)?;
            }
            Ok(table)
        }
    }
}

/// Returns the flag of a setting.
fn flag_name(key: &str) -> String {
    match key {
        "registries" => "registry".to_owned(),
        "limits" | "default_limits" | "hourly_limits" => key.trim_end_matches('s').replace('_', "-"),
        _ => key.replace('_', "-"),
    }
}

/// Checks the type of a setting while its source is known. `name` is the setting's name in that source.
fn check_value(name: &str, key: &str, value: &Value) -> Result<()> {
    let table: Table = [(key.to_owned(), value.clone())].into_iter().collect();
    let checked: Result<RawConfig, toml::de::Error> = table.try_into();
    checked.map(drop).map_err(|error| {
        if key == "registries" {
            return Error::usage(
                format!("{name}: {value} contains an item that is not a valid URL"),
                "use URLs such as https://registry.example.com",
            );
        }
        let number = "expected a whole number";
        let message = error.message().replace("expected u32", number).replace("expected u64", number);
        Error::usage(format!("{name}: {}", message.trim()), "see `konnector serve --help`")
    })
}

fn unknown_key(unknown: &str, path: &Path) -> Error {
    let advice = match closest_match(unknown, SETTINGS.iter().map(|(known, _)| *known)) {
        Some(known) => format!("did you mean '{known}'?"),
        None => format!("the keys are {}", SETTINGS.map(|(known, _)| known).join(", ")),
    };
    Error::usage(format!("the key '{unknown}' in {} is unknown", path.display()), advice)
}

/// Returns the known name that was probably meant.
pub fn closest_match<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let normalized = unknown.replace('-', "_").to_lowercase();
    known
        .map(|known| (similarity(&normalized, known), known))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// Returns the similarity, from 0 to 1, of the written name to a key or, weighted slightly lower, to a word of the key.
fn similarity(name: &str, known: &str) -> f64 {
    let words = known.split('_').map(|word| strsim::jaro_winkler(name, word) * 0.9);
    words.fold(strsim::jaro_winkler(name, known), f64::max)
}

/// Reads the layer of the environment. `KONNECTOR_X_FILE` names a file that contains the value, for secrets of
/// containers and systemd.
fn read_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Table> {
    let mut table = Table::new();
    for (key, kind) in SETTINGS {
        let name = format!("KONNECTOR_{}", key.to_uppercase());
        let in_file = variable(&format!("{name}_FILE")).filter(|path| !path.is_empty());
        let value = match (variable(&name).filter(|value| !value.is_empty()), in_file) {
            (Some(_), Some(_)) => {
                return Err(Error::usage(format!("both {name} and {name}_FILE are set"), "unset one of them"));
            }
            (Some(value), None) => value,
            (None, Some(path)) => {
                let path = PathBuf::from(path);
                std::fs::read_to_string(&path).map_err(crate::error::file("read", &path))?.trim().to_owned()
            }
            (None, None) => continue,
        };
        let value = parse_value(&name, kind, &value)?;
        check_value(&name, key, &value)?;
        table.insert(key.to_owned(), value);
    }
    Ok(table)
}

fn parse_value(name: &str, kind: SettingKind, value: &str) -> Result<Value> {
    match kind {
        SettingKind::String => Ok(Value::String(value.to_owned())),
        SettingKind::Number => value.parse().map(Value::Integer).map_err(|_| {
            Error::usage(
                format!("{name}: '{value}' is not a whole number"),
                format!("set it to a number, as in {name}=4"),
            )
        }),
        SettingKind::Boolean => value.parse().map(Value::Boolean).map_err(|_| {
            Error::usage(format!("{name}: '{value}' is neither true nor false"), format!("set it, as in {name}=true"))
        }),
        SettingKind::List => Ok(Value::Array(split_list(value).map(|part| Value::String(part.to_owned())).collect())),
        SettingKind::Limits => read_limits(name, split_list(value)),
    }
}

/// Splits a list in a variable.
fn split_list(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ' ']).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_table_of_the_operators_guide() {
        let guide = include_str!("../../../../docs/operators.md");
        let (_, table) = guide.split_once("| key | default | meaning |").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let documented: Vec<&str> = table
            .lines()
            .filter_map(|row| row.split('|').nth(1))
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        let keys = SETTINGS.map(|(key, _)| key);
        for key in keys {
            assert!(documented.contains(&key), "docs/operators.md does not have {key}");
        }
        for key in documented {
            assert!(keys.contains(&key), "docs/operators.md has {key}, which is not a key");
        }
    }

    #[test]
    fn limits_are_set_one_by_one() {
        let file = file("[limits]\nmemory_mib = 1024\nwall_s = 7200\n[default_limits]\ncpu_s = 30");
        let variable = |name: &str| (name == "KONNECTOR_LIMITS").then(|| "wall_s=900,files=5".to_owned());
        let flags: Table = "limits = { files = 7 }".parse().unwrap();
        let LimitPolicy { max, default } = Settings::merge(file, &variable, flags).unwrap().limits;
        assert_eq!([Limit::Memory, Limit::Wall, Limit::Files].map(|limit| max.get(limit)), [1024, 900, 7]);
        assert_eq!(max.get(Limit::Requests), Limit::Requests.default_max());
        assert_eq!((default.get(Limit::Cpu), default.get(Limit::Wall)), (30, Limit::Wall.default_value()));
    }

    #[test]
    fn the_limits_of_an_hour_are_set_one_by_one() {
        let file = file("[hourly_limits]\njobs = 10\nwebhooks = 0");
        let variable = |name: &str| (name == "KONNECTOR_HOURLY_LIMITS").then(|| "jobs=20".to_owned());
        let hourly = Settings::merge(file, &variable, Table::new()).unwrap().hourly_limits;
        assert_eq!(hourly, HourlyLimits { jobs: 20, webhooks: 0, ..HourlyLimits::default() });
    }

    fn file(text: &str) -> Table {
        parse(text, Path::new("konnector.toml")).unwrap()
    }

    fn no_variables(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn nothing_is_needed() {
        let settings = Settings::merge(Table::new(), &no_variables, Table::new()).unwrap();
        assert_eq!(settings.listen, "127.0.0.1:8080");
        assert_eq!(settings.admin_listen, "127.0.0.1:6060");
        assert_eq!(settings.key_file, Path::new("data/master-key"));
        assert_eq!(settings.workers, 4);
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
        let file =
            file("listen = '1.1.1.1:1'\nadmin_listen = '1.1.1.1:2'\nworkers = 2\nallow_address = ['10.0.0.0/8']");
        let variable = |name: &str| match name {
            "KONNECTOR_ADMIN_LISTEN" => Some("2.2.2.2:2".to_owned()),
            "KONNECTOR_WORKERS" => Some("3".to_owned()),
            "KONNECTOR_ALLOW_ADDRESS" => Some("127.0.0.1:9091, 192.168.0.0/16".to_owned()),
            _ => None,
        };
        let flags: Table = "workers = 8".parse().unwrap();
        let settings = Settings::merge(file, &variable, flags).unwrap();
        assert_eq!(
            (settings.listen.as_str(), settings.admin_listen.as_str(), settings.workers),
            ("1.1.1.1:1", "2.2.2.2:2", 8)
        );
        let addresses: Vec<_> = settings.allow_address.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1:9091", "192.168.0.0/16"]);
    }

    #[test]
    fn a_secret_may_come_from_a_file() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "correct horse\n").unwrap();
        let path = secret.path().to_str().unwrap().to_owned();
        let variable = |name: &str| (name == "KONNECTOR_ADMIN_PASSPHRASE_FILE").then(|| path.clone());
        let settings = Settings::merge(Table::new(), &variable, Table::new()).unwrap();
        assert_eq!(settings.admin_passphrase.as_deref(), Some("correct horse"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error_text = |error: Error| match error {
            Error::Usage { message, advice } => format!("{message} | {advice}"),
            other => other.to_string(),
        };
        let path = Path::new("konnector.toml");
        let both = |name: &str| name.starts_with("KONNECTOR_LISTEN").then(|| "x".to_owned());
        let number = |name: &str| (name == "KONNECTOR_WORKERS").then(|| "many".to_owned());
        let registry = |name: &str| (name == "KONNECTOR_REGISTRIES").then(|| "foo".to_owned());
        let errors = [
            parse("admin-listen = 'x'", path).map(drop).unwrap_err(),
            parse("adress = 'x'", path).map(drop).unwrap_err(),
            parse("colour = 'x'", path).map(drop).unwrap_err(),
            Settings::merge(Table::new(), &both, Table::new()).map(drop).unwrap_err(),
            Settings::merge(Table::new(), &number, Table::new()).map(drop).unwrap_err(),
            Settings::merge(file("workers = 0"), &no_variables, Table::new()).map(drop).unwrap_err(),
            Settings::merge(file("[limits]\nmemory = 1"), &no_variables, Table::new()).map(drop).unwrap_err(),
            Settings::merge(file("[default_limits]\nfiles = 0"), &no_variables, Table::new()).map(drop).unwrap_err(),
            Settings::merge(file("[hourly_limits]\njob = 1"), &no_variables, Table::new()).map(drop).unwrap_err(),
            Settings::merge(file("[hourly_limits]\njobs = -1"), &no_variables, Table::new()).map(drop).unwrap_err(),
            read_limits("--limit", ["memory_mib"]).map(drop).unwrap_err(),
            parse("workers = \"many\"", path).map(drop).unwrap_err(),
            Settings::merge(Table::new(), &no_variables, "registries = [\"foo\"]".parse().unwrap())
                .map(drop)
                .unwrap_err(),
            Settings::merge(Table::new(), &registry, Table::new()).map(drop).unwrap_err(),
        ];
        insta::assert_snapshot!(errors.map(error_text).join("\n"), @"
        the key 'admin-listen' in konnector.toml is unknown | did you mean 'admin_listen'?
        the key 'adress' in konnector.toml is unknown | did you mean 'allow_address'?
        the key 'colour' in konnector.toml is unknown | the keys are data_dir, listen, admin_listen, key_file, domain, allow_address, registries, permissions_skip_verification, allow_install_via_a_permission, workers, lease_seconds, retry_delay_seconds, vendor_concurrency, konnector_concurrency, keep_jobs, keep_jobs_days, disk_reserve_mib, limits, default_limits, hourly_limits, log_format, admin_passphrase
        both KONNECTOR_LISTEN and KONNECTOR_LISTEN_FILE are set | unset one of them
        KONNECTOR_WORKERS: 'many' is not a whole number | set it to a number, as in KONNECTOR_WORKERS=4
        workers: 0 is not allowed | set workers to 1 or more
        limits has no limit 'memory' | did you mean 'memory_mib'?
        default_limits.files: 0 is not a positive whole number | for example files = 20000
        hourly_limits has no limit 'job' | the limits are webhooks, events, jobs, tokens, oauth_clients, account_oauth
        hourly_limits.jobs: -1 is not valid; it must be a whole number from 0 to 4294967295 | for example jobs = 100
        --limit: 'memory_mib' is not a valid limit | write limits as in memory_mib=1024
        konnector.toml: workers: invalid type: string \"many\", expected a whole number | see `konnector serve --help`
        --registry: [\"foo\"] contains an item that is not a valid URL | use URLs such as https://registry.example.com
        KONNECTOR_REGISTRIES: [\"foo\"] contains an item that is not a valid URL | use URLs such as https://registry.example.com
        ");
    }
}
