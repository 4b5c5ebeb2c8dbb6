//! Writes from outside, by a temporary logical replication slot.
