//! TLS on both sides.

use std::sync::Arc;

use crate::Secret;

/// How much TLS: libpq's `sslmode`. Later ones ask for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// None.
    Disable,
    /// Only where the other side insists.
    Allow,
    /// Where the other side can.
    Prefer,
    /// Always; who the other side is remains unchecked.
    Require,
    /// Always, and an authority that is known has signed the other side's certificate.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the other side: a server its host, a client its user.
    VerifyFull,
}

impl TlsMode {
    /// As it is written in a configuration.
    pub const WORDS: &'static [&'static str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

    /// By its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Oldest version of the protocol that is spoken. Nothing below 1.2 ever is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2 and 1.3.
    V1_2,
    /// 1.3 alone.
    V1_3,
}

impl TlsVersion {
    /// Reads `1.2` and `1.3`, and libpq's `TLSv1.2` and `TLSv1.3`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.strip_prefix("TLSv").unwrap_or(word) {
            "1.2" => Some(Self::V1_2),
            "1.3" => Some(Self::V1_3),
            _ => None,
        }
    }
}

/// A PEM file, read when the configuration was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    /// As it was named.
    pub path: String,
    /// Its text.
    pub text: Arc<str>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those that lead from it to an authority, in that order.
    pub chain: PemFile,
    /// Where the key was read.
    pub key_path: String,
    /// The key in PEM.
    pub key: Secret,
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// What clients may and must do. `Allow` and `Prefer` are the same here: the client chooses.
    pub mode: TlsMode,
    /// What is shown to clients; always there unless `mode` is `Disable`.
    pub identity: Option<Identity>,
    /// Who signs clients' certificates; with it clients are asked for one. Always there from `VerifyCa` on.
    pub authorities: Option<PemFile>,
    /// Oldest version spoken.
    pub min_version: TlsVersion,
}

impl Default for ClientTls {
    /// None.
    fn default() -> Self {
        Self { mode: TlsMode::Disable, identity: None, authorities: None, min_version: TlsVersion::V1_2 }
    }
}

/// Who signs servers' certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorities {
    /// Those that the operating system trusts.
    System,
    /// Those in this file.
    File(PemFile),
}

/// Whether a SCRAM login to a server is bound to its TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    Prefer,
    /// A server that cannot is not logged in to.
    Require,
}

/// How TLS begins towards a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// The server is asked first, as all versions understand.
    Postgres,
    /// At once (PostgreSQL 17).
    Direct,
}

/// TLS towards servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// How much of it. Unix sockets have none, whatever it says.
    pub mode: TlsMode,
    /// Whom to believe about servers; always there from `VerifyCa` on. With it, `Require` is `VerifyCa`, as for libpq.
    pub authorities: Option<Authorities>,
    /// What is shown to servers that ask for a certificate.
    pub identity: Option<Identity>,
    /// How it begins.
    pub negotiation: Negotiation,
    /// Whether logins are bound to it.
    pub channel_binding: ChannelBinding,
    /// Oldest version spoken.
    pub min_version: TlsVersion,
    /// Whether the server is told which host is wanted.
    pub server_name: bool,
}

impl Default for UpstreamTls {
    /// As libpq without any parameter.
    fn default() -> Self {
        Self {
            mode: TlsMode::Prefer,
            authorities: None,
            identity: None,
            negotiation: Negotiation::Postgres,
            channel_binding: ChannelBinding::Prefer,
            min_version: TlsVersion::V1_2,
            server_name: true,
        }
    }
}
