//! What the kernel knows: processor time of a process, and what machine this is.

use std::fs;
use std::time::Duration;

/// Processor time that all threads of a process have used, to the nanosecond where the scheduler's own accounting is
/// readable, to 10 ms where it is not. Threads that have ended are missed by the first: neither pooler ends any.
pub fn processor_time(pid: u32) -> Duration {
    scheduler_time(pid).unwrap_or_else(|| crate::child::cpu_time(pid))
}

fn scheduler_time(pid: u32) -> Option<Duration> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        total += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    // A kernel without this accounting shows zeros.
    (total > 0).then(|| Duration::from_nanos(total))
}

/// Processor, cores, memory and kernel, in one line.
pub fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What a distribution or a cloud appends to its kernel's version says nothing about speed.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    format!("{}, {cores} cores, {} GiB, Linux {kernel}", model.unwrap_or("unknown processor"), kib >> 20)
}

/// Processes that wanted to run in the last minute, on average.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_by_the_kernels_accounting() {
        let me = std::process::id();
        let before = processor_time(me);
        let mut number = 1_u64;
        for step in 0..20_000_000_u64 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
        }
        assert!(processor_time(me) > before, "{number}");
    }

    #[test]
    fn a_machine_has_cores_and_memory() {
        assert!(description().contains(" cores, ") && !description().contains(" 0 GiB"));
    }
}
