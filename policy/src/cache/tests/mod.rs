//! Tests of the parts together.

mod account;
mod key;
mod model;
mod orders;
mod random;
mod rules;
mod world;
