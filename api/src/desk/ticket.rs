//! A ticket: its states, the moves between them, and the four things a person does with it.

use std::fmt;
use std::str::FromStr;

use serde_json::json;
use yingda_engine::{EscalationReason, Role, SentimentScores};

use crate::storage::{NewTicket, NewTurn, Session, Storage, StorageError, Tx, now};

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nobody has taken it.
    New,
    /// A person has taken it and not answered yet.
    Assigned,
    /// The person has answered.
    InProgress,
    /// Done; the session is the engine's again.
    Resolved,
}

impl Status {
    /// All states, in the order of a ticket's life.
    pub const ALL: [Self; 4] = [Self::New, Self::Assigned, Self::InProgress, Self::Resolved];

    /// The stable snake-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Assigned => "assigned",
            Self::InProgress => "in_progress",
            Self::Resolved => "resolved",
        }
    }

    /// The name that people read.
    pub fn chinese(self) -> &'static str {
        match self {
            Self::New => "待领取",
            Self::Assigned => "已领取",
            Self::InProgress => "处理中",
            Self::Resolved => "已解决",
        }
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// How soon a person should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Whenever there is time.
    Low,
    /// In turn.
    Medium,
    /// Before the others.
    High,
    /// Now.
    Urgent,
}

impl Priority {
    const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Urgent];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }

    /// The priority that a reason for a hand-over asks for.
    pub fn of(reason: EscalationReason) -> Self {
        match reason {
            EscalationReason::HandoffWord => Self::Urgent,
            EscalationReason::Complaint | EscalationReason::NegativeSentiment => Self::High,
            EscalationReason::PersonRequested
            | EscalationReason::LowConfidence
            | EscalationReason::Rule
            | EscalationReason::Flow => Self::Medium,
        }
    }
}

impl FromStr for Priority {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == text).ok_or(())
    }
}

/// What may be done with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A person makes it theirs.
    Take,
    /// The person answers the customer.
    Reply,
    /// The person closes it.
    Resolve,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 3] = [Self::Take, Self::Reply, Self::Resolve];

    /// The stable name, as in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Reply => "reply",
            Self::Resolve => "resolve",
        }
    }

    /// The name that people read.
    pub fn chinese(self) -> &'static str {
        match self {
            Self::Take => "领取",
            Self::Reply => "回复",
            Self::Resolve => "解决",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}（{}）", self.chinese(), self.as_str())
    }
}

/// The whole table of moves: the state after an action, `None` where it is not allowed.
pub fn next(status: Status, action: Action) -> Option<Status> {
    match (status, action) {
        (Status::New, Action::Take) => Some(Status::Assigned),
        (Status::Assigned | Status::InProgress, Action::Reply) => Some(Status::InProgress),
        (Status::Assigned | Status::InProgress, Action::Resolve) => Some(Status::Resolved),
        (Status::New, Action::Reply | Action::Resolve)
        | (Status::Assigned | Status::InProgress, Action::Take)
        | (Status::Resolved, Action::Take | Action::Reply | Action::Resolve) => None,
    }
}

/// The actions that are allowed in a state.
pub fn allowed(status: Status) -> Vec<Action> {
    Action::ALL.into_iter().filter(|action| next(status, *action).is_some()).collect()
}

/// One ticket.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Its id.
    pub id: String,
    /// Its session.
    pub session_id: String,
    /// Where it stands.
    pub status: Status,
    /// Why the session was handed over, stable snake case.
    pub reason: String,
    /// The word or score behind the reason.
    pub detail: String,
    /// How soon a person should look.
    pub priority: Priority,
    /// Likeliest intent of the message with its probability.
    pub intent: Option<(String, f64)>,
    /// Sentiment of the message.
    pub sentiment: Option<SentimentScores>,
    /// The model that judged.
    pub model: String,
    /// First turn that led to it.
    pub from_seq: i64,
    /// Last turn that led to it.
    pub to_seq: i64,
    /// The person who took it.
    pub assignee: Option<String>,
    /// The key with which it was taken.
    pub assignee_key: Option<String>,
    /// When it was opened.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
    /// When it was taken.
    pub taken_at: Option<i64>,
    /// When the customer first got an answer from a person.
    pub first_reply_at: Option<i64>,
    /// When it was resolved.
    pub resolved_at: Option<i64>,
}

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
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The person who acts: the name they gave, and the key they came with.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The name, if one was given.
    pub name: Option<String>,
    /// Name of the key, which stands in for a missing name.
    pub key_name: String,
    /// Id of the key.
    pub key_id: String,
}

impl Actor {
    /// The name that is recorded.
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.key_name)
    }

    /// Whether this is the person who took the ticket: by name, or without a name by the same key.
    fn holds(&self, ticket: &Ticket) -> bool {
        match &self.name {
            Some(name) => ticket.assignee.as_deref() == Some(name),
            None => ticket.assignee_key.as_deref() == Some(&self.key_id),
        }
    }
}

/// Opens the ticket of a locked session, or adds to the one that is open; says which, and whether it is new.
///
/// # Errors
///
/// When the database fails.
pub async fn escalate(tx: &mut Tx, session: &mut Session, new: NewTicket) -> Result<(String, bool), StorageError> {
    let (id, opened) = match tx.open_ticket_of(&session.id).await? {
        Some(ticket) => {
            let data = json!({ "reason": new.reason, "detail": new.detail, "seq": new.to_seq });
            tx.add_ticket_event(&ticket.id, "escalated_again", "bot", &data).await?;
            (ticket.id, false)
        }
        None => {
            let id = tx.add_ticket(&new).await?;
            let data = json!({ "reason": new.reason, "detail": new.detail, "seq": new.to_seq });
            tx.add_ticket_event(&id, "opened", "bot", &data).await?;
            (id, true)
        }
    };
    let agent = session.owner_agent.clone();
    tx.give_to_agent(session, agent.as_deref()).await?;
    Ok((id, opened))
}

/// What people do with tickets.
#[derive(Clone, Debug)]
pub struct Desk {
    storage: Storage,
}

impl Desk {
    /// A desk over a database.
    pub fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// Makes a ticket the actor's. Taking one's own ticket again changes nothing.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, or it is not free.
    pub async fn take(&self, id: &str, actor: &Actor) -> Result<Ticket, DeskError> {
        let (mut tx, mut session, mut ticket) = self.lock(id).await?;
        if ticket.status != Status::New
            && ticket.status != Status::Resolved
            && ticket.assignee.as_deref() == Some(actor.name())
        {
            return Ok(ticket);
        }
        ticket.advance(Action::Take)?;
        ticket.assignee = Some(actor.name().to_owned());
        ticket.assignee_key = Some(actor.key_id.clone());
        ticket.taken_at = Some(now());
        tx.update_ticket(&ticket).await?;
        tx.give_to_agent(&mut session, Some(actor.name())).await?;
        tx.add_ticket_event(id, "taken", actor.name(), &json!({ "key": actor.key_name })).await?;
        tx.commit().await?;
        Ok(ticket)
    }

    /// Stores a person's answer to the customer. `text` is masked already.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, or somebody else has it.
    pub async fn reply(&self, id: &str, actor: &Actor, text: String) -> Result<Ticket, DeskError> {
        let (mut tx, mut session, mut ticket) = self.lock(id).await?;
        ticket.advance(Action::Reply)?;
        let assignee = ticket.held_by(actor)?;
        ticket.first_reply_at.get_or_insert(ticket.updated_at);
        let turn = NewTurn { text, author: Some(assignee.clone()), ..NewTurn::default() };
        let seq = tx.add_turn(&mut session, Role::Agent, turn).await?;
        tx.update_ticket(&ticket).await?;
        tx.add_ticket_event(id, "agent_reply", &assignee, &json!({ "seq": seq })).await?;
        tx.commit().await?;
        Ok(ticket)
    }

    /// Closes a ticket and gives its session back to the engine. `note` is masked already.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, or somebody else has it.
    pub async fn resolve(&self, id: &str, actor: &Actor, note: Option<String>) -> Result<Ticket, DeskError> {
        let (mut tx, mut session, mut ticket) = self.lock(id).await?;
        ticket.advance(Action::Resolve)?;
        let assignee = ticket.held_by(actor)?;
        ticket.resolved_at = Some(ticket.updated_at);
        tx.update_ticket(&ticket).await?;
        tx.add_ticket_event(id, "resolved", &assignee, &json!({ "note": note })).await?;
        tx.give_to_bot(&mut session).await?;
        tx.commit().await?;
        Ok(ticket)
    }

    /// The ticket as it is now, its session locked. The session always first: one order of locks, no deadlock.
    async fn lock(&self, id: &str) -> Result<(Tx, Session, Ticket), DeskError> {
        let not_found = || DeskError::NotFound { id: id.to_owned() };
        let session_id = self.storage.ticket(id).await?.ok_or_else(not_found)?.session_id;
        let mut tx = self.storage.begin().await?;
        let session = tx.lock_existing_session(&session_id).await?;
        let ticket = tx.ticket(id).await?.ok_or_else(not_found)?;
        Ok((tx, session, ticket))
    }
}

impl Ticket {
    fn advance(&mut self, action: Action) -> Result<(), DeskError> {
        self.status = next(self.status, action).ok_or_else(|| DeskError::NotAllowed {
            id: self.id.clone(),
            status: self.status,
            action,
            assignee: self.assignee.clone(),
        })?;
        self.updated_at = now();
        Ok(())
    }

    fn held_by(&self, actor: &Actor) -> Result<String, DeskError> {
        let assignee = self.assignee.clone().unwrap_or_default();
        if actor.holds(self) { Ok(assignee) } else { Err(DeskError::NotAssignee { id: self.id.clone(), assignee }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_moves() {
        use {Action::*, Status::*};
        let moves = [
            (New, Take, Some(Assigned)),
            (New, Reply, None),
            (New, Resolve, None),
            (Assigned, Take, None),
            (Assigned, Reply, Some(InProgress)),
            (Assigned, Resolve, Some(Resolved)),
            (InProgress, Take, None),
            (InProgress, Reply, Some(InProgress)),
            (InProgress, Resolve, Some(Resolved)),
            (Resolved, Take, None),
            (Resolved, Reply, None),
            (Resolved, Resolve, None),
        ];
        assert_eq!(moves.len(), Status::ALL.len() * Action::ALL.len());
        for (status, action, expected) in moves {
            assert_eq!(next(status, action), expected, "{status:?} {action:?}");
        }
    }

    #[test]
    fn allowed_names_exactly_the_possible_moves() {
        assert_eq!(allowed(Status::New), [Action::Take]);
        assert_eq!(allowed(Status::Assigned), [Action::Reply, Action::Resolve]);
        assert_eq!(allowed(Status::Resolved), []);
    }

    #[test]
    fn names_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse(), Ok(priority));
        }
        assert_eq!("closed".parse::<Status>(), Err(()));
    }
}
