//! A client of our own that speaks TLS without asking, and one message at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use integration_tests::frontend;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};

use super::papers;

/// A TLS connection to the proxy.
pub(super) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Code of an SSLRequest.
const SSL_REQUEST: u32 = 80_877_103;

/// Connects, and asks for TLS.
pub(super) fn asked(address: SocketAddr) -> TcpStream {
    let mut stream = connected(address);
    stream.write_all(&frontend::encryption_request(SSL_REQUEST)).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    stream
}

/// Connects.
pub(super) fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Speaks TLS on a connection.
pub(super) fn secure(stream: TcpStream, alpn: Option<&[u8]>) -> Secure {
    let mut config = believing().with_no_client_auth();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    speaking(config, stream)
}

/// Speaks TLS and shows a certificate if it is asked for one.
pub(super) fn secure_as(stream: TcpStream, cert: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Secure {
    speaking(believing().with_client_auth_cert(vec![cert], key).unwrap(), stream)
}

fn believing() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(papers().authority.pem().as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

fn speaking(config: ClientConfig, stream: TcpStream) -> Secure {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// Says something and reads up to a message of type `until`, or the end; gives all that came.
pub(super) fn exchange(stream: &mut (impl Read + Write), bytes: &[u8], until: u8) -> io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    stream.flush()?;
    let mut all = Vec::new();
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body)?;
        all.extend_from_slice(&head);
        all.extend_from_slice(&body);
        if head[0] == until {
            return Ok(all);
        }
    }
}

/// A StartupMessage of the superuser, who is trusted.
pub(super) fn startup() -> Vec<u8> {
    frontend::startup(3 << 16, &[("user", "postgres"), ("database", "postgres")])
}
