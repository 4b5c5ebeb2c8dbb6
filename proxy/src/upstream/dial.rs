//! Logging in to a server. Runs on the control thread: a login takes milliseconds of computing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use config::{Host, MaxProtocol, SessionAttrs, UpstreamTls};
use policy::verdict::ConnectFailure;
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::error::Sqlstate;
use wire::login::client::next_message;
use wire::login::{ClientLogin, ClientSecret, ClientStep, Established, Md5Secret, ScramKeys};
use wire::params::Settings;
use wire::prepared::ServerStatements;
use wire::startup::ProtocolVersion;

use super::hosts::Role;
use super::link::Link;
use super::server::Server;
use super::{CancelTarget, Shipped, role};
use crate::pool::{DialFailure, Welcome};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::worker::Worker;

/// What we can prove to a server.
#[derive(Clone)]
pub enum Credential {
    /// Nothing.
    None,
    /// What a client of the pool has proven last.
    Learned,
    /// The password.
    Password(config::Secret),
    /// The stored md5 hash, `md5` and 32 hexadecimal digits.
    Md5(config::Secret),
    /// The keys of a client's own SCRAM login.
    Keys(Arc<ScramKeys>),
}

impl Credential {
    /// It can be used before any client has come.
    pub fn is_known(&self) -> bool {
        match self {
            Self::None | Self::Learned => false,
            Self::Password(_) | Self::Md5(_) | Self::Keys(_) => true,
        }
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) | (Self::Learned, Self::Learned) => true,
            (Self::Password(ours), Self::Password(theirs)) | (Self::Md5(ours), Self::Md5(theirs)) => ours == theirs,
            (Self::Keys(ours), Self::Keys(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

impl Eq for Credential {}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Learned => "Learned",
            Self::Keys(_) => "Keys(…)",
            Self::Password(_) => "Password(…)",
            Self::Md5(_) => "Md5(…)",
        })
    }
}

/// Where a pool's upstreams connect, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// Which of them will do.
    pub session_attrs: SessionAttrs,
    /// Try them in random order.
    pub load_balance: bool,
    /// The newest version of the protocol that is asked for.
    pub protocol: MaxProtocol,
    /// The database there.
    pub database: String,
    /// The user there.
    pub user: String,
    /// What we can prove.
    pub credential: Credential,
    /// How much TLS.
    pub tls: Arc<UpstreamTls>,
    /// Startup parameters beside user and database. None for those that are pooled: they begin alike.
    pub parameters: Vec<(Box<str>, Box<[u8]>)>,
}

impl Target {
    /// Whether both mean the same servers.
    pub fn is_at_same_place(&self, other: &Self) -> bool {
        (&self.hosts, self.session_attrs) == (&other.hosts, other.session_attrs)
    }

    /// Whether both mean the same database and user of the same server, whatever proves it.
    pub fn is_for_the_same(&self, other: &Self) -> bool {
        let place = |target: &Self| Self { credential: Credential::None, ..target.clone() };
        place(self) == place(other)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, host) in self.hosts.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{host}")?;
        }
        Ok(())
    }
}

/// A server that has let us in.
#[derive(Debug)]
pub struct Dialled {
    /// The connection, ready to be used by any worker.
    pub shipped: Shipped,
    /// Where it is.
    pub server: Arc<Server>,
    /// What the server said about itself.
    pub welcome: Arc<Welcome>,
    /// What it is, if it said so or was asked.
    pub role: Option<Role>,
    /// The server has checked our credential; otherwise it lets us in without one.
    pub proven: bool,
}

/// Why it has not.
#[derive(Debug)]
pub enum Failure {
    /// As clients are told.
    Failed(DialFailure),
    /// The server wants a password, and there is none.
    NoPassword,
    /// It wants another kind of proof than what we have, in these words.
    Unusable(&'static str),
    /// It has refused what clients had proven, and nobody has logged in since: nothing was tried.
    Forgotten,
}

impl From<ConnectFailure> for Failure {
    fn from(failure: ConnectFailure) -> Self {
        Self::Failed(DialFailure::Unreachable(failure))
    }
}

impl Target {
    /// Logs in to a server that has been connected to, and asks what it is where that matters.
    pub(super) async fn log_in(
        &self,
        link: Link,
        server: Arc<Server>,
        shared: &Shared,
        pool: &config::Pool,
    ) -> Result<Dialled, Failure> {
        let binding = self.binding(&link)?;
        let (mut stream, tls) = (link.stream, link.tls);
        let mut out = Vec::new();
        let database = (&b"database"[..], self.database.as_bytes());
        let more = self.parameters.iter().map(|(name, value)| (name.as_bytes(), &**value));
        let parameters = std::iter::once(database).chain(more);
        let version = match self.protocol {
            MaxProtocol::V3_0 => ProtocolVersion::V3_0,
            MaxProtocol::V3_2 => ProtocolVersion::V3_2,
        };
        let start = ClientLogin::start(self.user.as_bytes(), parameters, self.secret(), version, &mut out);
        let mut login = start.map_err(|error| self.broken(&error))?.bound_to(binding);
        let mut bytes = Vec::with_capacity(4096);
        loop {
            stream.write_all(&out).await.map_err(|_| ConnectFailure::Broken)?;
            out.clear();
            let mut rest = bytes.as_slice();
            while let Some(frame) = next_message(&mut rest).map_err(|error| self.broken(&error))? {
                login = match login.receive(frame, &mut out) {
                    Ok(ClientStep::Continue(login)) => login,
                    Ok(ClientStep::Done(established)) if rest.is_empty() => {
                        let mut role = role::reported(&established.parameters);
                        // A walsender takes no queries.
                        let may_ask = self.parameters.is_empty();
                        if role.is_none() && may_ask && self.session_attrs != SessionAttrs::Any {
                            role = Some(role::ask(&mut stream).await.ok_or(ConnectFailure::Broken)?);
                        }
                        let place = Place { server, tls, role };
                        return established_on(stream, *established, place, shared, pool);
                    }
                    Ok(ClientStep::Done(_)) => return Err(ConnectFailure::Broken.into()),
                    Ok(ClientStep::Refused(fields)) => {
                        let code = *fields.sqlstate().as_bytes();
                        let message = fields.message().into_owned().into();
                        return Err(Failure::Failed(DialFailure::Said { code, message }));
                    }
                    Err(wire::Error::NoPassword) => return Err(Failure::NoPassword),
                    Err(wire::Error::UnusableSecret(why)) => return Err(Failure::Unusable(why)),
                    Err(error) => return Err(self.broken(&error)),
                };
            }
            let left = rest.len();
            bytes.drain(..bytes.len() - left);
            if out.is_empty() && stream.read_buf(&mut bytes).await.map_err(|_| ConnectFailure::Broken)? == 0 {
                return Err(ConnectFailure::Broken.into());
            }
        }
    }

    fn secret(&self) -> ClientSecret {
        match &self.credential {
            Credential::None | Credential::Learned => ClientSecret::None,
            Credential::Keys(keys) => {
                let mut nonce = [0; 18];
                rand::rng().fill_bytes(&mut nonce);
                ClientSecret::ScramKeys { keys: ScramKeys::clone(keys), nonce }
            }
            Credential::Password(password) => ClientSecret::Password(password.reveal().as_bytes().to_vec().into()),
            Credential::Md5(hash) => Md5Secret::parse(hash.reveal()).map_or(ClientSecret::None, ClientSecret::Md5),
        }
    }

    pub(super) fn broken(&self, error: &wire::Error) -> Failure {
        tracing::warn!(server = %self, user = %self.user, %error, "login to the server failed");
        ConnectFailure::Broken.into()
    }
}

/// Where a login was accepted.
struct Place {
    server: Arc<Server>,
    tls: Option<Arc<UpstreamTls>>,
    role: Option<Role>,
}

fn established_on(
    stream: Stream,
    established: Established,
    place: Place,
    shared: &Shared,
    pool: &config::Pool,
) -> Result<Dialled, Failure> {
    let Place { server, tls, role } = place;
    let now = Instant::now();
    let proven = established.proven;
    let (process, key) = established.cancel_key.unwrap_or_default();
    let local = stream.local_addr();
    if let Some(local) = local {
        server.came_from(local);
    }
    let shipped = Shipped {
        id: shared.next_id(),
        stream: stream.detach().map_err(|_| ConnectFailure::Broken)?,
        prepared: ServerStatements::new(pool.max_prepared),
        settings: Settings::new(),
        opened: now,
        expires: Worker::expiry(pool, now),
        used: now,
        cancel: Arc::new(CancelTarget {
            server: server.clone(),
            tls,
            local,
            process: process as i32,
            key: key.into(),
            epoch: AtomicU64::new(0),
        }),
        berth: None,
    };
    let welcome = established.parameters.into_iter().map(|(name, value)| (name.into(), value.into()));
    Ok(Dialled { shipped, server, welcome: Arc::new(welcome.collect()), role, proven })
}

/// Whether a server turned us down by its rules for this kind of connection, as `pg_hba.conf` does.
pub(super) fn is_about_rules(code: &[u8; 5]) -> bool {
    Sqlstate::parse(code) == Some(Sqlstate::INVALID_AUTHORIZATION)
}

/// Whether a server turned us down because of who we are, so that trying again is of no use.
pub fn is_about_credentials(code: &[u8; 5]) -> bool {
    let code = Sqlstate::parse(code);
    code == Some(Sqlstate::INVALID_PASSWORD) || code == Some(Sqlstate::INVALID_AUTHORIZATION)
}
