//! Whose a client is that has just proven who it is, and whether its tenant may have one more.

use config::{LimitKey, Mode};
use policy::tenant::{ClassId, Facts, Lookup, NOTHING, TenantId};
use policy::verdict::Refusal;
use wire::encode::{Report, Severity, backend as say};
use wire::error::Sqlstate;

use super::wish::Wish;
use super::{Denied, Gate, Guest};
use crate::tenancy::Membership;

/// The startup packet's settings, as far as they are text.
struct Startup<'a>(&'a [(Box<str>, Box<[u8]>)]);

impl Lookup for Startup<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

impl Gate {
    /// Counts the client among its tenant's, unless there are as many as there may be.
    pub(super) fn join_tenant(
        &self,
        guest: &mut Guest,
        wish: &Wish,
    ) -> Result<(TenantId, ClassId, Membership), Denied> {
        let rules = self.shared.rules();
        let startup = Startup(&wish.startup);
        let secured = guest.secured.as_ref();
        let certificate = secured.and_then(|secured| secured.certificate.as_deref());
        let facts = Facts {
            user: &wish.user,
            user_suffix: &wish.suffix,
            database: &wish.database,
            application_name: &wish.application,
            server_name: secured.and_then(|secured| secured.server_name.as_deref()).unwrap_or_default(),
            certificate: certificate.and_then(|shown| shown.common_name.as_deref()).unwrap_or_default(),
            address: guest.peer.ip(),
            startup: &startup,
            settings: &startup,
            comment: &NOTHING,
        };
        let name = rules.resolver.resolve(&facts).tenant.into_owned();
        let class = rules.resolver.class(&facts);
        let tenant = self.shared.directory.id(&name);
        let membership = Membership::join(&self.shared.tenancy, tenant, class);
        let limits = rules.limits.of(tenant, class);
        let Some(most) = limits.max_clients else { return Ok((tenant, class, membership)) };
        // Two that come at once may both see the other: a place may stay free for a moment, never one too many be taken.
        if membership.of(limits.by_class.clients).clients() > most.at {
            membership.each(|usage| usage.reached(LimitKey::MaxClients, most.mode));
            let shown = self.shared.directory.name(tenant);
            let limited = rules.limits.limited(&shown, rules.resolver.class_name(class), LimitKey::MaxClients, None);
            let refusal = Refusal::TooMany { limited, limit: most.at.into(), retry_in: None };
            match most.mode {
                Mode::Enforce => return Err(refusal.into()),
                Mode::Warn => {
                    let report = refusal.report();
                    let notice = Report::new(Severity::Notice, Sqlstate::SUCCESS, report.message)
                        .detail(report.detail.unwrap_or_default())
                        .hint("This limit only warns so far.");
                    say::notice_response(&mut guest.out, &notice);
                }
                Mode::Observe | Mode::Off => {}
            }
        }
        Ok((tenant, class, membership))
    }
}
