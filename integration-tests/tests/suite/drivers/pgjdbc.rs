//! pgjdbc, where a Java compiler and the distribution's package of the driver are at hand.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::{program, runs_everywhere};

/// Where Debian and Ubuntu put the driver.
const DRIVER: &str = "/usr/share/java/postgresql.jar";

#[test]
fn pgjdbc() {
    let compiler = Command::new("javac").arg("-version").output().is_ok_and(|output| output.status.success());
    if !compiler || !Path::new(DRIVER).is_file() {
        let what = if compiler { DRIVER } else { "javac" };
        // Not by a macro: what those write is not shown for a test that passes.
        drop(writeln!(std::io::stderr(), "SKIPPED: drivers::pgjdbc::pgjdbc, because this machine has no {what}"));
        return;
    }
    runs_everywhere(|| {
        let mut java = Command::new("java");
        java.args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", DRIVER]).arg(program("java/Behaviour.java"));
        java
    });
}
