//! A client of our own that speaks TLS when it is told to, and one message at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};

use crate::certificates::Authority;
use crate::frontend;
use crate::patience::PATIENCE;

/// A TLS connection.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Connects.
pub fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The end of a handshake and what is said then are two writes: the second must not wait for the first one's receipt.
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects, and asks for TLS.
pub fn asked(address: SocketAddr) -> TcpStream {
    let mut stream = connected(address);
    stream.write_all(&frontend::encryption_request(frontend::SSL_REQUEST)).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S", "the server speaks TLS");
    stream
}

/// Believes servers whose certificates this authority has signed.
pub fn believing(authority: &Authority) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

/// Speaks TLS on a connection, with a server that is `localhost`.
pub fn speaking(config: Arc<ClientConfig>, stream: TcpStream) -> Secure {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

/// Says something and reads up to a message of type `until`; gives all that came.
pub fn exchange(stream: &mut (impl Read + Write), bytes: &[u8], until: u8) -> io::Result<Vec<u8>> {
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
