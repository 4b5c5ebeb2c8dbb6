//! TLS towards servers: whom to believe, and what to show.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use config::{Authorities, Negotiation, TlsMode, UpstreamTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    Resumption, UnbufferedClientConnection, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::channel::Channel;
use super::clients::{ALPN, certified, roots};
use super::stream::TlsStream;
use super::{TlsError, certificate, pem, provider, versions};
use crate::stream::Stream;

/// Configurations kept; there is one for each server with parameters of its own.
const MAX_KNOWN: usize = 1024;

/// Ready-made configurations by the settings that they were made from.
#[derive(Debug, Default)]
pub struct Servers {
    known: Mutex<Vec<(Arc<UpstreamTls>, Arc<ClientConfig>)>>,
}

impl Servers {
    /// Forgets all, as after a reload: the operating system's authorities may have changed too.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn config(&self, tls: &Arc<UpstreamTls>) -> Result<Arc<ClientConfig>, TlsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = known.iter().find(|(made_from, _)| made_from == tls) {
            return Ok(config.clone());
        }
        let config = client_config(tls)?;
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.push((tls.clone(), config.clone()));
        Ok(config)
    }

    /// Shakes hands with the server `host`. Gives the data that a login can be bound to, too.
    ///
    /// # Errors
    /// The server is not believed, does not believe us, or does not speak TLS.
    pub async fn connect(
        &self,
        stream: Stream,
        host: &str,
        tls: &Arc<UpstreamTls>,
    ) -> io::Result<(Stream, Option<Vec<u8>>)> {
        let config = self.config(tls).map_err(io::Error::other)?;
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(_) if tls.mode == TlsMode::VerifyFull => {
                return Err(io::Error::other("the host's name cannot stand in a certificate"));
            }
            // Nobody compares it, and addresses are not sent.
            Err(_) => ServerName::from(std::net::IpAddr::from([0, 0, 0, 0])),
        };
        let connection = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        let stream = TlsStream::shake_hands(stream, Channel::client(connection)).await?;
        let state = stream.channel().state();
        // As libpq: who speaks TLS at once must be spoken to by name, or it may be another service altogether.
        if tls.negotiation == Negotiation::Direct && state.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other("the server did not name the protocol in direct TLS (ALPN)"));
        }
        let shown = state.peer_certificates().and_then(|chain| chain.first());
        let binding = shown.and_then(|shown| certificate::end_point(shown));
        Ok((Stream::Tls(Box::new(stream)), binding))
    }
}

/// Makes the configuration for one server.
///
/// # Errors
/// A file that does not hold what it should.
pub(super) fn client_config(tls: &UpstreamTls) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Arc::new(Verifier::new(tls, algorithms)?);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(tls.min_version))
        .map_err(|error| TlsError::new("upstream_tls.min_version", error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.identity {
        Some(identity) => {
            let own = SingleCertAndKey::from(certified(identity, &provider)?);
            builder.with_client_cert_resolver(Arc::new(own))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = tls.server_name;
    // PostgreSQL resumes no sessions.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Decides about servers' certificates by libpq's modes.
#[derive(Debug)]
struct Verifier {
    /// `None`: whoever it is.
    trusted: Option<Trusted>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Trusted {
    roots: RootCertStore,
    /// The certificates in the file as they are: a server's own may be one of them.
    listed: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(tls: &UpstreamTls, algorithms: WebPkiSupportedAlgorithms) -> Result<Self, TlsError> {
        let trusted = match &tls.authorities {
            Some(authorities) if tls.mode >= TlsMode::Require => Some(Trusted::new(authorities)?),
            _ => None,
        };
        Ok(Self { trusted, checks_name: tls.mode == TlsMode::VerifyFull, algorithms })
    }
}

impl Trusted {
    fn new(authorities: &Authorities) -> Result<Self, TlsError> {
        let file = match authorities {
            Authorities::System => return Self::of_system(),
            Authorities::File(file) => file,
        };
        let listed = pem::certificates(&file.path, &file.text)?;
        Ok(Self { roots: roots(&file.path, &file.text)?, listed })
    }

    fn of_system() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(TlsError::new("system", format!("no authorities are installed on this machine{why}")));
        }
        Ok(Self { roots, listed: Vec::new() })
    }

    /// Signed by an authority; or the file lists this very certificate, as people do with a self-signed one, and it is
    /// within its time.
    fn believes(
        &self,
        parsed: &ParsedCertificate<'_>,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let signed = verify_server_cert_signed_by_trust_anchor(parsed, &self.roots, between, now, algorithms.all);
        match signed {
            Err(_) if self.listed.iter().any(|listed| listed == shown) => is_in_its_time(shown, now),
            other => other,
        }
    }
}

fn is_in_its_time(shown: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let now = UNIX_EPOCH + std::time::Duration::from_secs(now.as_secs());
    match certificate::validity(shown) {
        Some((from, _)) if now < from => Err(CertificateError::NotValidYet.into()),
        Some((_, to)) if now > to => Err(CertificateError::Expired.into()),
        Some(_) => Ok(()),
        None => Err(CertificateError::BadEncoding.into()),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trusted) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(shown)?;
        trusted.believes(&parsed, shown, between, now, &self.algorithms)?;
        if self.checks_name {
            verify_server_name(&parsed, name).or_else(|error| {
                let common = certificate::lone_common_name(shown);
                if common.is_some_and(|common| names_host(&common, &name.to_str())) { Ok(()) } else { Err(error) }
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a common name is that of a host: the same without regard to ASCII case, or `*.` and all but its first label.
fn names_host(common: &str, host: &str) -> bool {
    let after = common.strip_prefix("*.");
    match (after, host.split_once('.')) {
        (Some(rest), Some((label, domain))) => !label.is_empty() && rest.eq_ignore_ascii_case(domain),
        _ => common.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_compared_as_libpq_does() {
        for (common, host, same) in [
            ("db.example", "DB.example", true),
            ("db.example", "db.example.evil", false),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*", "db", false),
            ("127.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(names_host(common, host), same, "{common} {host}");
        }
    }
}
