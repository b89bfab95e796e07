//! The desk: what happens to a session that people answer. No HTTP here.

mod ticket;

pub use ticket::{Action, Actor, Desk, DeskError, Priority, Status, Ticket, allowed, escalate, next};
