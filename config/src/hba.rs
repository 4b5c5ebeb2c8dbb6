//! Rules for who may log in from where and how: the `pg_hba.conf` that PostgreSQL's operators know.
//!
//! The first line that matches decides; where none does, nobody is let in. The syntax is PostgreSQL's own as far as a
//! proxy can follow it. What it cannot (membership in roles, host names, included files, GSSAPI and other methods) is
//! told as a mistake when the file is read, never passed over: a rule that is silently ignored lets the next one decide.

use std::net::IpAddr;

use crate::network::Network;
use crate::{AuthMethod, CertName};

mod line;
mod pattern;
pub(crate) mod token;

pub use line::parse;
pub use pattern::Pattern;

/// A file of rules, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hba {
    /// The rules.
    pub rules: Vec<HbaLine>,
}

/// A line of the file that cannot be read, or that means something that the proxy cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub sentence: String,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct HbaLine {
    /// Where it stands, from 1.
    pub line: usize,
    /// How the client is connected.
    pub transport: Transport,
    /// What it asks for.
    pub databases: Vec<Wanted>,
    /// As whom.
    pub users: Vec<Wanted>,
    /// From where; all of them for `local`.
    pub source: Source,
    /// What then holds.
    pub rule: LoginRule,
}

/// How a client has to prove who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRule {
    /// The method.
    pub method: AuthMethod,
    /// The map from what the system or a certificate says to users; `None`: the names must be the same.
    pub map: Option<String>,
    /// Which name of a certificate counts.
    pub cert_name: CertName,
    /// Whether a certificate is wanted besides.
    pub client_cert: ClientCert,
}

/// What a rule wants of a client's certificate, beside its method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCert {
    /// Nothing.
    Any,
    /// A valid one.
    Valid,
    /// A valid one whose name is the user's, or is mapped to it.
    Named,
}

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `local`: a Unix socket.
    Local,
    /// `host`: TCP.
    Host,
    /// `hostssl`: TCP with TLS.
    HostTls,
    /// `hostnossl`: TCP without TLS.
    HostPlain,
}

/// A database or a user as a rule names it.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// `all`: every one; but for physical replication, which has to be named.
    All,
    /// `sameuser`: the database of the user's name.
    SameUser,
    /// `replication`: physical replication, which asks for no database.
    Replication,
    /// This name.
    Name(String),
    /// `/…`: every name that the expression finds something in.
    Pattern(Pattern),
}

/// Where clients come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Anywhere.
    All,
    /// These addresses.
    Network(Network),
    /// `samehost`: an address of this machine.
    SameHost,
}

/// A client that asks to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The database it wants.
    pub database: &'a str,
    /// Who it says it is.
    pub user: &'a str,
    /// It wants physical replication.
    pub replication: bool,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A Unix socket.
    Local,
    /// TCP.
    Network {
        /// The client's address.
        client: IpAddr,
        /// The address of ours that it is connected to.
        ours: IpAddr,
        /// Whether TLS is spoken.
        encrypted: bool,
    },
}

impl Hba {
    /// The first rule that matches; `None`: nobody may come in like this.
    pub fn rule(&self, visit: &Visit<'_>) -> Option<&HbaLine> {
        self.rules.iter().find(|rule| rule.matches(visit))
    }
}

impl HbaLine {
    fn matches(&self, visit: &Visit<'_>) -> bool {
        self.matches_origin(visit.origin)
            && self.databases.iter().any(|wanted| wanted.matches_database(visit))
            && self.users.iter().any(|wanted| wanted.matches_user(visit.user))
    }

    fn matches_origin(&self, origin: Origin) -> bool {
        let Origin::Network { client, ours, encrypted } = origin else {
            return self.transport == Transport::Local;
        };
        let carried = match self.transport {
            Transport::Local => false,
            Transport::Host => true,
            Transport::HostTls => encrypted,
            Transport::HostPlain => !encrypted,
        };
        carried
            && match &self.source {
                Source::All => true,
                Source::Network(network) => network.contains(client),
                // The system gives a connection to an address of its own that same address as its source.
                Source::SameHost => client.to_canonical() == ours.to_canonical() || client.to_canonical().is_loopback(),
            }
    }
}

impl Wanted {
    fn matches_database(&self, visit: &Visit<'_>) -> bool {
        match self {
            Self::Replication => visit.replication,
            _ if visit.replication => false,
            Self::All => true,
            Self::SameUser => visit.database == visit.user,
            Self::Name(name) => name == visit.database,
            Self::Pattern(pattern) => pattern.finds(visit.database),
        }
    }

    fn matches_user(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => name == user,
            Self::Pattern(pattern) => pattern.finds(user),
            Self::SameUser | Self::Replication => false,
        }
    }
}

#[cfg(test)]
mod tests;
