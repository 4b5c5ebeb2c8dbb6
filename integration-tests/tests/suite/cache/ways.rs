//! The same asked of the proxy and of the server itself, in every way that a driver has, and compared byte by byte.

use std::collections::BTreeMap;

use integration_tests::{Cluster, RawClient, Reply, frontend};

use super::Ground;

/// Oids of the types that parameters have here.
pub(super) const INT4: u32 = 23;
pub(super) const TEXT: u32 = 25;

/// A way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// A Query.
    Simple,
    /// The unnamed statement, its portal described.
    Described,
    /// As it was, without a Describe.
    Undescribed,
    /// The statement described in place of the portal.
    StatementDescribed,
    /// With the types of its parameters, and these and the result in binary.
    Binary,
    /// Each second column in binary.
    Mixed,
    /// Prepared under a name once.
    Named,
    /// The same, its portal described, the result in binary.
    NamedBinary,
    /// A portal with a name.
    NamedPortal,
}

impl Way {
    pub(super) const ALL: [Self; 9] = [
        Self::Simple,
        Self::Described,
        Self::Undescribed,
        Self::StatementDescribed,
        Self::Binary,
        Self::Mixed,
        Self::Named,
        Self::NamedBinary,
        Self::NamedPortal,
    ];

    fn is_named(self) -> bool {
        matches!(self, Self::Named | Self::NamedBinary)
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) sql: &'static str,
    /// Value and type of each parameter; `None`: NULL.
    pub(super) parameters: &'static [(Option<&'static str>, u32)],
    /// How many columns its answer has.
    pub(super) columns: usize,
}

impl Question {
    pub(super) const fn of(sql: &'static str, columns: usize) -> Self {
        Self { sql, parameters: &[], columns }
    }

    /// Its text for a Query.
    fn simple(&self) -> String {
        let mut sql = self.sql.to_owned();
        for (at, (value, oid)) in self.parameters.iter().enumerate().rev() {
            let literal = match (value, *oid) {
                (None, INT4) => "null::int".to_owned(),
                (None, _) => "null::text".to_owned(),
                (Some(value), INT4) => (*value).to_owned(),
                (Some(value), _) => format!("'{value}'"),
            };
            sql = sql.replace(&format!("${}", at + 1), &literal);
        }
        sql
    }

    fn bytes_of(parameter: (Option<&str>, u32), binary: bool) -> Option<Vec<u8>> {
        parameter.0.map(|value| match (binary, parameter.1) {
            (true, INT4) => value.parse::<i32>().expect("a number").to_be_bytes().to_vec(),
            _ => value.as_bytes().to_vec(),
        })
    }

    /// Gathers it, Sync included. `name`: that of the statement, known already or not.
    fn say(&self, client: &mut RawClient, way: Way, name: &str, known: bool) {
        if way == Way::Simple {
            client.say(frontend::query(self.simple()));
            return;
        }
        let binary = matches!(way, Way::Binary | Way::NamedBinary);
        let types: Vec<u32> = self.parameters.iter().filter(|_| binary).map(|(_, oid)| *oid).collect();
        let statement = if way.is_named() { name } else { "" };
        if !known || !way.is_named() {
            client.say(frontend::parse(statement, self.sql, &types));
        }
        let values: Vec<_> = self.parameters.iter().map(|parameter| Self::bytes_of(*parameter, binary)).collect();
        let values: Vec<_> = values.iter().map(|value| (i16::from(binary), value.as_deref())).collect();
        let formats: Vec<i16> = match way {
            Way::Binary | Way::NamedBinary => vec![1],
            Way::Mixed => (0..self.columns).map(|column| (column % 2) as i16).collect(),
            _ => Vec::new(),
        };
        let portal = if way == Way::NamedPortal { "portal" } else { "" };
        if way == Way::StatementDescribed {
            client.say(frontend::describe(b'S', ""));
        }
        client.say(frontend::bind_as(portal, statement, &values, &formats));
        if matches!(way, Way::Described | Way::Binary | Way::Mixed | Way::NamedBinary) {
            client.say(frontend::describe(b'P', portal));
        }
        client.say(frontend::execute(portal, 0)).sync();
    }
}

/// A client of the proxy, and one of the server itself that does the same.
pub(super) struct Pair {
    proxied: RawClient,
    direct: RawClient,
    /// Statements that were prepared under a name.
    names: BTreeMap<(&'static str, Way), String>,
    made: usize,
    log: Vec<String>,
}

impl Pair {
    pub(super) fn new(ground: &Ground, user: &str, more: &[(&str, &str)]) -> Self {
        let login = |address| {
            let mut parameters = vec![("user", user), ("database", ground.site.database.as_str())];
            parameters.extend(more);
            RawClient::login_with(address, &parameters, "")
        };
        Self {
            proxied: login(ground.site.address()),
            direct: login(Cluster::shared().address()),
            names: BTreeMap::new(),
            made: 0,
            log: vec![format!("{user} with {more:?}")],
        }
    }

    fn note(&mut self, line: String) {
        self.log.push(line);
        if self.log.len() > 40 {
            self.log.remove(1);
        }
    }

    /// Both run it, and both must have got the same.
    pub(super) fn run(&mut self, sql: &str) -> Reply {
        self.note(sql.to_owned());
        let (here, there) = (self.proxied.query(sql), self.direct.query(sql));
        let codes = |reply: &Reply| reply.errors().iter().map(|error| error.code().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (here.shape(), here.rows(), codes(&here)),
            (there.shape(), there.rows(), codes(&there)),
            "left: through the proxy; {:#?}",
            self.log
        );
        if sql.starts_with("discard all") || sql.starts_with("deallocate all") {
            self.names.clear();
        }
        there
    }

    /// Both are asked, and the replies are the same to the last byte; that reply.
    pub(super) fn ask(&mut self, question: &Question, way: Way) -> Vec<u8> {
        let known = self.names.get(&(question.sql, way)).cloned();
        let name = known.clone().unwrap_or_else(|| {
            self.made += 1;
            format!("statement_{}", self.made)
        });
        self.note(format!("{way:?}: {}", question.sql));
        question.say(&mut self.proxied, way, &name, known.is_some());
        question.say(&mut self.direct, way, &name, known.is_some());
        self.direct.send();
        let (here, there) = (self.proxied.reply_bytes(), self.direct.reply_bytes());
        // Which step of the server's has failed is said in it, and that is not the same where a statement is prepared again.
        if let (Some(here), Some(there)) = (code_of(&here), code_of(&there)) {
            assert_eq!(here, there, "{way:?} {}: {:#?}", question.sql, self.log);
            return Vec::new();
        }
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            here == there,
            "{way:?} {}\nproxy:  {:?}\nserver: {:?}\n{:#?}",
            question.sql,
            shown(&here),
            shown(&there),
            self.log
        );
        if way.is_named() {
            self.names.insert((question.sql, way), name);
        }
        here
    }
}

/// The SQLSTATE of the error in a reply.
fn code_of(mut reply: &[u8]) -> Option<Vec<u8>> {
    while let [tag, a, b, c, d, ..] = reply {
        let (message, rest) = reply.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1);
        if *tag == b'E' {
            let mut fields = message[5..].split(|byte| *byte == 0);
            return fields.find(|field| field.first() == Some(&b'C')).map(<[u8]>::to_vec);
        }
        reply = rest;
    }
    None
}
