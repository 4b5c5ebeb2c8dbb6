//! `[admin.tenant_token.NAME]`: tokens that see one tenant alone.

use super::*;
use crate::TenantToken;

impl Builder<'_> {
    /// All of them, by name. A table with a mistake is left out.
    pub(super) fn tenant_tokens(&mut self, token: Option<&Secret>) -> Vec<TenantToken> {
        let mut tokens: Vec<TenantToken> = Vec::new();
        for name in self.names_under(&["admin", "tenant_token"]) {
            let section = ["admin", "tenant_token", name.as_str()];
            let path = |key| [section.as_slice(), &[key]].concat();
            let tenant = self.text(&path("tenant"));
            let own = self.secret(&section, "token");
            if token.is_none() {
                self.wrong(&section, "sees one tenant alone, and without admin.token everybody sees all; set admin.token or admin.token_file too");
                continue;
            }
            match tenant.as_deref() {
                None if self.is_wrong(&path("tenant")) => {}
                None | Some("") => self.wrong(&section, "names no tenant; add tenant = \"acme\""),
                // There all are together whose names are beyond the bound.
                Some("other" | "(others)") => {
                    self.wrong(&path("tenant"), "stands for all tenants beyond tenant.max_tenants; name one tenant");
                }
                Some(_) => {}
            }
            let is_taken = |own: &Secret| {
                let known = tokens.iter().map(|other| &other.token).chain(token);
                known.into_iter().any(|other| other.reveal() == own.reveal())
            };
            match &own {
                None if self.is_wrong(&path("token")) || self.is_wrong(&path("token_file")) => {}
                None => self.wrong(&section, "has no token; add token = \"…\" or token_file = \"…\""),
                Some(own) if is_taken(own) => {
                    self.wrong(&path("token"), "is the same as another token of the admin port; make one for each");
                }
                Some(_) => {}
            }
            if let (Some(tenant), Some(token)) = (tenant, own) {
                tokens.push(TenantToken { name, tenant, token });
            }
        }
        tokens
    }
}
