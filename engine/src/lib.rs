//! What happens at reply time: understand a message, retrieve replies, decide. No HTTP and no SQL here.
//!
//! [`Engine::respond`] is the whole story in one function; [`rules::decide`] and [`policy::decide`] are the pure heart of it.

mod clock;
mod engine;
mod error;
mod follow_up;
pub mod policy;
pub mod ranking;
pub mod rules;
pub mod slots;
pub mod store;
pub mod terms;
mod types;
mod worker;

pub use engine::{Engine, EngineConfig};
pub use error::EngineError;
pub use policy::PolicyConfig;
pub use ranking::{AnswerThresholds, Tuning};
pub use store::StoreConfig;
pub use types::*;
pub use worker::WorkerConfig;
