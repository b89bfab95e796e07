//! One binary for all integration tests: linking the store once is enough.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

mod answers;
mod arrows;
mod attachments;
mod attacks;
mod benchmarks;
mod browser;
mod console;
mod desk;
mod dispatch;
mod flows;
mod formats;
mod golden;
mod interventions;
mod judging;
mod knowledge_base;
mod knowledge_files;
mod learning;
mod live;
mod notebooks;
mod outgoing;
mod path;
mod policy;
mod qdrant_stand_in;
mod reports;
mod routing;
mod sample;
mod service;
mod sharing;
mod socket;
mod store;
mod support;
mod surveys;
mod tools;
mod users;
