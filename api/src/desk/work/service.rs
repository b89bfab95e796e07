//! What the service does with tickets by itself.

use serde_json::{Value, json};

use super::Desk;
use crate::desk::ticket::{Move, Status, Ticket};
use crate::desk::{Actor, DeskError};
use crate::storage::{NewEvent, RemoteState};

impl Desk {
    /// Offers a ticket that nobody has to a person. Says whether it did: somebody may have been faster.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, or nobody's it is no more.
    pub async fn offer(&self, id: &str, agent: &str, data: Value) -> Result<bool, DeskError> {
        let locked = self.lock(id).await?;
        if locked.ticket.status != Status::New {
            return Ok(false);
        }
        let step = Move::Assign { agent: agent.to_owned() };
        self.advance(locked, step, &Actor::system(), None, data).await?;
        Ok(true)
    }

    /// Puts a ticket back into its queue that its assignee did not accept, or left behind, as it was `seen`. Says whether it did: they
    /// may have come back, or accepted it in the meantime.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn take_back(&self, seen: &Ticket) -> Result<bool, DeskError> {
        let mut locked = self.lock(&seen.id).await?;
        let held = |ticket: &Ticket| (ticket.assignee.clone(), ticket.accepted, ticket.assigned_at, ticket.status);
        if held(&locked.ticket) != held(seen) {
            return Ok(false);
        }
        let Some(agent) = seen.assignee.as_deref() else { return Ok(false) };
        let why = if locked.ticket.accepted || locked.ticket.by_hand { "left_behind" } else { "not_accepted" };
        if !locked.ticket.declined.iter().any(|name| name == agent) {
            locked.ticket.declined.push(agent.to_owned());
        }
        self.advance(locked, Move::Return, &Actor::system(), None, json!({ "why": why, "agent": agent })).await?;
        Ok(true)
    }

    /// Notes that a target is nearly or already missed, once for each; a missed one raises the priority. `due_at` in milliseconds
    /// since 1970. Says whether it was not noted before.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn tell_target(
        &self,
        id: &str,
        target: &str,
        state: &str,
        due_at: Option<i64>,
    ) -> Result<bool, DeskError> {
        let mut locked = self.lock(id).await?;
        if !locked.ticket.status.is_open() || !locked.tx.add_service_level_mark(&locked.ticket, target, state).await? {
            return Ok(false);
        }
        if state == "breached" {
            locked.ticket.priority = locked.ticket.priority.raised();
        }
        let data = json!({ "target": target, "state": state, "due_at": due_at });
        locked.finish(NewEvent::new("service_level", Actor::system().name()).with(data)).await?;
        Ok(true)
    }

    /// Closes a ticket that was resolved up to a moment and not reopened since. Says whether it did.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn close_resolved(&self, id: &str, until: i64) -> Result<bool, DeskError> {
        let locked = self.lock(id).await?;
        let ticket = &locked.ticket;
        if ticket.status != Status::Resolved || ticket.resolved_at.is_none_or(|at| at > until) {
            return Ok(false);
        }
        let data = json!({ "why": "not_reopened" });
        self.advance(locked, Move::Close, &Actor::system(), None, data).await?;
        Ok(true)
    }

    /// Notes how a ticket stands at a service desk of others, once for each change. Says whether it is news.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn tell_outside(&self, id: &str, state: &RemoteState) -> Result<bool, DeskError> {
        let mut locked = self.lock(id).await?;
        if !locked.tx.note_remote(id, state).await? {
            return Ok(false);
        }
        let data = json!({
            "service_desk": state.service_desk,
            "remote_id": state.remote_id,
            "status": state.status,
            "address": state.address,
        });
        locked.finish(NewEvent::new("external_status", Actor::system().name()).with(data)).await?;
        Ok(true)
    }
}
