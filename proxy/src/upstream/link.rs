//! From an open connection to one that may be spoken over: TLS as libpq's `sslmode` has it.
//!
//! | mode | first | then, if that fails |
//! |---|---|---|
//! | `disable` | clear | |
//! | `allow` | clear | TLS, where the server's rules refused the login |
//! | `prefer` | TLS if the server has it, else clear on the same connection | clear, where the handshake failed or the server's rules refused the login |
//! | `require` and up | TLS | |
//!
//! Unix sockets have no TLS.

use std::sync::Arc;

use config::{ChannelBinding, Negotiation, TlsMode, UpstreamTls};
use policy::verdict::ConnectFailure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::encode::frontend as ask;
use wire::login::Binding;
use wire::login::client::tls_answer;

use super::CancelTarget;
use super::dial::{Dialled, Failure, Target, is_about_rules};
use super::server::{Address, Server};
use crate::pool::DialFailure;
use crate::shared::Shared;
use crate::stream::Stream;

/// How a connection is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In clear text.
    Clear,
    /// With TLS if the server has it.
    TlsIfOffered,
    /// With TLS.
    Tls,
}

/// A connection that may be spoken over.
#[derive(Debug)]
pub(super) struct Link {
    /// The connection.
    pub(super) stream: Stream,
    /// Its TLS; `None`: it has none.
    pub(super) tls: Option<Arc<UpstreamTls>>,
    /// What a login over it can be bound to.
    end_point: Option<Vec<u8>>,
}

impl Link {
    fn clear(stream: Stream) -> Self {
        Self { stream, tls: None, end_point: None }
    }
}

impl Target {
    /// Connects and logs in to one server, the ways that the mode of TLS has for it.
    pub(super) async fn enter(
        &self,
        server: &Arc<Server>,
        shared: &Shared,
        pool: &config::Pool,
    ) -> Result<Dialled, Failure> {
        let (first, second) = ways(self.tls.mode, &server.address);
        let refused = match self.link(server, shared, first).await {
            Ok(link) => {
                let tried = if link.tls.is_some() { Way::Tls } else { Way::Clear };
                match self.log_in(link, server.clone(), shared, pool).await {
                    // The server's rules may know another answer for the other kind of connection.
                    Err(failure) if second.is_some_and(|way| way != tried) && failure.is_about_rules() => failure,
                    done => return done,
                }
            }
            Err(ConnectFailure::TlsFailed) => ConnectFailure::TlsFailed.into(),
            Err(failure) => return Err(failure.into()),
        };
        match second {
            Some(second) => {
                let link = self.link(server, shared, second).await?;
                self.log_in(link, server.clone(), shared, pool).await
            }
            None => Err(refused),
        }
    }

    async fn link(&self, server: &Server, shared: &Shared, way: Way) -> Result<Link, ConnectFailure> {
        link(server, &self.tls, shared, way).await
    }

    /// What the login over a connection is bound to.
    pub(super) fn binding(&self, link: &Link) -> Result<Binding, Failure> {
        match (self.tls.channel_binding, &link.end_point) {
            (ChannelBinding::Disable, _) | (ChannelBinding::Prefer, None) => Ok(Binding::None),
            (ChannelBinding::Prefer, Some(data)) => Ok(Binding::Preferred(data.clone())),
            (ChannelBinding::Require, Some(data)) => Ok(Binding::Required(data.clone())),
            (ChannelBinding::Require, None) => Err(self.broken(&wire::Error::NoChannelBinding)),
        }
    }
}

impl Failure {
    fn is_about_rules(&self) -> bool {
        matches!(self, Self::Failed(DialFailure::Said { code, .. }) if is_about_rules(code))
    }
}

impl CancelTarget {
    /// Connects for a cancel: to the same address, and with TLS if the connection that it is about has it.
    pub async fn open(&self, shared: &Shared) -> Result<Stream, ConnectFailure> {
        match &self.tls {
            Some(tls) => link(&self.server, tls, shared, Way::Tls).await.map(|link| link.stream),
            None => self.server.open(shared.settings().tcp).await,
        }
    }
}

/// The way that is tried first, and the one after it.
fn ways(mode: TlsMode, address: &Address) -> (Way, Option<Way>) {
    match (address, mode) {
        (Address::Unix(_), _) | (_, TlsMode::Disable) => (Way::Clear, None),
        (_, TlsMode::Allow) => (Way::Clear, Some(Way::Tls)),
        (_, TlsMode::Prefer) => (Way::TlsIfOffered, Some(Way::Clear)),
        (_, TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull) => (Way::Tls, None),
    }
}

/// Connects one way.
async fn link(server: &Server, tls: &Arc<UpstreamTls>, shared: &Shared, way: Way) -> Result<Link, ConnectFailure> {
    let mut stream = server.open(shared.settings().tcp).await?;
    if way == Way::Clear {
        return Ok(Link::clear(stream));
    }
    if tls.negotiation == Negotiation::Postgres && !offers_tls(server, &mut stream).await? {
        return if way == Way::Tls { Err(ConnectFailure::NoTls) } else { Ok(Link::clear(stream)) };
    }
    match shared.servers.connect(stream, &server.host.name, tls).await {
        Ok((stream, end_point)) => Ok(Link { stream, tls: Some(tls.clone()), end_point }),
        Err(error) => {
            tracing::warn!(%server, %error, "no TLS connection to the server");
            Err(ConnectFailure::TlsFailed)
        }
    }
}

/// Asks whether the server speaks TLS.
async fn offers_tls(server: &Server, stream: &mut Stream) -> Result<bool, ConnectFailure> {
    let mut out = Vec::new();
    ask::ssl_request(&mut out);
    stream.write_all(&out).await.map_err(|_| ConnectFailure::Broken)?;
    let mut answer = [0; 16];
    let read = stream.read(&mut answer).await.map_err(|_| ConnectFailure::Broken)?;
    match tls_answer(answer.get(..read).unwrap_or_default()) {
        Ok(Some(yes)) => Ok(yes),
        Ok(None) => Err(ConnectFailure::Broken),
        Err(error) => {
            tracing::warn!(%server, %error, "no TLS connection to the server");
            Err(ConnectFailure::Broken)
        }
    }
}
