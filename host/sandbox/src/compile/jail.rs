//! The compiler's jail: kernel limits, and an allow list of the few system calls that compiling needs.

use super::child_side::CompilerArguments;

/// Why the process could not be sandboxed.
#[derive(Debug, thiserror::Error)]
#[error("cannot sandbox the compiler, so it was not started: {operation}: {reason}")]
pub(super) struct JailError {
    operation: &'static str,
    reason: String,
}

impl JailError {
    fn context<E: std::fmt::Display>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |reason| Self { operation, reason: reason.to_string() }
    }
}

/// Sets the kernel's limits. Exceeding the CPU time raises SIGXCPU; exceeding the memory fails an allocation.
#[cfg(target_os = "linux")]
pub(super) fn apply_limits(arguments: CompilerArguments) -> Result<(), JailError> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

    let exactly = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    // A process over its soft limit receives SIGXCPU, over its hard limit SIGKILL, which does not show the reason.
    let cpu = Rlimit { current: Some(arguments.cpu_seconds), maximum: Some(arguments.cpu_seconds.saturating_add(2)) };
    for (resource, limit) in [
        (Resource::As, exactly(arguments.memory_bytes)),
        (Resource::Cpu, cpu),
        // Pipes do not count.
        (Resource::Fsize, exactly(0)),
        (Resource::Nofile, exactly(16)),
        (Resource::Nproc, exactly(0)),
        (Resource::Core, exactly(0)),
    ] {
        setrlimit(resource, limit).map_err(JailError::context("cannot set a limit"))?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(JailError::context("PR_SET_DUMPABLE"))?;
    rustix::thread::set_no_new_privs(true).map_err(JailError::context("PR_SET_NO_NEW_PRIVS"))
}

/// On other systems, only the parent's limits on time and output apply, and those of the system.
#[cfg(not(target_os = "linux"))]
pub(super) fn apply_limits(arguments: CompilerArguments) -> Result<(), JailError> {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let cpu = Rlimit { current: Some(arguments.cpu_seconds), maximum: None };
    setrlimit(Resource::Cpu, cpu).map_err(JailError::context("cannot set a limit"))
}

/// Denies every system call that is not in [`ALLOWED_SYSCALLS`], so there are no sockets, files, programs or other
/// processes.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
pub(super) fn apply_syscall_filter() -> Result<(), JailError> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    let rules = ALLOWED_SYSCALLS.iter().map(|call| (*call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().map_err(JailError::context("seccomp"))?;
    // An error instead of a kill, because libraries try calls that they can do without.
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, architecture);
    let program: BpfProgram =
        filter.and_then(TryInto::try_into).map_err(JailError::context("the seccomp filter is not valid"))?;
    seccompiler::apply_filter(&program).map_err(JailError::context("seccomp"))
}

/// Does nothing, because there is no filter for this system.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
pub(super) fn apply_syscall_filter() -> Result<(), JailError> {
    Ok(())
}

/// System calls for memory, the open pipes, time, and exit.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const ALLOWED_SYSCALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    // Needed for an abort to raise SIGABRT, and a stack overflow SIGSEGV.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
