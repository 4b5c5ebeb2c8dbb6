//! The console: PgBouncer's commands and columns, for psql, drivers, exporters and views that know nothing of pgweir.

mod access;
mod actions;
mod contract;
mod protocol;
mod shows;
mod stops;
mod suspend;
mod tools;

use std::net::SocketAddr;

use integration_tests::proxy::Builder;
use integration_tests::{FakeUpstream, Proxy, RawClient, Reply};

/// Lists `ops` as an admin and `watch` as one who may look.
fn with_users(builder: Builder) -> Builder {
    builder.with(|settings| {
        settings.console.admin_users = vec!["ops".to_owned()];
        settings.console.stats_users = vec!["watch".to_owned()];
    })
}

/// A proxy with these users before a server that answers everything.
fn proxy(server: &FakeUpstream) -> Proxy {
    with_users(Proxy::before(server.address())).start()
}

fn server() -> FakeUpstream {
    FakeUpstream::start(|connection| connection.login().and_then(|()| connection.serve()))
}

/// An admin on the console.
fn ops(address: SocketAddr) -> RawClient {
    RawClient::login(address, "ops", "pgbouncer")
}

/// The rows of a `SHOW`, each as its values by the names of the columns.
fn table(client: &mut RawClient, sql: &str) -> Vec<Row> {
    let reply = client.query(sql).ok();
    let columns = columns(&reply);
    reply.rows().into_iter().map(|values| Row(columns.iter().cloned().zip(values).collect())).collect()
}

/// The names of a result's columns.
fn columns(reply: &Reply) -> Vec<String> {
    let described = reply.messages.iter().find_map(|message| match message {
        integration_tests::Message::RowDescription(names) => Some(names.clone()),
        _ => None,
    });
    described.unwrap_or_default()
}

/// A row by the names of its columns.
#[derive(Debug, Clone)]
struct Row(Vec<(String, String)>);

impl Row {
    fn get(&self, column: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name == column);
        found.map_or_else(|| panic!("no {column} in {self:?}"), |(_, value)| value)
    }

    fn number(&self, column: &str) -> u64 {
        self.get(column).parse().unwrap_or_else(|_| panic!("{column} is no number in {self:?}"))
    }
}

/// The only row for which this column has this value.
fn find<'a>(rows: &'a [Row], column: &str, value: &str) -> &'a Row {
    let mut found = rows.iter().filter(|row| row.get(column) == value);
    let row = found.next().unwrap_or_else(|| panic!("no row with {column} {value} in {rows:#?}"));
    assert!(found.next().is_none(), "several with {column} {value}");
    row
}
