//! What is measured beside pgweir: PgBouncer, and HAProxy as a relay that understands nothing.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::papers::Papers;
use super::ways::{Bench, MAX_CLIENTS, Serves, USER, Way, start};
use super::{Outcome, UPSTREAMS};
use crate::Scratch;
use crate::cluster::free_port;

/// From this version on PgBouncer follows prepared statements in transaction mode.
const FOLLOWS_PREPARED: (u32, u32) = (1, 21);

/// PgBouncer in transaction mode; where its version cannot follow prepared statements there, a second one in session
/// mode carries those. With `papers`, clients may speak TLS.
pub fn pgbouncer(bench: &Bench, papers: Option<&Papers>) -> Outcome<Vec<Way>> {
    if pgbouncer_version()? >= FOLLOWS_PREPARED {
        return Ok(vec![pgbouncer_in("PgBouncer", "transaction", Serves::Everything, bench, papers)?]);
    }
    Ok(vec![
        pgbouncer_in("PgBouncer", "transaction", Serves::Unprepared, bench, papers)?,
        pgbouncer_in("PgBouncer, session mode", "session", Serves::PreparedInSessions, bench, papers)?,
    ])
}

fn pgbouncer_in(
    name: &'static str,
    mode: &str,
    serves: Serves,
    bench: &Bench,
    papers: Option<&Papers>,
) -> Outcome<Way> {
    let folder = Scratch::new();
    let port = free_port();
    // It refuses to run as root, and changes to the user it is told.
    let as_root = std::fs::metadata("/proc/self")?.uid() == 0;
    let user = if as_root { "user = postgres\n" } else { "" };
    let follow = if serves == Serves::Everything { "max_prepared_statements = 200\n" } else { "" };
    let tls = papers.map(Papers::for_pgbouncer).unwrap_or_default();
    let text = format!(
        "[databases]\n{database} = host=127.0.0.1 port={upstream} dbname={database} user={USER}\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
         default_pool_size = {UPSTREAMS}\nmax_client_conn = {MAX_CLIENTS}\n{user}{follow}{tls}",
        database = bench.database(),
        upstream = bench.port(),
    );
    let settings = folder.file("pgbouncer.ini", &text);
    let mut command = Command::new(program("pgbouncer"));
    // Read before it changes its user, so that its folder may stay closed to others.
    command.arg(settings);
    let pooler = start(&mut command, &folder, port)?;
    Ok(Way::through(name, serves, bench, port, pooler, folder))
}

/// HAProxy with one thread, which passes on whatever comes, over a server connection for each client: the least that
/// anything costs that receives and sends by sockets. `None`: there is none on this machine.
pub fn relay(bench: &Bench) -> Outcome<Option<Way>> {
    if haproxy_name().is_none() {
        return Ok(None);
    }
    let folder = Scratch::new();
    let port = free_port();
    let text = format!(
        "global\n    nbthread 1\n    maxconn 1000\ndefaults\n    mode tcp\n    timeout connect 5s\n    \
         timeout client 1h\n    timeout server 1h\nlisten relay\n    bind 127.0.0.1:{port}\n    \
         server postgres 127.0.0.1:{}\n",
        bench.port()
    );
    let settings = folder.file("haproxy.cfg", &text);
    let mut command = Command::new(program("haproxy"));
    // In the foreground, as one process.
    command.arg("-db").arg("-f").arg(settings);
    let relay = start(&mut command, &folder, port)?;
    Ok(Some(Way::through("HAProxy, a relay", Serves::Everything, bench, port, relay, folder)))
}

/// The one that `.ci/peers` has unpacked, else the distribution's: Debian keeps such programs where only administrators
/// have their PATH.
fn program(name: &str) -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.work/peers").join(name).join(name);
    let packaged = Path::new("/usr/sbin").join(name);
    [unpacked, packaged].into_iter().find(|program| program.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

/// As it prints it: `PgBouncer 1.18.0`.
pub fn pgbouncer_name() -> Outcome<String> {
    let output = Command::new(program("pgbouncer")).arg("--version").output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(printed.lines().next().unwrap_or_default().to_owned())
}

fn pgbouncer_version() -> Outcome<(u32, u32)> {
    let name = pgbouncer_name()?;
    let numbers = name.rsplit(' ').next().unwrap_or_default();
    let mut numbers = numbers.split('.').map_while(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(format!("PgBouncer's version is not to be read from {name:?}").into()),
    }
}

/// `HAProxy 2.6.12`; `None`: there is none that runs.
pub fn haproxy_name() -> Option<String> {
    let output = Command::new(program("haproxy")).arg("-v").output().ok().filter(|output| output.status.success())?;
    haproxy_in(&String::from_utf8_lossy(&output.stdout))
}

/// The number in `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`, without the distribution's own.
fn haproxy_in(printed: &str) -> Option<String> {
    let version = printed.strip_prefix("HAProxy version ")?.split([' ', '-']).next()?;
    Some(format!("HAProxy {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_without_what_a_distribution_adds() {
        let debian = "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term";
        assert_eq!(haproxy_in(debian).as_deref(), Some("HAProxy 2.6.12"));
        assert_eq!(haproxy_in("HAProxy version 3.2.0 2025/05/28\n").as_deref(), Some("HAProxy 3.2.0"));
        assert_eq!(haproxy_in("haproxy: not found"), None);
    }
}
