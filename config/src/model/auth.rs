//! Who may log in, how that is proven, and what is stored for it.

use std::time::Duration;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::hba::{Hba, LoginRule};
use crate::ident::IdentMaps;
use crate::network::Network;

/// A password or token. Its bytes are shown by nothing but [`Secret::reveal`], compared in a time that tells nothing but
/// their number, and wiped when dropped.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Everybody is who they say they are. Loopback and tests only.
    Trust,
    /// Nobody is let in.
    Reject,
    /// The password in clear text, compared with the stored secret. Over TLS, loopback and Unix sockets only unless
    /// `plaintext_network` allows more.
    Password,
    /// md5 challenge against the stored password or hash; SCRAM where a verifier is stored.
    Md5,
    /// SCRAM-SHA-256 against the stored password or verifier.
    ScramSha256,
    /// A TLS certificate whose name is the user's, or is mapped to it.
    Cert,
    /// The operating system's name of who connects over a Unix socket is the user's, or is mapped to it.
    Peer,
    /// Users with a stored secret by SCRAM; everybody else's password is asked for in clear text and tried on the
    /// server itself, over TLS, loopback and Unix sockets only unless `plaintext_network` allows more.
    PassThrough,
}

impl AuthMethod {
    /// Every method by the word that files and messages know it by.
    pub const WORDS: [(&'static str, Self); 8] = [
        ("passthrough", Self::PassThrough),
        ("scram-sha-256", Self::ScramSha256),
        ("md5", Self::Md5),
        ("password", Self::Password),
        ("cert", Self::Cert),
        ("peer", Self::Peer),
        ("trust", Self::Trust),
        ("reject", Self::Reject),
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, method)| *method == self).map_or("", |(word, _)| word)
    }

    /// The method that a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, method)| *method)
    }

    /// Whether it compares with a secret that the proxy has to have, from its configuration or by `auth_query`.
    pub fn needs_secret(self) -> bool {
        matches!(self, Self::Password | Self::Md5 | Self::ScramSha256)
    }
}

/// Which name of a client's certificate is its user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertName {
    /// The common name of its subject, as with PostgreSQL.
    CommonName,
    /// One of its alternative names: DNS, e-mail or URI.
    Alternative,
}

/// Login rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// The method for clients where no file of rules is given.
    pub method: AuthMethod,
    /// The rules of `auth.hba_file`; `None`: `method` holds for everybody.
    pub hba: Option<Hba>,
    /// The maps of `auth.ident_file`.
    pub maps: IdentMaps,
    /// The map that `method` uses where it is `Cert` or `Peer`; `None`: the names must be the same.
    pub map: Option<String>,
    /// The certificate's name that `method` uses where it is `Cert`.
    pub cert_name: CertName,
    /// A clear-text password may be asked for over a plain network too.
    pub plaintext_network: bool,
    /// A client that has not logged in by then is closed.
    pub login_timeout: Duration,
    /// How long a secret that a server gave, or a password that it accepted, is believed.
    pub secret_cache: Duration,
    /// How long it is believed that a server knows no such user.
    pub unknown_cache: Duration,
    /// What may be tried before login.
    pub limits: LoginLimits,
}

impl Auth {
    /// The rule for a client about whom no line of a file decides.
    pub fn default_rule(&self) -> LoginRule {
        LoginRule {
            method: self.method,
            map: self.map.clone(),
            cert_name: self.cert_name,
            client_cert: crate::hba::ClientCert::Any,
        }
    }

    /// Whether any rule lets the server itself judge passwords.
    pub fn passes_through(&self) -> bool {
        self.uses(AuthMethod::PassThrough)
    }

    /// Whether any rule asks for this method.
    pub fn uses(&self, method: AuthMethod) -> bool {
        match &self.hba {
            Some(hba) => hba.rules.iter().any(|line| line.rule.method == method),
            None => self.method == method,
        }
    }
}

impl Default for Auth {
    /// What holds when nothing is written.
    fn default() -> Self {
        Self {
            method: AuthMethod::PassThrough,
            hba: None,
            maps: IdentMaps::default(),
            map: None,
            cert_name: CertName::CommonName,
            plaintext_network: false,
            login_timeout: Duration::from_secs(15),
            secret_cache: Duration::from_secs(10),
            unknown_cache: Duration::from_secs(2),
            limits: LoginLimits::default(),
        }
    }
}

/// What may be tried before login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginLimits {
    /// Logins under way at once.
    pub concurrent: usize,
    /// Of them, from one address (IPv6: one /64).
    pub per_address: usize,
    /// Wrong passwords that one address may give within `period`; 0: any number.
    pub failures: u32,
    /// See `failures`.
    pub period: Duration,
    /// Addresses that `per_address` and `failures` do not hold for.
    pub exempt: Vec<Network>,
}

impl Default for LoginLimits {
    /// What holds when nothing is written.
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1"];
        Self {
            concurrent: 10_000,
            per_address: 1_000,
            failures: 10,
            period: Duration::from_secs(60),
            exempt: loopback.iter().filter_map(|text| Network::parse(text).ok()).collect(),
        }
    }
}

/// One user that clients may log in as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What the client must prove, and what upstreams are told unless `upstream_password` is set.
    pub secret: UserSecret,
    /// Who the user is on servers; `None`: the same name. A user in a database's own URL goes before it.
    pub upstream_user: Option<String>,
    /// What upstreams are told; `None`: the plain password of `secret` if it has one, else the database's own.
    pub upstream_password: Option<Secret>,
}

impl From<UserSecret> for User {
    /// A user with this secret and nothing else.
    fn from(secret: UserSecret) -> Self {
        Self { secret, upstream_user: None, upstream_password: None }
    }
}

/// What is stored of a user's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserSecret {
    /// The password itself.
    Plain(Secret),
    /// `md5…` as in `pg_shadow`: 32 hex digits, without the prefix.
    Md5(Secret),
    /// A whole `SCRAM-SHA-256$…` verifier.
    Scram(Secret),
    /// Nothing: pass-through or trust.
    None,
}

/// How the secrets of users who are not listed are looked up on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthQuery {
    /// One statement with `$1` for the name; it gives no row, or one with the name and the secret (or NULL).
    pub text: String,
    /// Who asks.
    pub user: String,
    /// Their password there; `None`: the server trusts them.
    pub password: Option<Secret>,
    /// The database to ask in; `None`: the one that the client wants.
    pub database: Option<String>,
}
