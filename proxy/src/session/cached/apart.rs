//! Writes, and reads, of tables whose rows row-level security separates by a setting: what of one value alone they touch.
//!
//! ```text
//!   the text may be of one part ──► nothing of its request is under way ──► nothing unseen in its transaction
//!        ──► its settings are known ──► its role is one that the policies hold for ──► its value has one form ──► its part
//!   any doubt ──► the whole table
//! ```
//! A server decides what policies hold for a statement when it plans it, and what a setting says when it runs it: so a portal
//! counts only if it was bound in the same request, in front of which all was settled.

use std::rc::Rc;
use std::sync::Arc;

use policy::cache::catalog::Separation;
use policy::cache::{Database, Footprint, Part};
use wire::params::{Settings, Value};
use wire::pipeline::{Awaited, Fate};
use wire::tag::TransactionStatus;

use super::{Identity, Wanted};
use crate::cache::here::Here;
use crate::cache::writes::{Reach, reach_of};
use crate::session::Session;
use crate::session::brain::Look;
use crate::session::portals::Portal;
use crate::upstream::Upstream;

/// Numbers below this one are the server's own types: what is declared as another one may run something when it is bound.
const FIRST_OF_SOMEBODY: u32 = 16_384;

impl Identity {
    /// The part of a table whose rows are all that this session sees and writes; `None`: that is not certain.
    fn part(&self, separation: &Separation, generations: &Database) -> Option<Part> {
        let said = said(&self.settings, &separation.setting)?;
        separation.value(&self.becomes, said).map(|value| generations.part(value))
    }
}

/// What a setting says, where that is written in a way that leaves no doubt.
fn said<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    match settings.find(name)? {
        Value::Plain(bytes) => std::str::from_utf8(bytes).ok(),
        Value::Clause(bytes) => said_by(std::str::from_utf8(bytes).ok()?, name),
    }
}

/// The same of `name TO 'value'`, as SET has it: a plain string, or a whole number as the server would print it.
fn said_by<'a>(clause: &'a str, name: &str) -> Option<&'a str> {
    let (named, rest) = clause.split_at_checked(name.len())?;
    let rest = rest.trim_ascii_start();
    let value = match rest.strip_prefix('=') {
        Some(value) => value,
        None => {
            let (to, value) = rest.split_at_checked(2)?;
            let ends = value.starts_with(|c: char| c.is_ascii_whitespace() || c == '\'');
            (to.eq_ignore_ascii_case("to") && ends).then_some(value)?
        }
    };
    let value = value.trim_ascii().trim_end_matches(';').trim_ascii_end();
    if !named.eq_ignore_ascii_case(name) {
        return None;
    }
    if let Some(inner) = value.strip_prefix('\'') {
        return inner.strip_suffix('\'').filter(|inner| !inner.contains(['\'', '\\']));
    }
    let is_number = (1..=9).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && (!value.starts_with('0') || value == "0")).then_some(value)
}

/// Whether nothing else than its own Parse and Bind is under way in front of a statement. What is ours alone is `Some(true)`.
fn waits_for_ours(upstream: &Upstream) -> Option<bool> {
    let runs = |awaited: Awaited| {
        !matches!(
            awaited,
            Awaited::Parse | Awaited::Bind | Awaited::Close | Awaited::DescribePortal | Awaited::DescribeStatement
        )
    };
    let mut ours = upstream.work.prologue.is_some();
    for owed in upstream.pipeline.owed().filter(|owed| runs(owed.awaited)) {
        if owed.fate != Fate::Swallow || owed.awaited != Awaited::Query {
            return None;
        }
        ours = true;
    }
    Some(ours)
}

impl Session {
    /// Whether a text that is about to be sent waits for the outcome of settings of ours in front of it: it would else have
    /// to be taken for one that writes a whole table, and end the answers of all.
    pub(in crate::session) fn text_awaits_settings(
        &mut self,
        upstream: &mut Upstream,
        look: &Look<'_>,
        sql: &[u8],
    ) -> bool {
        if upstream.work.prologue.is_none() || !look.known.whole || self.escapes || self.opaque {
            return false;
        }
        let Some(here) = self.pool.here() else { return false };
        let reach = look.reached().map_or_else(|| reach_of(sql, &here), |known| known.of(sql, &here));
        self.awaits_ours(upstream, &here, &reach)
    }

    /// The same of a portal.
    pub(in crate::session) fn portal_awaits_settings(
        &mut self,
        upstream: &mut Upstream,
        portal: Option<&Portal>,
    ) -> bool {
        if upstream.work.prologue.is_none() || self.escapes || self.opaque {
            return false;
        }
        let Some(here) = self.pool.here() else { return false };
        let Some((portal, sql)) = portal.and_then(|portal| Some((portal, portal.prepared.query.as_deref()?))) else {
            return false;
        };
        let reach = portal.prepared.reached.of(sql, &here);
        portal.prepared.known.whole && is_settled(upstream, portal) && self.awaits_ours(upstream, &here, &reach)
    }

    fn awaits_ours(&mut self, upstream: &mut Upstream, here: &Rc<Here>, reach: &Reach) -> bool {
        waits_for_ours(upstream) == Some(true) && self.part_of(upstream, here, reach).is_some()
    }

    /// What a statement touches that is about to be sent, if that is one part of its table alone.
    pub(super) fn part_written(
        &mut self,
        upstream: &mut Upstream,
        here: &Rc<Here>,
        reach: &Reach,
    ) -> Option<Arc<Footprint>> {
        let apart = reach.apart.as_ref()?;
        let part = self.part_of(upstream, here, reach).filter(|_| waits_for_ours(upstream) == Some(false))?;
        Some(apart.footprint(&here.cached.generations, part))
    }

    /// The part that is all that it writes, once what is ours in front of it has succeeded.
    fn part_of(&mut self, upstream: &mut Upstream, here: &Rc<Here>, reach: &Reach) -> Option<Part> {
        let apart = reach.apart.as_ref()?;
        let view = here.view_now()?;
        let standing = &upstream.work.standing;
        let seen = match upstream.pipeline.status() {
            TransactionStatus::Idle => true,
            TransactionStatus::Open => !standing.unseen && standing.is_judged_by(view.epoch.generation()),
            TransactionStatus::Failed => false,
        };
        let followed = !upstream.tainted && upstream.work.pinned.is_none() && !upstream.is_retired();
        if !seen || standing.ran || !followed || !view.paths.hold_for(upstream.opened) {
            return None;
        }
        let identity = self.identity_on(Some(upstream)).ok()?;
        identity.part(&apart.separation, &here.cached.generations).filter(|_| identity.bypass.is_none())
    }

    /// Of which tables a read sees one part alone, by their places among those that it depends on.
    pub(super) fn parts_read(&self, here: &Here, Wanted { readable, identity, .. }: &Wanted) -> Vec<(usize, Part)> {
        let generations = &here.cached.generations;
        let part = |(at, separation): &(usize, Arc<Separation>)| {
            identity.part(separation, generations).map(|part| (*at, part))
        };
        readable.apart.iter().filter_map(part).collect()
    }
}

/// Whether a portal was planned where all was settled that it is run under.
pub(super) fn is_settled(upstream: &Upstream, portal: &Portal) -> bool {
    let unnamed = upstream.work.portal.as_ref().is_some_and(|known| known.number == portal.number);
    let own_types = || {
        wire::view::parameter_types(&portal.prepared.types)
            .map_or(true, |mut types| types.any(|oid| oid >= FIRST_OF_SOMEBODY))
    };
    unnamed && upstream.work.standing.bound && !portal.suspended && !own_types()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_read_that_leave_no_doubt() {
        for (clause, value) in [
            ("app.tenant_id TO '5'", Some("5")),
            ("APP.tenant_id='acme';", Some("acme")),
            ("app.tenant_id = 17", Some("17")),
            ("app.tenant_id to 0", Some("0")),
            ("app.tenant_id to' 5'", Some(" 5")),
            ("app.tenant_id = 017", None),
            ("app.tenant_id = 1_000", None),
            ("app.tenant_id = 0x10", None),
            ("app.tenant_id = -1", None),
            ("app.tenant_id = 1.0", None),
            ("app.tenant_id = 12345678901", None),
            ("app.tenant_id = acme", None),
            ("app.tenant_id TO DEFAULT", None),
            ("app.tenant_id = E'5'", None),
            ("app.tenant_id = '5', '6'", None),
            ("app.tenant_id = 'it''s'", None),
            ("app.tenant_id = '5' /* x */", None),
            ("app.tenant_id FROM CURRENT", None),
            ("app.tenant_id2 = '5'", None),
            ("app.tenant", None),
            ("\"app.tenant_id\" = '5'", None),
        ] {
            assert_eq!(said_by(clause, "app.tenant_id"), value, "{clause}");
        }
    }
}
