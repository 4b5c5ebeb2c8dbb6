//! What one worker knows of a cached database: the view that it has seen last, so that a look at it touches nothing shared
//! but one number.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use policy::cache::Rules;

use super::{Cached, Caches, Serial, View};

/// A reading of a catalog, whose count of users is one worker's alone.
#[derive(Debug)]
struct Seen(Arc<View>);

/// A view, shared within one worker.
#[derive(Debug, Clone)]
pub struct Local(Rc<Seen>);

impl Local {
    /// Whether it is this reading.
    #[inline]
    pub fn is(&self, serial: &Serial) -> bool {
        self.serial == *serial
    }
}

impl Deref for Local {
    type Target = View;

    fn deref(&self) -> &View {
        &self.0.0
    }
}

/// One worker's part of a [`Cached`].
#[derive(Debug)]
pub struct Here {
    /// What all workers share.
    pub cached: Arc<Cached>,
    seen: Cell<u64>,
    view: RefCell<Option<Local>>,
    /// Where its pool's user looks names up by default, by role, as a view has it.
    paths: RefCell<Option<(Serial, Paths)>>,
    rules: RefCell<Option<(u64, Rc<Rules>)>>,
}

/// Roles of which that is remembered.
const MAX_ROLES: usize = 1_024;

/// The schemas that are searched where nothing else was said; `None`: that is not known.
type DefaultPath = Option<Rc<[String]>>;
type Paths = BTreeMap<Box<str>, DefaultPath>;

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

    /// The catalog that was read last, also where it is out of date: what a write reaches is then told by it and by the
    /// fact that it is.
    #[inline]
    pub fn view(&self) -> Option<Local> {
        let version = self.cached.version();
        if self.seen.get() != version {
            // Its number first: a view that comes in between is looked up once more.
            if let Some(view) = self.cached.view() {
                *self.view.borrow_mut() = Some(Local(Rc::new(Seen(view))));
            }
            self.seen.set(version);
        }
        self.view.borrow().clone()
    }

    /// The same, if it is true now. Otherwise somebody is told to read it again.
    pub fn view_now(&self) -> Option<Local> {
        let view = self.view().filter(|view| view.epoch.generation() == self.cached.generations.epoch());
        if view.is_none() {
            self.cached.stirred.notify_one();
        }
        view
    }

    /// Where this user looks names up by default, in this role. There is one user for each pool.
    pub fn default_path(&self, view: &Local, user: &str, role: &str) -> DefaultPath {
        let mut kept = self.paths.borrow_mut();
        let kept = match &mut *kept {
            Some((known, paths)) if view.is(known) && paths.len() < MAX_ROLES => paths,
            other => &mut other.insert((view.serial.clone(), BTreeMap::new())).1,
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
