//! Giving a ticket to others, also to those outside the house.

use serde_json::json;

use super::{Desk, Locked};
use crate::desk::sharing::{Organisation, Sees, Share};
use crate::desk::ticket::{Action, Move, Status, Ticket};
use crate::desk::{Actor, DeskError};
use crate::storage::{NewEvent, now};

impl Locked {
    /// Shares the ticket from the session's next turn on; returns how much is seen.
    pub(super) async fn share(&mut self, organisation: &Organisation, sees: Sees) -> Result<Sees, DeskError> {
        let share = Share {
            ticket_id: self.ticket.id.clone(),
            organisation: organisation.id.clone(),
            sees,
            after_seq: self.session.last_seq,
            created_at: now(),
        };
        self.tx.put_share(&share).await?;
        Ok(sees)
    }
}

impl Desk {
    /// Gives a ticket to another team. Where that belongs to an organisation, it is shared with it: `sees` says how much, or what was
    /// said before, or else the conversation from now on. `reason` is masked already.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, or the actor may not.
    pub async fn transfer(
        &self,
        id: &str,
        team: &str,
        sees: Option<Sees>,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        if let (Some(sees), Some(organisation)) = (sees, locked.tx.organisation_of_team(team).await?) {
            locked.share(&organisation, sees).await?;
        }
        self.advance(locked, Move::Transfer { team: team.to_owned() }, actor, reason, json!({})).await
    }

    /// Shares a ticket with an organisation, or changes how much that sees.
    ///
    /// # Errors
    ///
    /// When there is no such ticket or organisation, or the actor neither has the ticket nor manages the desk.
    pub async fn share(&self, id: &str, organisation: &str, sees: Sees, actor: &Actor) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        may_share(&locked.ticket, actor)?;
        let missing = || DeskError::NoOrganisation { id: organisation.to_owned() };
        let organisation = locked.tx.organisation(organisation).await?.ok_or_else(missing)?;
        locked.share(&organisation, sees).await?;
        locked.ticket.updated_at = now();
        let data = json!({ "organisation": organisation.id, "name": organisation.name, "sees": sees.as_str() });
        locked.finish(NewEvent::new("shared", actor.name()).with(data)).await
    }

    /// Takes a ticket back from an organisation. From its queue, or its people, it goes back to everybody's.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, it is not shared with the organisation, or the actor neither has it nor manages the desk.
    pub async fn take_back_share(&self, id: &str, organisation: &str, actor: &Actor) -> Result<Ticket, DeskError> {
        let holder = self.storage.ticket(id).await?.and_then(|ticket| ticket.assignee);
        let holder_is_theirs = match &holder {
            Some(name) => self.storage.organisation_of_name(name).await?.as_deref() == Some(organisation),
            None => false,
        };
        let mut locked = self.lock(id).await?;
        may_share(&locked.ticket, actor)?;
        let missing = || DeskError::NoOrganisation { id: organisation.to_owned() };
        let organisation = locked.tx.organisation(organisation).await?.ok_or_else(missing)?;
        if !locked.tx.remove_share(id, &organisation.id).await? {
            return Err(DeskError::NoOrganisation { id: organisation.id });
        }
        let in_their_queue = locked.ticket.team.as_deref() == Some(organisation.team.as_str());
        let theirs = in_their_queue || (holder_is_theirs && locked.ticket.assignee == holder);
        locked.ticket.updated_at = now();
        if theirs && locked.ticket.status.is_open() {
            if locked.ticket.status != Status::New {
                locked.ticket.make(&Move::Return, &Actor::system(), now())?;
                locked.tx.give_to_agent(&mut locked.session, None).await?;
            }
            locked.ticket.team = locked.ticket.team.filter(|_| !in_their_queue);
        }
        let data = json!({ "organisation": organisation.id, "name": organisation.name });
        locked.finish(NewEvent::new("unshared", actor.name()).with(data)).await
    }
}

/// Whether somebody may say who outside sees a ticket: who has it, or manages the desk.
fn may_share(ticket: &Ticket, actor: &Actor) -> Result<(), DeskError> {
    let id = ticket.id.clone();
    match &ticket.assignee {
        _ if actor.manages || actor.holds(ticket) => Ok(()),
        Some(assignee) => Err(DeskError::NotAssignee { id, assignee: assignee.clone() }),
        None => Err(DeskError::NotManager { id, action: Action::Transfer }),
    }
}
