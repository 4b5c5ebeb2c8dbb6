//! TLS as text for comparison. A certificate that was renewed under its old name has changed too.

use super::{Flat, given, shown_secret, word};
use crate::{Authorities, ClientTls, Identity, PemFile, TlsVersion, UpstreamTls};

pub(super) fn put_client_tls(all: &mut Flat, tls: &ClientTls) {
    all.put(&["tls", "mode"], tls.mode.word());
    all.put(&["tls", "min_version"], version(tls.min_version));
    let path = tls.authorities.as_ref().map(|file| &file.path);
    all.show(&["tls", "ca_file"], shown_pem(tls.authorities.as_ref()), given(path));
    put_identity(all, "tls", tls.identity.as_ref());
}

pub(super) fn put_upstream_tls(all: &mut Flat, tls: &UpstreamTls) {
    all.put(&["upstream_tls", "mode"], tls.mode.word());
    all.put(&["upstream_tls", "min_version"], version(tls.min_version));
    let path = tls.authorities.as_ref().map(|authorities| match authorities {
        Authorities::System => "system",
        Authorities::File(file) => &file.path,
    });
    all.show(&["upstream_tls", "ca_file"], shown_authorities(tls), given(path));
    all.put(&["upstream_tls", "negotiation"], word(tls.negotiation));
    all.put(&["upstream_tls", "channel_binding"], word(tls.channel_binding));
    put_identity(all, "upstream_tls", tls.identity.as_ref());
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

fn put_identity(all: &mut Flat, section: &str, identity: Option<&Identity>) {
    let (chain, key) = (identity.map(|own| &own.chain), identity.map(|own| &own.key_path));
    all.show(&[section, "cert_file"], shown_pem(chain), given(chain.map(|file| &file.path)));
    let exact = identity.map(|own| format!("{} {}", own.key_path, shown_secret(Some(&own.key))));
    all.show(&[section, "key_file"], exact.unwrap_or_default(), given(key));
}

pub(super) fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}

fn shown_authorities(tls: &UpstreamTls) -> String {
    match &tls.authorities {
        None => String::new(),
        Some(Authorities::System) => "system".to_owned(),
        Some(Authorities::File(file)) => shown_pem(Some(file)),
    }
}

pub(super) fn shown_pem(file: Option<&PemFile>) -> String {
    file.map(|file| format!("{} {}", file.path, file.text)).unwrap_or_default()
}
