//! One binary for all integration tests: linking the store once is enough.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

mod arrows;
mod golden;
mod learning;
mod sample;
mod support;
