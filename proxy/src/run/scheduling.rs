//! How the kernel schedules a thread.

use config::Scheduling;

/// Has the kernel schedule the calling thread so. Where it will not, the thread goes on as it is: it costs more, and does
/// the same.
///
/// Under `SCHED_BATCH` a thread that is woken does not interrupt the one that runs. A worker is woken by the very
/// processes that it works for, on a busy machine in the middle of their sending: interrupting them costs two changes of
/// the processor's task for one message, and a moment later there are several to read at once.
pub(super) fn apply(scheduling: Scheduling) {
    if scheduling == Scheduling::Normal {
        return;
    }
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the call reads one struct that lives through it.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) } != 0;
    if refused {
        let error = std::io::Error::last_os_error();
        tracing::warn!(%error, "the kernel does not let workers be scheduled as batch work; worker_scheduling = \"normal\" says so");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_after(scheduling: Scheduling) -> i32 {
        let thread = std::thread::spawn(move || {
            apply(scheduling);
            // SAFETY: the call takes no pointer.
            unsafe { libc::sched_getscheduler(0) }
        });
        thread.join().unwrap_or(-1)
    }

    #[test]
    fn a_thread_is_scheduled_as_it_is_told() {
        assert_eq!(policy_after(Scheduling::Batch), libc::SCHED_BATCH);
        assert_eq!(policy_after(Scheduling::Normal), libc::SCHED_OTHER);
    }
}
