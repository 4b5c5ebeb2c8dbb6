//! A client of our own that believes the tests' authority.

use std::net::TcpStream;
use std::sync::Arc;

use integration_tests::frontend;
pub(super) use integration_tests::secure::{Secure, asked, connected, exchange};
use integration_tests::secure::{believing, speaking};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::papers;

/// Speaks TLS on a connection.
pub(super) fn secure(stream: TcpStream, alpn: Option<&[u8]>) -> Secure {
    let mut config = believing(&papers().authority).with_no_client_auth();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    speaking(Arc::new(config), stream)
}

/// Speaks TLS and shows a certificate if it is asked for one.
pub(super) fn secure_as(stream: TcpStream, cert: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Secure {
    let config = believing(&papers().authority).with_client_auth_cert(vec![cert], key).unwrap();
    speaking(Arc::new(config), stream)
}

/// A StartupMessage of the superuser, who is trusted.
pub(super) fn startup() -> Vec<u8> {
    frontend::startup(frontend::PROTOCOL_3_0, &[("user", "postgres"), ("database", "postgres")])
}
