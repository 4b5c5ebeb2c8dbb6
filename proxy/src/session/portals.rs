//! Portals, as far as statistics, limits and session state need them.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use super::held::Held;
use super::script::Script;
use super::statement::Prepared;
use super::work::Work;

/// Named portals of one transaction that are followed; of others only the statistics are less exact.
const MAX_PORTALS: usize = 4096;

/// What is left of the limits of a portal's result, for each Execute that was sent for it.
pub(super) type Left = Rc<Cell<Option<Held>>>;

/// One portal.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Tells it from others that had its name before; 0 is none.
    pub number: u64,
    /// The statement that was bound.
    pub prepared: Rc<Prepared>,
    /// What it will do, where parameters decide that.
    pub script: Option<Rc<Script>>,
    /// Its parameters in the upstream's samples, within the request that has bound it.
    pub sample: Range<usize>,
    /// All columns of its result are in binary format.
    pub binary: bool,
    /// It was suspended: the next Execute goes on with it.
    pub suspended: bool,
    /// What the limits of its result leave for the next Execute, once one has been suspended; `None`: there are none.
    pub left: Option<Left>,
}

impl Work {
    /// The portal of this name; empty: the unnamed one.
    #[inline]
    pub fn find_portal(&mut self, name: &[u8]) -> Option<&mut Portal> {
        if name.is_empty() { self.portal.as_mut() } else { self.portals.get_mut(name) }
    }

    /// A Bind made this portal.
    #[inline]
    pub fn bind(&mut self, name: &[u8], portal: Portal) {
        if name.is_empty() {
            self.portal = Some(portal);
        } else if self.portals.len() < MAX_PORTALS && !self.portals.contains_key(name) {
            // One of this name is there already: the server refuses this, and keeps that.
            self.portals.insert(name.into(), portal);
        }
    }

    /// The portal is closed.
    pub fn unbind(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.portal = None;
        } else {
            self.portals.remove(name);
        }
    }

    /// The server has suspended this portal: whatever else was sent for it goes on with it.
    pub fn suspend(&mut self, number: u64) {
        let is_it = |portal: &&mut Portal| portal.number == number;
        let portal = self.portal.as_mut().filter(is_it);
        if let Some(portal) = portal.or_else(|| self.portals.values_mut().find(is_it)) {
            portal.suspended = true;
        }
        self.running.iter_mut().filter(|running| running.portal == number).for_each(|running| running.resumed = true);
    }

    /// A request has ended, and with it what was kept of its parameters: a portal that lives on must not take another's for
    /// its own.
    #[inline]
    pub fn forget_parameters(&mut self) {
        if let Some(portal) = &mut self.portal {
            portal.sample = 0..0;
        }
        self.portals.values_mut().for_each(|portal| portal.sample = 0..0);
    }
}

#[cfg(test)]
mod tests {
    use policy::fingerprint::Compat;

    use super::super::brain::{Brain, Lexing, Sent};
    use super::super::statement::{Running, Tags};
    use super::*;

    fn portal(number: u64) -> Portal {
        let mut brain = Brain::new(Compat::V15);
        let look = brain.look_at(b"select 1", Lexing::default(), Sent::ToPrepare, &mut Vec::new());
        let prepared = Rc::new(Prepared::new(1, (&look, &[]), None, &[0, 0], Tags::default()));
        Portal { number, prepared, script: None, sample: 3..9, binary: false, suspended: false, left: None }
    }

    fn running(portal: &Portal) -> Running {
        Running { portal: portal.number, ..Running::unknown(portal.prepared.known.clone(), 0) }
    }

    #[test]
    fn what_goes_on_with_a_suspended_portal_is_known_and_another_of_its_name_is_new() {
        let mut work = Work::default();
        work.bind(b"", portal(1));
        work.bind(b"named", portal(2));
        work.running.extend([running(&portal(2)), running(&portal(1))]);
        work.suspend(2);
        assert!(work.portals.values().all(|portal| portal.suspended));
        assert!(!work.portal.as_ref().unwrap().suspended);
        assert_eq!(work.running.iter().map(|running| running.resumed).collect::<Vec<_>>(), [true, false]);
        // It was bound again before the server told of the one before.
        work.bind(b"", portal(3));
        work.suspend(1);
        assert!(!work.portal.as_ref().unwrap().suspended);
    }

    #[test]
    fn a_portal_that_outlives_its_request_has_no_parameters_of_others() {
        let mut work = Work::default();
        work.bind(b"", portal(1));
        work.bind(b"named", portal(2));
        work.end_request();
        assert_eq!(work.portal.as_ref().unwrap().sample, 0..0);
        assert!(work.portals.values().all(|portal| portal.sample == (0..0)));
    }
}
