//! TLS as text for comparison. A certificate that was renewed under its old name has changed too.

use super::{Flat, shown_secret};
use crate::{Authorities, ClientTls, Identity, PemFile, UpstreamTls};

pub(super) fn put_client_tls(all: &mut Flat, tls: &ClientTls) {
    let mut put = |key: &str, value: String| {
        all.insert(vec!["tls".to_owned(), key.to_owned()], value);
    };
    put("mode", tls.mode.word().to_owned());
    put("min_version", format!("{:?}", tls.min_version));
    put("ca_file", shown_pem(tls.authorities.as_ref()));
    put_identity(tls.identity.as_ref(), put);
}

pub(super) fn put_upstream_tls(all: &mut Flat, tls: &UpstreamTls) {
    let mut put = |key: &str, value: String| {
        all.insert(vec!["upstream_tls".to_owned(), key.to_owned()], value);
    };
    put("mode", tls.mode.word().to_owned());
    put("min_version", format!("{:?}", tls.min_version));
    put("ca_file", shown_authorities(tls));
    put("negotiation", format!("{:?}", tls.negotiation));
    put("channel_binding", format!("{:?}", tls.channel_binding));
    put_identity(tls.identity.as_ref(), put);
}

/// All of it, for a server whose URL has parameters of its own.
pub(super) fn shown_tls(tls: &UpstreamTls) -> String {
    let identity = tls.identity.as_ref().map(|own| (shown_pem(Some(&own.chain)), shown_secret(Some(&own.key))));
    format!(
        "{} {:?} {} {:?} {:?} {} {identity:?}",
        tls.mode.word(),
        tls.min_version,
        shown_authorities(tls),
        tls.negotiation,
        tls.channel_binding,
        tls.server_name,
    )
}

fn put_identity(identity: Option<&Identity>, mut put: impl FnMut(&str, String)) {
    put("cert_file", shown_pem(identity.map(|own| &own.chain)));
    let key = identity.map(|own| format!("{} {}", own.key_path, shown_secret(Some(&own.key))));
    put("key_file", key.unwrap_or_default());
}

fn shown_authorities(tls: &UpstreamTls) -> String {
    match &tls.authorities {
        None => String::new(),
        Some(Authorities::System) => "system".to_owned(),
        Some(Authorities::File(file)) => shown_pem(Some(file)),
    }
}

fn shown_pem(file: Option<&PemFile>) -> String {
    file.map(|file| format!("{} {}", file.path, file.text)).unwrap_or_default()
}
