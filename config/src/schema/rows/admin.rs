//! The keys of the admin port.

use super::super::Kind::{AddressOrOff, Flag, Secret, Text, Word};
use super::super::Reload::{AtOnce, Restart};
use super::super::Row;
use super::row;
use crate::Audit;

/// What somebody with a token may do.
const ROLES: &[&str] = &["viewer", "operator", "tenant"];

/// Keys of `[admin]` and the tables in it.
#[rustfmt::skip]
pub(crate) const ADMIN: &[Row] = &[
    row("admin.listen", AddressOrOff, Some("127.0.0.1:6433"), Restart,
        "Where operators connect, or `\"off\"`. An address other than loopback needs a token and a certificate."),
    row("admin.token", Secret, None, AtOnce,
        "Bearer token of an operator. Where any token is set, each request but `/livez` and `/readyz` must carry one. `pgweir token` prints a fresh one."),
    row("admin.token_file", Text, None, AtOnce,
        "File that holds the token; blanks at its end are dropped."),
    row("admin.token_sha256", Secret, None, AtOnce,
        "The token's SHA-256 in hexadecimal digits, in the place of the token: the configuration then holds nothing that lets anybody in. For long random tokens alone, such as `pgweir token` prints; a word that somebody has thought of can be found by its hash."),
    row("admin.tls_cert_file", Text, None, AtOnce,
        "PEM file with the certificate that the port shows, and those that lead from it to an authority. With it the port speaks HTTPS alone. Read again by each reload."),
    row("admin.tls_key_file", Text, None, AtOnce,
        "PEM file with its key, not encrypted."),
    row("admin.tls_min_version", Word(&["1.2", "1.3"]), Some("1.2"), AtOnce,
        "Oldest version of TLS that is spoken there."),
    row("admin.cleartext_beyond_loopback", Flag, Some("false"), AtOnce,
        "Lets the port be bound to other addresses than loopback without a certificate. Tokens then cross that network as they are, so this is for networks that something else encrypts: a service mesh, a proxy in front that ends TLS on the same host. Warned of at each start."),
    row("admin.audit", Word(Audit::WORDS), Some("all"), AtOnce,
        "What is noted of who asks, in the log (target `pgweir::audit`) and at `/api/v1/audit`. `all`: views, actions and refusals; `actions`: without views; `off`: nothing. Probes, scrapes of `/metrics` and the files of pages are never noted unless they are refused."),
    row("admin.access.<name>.role", Word(ROLES), None, AtOnce,
        "`viewer`: sees everything and changes nothing. `operator`: changes too. `tenant`: sees one tenant alone. Required."),
    row("admin.access.<name>.tenant", Text, None, AtOnce,
        "With `role = \"tenant\"`: which. Required there."),
    row("admin.access.<name>.token", Secret, None, AtOnce,
        "The bearer token, another than every other. This, `token_file` or `token_sha256` is required."),
    row("admin.access.<name>.token_file", Text, None, AtOnce,
        "File that holds the token; blanks at its end are dropped."),
    row("admin.access.<name>.token_sha256", Secret, None, AtOnce,
        "The token's SHA-256, as `admin.token_sha256`."),
    row("admin.tenant_token.<name>.tenant", Text, None, AtOnce,
        "The tenant. Required."),
    row("admin.tenant_token.<name>.token", Secret, None, AtOnce,
        "The bearer token, another than every other. This, `token_file` or `token_sha256` is required."),
    row("admin.tenant_token.<name>.token_file", Text, None, AtOnce,
        "File that holds the token; blanks at its end are dropped."),
    row("admin.tenant_token.<name>.token_sha256", Secret, None, AtOnce,
        "The token's SHA-256, as `admin.token_sha256`."),
];
