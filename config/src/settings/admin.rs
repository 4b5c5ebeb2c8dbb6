//! `[admin]`: where the port is, who may use it, and how it is spoken to.

use super::*;
use crate::{AdminRole, AdminTls, AdminToken, Audit, LONG_TOKEN, TokenDigest, TokenTable};

/// What is kept of a token.
struct Kept {
    digest: TokenDigest,
    short: bool,
}

impl Builder<'_> {
    pub(super) fn admin(&mut self) -> Option<Admin> {
        let tokens = self.admin_tokens();
        let tls = self.admin_tls();
        let listen = self.address(&["admin", "listen"])?;
        let cleartext = self.flag(&["admin", "cleartext_beyond_loopback"]);
        let audit = Audit::from_word(&self.word(&["admin", "audit"])).unwrap_or(Audit::All);
        let admin = Admin { listen, tokens, tls, cleartext, audit };
        // Whoever has named a token or a certificate that cannot be used is told of that.
        if !listen.ip().is_loopback() && !admin.guards_network() && !self.is_wrong_within("admin.") {
            self.wrong(
                &["admin", "listen"],
                match admin.tokens.is_empty() {
                    true => "is reachable from the network and has no token; set admin.token or admin.token_file, and admin.tls_cert_file and admin.tls_key_file, or listen on 127.0.0.1",
                    false => "is reachable from the network, and tokens would cross it in clear text; set admin.tls_cert_file and admin.tls_key_file, or listen on 127.0.0.1; admin.cleartext_beyond_loopback = true is for networks that are encrypted by something else",
                },
            );
        }
        Some(admin)
    }

    fn admin_tls(&mut self) -> Option<AdminTls> {
        let identity = self.admin_identity();
        let min_version = TlsVersion::from_word(&self.word(&["admin", "tls_min_version"])).unwrap_or(TlsVersion::V1_2);
        Some(AdminTls { identity: identity?, min_version })
    }

    /// All of them: `admin.token`, then the tables by name. A table with a mistake is left out.
    fn admin_tokens(&mut self) -> Vec<AdminToken> {
        let mut tokens = Vec::new();
        if let Some(Kept { digest, short }) = self.token(&["admin"]) {
            let name = "admin.token".to_owned();
            tokens.push(AdminToken { name, table: TokenTable::Admin, role: AdminRole::Operator, digest, short });
        }
        for (table, key) in [(TokenTable::Access, "access"), (TokenTable::TenantToken, "tenant_token")] {
            for name in self.names_under(&["admin", key]) {
                let section = ["admin", key, name.as_str()];
                let role = self.admin_role(&section, table);
                let kept = self.token_of(&section, &name, &tokens);
                if let (Some(role), Some(Kept { digest, short })) = (role, kept) {
                    tokens.push(AdminToken { name, table, role, digest, short });
                }
            }
        }
        let sees_all = |token: &AdminToken| token.role.tenant().is_none();
        if !self.is_wrong_within("admin.") && !tokens.iter().any(sees_all) {
            for AdminToken { name, table, .. } in &tokens {
                let key = if *table == TokenTable::Access { "access" } else { "tenant_token" };
                self.wrong(
                    &["admin", key, name],
                    "sees one tenant alone, and nobody could see the others; set admin.token or admin.token_file too",
                );
            }
        }
        tokens
    }

    fn is_wrong_within(&self, section: &str) -> bool {
        self.written.mistakes.iter().any(|mistake| mistake.key.starts_with(section))
    }

    /// The token of a table, which has to have one of its own.
    fn token_of(&mut self, section: &[&str; 3], name: &str, others: &[AdminToken]) -> Option<Kept> {
        let path = |key| [section.as_slice(), &[key]].concat();
        let kept = self.token(section);
        match &kept {
            None if ["token", "token_file", "token_sha256"].iter().any(|key| self.is_wrong(&path(key))) => {}
            None => self.wrong(section, "has no token; add token = \"…\", token_file = \"…\" or token_sha256 = \"…\""),
            Some(own) if others.iter().any(|other| other.digest == own.digest) => {
                self.wrong(&path("token"), "is the same as another token of the admin port; make one for each");
            }
            // The log tells them apart by their names.
            Some(_) if others.iter().any(|other| other.name == name) => {
                self.wrong(section, "has a name that stands in admin.access too; give it another one");
            }
            Some(_) => {}
        }
        kept
    }

    fn admin_role(&mut self, section: &[&str; 3], table: TokenTable) -> Option<AdminRole> {
        let path = |key| [section.as_slice(), &[key]].concat();
        let tenant = self.text(&path("tenant"));
        if table == TokenTable::Access {
            let role = match self.word(&path("role")).as_str() {
                "operator" => AdminRole::Operator,
                "viewer" => AdminRole::Viewer,
                "tenant" => return self.tenant_of(section, tenant),
                _ if self.is_wrong(&path("role")) => return None,
                _ => {
                    self.wrong(section, "has no role; add role = \"viewer\", role = \"operator\" or role = \"tenant\"");
                    return None;
                }
            };
            if tenant.is_some() {
                self.wrong(
                    &path("tenant"),
                    "is for role = \"tenant\" alone, and this role sees all; leave one of the two out",
                );
            }
            return Some(role);
        }
        self.tenant_of(section, tenant)
    }

    fn tenant_of(&mut self, section: &[&str; 3], tenant: Option<String>) -> Option<AdminRole> {
        let path = [section.as_slice(), &["tenant"]].concat();
        match tenant.as_deref() {
            None if self.is_wrong(&path) => {}
            None | Some("") => self.wrong(section, "names no tenant; add tenant = \"acme\""),
            // There all are together whose names are beyond the bound.
            Some(crate::Tenants::OTHERS) => {
                self.wrong(&path, "stands for all tenants beyond tenant.max_tenants; name one tenant");
            }
            Some(_) => {}
        }
        tenant.map(AdminRole::Tenant)
    }

    /// A token by value, file or digest. What is kept of it is the digest.
    fn token(&mut self, section: &[&str]) -> Option<Kept> {
        let path = [section, &["token_sha256"]].concat();
        let secret = self.secret(section, "token");
        let Some(hex) = self.text(&path) else {
            let secret = secret?;
            let short = secret.reveal().chars().count() < LONG_TOKEN;
            return Some(Kept { digest: TokenDigest::of(secret.reveal().as_bytes()), short });
        };
        if secret.is_some() {
            self.wrong(&path, "stands beside token; leave one of the two out");
        }
        let digest = TokenDigest::parse(&hex);
        if digest.is_none() {
            self.wrong(&path, "is no SHA-256; write its 64 hexadecimal digits, as `pgweir token` prints them");
        }
        digest.map(|digest| Kept { digest, short: false })
    }
}
