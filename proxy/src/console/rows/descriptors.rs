//! FDS: which file descriptor is whose.
//!
//! PgBouncer hands its sockets to another process by it, with what that one has to know of them. Here it says what a number
//! in `/proc/PID/fd` or in an error of the system stands for; keys and passwords are nobody's to see.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::super::value::{Row, Value};
use super::sockets::place;
use crate::admin::{ClientState, SocketState, UpstreamState};

/// Columns behind `link`: of what PgBouncer's clients have set, and their secrets.
const NOT_SHOWN: usize = 7;

/// Sockets that are listened on, then clients, then server connections. Those whose number is not known are left out.
pub(in super::super) fn descriptors(
    listeners: &[SocketState],
    clients: &[ClientState],
    upstreams: &[UpstreamState],
) -> Vec<Row> {
    let numbers = |all: &mut dyn Iterator<Item = (u64, i32)>| -> HashMap<u64, i32> {
        all.filter(|(_, descriptor)| *descriptor > 0).collect()
    };
    let of_clients = numbers(&mut clients.iter().map(|client| (client.id, client.descriptor)));
    let of_upstreams = numbers(&mut upstreams.iter().map(|upstream| (upstream.id, upstream.descriptor)));
    let listening =
        listeners.iter().map(|socket| row(socket.descriptor, "pooler", None, socket.address.parse().ok(), None));
    let clients = clients.iter().map(|client| {
        let link = client.upstream.and_then(|upstream| of_upstreams.get(&upstream));
        row(client.descriptor, "client", Some((&client.user, &client.database)), client.address.parse().ok(), link)
    });
    let upstreams = upstreams.iter().map(|upstream| {
        let link = upstream.client.and_then(|client| of_clients.get(&client));
        row(upstream.descriptor, "server", Some((&upstream.user, &upstream.database)), upstream.remote, link)
    });
    listening.chain(clients).chain(upstreams).flatten().collect()
}

fn row(
    descriptor: i32,
    task: &'static str,
    whose: Option<(&String, &String)>,
    address: Option<SocketAddr>,
    link: Option<&i32>,
) -> Option<Row> {
    let number = |number: i32| Some(Value::from(u64::try_from(number).ok().filter(|number| *number > 0)?));
    let (user, database) = whose.unzip();
    let (address, port) = place(address);
    let mut row: Row = vec![
        number(descriptor)?,
        task.into(),
        user.cloned().into(),
        database.cloned().into(),
        address,
        port,
        Value::Null,
        link.and_then(|link| number(*link)).unwrap_or(Value::Null),
    ];
    row.extend((0..NOT_SHOWN).map(|_| Value::Null));
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::super::super::value::text;
    use super::*;

    #[test]
    fn each_descriptor_says_whose_it_is_and_what_it_is_tied_to() {
        let listener = SocketState { address: "0.0.0.0:6432".into(), descriptor: 7, ..SocketState::default() };
        let client = |id, descriptor, upstream| ClientState {
            id,
            descriptor,
            upstream,
            user: "app".into(),
            database: "shop".into(),
            address: "192.0.2.7:4711".into(),
            ..ClientState::default()
        };
        let upstream = UpstreamState {
            id: 5,
            descriptor: 12,
            client: Some(1),
            user: "app".into(),
            database: "shop".into(),
            ..UpstreamState::default()
        };
        let rows = descriptors(&[listener], &[client(1, 10, Some(5)), client(2, 0, None)], &[upstream]);
        let beginning = |row: &Row| row.iter().take(8).cloned().collect::<Vec<_>>();
        let number = |number: u64| Value::from(number);
        assert_eq!(
            rows.iter().map(beginning).collect::<Vec<_>>(),
            [
                vec![
                    number(7),
                    text("pooler"),
                    Value::Null,
                    Value::Null,
                    text("0.0.0.0"),
                    number(6432),
                    Value::Null,
                    Value::Null
                ],
                vec![
                    number(10),
                    text("client"),
                    text("app"),
                    text("shop"),
                    text("192.0.2.7"),
                    number(4711),
                    Value::Null,
                    number(12)
                ],
                vec![
                    number(12),
                    text("server"),
                    text("app"),
                    text("shop"),
                    text("unix"),
                    number(0),
                    Value::Null,
                    number(10)
                ],
            ]
        );
        assert!(rows.iter().all(|row| row.len() == 15 && row[8..].iter().all(|value| *value == Value::Null)));
    }
}
