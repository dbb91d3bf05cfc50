//! Protects the server's memory, which contains the master key and passwords in use, against core dumps and debuggers
//! of the same user.

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::error::{Error, Result};

/// Disables memory dumps of this process.
pub fn disable() -> Result<()> {
    let failed = |error: rustix::io::Errno| Error::message(format!("cannot disable core dumps: {error}"));
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(failed)?;
    // A core dump may also be piped into a program, which no size limit prevents.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).map_err(failed)?;
    Ok(())
}
