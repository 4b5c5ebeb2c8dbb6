//! TLS towards clients and towards servers.

use std::fmt;
use std::sync::Arc;

/// What a finished handshake with a client has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// The host name that the client asked for (server name indication); `None`: an address, or nothing.
    pub server_name: Option<Box<str>>,
    /// The protocol's version.
    pub version: Version,
    /// The cipher suite, by the name that OpenSSL and `pg_stat_ssl` have for it.
    pub cipher: Box<str>,
    /// The client's certificate. It was signed by an authority of `tls.ca_file` and is within its time.
    pub certificate: Option<Box<PeerCertificate>>,
    /// What SCRAM-SHA-256-PLUS binds to: the `tls-server-end-point` digest of our certificate (RFC 5929). `None`: the
    /// certificate's signature algorithm has no digest of its own.
    pub binding: Option<Arc<[u8]>>,
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
    /// The last common name (CN) of the subject.
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
