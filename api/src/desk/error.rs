//! Why something cannot be done at the desk.

use super::ticket::{Action, Status};
use crate::storage::StorageError;

/// Why something cannot be done with a ticket.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// There is no such ticket.
    #[error("there is no ticket {id}")]
    NotFound {
        /// The id that was asked for.
        id: String,
    },
    /// The ticket's state does not allow it.
    #[error("ticket {id} is {}: it cannot be used for `{}`", .status.as_str(), .action.as_str())]
    NotAllowed {
        /// The ticket.
        id: String,
        /// Where it stands.
        status: Status,
        /// What was asked.
        action: Action,
        /// The person who has it.
        assignee: Option<String>,
    },
    /// Somebody else has the ticket.
    #[error("ticket {id} belongs to {assignee}")]
    NotAssignee {
        /// The ticket.
        id: String,
        /// The person who has it.
        assignee: String,
    },
    /// Nobody has the ticket, and only who manages the desk may do this then.
    #[error("ticket {id} is nobody's: only a supervisor may `{}` it", .action.as_str())]
    NotManager {
        /// The ticket.
        id: String,
        /// What was asked.
        action: Action,
    },
    /// The session has an open ticket already.
    #[error("session of ticket {id} has the open ticket {other}")]
    AnotherIsOpen {
        /// The ticket.
        id: String,
        /// The one that is open.
        other: String,
    },
    /// A ticket cannot be merged into that one, or linked with it.
    #[error("ticket {id} cannot be put together with {other}: {why}")]
    NotTogether {
        /// The ticket.
        id: String,
        /// The other one.
        other: String,
        /// Why.
        why: &'static str,
    },
    /// The ticket has been rated, or is not done yet.
    #[error("ticket {id} cannot be rated: {why}")]
    NotRated {
        /// The ticket.
        id: String,
        /// Why.
        why: &'static str,
    },
    /// There is no such organisation, or the ticket is not shared with it.
    #[error("there is no organisation {id}, or nothing to take back from it")]
    NoOrganisation {
        /// The id that was asked for.
        id: String,
    },
    /// The session has got many files within the last hour.
    #[error("the session has too many files; another one may come in {milliseconds} ms")]
    TooManyAttachments {
        /// Until there is room.
        milliseconds: i64,
    },
    /// Another message or file of the session has this id.
    #[error("the id stands for something else in this session")]
    MessageIdReused,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
