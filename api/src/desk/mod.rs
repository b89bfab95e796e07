//! The desk: what happens to a session that people answer. No HTTP here.
//!
//! [`ticket`] says what a ticket is and which moves it allows; [`Desk`] makes them, one transaction each: the session is locked,
//! the ticket moved, its owner changed, and what was done appended to the history, or nothing of it.

pub mod attachments;
pub mod calendar;
mod dispatch;
mod error;
mod input;
pub mod intervention;
pub mod language;
pub mod routing;
pub mod service_level;
pub mod settings;
pub mod sharing;
pub mod survey;
mod ticket;
mod tuning;
mod work;

pub use dispatch::{Dispatched, Dispatcher};
pub use error::DeskError;
pub use input::{Actor, Amendment, Form, Rating, Suggestion};
pub use intervention::{InterventionError, Interventions};
pub use settings::DeskSettings;
pub use survey::{Survey, SurveyError, SurveyKind, Surveys};
pub use ticket::{Action, Move, Priority, Status, Ticket, allowed, difference, next, replay};
pub use tuning::Tuning;
pub use work::{Desk, call_off, customer_wrote, escalate};
