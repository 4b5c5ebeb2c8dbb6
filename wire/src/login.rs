//! Logging in, both ways: [`server`] plays the server towards our clients, [`client`] the client towards upstreams.
//!
//! Each side is a chain of structs, one per awaited message, which is consumed by the step to the next: a message that
//! cannot come in a state has no method there. So a second StartupMessage inside a SCRAM exchange, say, is not checked
//! for; it does not compile.
//!
//! Nothing here draws random numbers, salts and nonces of ours come in as arguments; the one exception is the nonce of
//! a login to an upstream with a password, which `postgres-protocol` draws itself.

pub mod client;
mod client_scram;
pub mod md5;
pub mod scram;
pub mod server;
mod server_scram;

pub use self::md5::Md5Secret;
pub use client::{Binding, ClientLogin, ClientSecret, ClientStep, Established};
pub use client_scram::MAX_ITERATIONS;
pub use scram::{ScramKeys, ScramVerifier};
pub use server::{AwaitStartup, LoggedIn, Opened, Proof, Started};

/// The SASL mechanism without channel binding.
pub(crate) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The SASL mechanism with channel binding.
pub(crate) const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Longest body of a client's message during login, in bytes. It is `PG_MAX_AUTH_TOKEN_LENGTH`, PostgreSQL's limit for passwords; SASL messages are held to [`MAX_SASL`].
pub const MAX_CLIENT_BODY: usize = 65_535;

/// Longest body of an upstream's message during login, in bytes. PostgreSQL sends nothing longer than an error text.
pub const MAX_SERVER_BODY: usize = 65_536;

/// Longest SASL message accepted from either side, in bytes (`PG_MAX_SASL_MESSAGE_LENGTH`).
pub const MAX_SASL: usize = 1_024;

#[cfg(test)]
mod tests;
