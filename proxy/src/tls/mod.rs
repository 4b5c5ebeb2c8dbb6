//! TLS towards clients and towards servers.

mod certificate;
mod channel;
pub mod clients;
pub mod operators;
mod pem;
pub mod servers;
pub mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::{Settings, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, CommonState, ProtocolVersion, SupportedProtocolVersion, version};

use crate::session::ctl::TlsFace;
use clients::Clients;
use operators::Operators;

/// How long before its end a certificate is warned of.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30 * 86_400);

/// What a finished handshake with a client has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// The host name that the client asked for (server name indication), in lower case; `None`: an address, or nothing.
    pub server_name: Option<Box<str>>,
    /// The protocol's version.
    pub version: Version,
    /// The cipher suite, by the name that OpenSSL and `pg_stat_ssl` have for it.
    pub cipher: &'static str,
    /// The client's certificate. It was signed by an authority of `tls.ca_file` and is within its time.
    pub certificate: Option<Box<PeerCertificate>>,
    /// What SCRAM-SHA-256-PLUS binds to: the `tls-server-end-point` digest of our certificate (RFC 5929). `None`: the
    /// certificate's signature algorithm has no digest of its own.
    pub binding: Option<Arc<[u8]>>,
}

impl Secured {
    /// What of it is shown while the client is served.
    pub fn face(&self) -> TlsFace {
        TlsFace {
            version: self.version,
            cipher: self.cipher,
            server_name: self.server_name.clone(),
            common_name: self.certificate.as_ref().and_then(|certificate| certificate.common_name.clone()),
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

impl fmt::Display for Version {
    /// As `pg_stat_ssl` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// Who a verified certificate says that its holder is. A name that holds a NUL or that is not text is left out: what
/// cannot be compared must not be believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The first common name (CN) of the subject, which is the one that PostgreSQL compares.
    pub common_name: Option<Box<str>>,
    /// The subject's distinguished name as RFC 4514 writes it, the most specific part first: `CN=anna,O=Shop`.
    pub subject: Box<str>,
    /// The issuer's distinguished name.
    pub issuer: Box<str>,
    /// Subject alternative names of type dNSName.
    pub dns_names: Vec<Box<str>>,
    /// Subject alternative names of type rfc822Name.
    pub emails: Vec<Box<str>>,
    /// Subject alternative names of type uniformResourceIdentifier.
    pub uris: Vec<Box<str>>,
}

/// What is wrong with the TLS part of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    path: String,
    problem: String,
}

impl TlsError {
    fn new(path: &str, problem: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for TlsError {}

/// Makes TLS towards clients, and sees whether TLS towards each server and of the admin port can be made.
///
/// # Errors
/// The first thing that is wrong.
pub fn make(settings: &Settings) -> Result<Clients, TlsError> {
    for database in settings.databases.values().chain(&settings.wildcard) {
        servers::client_config(&database.upstream.tls)?;
    }
    if let Some(tls) = settings.admin.as_ref().and_then(|admin| admin.tls.as_ref()) {
        Operators::new(tls)?;
    }
    Clients::new(&settings.tls)
}

/// Until when certificates of ours hold, by the files that they were read from: clients', and those for servers.
pub fn expiries(settings: &Settings) -> Vec<(String, SystemTime)> {
    let databases = settings.databases.values().chain(&settings.wildcard);
    let upstreams = databases.filter_map(|database| database.upstream.tls.identity.as_ref());
    let admin = settings.admin.as_ref().and_then(|admin| admin.tls.as_ref());
    let mut expiries: Vec<_> = settings
        .tls
        .identity
        .iter()
        .chain(admin.map(|tls| &tls.identity))
        .chain(upstreams)
        .filter_map(|identity| {
            let own = pem::certificates(&identity.chain.path, &identity.chain.text).ok()?;
            let (_, end) = certificate::validity(own.first()?)?;
            Some((identity.chain.path.clone(), end))
        })
        .collect();
    // Several databases may have the same one.
    expiries.sort();
    expiries.dedup_by(|later, first| later.0 == first.0);
    expiries
}

/// What will stop working soon: certificates of ours that end within 30 days of `now`, a sentence each.
pub fn warnings(settings: &Settings, now: SystemTime) -> Vec<String> {
    let soon = expiries(settings).into_iter().filter_map(|(path, end)| {
        let left = end.duration_since(now).unwrap_or_default();
        (left < EXPIRY_MARGIN).then(|| match left.as_secs() / 86_400 {
            _ if left.is_zero() => format!("{path}: the certificate has expired; renew it"),
            days => format!("{path}: the certificate expires in {days} days; renew it"),
        })
    });
    soon.collect()
}

/// The cryptography: ring's, named here and nowhere else.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];
    const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];
    match oldest {
        TlsVersion::V1_2 => BOTH,
        TlsVersion::V1_3 => NEW,
    }
}

fn version_of(state: &CommonState) -> Version {
    match state.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
        _ => Version::Tls12,
    }
}

/// OpenSSL's name of the cipher suite.
fn cipher_of(state: &CommonState) -> &'static str {
    use CipherSuite as Suite;
    match state.negotiated_cipher_suite().map(|suite| suite.suite()) {
        Some(Suite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(Suite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(Suite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) => "ECDHE-RSA-AES128-GCM-SHA256",
        Some(Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) => "ECDHE-RSA-AES256-GCM-SHA384",
        Some(Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256) => "ECDHE-RSA-CHACHA20-POLY1305",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384) => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256) => "ECDHE-ECDSA-CHACHA20-POLY1305",
        other => other.and_then(|suite| suite.as_str()).unwrap_or("unknown"),
    }
}
