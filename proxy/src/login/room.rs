//! How many connections may be before login at once, over all and from one address.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::rate::Source;

/// The connections before login. Its table has at most one entry for each of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Room(Rc<RefCell<Count>>);

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_source: HashMap<Source, usize>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    source: Option<Source>,
}

/// Which limit keeps a connection out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// That of all.
    All,
    /// That of its address.
    Address,
}

impl Room {
    /// Takes a place. Without a `source` the connection counts towards the limit of all alone.
    pub(super) fn enter(&self, source: Option<Source>, all: usize, each: usize) -> Result<Place, Full> {
        let mut count = self.0.borrow_mut();
        if count.all >= all {
            return Err(Full::All);
        }
        if let Some(source) = source {
            let from = count.by_source.entry(source).or_default();
            if *from >= each {
                return Err(Full::Address);
            }
            *from += 1;
        }
        count.all += 1;
        Ok(Place { room: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut count = self.room.0.borrow_mut();
        count.all = count.all.saturating_sub(1);
        let Some(source) = self.source else { return };
        if let Some(from) = count.by_source.get_mut(&source) {
            *from = from.saturating_sub(1);
            if *from == 0 {
                count.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_and_come_back() {
        let room = Room::default();
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|text| Some(Source::of(text.parse().unwrap())));
        let mut inside = vec![room.enter(a, 4, 2).unwrap(), room.enter(a, 4, 2).unwrap()];
        assert_eq!(room.enter(a, 4, 2).unwrap_err(), Full::Address);
        inside.push(room.enter(b, 4, 2).unwrap());
        inside.push(room.enter(None, 4, 2).unwrap());
        assert_eq!(room.enter(None, 4, 2).unwrap_err(), Full::All);
        inside.remove(0);
        inside.push(room.enter(a, 4, 2).unwrap());
        assert_eq!(room.enter(b, 4, 2).unwrap_err(), Full::All);
        inside.clear();
        assert_eq!((room.0.borrow().all, room.0.borrow().by_source.len()), (0, 0));
    }
}
