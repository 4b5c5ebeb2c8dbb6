//! The admin port.

use super::flat::Flat;
use super::tls::{shown_pem, version};
use super::{given, none};
use crate::{Admin, Audit, TokenTable};

/// A port that is off has none of the other keys.
pub(super) fn put_admin(all: &mut Flat, admin: Option<&Admin>) {
    all.put(&["admin", "listen"], admin.map_or("off".to_owned(), |admin| admin.listen.to_string()));
    let tls = admin.and_then(|admin| admin.tls.as_ref());
    let (chain, key) = (tls.map(|tls| &tls.identity.chain), tls.map(|tls| &tls.identity));
    all.show(&["admin", "tls_cert_file"], shown_pem(chain), given(chain.map(|file| &file.path)));
    let exact = key.map(|own| format!("{} {}", own.key_path, own.key.reveal())).unwrap_or_default();
    all.show(&["admin", "tls_key_file"], exact, given(key.map(|own| &own.key_path)));
    all.put(&["admin", "tls_min_version"], given(tls.map(|tls| version(tls.min_version))));
    all.put(&["admin", "cleartext_beyond_loopback"], admin.is_some_and(|admin| admin.cleartext));
    all.put(&["admin", "audit"], admin.map_or(Audit::All, |admin| admin.audit).word());
    all.hide(&["admin", "token"], none());
    for token in admin.iter().flat_map(|admin| &admin.tokens) {
        match token.table {
            TokenTable::Admin => all.hide(&["admin", "token"], token.digest.hex()),
            TokenTable::TenantToken => {
                all.put(&["admin", "tenant_token", &token.name, "tenant"], given(token.role.tenant()));
                all.hide(&["admin", "tenant_token", &token.name, "token"], token.digest.hex());
            }
            TokenTable::Access => {
                all.put(&["admin", "access", &token.name, "role"], token.role.word());
                all.put(&["admin", "access", &token.name, "tenant"], given(token.role.tenant()));
                all.hide(&["admin", "access", &token.name, "token"], token.digest.hex());
            }
        }
    }
}
