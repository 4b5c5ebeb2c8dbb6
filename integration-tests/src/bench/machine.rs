//! What the kernel knows: processor time of a process, and what machine this is.

use std::fs;
use std::time::Duration;

/// Processor time that all threads of a process have used, to the nanosecond where the scheduler's own accounting is
/// readable, to 10 ms where it is not. Threads that have ended are missed by the first: neither pooler ends any.
pub fn processor_time(pid: u32) -> Duration {
    scheduler_time(pid, "").unwrap_or_else(|| crate::child::cpu_time(pid))
}

/// The same of the threads alone whose names begin so, by the scheduler's own accounting; zero without it.
pub fn thread_time(pid: u32, name: &str) -> Duration {
    scheduler_time(pid, name).unwrap_or_default()
}

fn scheduler_time(pid: u32, name: &str) -> Option<Duration> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let thread = thread.ok()?.path();
        // One that ends while it is looked at is passed over.
        let Ok(named) = fs::read_to_string(thread.join("comm")) else { continue };
        if named.starts_with(name) {
            let Ok(text) = fs::read_to_string(thread.join("schedstat")) else { continue };
            total += text.split_whitespace().next()?.parse::<u64>().ok()?;
        }
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
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn work_is_seen_by_the_kernels_accounting() {
        let me = std::process::id();
        let before = processor_time(me);
        work();
        assert!(processor_time(me) > before);
    }

    #[test]
    fn a_thread_is_found_by_its_name() {
        let me = std::process::id();
        // Ends only when it was looked at: the kernel forgets threads that have ended.
        let (worked, looked) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            let thread = || {
                work();
                worked.wait();
                looked.wait();
            };
            let started = std::thread::Builder::new().name("busy-1".to_owned()).spawn_scoped(scope, thread);
            worked.wait();
            let (busy, lazy) = (thread_time(me, "busy-"), thread_time(me, "lazy-"));
            looked.wait();
            assert!(started.is_ok() && lazy.is_zero());
            // Without the scheduler's accounting there is nothing to find.
            assert!(scheduler_time(me, "").is_none() || !busy.is_zero());
        });
    }

    fn work() {
        let mut number = 1_u64;
        for step in 0..20_000_000_u64 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
        }
    }

    #[test]
    fn a_machine_has_cores_and_memory() {
        assert!(description().contains(" cores, ") && !description().contains(" 0 GiB"));
    }
}
