//! What the operating system says about this process.

/// This process, at one moment. `None` where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Memory in use, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Processor time in user and system mode, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most file descriptors that may be open (the soft limit).
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Reads `/proc/self`.
pub fn process() -> Process {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
    let status = read("status").unwrap_or_default();
    Process {
        resident_bytes: status_kib(&status, "VmRSS:"),
        virtual_bytes: status_kib(&status, "VmSize:"),
        cpu_seconds: read("stat").as_deref().and_then(cpu_seconds),
        open_fds: std::fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as u64),
        max_fds: read("limits").as_deref().and_then(max_fds),
        threads: status_value(&status, "Threads:"),
    }
}

/// Memory in use, in bytes, alone: cheap enough to be asked every second.
pub fn resident_bytes() -> Option<u64> {
    status_kib(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

fn status_value(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn status_kib(status: &str, key: &str) -> Option<u64> {
    status_value(status, key).map(|kib| kib * 1024)
}

/// Fields 14 and 15 of `/proc/self/stat`, in clock ticks of 1/100 s, which Linux has fixed for user space. The name in
/// field 2 may hold anything, so counting starts behind its closing bracket.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / 100.0)
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_readable() {
        let seen = process();
        assert!(seen.resident_bytes.unwrap() > 1 << 20 && resident_bytes().unwrap() > 1 << 20);
        assert!(seen.virtual_bytes >= seen.resident_bytes);
        assert!(seen.open_fds.unwrap() >= 3 && seen.open_fds <= seen.max_fds);
        assert!(seen.threads.unwrap() >= 2);
        assert!(seen.cpu_seconds.is_some());
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "1 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 3 0 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(4.0));
    }
}
