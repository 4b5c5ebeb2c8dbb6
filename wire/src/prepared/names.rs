//! A map for the names of one client's statements: most clients have few, and some have thousands.
//!
//! Up to [`FEW`] names stand side by side, in one allocation of just their size, and are looked for one after the other.
//! That is less memory than a hash table's smallest, and no slower. Beyond, a hash table has them.

use std::collections::HashMap;
use std::hash::BuildHasher;

/// So many names stand side by side. Above, each look-up would cost more than a hash.
const FEW: usize = 8;

/// What each name stands for.
#[derive(Debug)]
pub(super) enum Names<V, S> {
    /// In no order.
    Few(Vec<(Box<[u8]>, V)>),
    /// In a place of its own, so that the few take no room for it.
    Many(Box<Many<V, S>>),
}

#[derive(Debug)]
pub(super) struct Many<V, S>(HashMap<Box<[u8]>, V, S>);

impl<V, S> Default for Names<V, S> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<V, S: BuildHasher + Default> Names<V, S> {
    #[inline]
    pub(super) fn get(&self, name: &[u8]) -> Option<&V> {
        match self {
            Self::Few(few) => few.iter().find(|(known, _)| **known == *name).map(|(_, value)| value),
            Self::Many(many) => many.0.get(name),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.0.len(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        let (few, many) = match self {
            Self::Few(few) => (few.as_slice(), None),
            Self::Many(many) => (&[][..], Some(many.0.iter())),
        };
        let few = few.iter().map(|(name, value)| (&**name, value));
        few.chain(many.into_iter().flatten().map(|(name, value)| (&**name, value)))
    }

    /// Returns what the name stood for.
    pub(super) fn insert(&mut self, name: Box<[u8]>, value: V) -> Option<V> {
        match self {
            Self::Few(few) => {
                if let Some((_, known)) = few.iter_mut().find(|(known, _)| *known == name) {
                    return Some(std::mem::replace(known, value));
                }
                if few.len() < FEW {
                    // A client that has one statement has it for its life.
                    few.reserve_exact(1);
                    few.push((name, value));
                } else {
                    let mut many: HashMap<_, _, S> = few.drain(..).collect();
                    many.insert(name, value);
                    *self = Self::Many(Box::new(Many(many)));
                }
                None
            }
            Self::Many(many) => many.0.insert(name, value),
        }
    }

    /// A map that has grown goes back to the few only when it is empty: else a client at the border would have it built
    /// again and again.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<V> {
        let removed = match self {
            Self::Few(few) => few.iter().position(|(known, _)| **known == *name).map(|at| few.swap_remove(at).1),
            Self::Many(many) => many.0.remove(name),
        };
        if self.len() == 0 {
            *self = Self::default();
        }
        removed
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        match self {
            Self::Few(few) => few.retain(|(name, _)| keep(name)),
            Self::Many(many) => many.0.retain(|name, _| keep(name)),
        }
        if self.len() == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    type Map = Names<usize, RandomState>;

    /// Whatever is done to both, they hold the same.
    #[test]
    fn few_and_many_names_are_a_map() {
        let (mut names, mut model) = (Map::default(), HashMap::<Box<[u8]>, usize>::new());
        let mut state = 1_u64;
        for step in 0..4_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let name: Box<[u8]> = format!("s{}", (state >> 33) % 24).into_bytes().into();
            // Waves: they grow beyond the few and shrink to nothing again.
            let growing = step / 200 % 2 == 0;
            let inserts = (state >> 60) < if growing { 12 } else { 2 };
            if inserts {
                assert_eq!(names.insert(name.clone(), step), model.insert(name, step));
            } else {
                assert_eq!(names.remove(&name), model.remove(&name));
            }
            assert_eq!(names.len(), model.len());
            let mut all: Vec<_> = names.iter().map(|(name, value)| (name.to_vec(), *value)).collect();
            let mut expected: Vec<_> = model.iter().map(|(name, value)| (name.to_vec(), *value)).collect();
            all.sort_unstable();
            expected.sort_unstable();
            assert_eq!(all, expected);
            assert!(model.iter().all(|(name, value)| names.get(name) == Some(value)));
        }
    }

    #[test]
    fn a_client_with_one_statement_keeps_room_for_one_and_one_without_any_for_none() {
        let mut names = Map::default();
        names.insert((*b"a").into(), 1);
        assert!(matches!(&names, Names::Few(few) if few.capacity() == 1));
        for name in 0..=FEW {
            names.insert(name.to_string().into_bytes().into(), name);
        }
        assert!(matches!(&names, Names::Many(_)));
        names.retain(|_| false);
        assert!(matches!(&names, Names::Few(few) if few.capacity() == 0));
    }
}
