//! Nothing that a test starts outlives it, even when the test process is killed.
//!
//! `Drop` is not run when a process is killed, nor for what a static holds. So each test process has one small shell
//! that reads a pipe from it: children to end and folders to remove are told through the pipe as they come and go, and
//! the end of the pipe, which the kernel guarantees, is the sign to clean up. (`PR_SET_PDEATHSIG` would need unsafe
//! code between fork and exec, follows the spawning *thread* instead of the process, and removes no folders.)

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::child::Signal;

/// Keeps the list of `pid:signal`, and the folders as its own arguments, until its input ends.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
watched=
while read -r verb what; do
  case $verb in
    watch) watched="$watched $what" ;;
    forget)
      kept=
      for entry in $watched; do [ "${entry%:*}" = "$what" ] || kept="$kept $entry"; done
      watched=$kept ;;
    folder) set -- "$@" "$what" ;;
  esac
done
for entry in $watched; do kill -s "${entry#*:}" "${entry%:*}"; done
tries=0
while [ -n "$watched" ] && [ "$tries" -lt 50 ]; do
  kept=
  for entry in $watched; do kill -s 0 "${entry%:*}" && kept="$kept $entry"; done
  watched=$kept
  tries=$((tries + 1))
  [ -z "$watched" ] || sleep 0.1
done
for entry in $watched; do kill -s KILL "${entry%:*}"; done
[ $# -eq 0 ] || rm -rf -- "$@"
"#;

static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Ends `pid` with `signal` (and 5 s later with SIGKILL) if this process ends without [`forget`]ting it.
pub(crate) fn watch(pid: u32, signal: Signal) {
    tell(&format!("watch {pid}:{}", signal.name()));
}

/// To be called as soon as `pid` is reaped: from then on the number may be given to somebody else.
pub(crate) fn forget(pid: u32) {
    tell(&format!("forget {pid}"));
}

/// Removes `folder` when this process ends. A folder that is gone by then is no trouble.
pub(crate) fn remove_at_exit(folder: &Path) {
    tell(&format!("folder {}", folder.display()));
}

fn tell(line: &str) {
    let pipe = PIPE.get_or_init(|| Mutex::new(start()));
    let mut pipe = pipe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    pipe.write_all(format!("{line}\n").as_bytes()).expect("the watchdog shell reads its pipe");
}

#[expect(clippy::zombie_processes, reason = "it ends after this process, which is its whole purpose")]
fn start() -> ChildStdin {
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "watchdog"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own: what ends the test's group must not end its watchdog.
        .process_group(0)
        .spawn()
        .expect("sh can be started");
    shell.stdin.take().expect("the pipe was asked for")
}
