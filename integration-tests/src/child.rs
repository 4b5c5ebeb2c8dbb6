//! A child process that is ended with its owner, and what the kernel knows of it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::patience::within;
use crate::watchdog;

/// The signals that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Reload the configuration.
    Hangup,
    /// PostgreSQL: fast shutdown.
    Interrupt,
    /// Drain and end. PostgreSQL: smart shutdown.
    Terminate,
    /// PostgreSQL: immediate shutdown.
    Quit,
    /// End at once, without a say.
    Kill,
    /// Stop running until [`Signal::Continue`]: a peer that is there and never answers.
    Stop,
    /// Run again.
    Continue,
    /// PAUSE.
    User1,
    /// RESUME.
    User2,
}

impl Signal {
    /// Its name for `kill -s`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hangup => "HUP",
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::User1 => "USR1",
            Self::User2 => "USR2",
        }
    }
}

/// A running child process: ended and reaped on drop, and ended by the [`watchdog`] if this process dies first.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    ended: Option<ExitStatus>,
    farewell: Signal,
}

impl Child {
    /// Starts `command`. What it inherits (input, output, environment) is up to the command.
    pub fn spawn(command: &mut Command) -> Self {
        Self::spawn_with_farewell(command, Signal::Kill)
    }

    /// As [`Child::spawn`]; `farewell` is the signal that ends it in the end (SIGKILL follows if that does not help).
    pub fn spawn_with_farewell(command: &mut Command, farewell: Signal) -> Self {
        let process = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        watchdog::watch(process.id(), farewell);
        Self { process, ended: None, farewell }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The pipes that the command asked for.
    pub fn pipes(&mut self) -> &mut std::process::Child {
        &mut self.process
    }

    /// Sends a signal; nothing happens when the child has ended and was seen to.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            send(self.pid(), signal);
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// How it ended, if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().expect("a child can be waited for");
            if self.ended.is_some() {
                watchdog::forget(self.pid());
            }
        }
        self.ended
    }

    /// How it ended; `None` if it still runs after `limit`.
    pub fn wait_for(&mut self, limit: Duration) -> Option<ExitStatus> {
        within(limit, || self.try_wait().is_some());
        self.ended
    }

    /// Ends it with its farewell signal, then SIGKILL after 5 s, and reaps it.
    pub fn end(&mut self) -> ExitStatus {
        self.signal(self.farewell);
        if let Some(status) = self.wait_for(Duration::from_secs(5)) {
            return status;
        }
        self.signal(Signal::Kill);
        self.wait_for(Duration::from_secs(5)).unwrap_or_else(|| ExitStatus::from_raw(9))
    }

    /// Memory in use now, in KiB (`VmRSS`).
    pub fn resident_kib(&self) -> u64 {
        status_kib(self.pid(), "VmRSS:")
    }

    /// Most memory ever in use, in KiB (`VmHWM`).
    pub fn peak_resident_kib(&self) -> u64 {
        status_kib(self.pid(), "VmHWM:")
    }

    /// Forgets the peak so far, so that [`Self::peak_resident_kib`] is the peak from now on; returns what is in use now.
    pub fn reset_peak(&self) -> u64 {
        let path = format!("/proc/{}/clear_refs", self.pid());
        // 5 stands for the peak alone (proc_pid_clear_refs(5)).
        fs::write(&path, "5").unwrap_or_else(|error| panic!("{path}: {error}"));
        self.resident_kib()
    }

    /// Processor time used so far, user and system together.
    pub fn cpu_time(&self) -> Duration {
        cpu_time(self.pid())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends a signal through the shell's own `kill`, which every system has.
pub fn send(pid: u32, signal: Signal) {
    let sent = Command::new("sh").args(["-c", &format!("kill -s {} {pid} 2>/dev/null", signal.name())]).status();
    // A process that has just ended is no failure: who asked will see that it has.
    assert!(sent.is_ok(), "sh can be started");
}

/// Processor time of any process, user and system together; zero for one that is gone.
pub fn cpu_time(pid: u32) -> Duration {
    // utime and stime.
    ticks(&pid.to_string(), 11)
}

/// Processor time of all processes that this one has started, and whose ends it has seen.
pub fn cpu_time_of_ended() -> Duration {
    // cutime and cstime.
    ticks("self", 13)
}

/// Two fields of a process's `stat`, counted behind the command's closing parenthesis, as a time.
fn ticks(pid: &str, first: usize) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(first).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux reports in USER_HZ, which is 100 on every architecture that it has an ABI for.
    Duration::from_millis(ticks * 10)
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
