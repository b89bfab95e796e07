//! The desk: what happens to a session that people answer. No HTTP here.

pub mod calendar;
pub mod routing;
pub mod service_level;
mod ticket;

pub use ticket::{Action, Actor, Desk, DeskError, Priority, Status, Ticket, allowed, escalate, next};
