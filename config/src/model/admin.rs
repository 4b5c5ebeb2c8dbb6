//! The admin port: where it is, who may see what, and how it is spoken to.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::{Identity, TlsVersion};

/// Characters from which on a token counts as one that cannot be guessed.
pub const LONG_TOKEN: usize = 32;

/// The admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Loopback, or else [`Admin::guards_network`] holds.
    pub listen: SocketAddr,
    /// One of these has every request but `/livez` and `/readyz` to carry. Empty: none is asked for.
    pub tokens: Vec<AdminToken>,
    /// What it shows to those who connect; `None`: it speaks in clear text.
    pub tls: Option<AdminTls>,
    /// Tokens may cross a network in clear text.
    pub cleartext: bool,
    /// What is noted of who asks.
    pub audit: Audit,
}

impl Admin {
    /// A port without tokens.
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, tokens: Vec::new(), tls: None, cleartext: false, audit: Audit::All }
    }

    /// Whether it may be reached from other machines: it asks for tokens, and nobody in between can read them.
    pub fn guards_network(&self) -> bool {
        !self.tokens.is_empty() && (self.tls.is_some() || self.cleartext)
    }
}

/// Somebody who may use the admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// What the log calls them: the table's name, or `admin.token`.
    pub name: String,
    /// Where it stands in the configuration.
    pub table: TokenTable,
    /// What they may do.
    pub role: AdminRole,
    /// What is kept of the token.
    pub digest: TokenDigest,
    /// It has fewer characters than [`LONG_TOKEN`].
    pub short: bool,
}

impl AdminToken {
    /// One as it comes from a table of `[admin.access]`.
    pub fn new(name: &str, role: AdminRole, token: &str) -> Self {
        let short = token.chars().count() < LONG_TOKEN;
        Self {
            name: name.to_owned(),
            table: TokenTable::Access,
            role,
            digest: TokenDigest::of(token.as_bytes()),
            short,
        }
    }
}

/// Where a token stands in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTable {
    /// `[admin]` itself.
    Admin,
    /// `[admin.access.NAME]`.
    Access,
    /// `[admin.tenant_token.NAME]`.
    TenantToken,
}

/// What a token opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminRole {
    /// Everything is seen, and may be changed.
    Operator,
    /// Everything is seen.
    Viewer,
    /// One tenant is seen.
    Tenant(String),
}

impl AdminRole {
    /// Its word in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Tenant(_) => "tenant",
        }
    }

    /// The one tenant that it sees.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            _ => None,
        }
    }
}

/// The SHA-256 of a token. Of a token that cannot be guessed it tells nothing.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of this token.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// From its 64 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits = hex.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair =
                std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(pair?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Its 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl ConstantTimeEq for TokenDigest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for TokenDigest {}

impl std::fmt::Debug for TokenDigest {
    /// Not shown: a token that is no long random one could be found by it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// TLS of the admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTls {
    /// What is shown to those who connect.
    pub identity: Identity,
    /// Oldest version spoken.
    pub min_version: TlsVersion,
}

/// What the audit log notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// Who has looked at what, who has changed what, and who was refused.
    All,
    /// Who has changed what, and who was refused.
    Actions,
    /// Nothing.
    Off,
}

impl Audit {
    /// As they are written in a configuration.
    pub const WORDS: &'static [&'static str] = &["all", "actions", "off"];

    /// By its word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "all" => Some(Self::All),
            "actions" => Some(Self::Actions),
            "off" => Some(Self::Off),
            _ => None,
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Actions => "actions",
            Self::Off => "off",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_never_shown() {
        let digest = TokenDigest::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.hex(), hex);
        assert_eq!(TokenDigest::parse(hex), Some(digest));
        assert_eq!(TokenDigest::parse(&hex.to_uppercase()), Some(digest));
        let signed = format!("+1{}", &hex[2..]);
        for wrong in ["", "ba78", &hex[1..], &format!("{hex}00"), &hex.replace('b', "g"), &signed, &"é".repeat(32)] {
            assert_eq!(TokenDigest::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{digest:?}").contains("ba78"));
    }

    #[test]
    fn a_network_needs_tokens_and_that_nobody_reads_them() {
        let mut admin = Admin::at(([0, 0, 0, 0], 1).into());
        assert!(!admin.guards_network());
        admin.cleartext = true;
        assert!(!admin.guards_network(), "whoever comes would see everything");
        admin.tokens.push(AdminToken::new("a", AdminRole::Viewer, "t"));
        assert!(admin.guards_network());
        admin.cleartext = false;
        assert!(!admin.guards_network());
    }
}
