//! What one worker knows of a cached database: the view that it has seen last, so that a look at it touches nothing shared
//! but one number.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use policy::cache::Rules;

use super::{Cached, Caches, View};

/// One worker's part of a [`Cached`].
#[derive(Debug)]
pub struct Here {
    /// What all workers share.
    pub cached: Arc<Cached>,
    seen: Cell<u64>,
    view: RefCell<Option<Rc<Arc<View>>>>,
    /// Where its pool's user looks names up by default, by role, as a view has it.
    paths: RefCell<Option<(Rc<Arc<View>>, BTreeMap<Box<str>, DefaultPath>)>>,
    rules: RefCell<Option<(u64, Rc<Rules>)>>,
}

/// Roles of which that is remembered.
const MAX_ROLES: usize = 1_024;

/// The schemas that are searched where nothing else was said; `None`: that is not known.
type DefaultPath = Option<Rc<[String]>>;

impl Here {
    /// Nothing was looked at yet.
    pub fn new(cached: Arc<Cached>) -> Self {
        Self {
            cached,
            seen: Cell::new(u64::MAX),
            view: RefCell::default(),
            paths: RefCell::default(),
            rules: RefCell::default(),
        }
    }

    /// The catalog that was read last.
    #[inline]
    pub fn view(&self) -> Option<Rc<Arc<View>>> {
        let version = self.cached.version();
        if self.seen.get() != version {
            // Its number first: a view that comes in between is looked up once more.
            *self.view.borrow_mut() = self.cached.view().map(Rc::new);
            self.seen.set(version);
        }
        self.view.borrow().clone()
    }

    /// The same, if it is true now. Otherwise somebody is told to read it again.
    pub fn view_now(&self) -> Option<Rc<Arc<View>>> {
        let view = self.view().filter(|view| view.epoch.generation() == self.cached.generations.epoch());
        if view.is_none() {
            self.cached.stirred.notify_one();
        }
        view
    }

    /// Where this user looks names up by default, in this role. There is one user for each pool.
    pub fn default_path(&self, view: &Rc<Arc<View>>, user: &str, role: &str) -> DefaultPath {
        let mut kept = self.paths.borrow_mut();
        let kept = match &mut *kept {
            Some((known, paths)) if Arc::ptr_eq(known, view) && paths.len() < MAX_ROLES => paths,
            other => &mut other.insert((view.clone(), BTreeMap::new())).1,
        };
        if let Some(path) = kept.get(role) {
            return path.clone();
        }
        let path: DefaultPath = view.paths.of_role(user, role).map(Rc::from);
        kept.insert(role.into(), path.clone());
        path
    }

    /// The rules of this version.
    pub fn rules(&self, caches: &Caches, version: u64) -> Rc<Rules> {
        if let Some((known, rules)) = &*self.rules.borrow()
            && *known == version
        {
            return rules.clone();
        }
        let rules = Rc::new((*caches.rules()).clone());
        *self.rules.borrow_mut() = Some((version, rules.clone()));
        rules
    }
}
