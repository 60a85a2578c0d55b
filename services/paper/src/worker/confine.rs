//! Shuts the child in: bounded memory and time, no files, no network, no other programs.
//!
//! It must never loosen anything, and must be called before the first foreign byte is read.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Address space of the child, stack and program included.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Processor time of the child. The kernel ends it then by a signal of its own, which tells it from a child that somebody else
/// killed; a child that would not hear it is killed a little later.
pub const CPU_SECONDS_MAX: u64 = 10;
const CPU_SECONDS_BEYOND: u64 = 2;
/// Standard input, output, error and a little more.
const OPEN_FILES_MAX: u64 = 16;

/// Binds the whole process.
pub(super) fn limit_resources() -> io::Result<()> {
    let limits = [
        (Resource::As, MEMORY_BYTES_MAX, 0),
        (Resource::Cpu, CPU_SECONDS_MAX, CPU_SECONDS_BEYOND),
        (Resource::Fsize, 0, 0),
        (Resource::Nofile, OPEN_FILES_MAX, 0),
        (Resource::Core, 0, 0),
    ];
    for (resource, most, beyond) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most + beyond) })?;
    }
    Ok(())
}

/// Gives up, for all threads, all system calls but those that computing and answering need. Others fail as forbidden.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn leave_the_world() -> io::Result<()> {
    use rustix::thread::set_no_new_privs;
    use seccompiler::{BpfProgram, Error, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads};

    set_no_new_privs(true)?;
    let arch = if cfg!(target_arch = "x86_64") { TargetArch::x86_64 } else { TargetArch::aarch64 };
    let rules = allowed().into_iter().map(|call| (call, Vec::new())).collect();
    const EPERM: u32 = 1;
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(EPERM), SeccompAction::Allow, arch);
    let program: BpfProgram = filter.map_err(io::Error::other)?.try_into().map_err(io::Error::other)?;
    match apply_filter_all_threads(&program) {
        // Kernels without filters exist; the limits hold there all the same.
        Err(Error::Seccomp(why)) if [Some(libc::ENOSYS), Some(libc::EINVAL)].contains(&why.raw_os_error()) => Ok(()),
        result => result.map_err(io::Error::other),
    }
}

/// Elsewhere the limits have to do.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) fn leave_the_world() -> io::Result<()> {
    Ok(())
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn allowed() -> [i64; 27] {
    [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_mmap,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_clock_gettime,
        libc::SYS_getrandom,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_tgkill,
        libc::SYS_restart_syscall,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_sched_getaffinity,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]
}
