//! The keys of TLS.

use super::Kind::{Text, Word};
use super::Reload::AtOnce;
use super::Row;
use super::rows::row;
use crate::TlsMode;

/// Keys of `[tls]` and `[upstream_tls]`.
#[rustfmt::skip]
pub(crate) const TLS: &[Row] = &[
    row("tls.mode", Word(TlsMode::WORDS), None, AtOnce,
        "`disable`: clients are told that there is none. `allow`, `prefer`: the client chooses. `require`: a client without TLS is refused. `verify-ca`: it also needs a certificate of `ca_file`. `verify-full`: whose common name is the user that it logs in as. Left out: `prefer` with a certificate, else `disable`. Requests to cancel are taken without TLS too, for libpq before 17 sends them so."),
    row("tls.cert_file", Text, None, AtOnce,
        "PEM file with the certificate that clients see, and those that lead from it to an authority."),
    row("tls.key_file", Text, None, AtOnce,
        "PEM file with its key, not encrypted."),
    row("tls.ca_file", Text, None, AtOnce,
        "PEM file with the authorities that sign clients' certificates. With it each client is asked for one; what it shows is checked, and it may show none unless `mode` says more."),
    row("tls.min_version", Word(&["1.2", "1.3"]), Some("1.2"), AtOnce,
        "Oldest version of TLS that is spoken with clients."),
    row("upstream_tls.mode", Word(TlsMode::WORDS), Some("prefer"), AtOnce,
        "As libpq's `sslmode`. `disable`: none. `allow`: where the server refuses a login without. `prefer`: where the server can. `require`: always, whoever the server is; with a `ca_file` the same as `verify-ca`. `verify-ca`: an authority of `ca_file` has signed the server's certificate. `verify-full`: and it is for the URL's host: what a network that is not yours needs. Unix sockets have no TLS."),
    row("upstream_tls.ca_file", Text, None, AtOnce,
        "PEM file with the authorities that sign servers' certificates, or `system` for those of the operating system (with `verify-full` alone)."),
    row("upstream_tls.cert_file", Text, None, AtOnce,
        "PEM file with the certificate for servers that ask for one."),
    row("upstream_tls.key_file", Text, None, AtOnce,
        "PEM file with its key, not encrypted."),
    row("upstream_tls.negotiation", Word(&["postgres", "direct"]), Some("postgres"), AtOnce,
        "`direct`: TLS begins without asking first, which saves a round trip; PostgreSQL 17 and later, from `require` on."),
    row("upstream_tls.channel_binding", Word(&["disable", "prefer", "require"]), Some("prefer"), AtOnce,
        "Whether SCRAM logins to servers are bound to their TLS connection (SCRAM-SHA-256-PLUS), so that nobody in between can log in with them. `require`: a server that cannot is not logged in to."),
    row("upstream_tls.min_version", Word(&["1.2", "1.3"]), Some("1.2"), AtOnce,
        "Oldest version of TLS that is spoken with servers."),
];
