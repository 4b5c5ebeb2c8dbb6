//! Tests of the parts together.

mod account;
mod catalog;
mod graph;
mod hazards;
mod key;
mod model;
mod orders;
mod random;
mod rules;
mod sample;
mod separated;
mod within;
mod world;
