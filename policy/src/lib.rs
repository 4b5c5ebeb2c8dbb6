//! What a statement is, whose it is, what may happen to it, and what its traffic reveals.
//!
//! Facts in, verdicts and findings out: nothing here knows the wire, opens a socket or reads a clock.
#![forbid(unsafe_code)]

pub mod cache;
pub mod clauses;
pub mod comment;
pub mod fair;
pub mod finding;
pub mod fingerprint;
mod lexer;
pub mod limits;
pub mod memo;
pub mod observe;
pub mod plan;
pub mod skeleton;
pub mod statement;
pub mod stored;
pub mod suspects;
pub mod tenant;
pub mod verdict;
