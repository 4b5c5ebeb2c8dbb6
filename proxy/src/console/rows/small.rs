//! VERSION, LISTS, MEM, STATE, PEERS, DNS_HOSTS.

use config::Settings;

use super::super::value::{Row, Value, text};

/// VERSION. The number first: tools look for it and compare.
pub(in super::super) fn version() -> Vec<Row> {
    let version = format!("PgBouncer {} (pgweir {})", super::super::VERSION, env!("CARGO_PKG_VERSION"));
    vec![vec![version.into()]]
}

/// What there is now.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Totals {
    pub(in super::super) databases: usize,
    pub(in super::super) users: usize,
    pub(in super::super) peers: usize,
    pub(in super::super) pools: usize,
    pub(in super::super) clients: usize,
    /// Connections before their login.
    pub(in super::super) logins: usize,
    pub(in super::super) upstreams: usize,
    /// Names of servers that connections are open to.
    pub(in super::super) names: usize,
}

/// LISTS. Of what is always 0 nothing is kept here.
pub(in super::super) fn lists(totals: &Totals) -> Vec<Row> {
    let all = [
        ("databases", totals.databases),
        ("users", totals.users),
        ("peers", totals.peers),
        ("pools", totals.pools),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", totals.clients),
        ("login_clients", totals.logins),
        ("free_servers", 0),
        ("used_servers", totals.upstreams),
        ("dns_names", totals.names),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    all.into_iter().map(|(list, items)| vec![list.into(), items.into()]).collect()
}

/// MEM, in pages of the usual size: a process of today has more bytes than its columns can say.
pub(in super::super) fn mem(resident: Option<u64>, total: Option<u64>) -> Vec<Row> {
    const PAGE: u64 = 4096;
    let row = |name: &'static str, bytes: u64| -> Row {
        vec![name.into(), PAGE.into(), bytes.div_ceil(PAGE).into(), Value::Number(0), bytes.into()]
    };
    let all = [("resident", resident), ("virtual", total)];
    all.into_iter().filter_map(|(name, bytes)| Some(row(name, bytes?))).collect()
}

/// STATE.
pub(in super::super) fn state(paused: bool, suspended: bool) -> Vec<Row> {
    let word = |is: bool| Value::from(if is { "yes" } else { "no" });
    vec![
        vec!["active".into(), word(!paused && !suspended)],
        vec!["paused".into(), word(paused)],
        vec!["suspended".into(), word(suspended)],
    ]
}

/// PEERS, by the numbers of the file.
pub(in super::super) fn peers(settings: &Settings) -> Vec<Row> {
    let row = |(number, address): (&u32, &config::PeerAddress)| -> Row {
        vec![number.saturating_sub(1).into(), text(&address.host), address.port.into(), Value::Number(0)]
    };
    settings.peers.addresses.iter().map(row).collect()
}

/// A server's name, and where connections under it lead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct DnsName {
    pub(in super::super) name: String,
    pub(in super::super) addresses: Vec<String>,
}

/// DNS_HOSTS.
pub(in super::super) fn dns_hosts(names: Vec<DnsName>, ttl: u64) -> Vec<Row> {
    names.into_iter().map(|host| vec![host.name.into(), ttl.into(), host.addresses.join(",").into()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_begins_with_a_number_that_tools_know() {
        let Value::Text(version) = &version()[0][0] else { panic!("no text") };
        assert!(version.starts_with("PgBouncer 1.25.2 (pgweir "), "{version}");
    }

    #[test]
    fn memory_beyond_two_gigabytes_is_told_in_pages() {
        let rows = mem(Some(8 << 30), None);
        assert_eq!(rows, [[text("resident"), 4096u64.into(), 2_097_152u64.into(), 0u64.into(), (8u64 << 30).into()]]);
    }

    #[test]
    fn state_says_what_is_so() {
        assert_eq!(state(true, false)[1], [text("paused"), text("yes")]);
        assert_eq!(state(false, false)[0], [text("active"), text("yes")]);
        assert_eq!(state(false, true)[0], [text("active"), text("no")]);
        assert_eq!(state(false, true)[2], [text("suspended"), text("yes")]);
    }

    #[test]
    fn names_with_their_addresses() {
        let name = DnsName { name: "db".into(), addresses: vec!["192.0.2.1".into(), "192.0.2.2".into()] };
        assert_eq!(dns_hosts(vec![name], 15), [[text("db"), 15u64.into(), text("192.0.2.1,192.0.2.2")]]);
    }
}
