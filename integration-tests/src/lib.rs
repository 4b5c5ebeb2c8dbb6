//! The harness that end-to-end tests, the demo and the benchmarks stand on.
