//! What limits say against a statement by what it is: in the order in which the proxy looks at them.

use config::{LimitKey, Mode};
use policy::limits::{Effective, Explained, LimitTable};
use policy::verdict::Refusal;

use super::{Objection, Statement, Text};
use crate::session::police::{against, said_of};
use crate::session::statement::Known;

/// Whose statements are judged.
pub(super) struct Whose<'a> {
    pub(super) table: &'a LimitTable,
    pub(super) tenant: &'a str,
    pub(super) class: &'a str,
}

impl Whose<'_> {
    /// One of which the fingerprint alone is known.
    pub(super) fn fingerprint(&self, strict: u64) -> Statement {
        Statement { fingerprint: strict, limits: self.explained(strict), text: None }
    }

    /// One whose text is known: what holds for all of the tenant's, then what is said of just this one. Of several in a
    /// text, each has its own.
    pub(super) fn statement(&self, of_session: &Effective, known: &Known, sql: &[u8]) -> Statement {
        let shape = &known.shape;
        let named: Vec<(u64, Effective)> =
            shape.named().filter_map(|(strict, class)| Some((strict, said_of(class, self.own(strict)?)))).collect();
        let mut objections: Vec<Objection> = against(of_session, known, known.script.as_deref(), true)
            .map(|(key, mode, what)| self.objection(None, key, mode, what))
            .collect();
        for (strict, own) in &named {
            objections.extend(own.blocked.map(|mode| self.objection(Some(*strict), LimitKey::Blocked, mode, "")));
        }
        let row_limit = named.iter().find_map(|(_, own)| own.row_limit).or(of_session.row_limit);
        let takes_limit = known.limit_goes(sql).is_some();
        let text = Text {
            normalised: shape.text().to_owned(),
            objections,
            row_limit: row_limit.filter(|_| takes_limit).map(|limit| (limit.at, limit.mode)),
        };
        let fingerprint = named.first().map_or(shape.strict, |(strict, _)| *strict);
        Statement { fingerprint, limits: self.explained(fingerprint), text: Some(text) }
    }

    fn explained(&self, strict: u64) -> Option<Vec<Explained>> {
        self.table.limits_statement(strict).then(|| self.table.explain_statement(self.tenant, self.class, strict))
    }

    fn own(&self, strict: u64) -> Option<Effective> {
        self.table.of_statement(self.tenant, self.class, strict)
    }

    fn objection(&self, strict: Option<u64>, key: LimitKey, mode: Mode, what: &str) -> Objection {
        let limited = self.table.limited(self.tenant, self.class, key, strict);
        let refusal = Refusal::NotAllowed { limited, what: what.into() };
        Objection { limit: key.word(), mode, report: refusal.report() }
    }
}
