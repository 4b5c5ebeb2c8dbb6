//! One attempt to connect: the hosts in their order, each host's addresses in theirs, until a server is found that will
//! do. All of it fits into one `connect_timeout`: whoever is tried gets an equal share of what is left.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Host, SessionAttrs};
use policy::verdict::ConnectFailure;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::dial::{Dialled, Failure, Target, is_about_credentials};
use super::hosts::Role;
use super::server::{Address, Server};
use crate::pool::DialFailure;
use crate::shared::Shared;

impl Target {
    /// Connects and logs in, within `patience`, to the first server that will do.
    pub async fn dial(&self, shared: &Shared, pool: &config::Pool, patience: Duration) -> Result<Dialled, Failure> {
        let deadline = Instant::now() + patience;
        let mut hosts = self.hosts.clone();
        if self.load_balance {
            hosts.shuffle(&mut rand::rng());
        }
        shared.hosts().sort(&mut hosts, self.session_attrs, Instant::now());
        let (mut second_choice, mut failure, mut unfit) = (None, None, false);
        for (tried, host) in hosts.iter().enumerate() {
            match self.dial_host(host, shared, pool, share(deadline, hosts.len() - tried)).await {
                Ok(dialled) if dialled.role.is_none_or(|role| role.suits(self.session_attrs)) => return Ok(dialled),
                Ok(dialled) if self.session_attrs == SessionAttrs::PreferStandby => {
                    second_choice.get_or_insert(dialled);
                }
                Ok(_) => unfit = true,
                Err(failure) if failure.is_final() => return Err(failure),
                Err(other) => failure = Some(other),
            }
        }
        match (second_choice, failure) {
            (Some(dialled), _) => Ok(dialled),
            (None, _) if unfit => Err(Failure::Failed(DialFailure::NoneFits(self.session_attrs))),
            (None, failure) => Err(failure.unwrap_or(ConnectFailure::UnknownHost.into())),
        }
    }

    async fn dial_host(
        &self,
        host: &Host,
        shared: &Shared,
        pool: &config::Pool,
        patience: Duration,
    ) -> Result<Dialled, Failure> {
        let deadline = Instant::now() + patience;
        let mut result = Err(ConnectFailure::UnknownHost.into());
        match tokio::time::timeout(patience, addresses(host, shared, self.session_attrs)).await {
            Ok(found) => {
                for (tried, (name, address)) in found.iter().enumerate() {
                    let server = Arc::new(Server::new(shared.next_id(), host.clone(), address.clone()));
                    let attempt = async { self.enter(&server, shared, pool).await };
                    let patience = share(deadline, found.len() - tried);
                    let dialled = tokio::time::timeout(patience, attempt).await;
                    result = dialled.unwrap_or(Err(ConnectFailure::TimedOut.into()));
                    note(name, &result, shared, pool);
                    if !result.as_ref().is_err_and(|failure| !failure.is_final()) {
                        break;
                    }
                }
            }
            Err(_) => result = Err(ConnectFailure::TimedOut.into()),
        }
        note(host, &result, shared, pool);
        result
    }
}

impl Target {
    /// What a server is now: asked on a connection of its own, at the address that it has. `None`: it does not say.
    pub async fn role_of(&self, server: &Server, shared: &Shared, pool: &config::Pool) -> Option<Role> {
        let again = Arc::new(Server::new(shared.next_id(), server.host.clone(), server.address.clone()));
        let attempt = tokio::time::timeout(pool.connect_timeout, self.enter(&again, shared, pool)).await;
        let result = attempt.unwrap_or(Err(ConnectFailure::TimedOut.into()));
        if let Address::Tcp(address) = &server.address {
            note(&Host { name: address.ip().to_string(), port: address.port() }, &result, shared, pool);
        }
        note(&server.host, &result, shared, pool);
        result.ok()?.role
    }
}

impl Failure {
    /// Other servers of the same database would say the same.
    fn is_final(&self) -> bool {
        match self {
            Self::NoPassword | Self::Unusable(_) | Self::Forgotten => true,
            Self::Failed(DialFailure::Said { code, .. }) => is_about_credentials(code),
            Self::Failed(_) => false,
        }
    }

    /// The server is not there, or cannot serve anybody now.
    fn is_absence(&self) -> bool {
        match self {
            Self::NoPassword | Self::Unusable(_) | Self::Forgotten => false,
            Self::Failed(DialFailure::Said { code, .. }) => code == b"57P03",
            Self::Failed(_) => true,
        }
    }
}

/// What is left until `deadline`, divided by how many still want some of it.
fn share(deadline: Instant, by: usize) -> Duration {
    deadline.saturating_duration_since(Instant::now()) / u32::try_from(by.max(1)).unwrap_or(u32::MAX)
}

/// Where a host can be reached now, each with the name that it is remembered by: first those without known trouble.
async fn addresses(host: &Host, shared: &Shared, wanted: SessionAttrs) -> Vec<(Host, Address)> {
    if host.name.starts_with('/') {
        let path = PathBuf::from(format!("{}/.s.PGSQL.{}", host.name, host.port));
        return vec![(host.clone(), Address::Unix(path))];
    }
    let found = match shared.names.look_up(&host.name).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(host = host.name, %error, "the name of a server has no address");
            return Vec::new();
        }
    };
    let mut hosts: Vec<Host> = found.iter().map(|ip| Host { name: ip.to_string(), port: host.port }).collect();
    shared.hosts().sort(&mut hosts, wanted, Instant::now());
    let address = |name: &Host| Some(Address::Tcp((name.name.parse::<std::net::IpAddr>().ok()?, name.port).into()));
    hosts.into_iter().filter_map(|name| address(&name).map(|address| (name, address))).collect()
}

/// Remembers what became of a host.
fn note(host: &Host, result: &Result<Dialled, Failure>, shared: &Shared, pool: &config::Pool) {
    let now = Instant::now();
    match result {
        Ok(dialled) => shared.hosts().answered(host, dialled.role, now),
        Err(failure) if failure.is_absence() => {
            shared.hosts().failed(host, crate::pool::backoff(pool), now, rand::rng().random_range(0.0..1.0));
        }
        Err(_) => shared.hosts().answered(host, None, now),
    }
}
