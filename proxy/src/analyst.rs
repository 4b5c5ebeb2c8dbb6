//! The analyst: one thread that reads what the workers saw.

mod findings;

pub use findings::FindingsStore;
#[cfg(test)]
pub(crate) use findings::tests::finding;
