//! Who asks: what a request that was let in says of itself to whoever answers it.

use std::sync::Arc;

use config::{AdminRole, AdminToken, Settings, TokenDigest};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Sees one tenant.
    TenantViewer,
    /// Sees everything, changes nothing.
    Viewer,
    /// Sees and changes.
    Operator,
}

impl Role {
    /// As it is shown and logged.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::TenantViewer => "tenant",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// Who asks. Stands in the extensions of each request that was let in, and nothing that comes over the network can put
/// it there: whoever answers one request by another of its own gives it the same viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer {
    name: Arc<str>,
    role: Role,
    tenant: Option<Arc<str>>,
    csrf: Option<Arc<str>>,
    /// Of the token that it was let in by; `None`: by none.
    token: Option<TokenDigest>,
}

impl Viewer {
    /// Somebody who sees everything.
    pub(crate) fn new(name: &str, role: Role) -> Self {
        Self { name: name.into(), role, tenant: None, csrf: None, token: None }
    }

    /// Somebody who sees one tenant.
    pub(crate) fn of_tenant(name: &str, tenant: &str) -> Self {
        let role = Role::TenantViewer;
        Self { name: name.into(), role, tenant: Some(tenant.into()), csrf: None, token: None }
    }

    /// Whoever has this token.
    pub(super) fn of_token(token: &AdminToken) -> Self {
        let viewer = match &token.role {
            AdminRole::Operator => Self::new(&token.name, Role::Operator),
            AdminRole::Viewer => Self::new(&token.name, Role::Viewer),
            AdminRole::Tenant(tenant) => Self::of_tenant(&token.name, tenant),
        };
        Self { token: Some(token.digest), ..viewer }
    }

    /// Whether it was let in by a token of its own.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether these settings would let it in as what it is: with the same token, for the same role and tenant.
    pub(crate) fn still_stands(&self, settings: &Settings) -> bool {
        let tokens = settings.admin.as_ref().map(|admin| admin.tokens.as_slice()).unwrap_or_default();
        match self.token {
            None => tokens.is_empty(),
            Some(digest) => tokens
                .iter()
                .filter(|token| token.digest == digest)
                .map(Self::of_token)
                .any(|now| (now.role, &now.tenant) == (self.role, &self.tenant)),
        }
    }

    /// The same, from a browser whose forms have to send this back.
    #[must_use]
    pub(crate) fn with_csrf(self, csrf: Arc<str>) -> Self {
        Self { csrf: Some(csrf), ..self }
    }

    /// The same, shared.
    pub(super) fn shared_csrf(&self) -> Option<Arc<str>> {
        self.csrf.clone()
    }

    /// Whose token it is, by the configuration's name for it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// The one tenant that it sees; `None`: all.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether it may change anything.
    pub(crate) fn may_act(&self) -> bool {
        self.role == Role::Operator
    }

    /// What a form has to send back as its field `csrf`, a script as the header `x-csrf-token`; `None`: nothing is asked
    /// for, because the viewer sends its token with each request.
    pub(crate) fn csrf(&self) -> Option<&str> {
        self.csrf.as_deref()
    }
}
