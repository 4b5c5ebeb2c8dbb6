//! TLS of the admin port: both sides of it, for the commands that ask a running pgweir speak it too.

use std::io;
use std::sync::Arc;

use config::{AdminTls, Authorities, PemFile, TlsMode, UpstreamTls};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, ServerConfig, StreamOwned};

use super::channel::Channel;
use super::clients::certified;
use super::servers::client_config;
use super::stream::TlsStream;
use super::{TlsError, provider, versions};
use crate::stream::Stream;

/// The protocol's name in ALPN.
const ALPN: &[u8] = b"http/1.1";

/// What the admin port shows; made anew by each reload.
#[derive(Debug, Clone)]
pub struct Operators {
    config: Arc<ServerConfig>,
}

impl Operators {
    /// From the settings.
    ///
    /// # Errors
    /// A file that does not hold what it should, or a key that is not the certificate's.
    pub fn new(tls: &AdminTls) -> Result<Self, TlsError> {
        let provider = provider();
        let key = certified(&tls.identity, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(tls.min_version))
            .map_err(|error| TlsError::new(&tls.identity.chain.path, error))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(key));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }

    /// Shakes hands with somebody who has connected.
    ///
    /// # Errors
    /// They do not speak TLS, or no version that is spoken here; they have been told by an alert.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let connection = UnbufferedServerConnection::new(self.config.clone()).map_err(io::Error::other)?;
        let stream = TlsStream::shake_hands(stream, Channel::server(connection)).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// How a command finds out whether it speaks with the right pgweir.
#[derive(Debug, Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Believes the authorities in this file, or a certificate that stands in it itself; `None`: those of the operating
    /// system.
    ///
    /// # Errors
    /// A file that does not hold what it should.
    pub fn new(authorities: Option<PemFile>) -> Result<Self, TlsError> {
        let authorities = authorities.map_or(Authorities::System, Authorities::File);
        Self::with(TlsMode::VerifyFull, Some(authorities))
    }

    /// Believes whoever answers. For questions that hold no secret, and whose answers none believes who would be hurt by it.
    ///
    /// # Errors
    /// None that is known.
    pub fn anybody() -> Result<Self, TlsError> {
        Self::with(TlsMode::Require, None)
    }

    fn with(mode: TlsMode, authorities: Option<Authorities>) -> Result<Self, TlsError> {
        let tls = UpstreamTls { mode, authorities, ..UpstreamTls::default() };
        let mut config = Arc::unwrap_or_clone(client_config(&tls)?);
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// Speaks TLS on this connection with the one of this name. Shakes hands with the first write or read.
    ///
    /// # Errors
    /// The name cannot stand in a certificate.
    pub fn speak<S: io::Read + io::Write>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<StreamOwned<ClientConnection, S>> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}
