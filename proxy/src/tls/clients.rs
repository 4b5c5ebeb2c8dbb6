//! TLS towards clients: what they are shown, and what is learned of them.

use std::fmt;
use std::io;
use std::sync::Arc;

use config::{ClientTls, Identity, TlsMode};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    Acceptor, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection,
    WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

use super::channel::Channel;
use super::stream::TlsStream;
use super::{Secured, TlsError, certificate, pem, provider, version_of, versions};
use crate::stream::Stream;

/// The protocol's name in ALPN (PostgreSQL 17).
pub(super) const ALPN: &[u8] = b"postgresql";
/// What a client that begins with TLS and does not name the protocol is told: alert `no_application_protocol`.
const NO_APPLICATION_PROTOCOL: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 120];
/// Bytes of a ClientHello at most: rustls refuses messages of more than 64 KiB.
const MAX_HELLO: usize = 66 * 1024;

/// What clients are shown, and what is asked of them; made anew by each reload.
#[derive(Clone)]
pub struct Clients {
    mode: TlsMode,
    config: Option<Arc<ServerConfig>>,
    binding: Option<Arc<[u8]>>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// How a client came to speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It asked before.
    Asked,
    /// It began with it.
    Direct,
}

impl Clients {
    /// None is offered.
    pub fn none() -> Self {
        Self { mode: TlsMode::Disable, config: None, binding: None }
    }

    /// From the settings.
    ///
    /// # Errors
    /// A file that does not hold what it should, or a key that is not the certificate's.
    pub fn new(tls: &ClientTls) -> Result<Self, TlsError> {
        let Some(identity) = tls.identity.as_ref().filter(|_| tls.mode != TlsMode::Disable) else {
            return Ok(Self::none());
        };
        let provider = provider();
        let key = certified(identity, &provider)?;
        let own = key.cert.first().map(|cert| cert.to_vec()).unwrap_or_default();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(tls.min_version))
            .map_err(|error| TlsError::new(&identity.chain.path, error))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(key));
        let mut config = builder.with_client_cert_verifier(verifier(tls, provider)?).with_cert_resolver(resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // As PostgreSQL: sessions are not resumed, so that none is kept for anybody.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            mode: tls.mode,
            config: Some(Arc::new(config)),
            binding: certificate::end_point(&own).map(Into::into),
        })
    }

    /// Whether clients can have TLS.
    pub fn is_offered(&self) -> bool {
        self.config.is_some()
    }

    #[cfg(test)]
    pub(super) fn config(&self) -> Option<Arc<ServerConfig>> {
        self.config.clone()
    }

    /// What clients may and must do.
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Shakes hands with a client; `early` has come from it already.
    ///
    /// # Errors
    /// The client does not speak TLS, no version that is spoken here, or showed a certificate that is not believed. It has been
    /// told by an alert.
    pub async fn accept(&self, mut stream: Stream, early: Vec<u8>, manner: Manner) -> io::Result<(Stream, Secured)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let config = self.config.clone().ok_or(io::ErrorKind::Unsupported)?;
        let mut incoming = early;
        let hello = loop {
            if let Some(hello) = Hello::read(&incoming) {
                break hello;
            }
            if incoming.len() > MAX_HELLO {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a ClientHello without end"));
            }
            if stream.read_buf(&mut incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        if manner == Manner::Direct && !hello.names_protocol {
            // Whoever is led here by somebody else's address must not be taken for a client (as PostgreSQL has it).
            stream.write_all(&NO_APPLICATION_PROTOCOL).await?;
            return Err(io::Error::other("direct TLS without the protocol's name (ALPN)"));
        }
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let mut channel = Channel::server(connection);
        *channel.incoming() = incoming;
        let stream = TlsStream::shake_hands(stream, channel).await?;
        let secured = self.secured(stream.channel(), hello.server_name);
        Ok((Stream::Tls(Box::new(stream)), secured))
    }

    fn secured(&self, channel: &Channel, server_name: Option<Box<str>>) -> Secured {
        let state = channel.state();
        let shown = state.peer_certificates().and_then(|chain| chain.first());
        Secured {
            server_name,
            version: version_of(state),
            cipher: super::cipher_of(state),
            certificate: shown.and_then(|shown| certificate::names(shown)).map(Box::new),
            binding: self.binding.clone(),
        }
    }
}

/// What a client says first, as far as it is needed before its handshake.
struct Hello {
    server_name: Option<Box<str>>,
    names_protocol: bool,
}

impl Hello {
    /// `None`: it is not all there yet. What is no ClientHello is left to the handshake to refuse.
    fn read(bytes: &[u8]) -> Option<Self> {
        let nothing = || Some(Self { server_name: None, names_protocol: false });
        let mut acceptor = Acceptor::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            if acceptor.read_tls(&mut rest).is_err() {
                return nothing();
            }
            match acceptor.accept() {
                Ok(None) => {}
                Err(_) => return nothing(),
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let names_protocol = hello.alpn().is_some_and(|mut names| names.any(|name| name == ALPN));
                    return Some(Self {
                        server_name: hello.server_name().map(|name| name.to_ascii_lowercase().into()),
                        names_protocol,
                    });
                }
            }
        }
        None
    }
}

/// Without `tls.ca_file` nobody is asked. With it everybody is, and may show nothing: who has to is decided at login,
/// where an error can say so.
fn verifier(tls: &ClientTls, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(file) = &tls.authorities else { return Ok(Arc::new(NoClientAuth)) };
    let roots = Arc::new(roots(&file.path, &file.text)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::new(&file.path, error))
}

/// The authorities in a file.
pub(super) fn roots(path: &str, text: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in pem::certificates(path, text)? {
        roots.add(authority).map_err(|error| TlsError::new(path, error))?;
    }
    Ok(roots)
}

/// A certificate and its key, which belong together.
pub(super) fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<CertificateDer<'static>> = pem::certificates(&identity.chain.path, &identity.chain.text)?;
    let key: PrivateKeyDer<'static> = pem::key(&identity.key_path, identity.key.reveal())?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|_| {
        TlsError::new(
            &identity.key_path,
            "is a key of a kind that is not supported; use RSA, ECDSA on P-256 or P-384, or Ed25519",
        )
    })?;
    let own = chain.first().and_then(|cert| certificate::public_key(cert));
    let own = own.ok_or_else(|| TlsError::new(&identity.chain.path, "does not hold an X.509 certificate"))?;
    if key.public_key().is_some_and(|public| *public != *own) {
        return Err(TlsError::new(
            &identity.key_path,
            format!("is not the key of the first certificate in {}", identity.chain.path),
        ));
    }
    Ok(CertifiedKey::new(chain, key))
}
