//! The one place that limits what people of outside organisations reach.
//!
//! The other extractors refuse them, so a handler serves them only when it asks for [`Scoped`]. That does not tell who somebody is: it
//! gives a desk, tickets and filters that are limited already.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::AppState;
use super::extract::visitor;
use super::tickets::{TicketBody, actor, ticket_id};
use crate::auth::{Identity, IdentityKind, Role};
use crate::chat::checked_id;
use crate::desk::sharing::View;
use crate::desk::{Actor, Desk, Ticket};
use crate::error::ApiError;
use crate::storage::TicketFilter;

/// Whoever may work tickets: all of them, or of an outside organisation those that are shared with it.
pub(super) struct Scoped(Identity);

impl FromRequestParts<AppState> for Scoped {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        Ok(Self(visitor(parts, state, Role::Agent).await?.identity))
    }
}

impl Scoped {
    /// The organisation, of somebody outside.
    pub(super) fn organisation(&self) -> Option<&str> {
        self.0.organisation.as_deref()
    }

    /// A desk with only the tickets that they may touch, and who they are there.
    pub(super) fn desk(&self, state: &AppState, agent: Option<String>) -> Result<(Desk, Actor), ApiError> {
        let desk = state.0.desk.for_organisation(self.0.organisation.clone());
        // A key of the house may speak for anybody there. One from outside speaks for itself.
        let agent = agent.filter(|_| self.0.organisation.is_none());
        Ok((desk, actor(self.0.clone(), agent)?))
    }

    /// The name under which they work.
    pub(super) fn name(self, agent: Option<String>) -> Result<String, ApiError> {
        match agent.filter(|_| self.0.kind != IdentityKind::User && self.0.organisation.is_none()) {
            Some(name) => checked_id("agent", name.trim().to_owned()),
            None => Ok(self.0.name),
        }
    }

    /// A ticket that they may see, and how. What is not shared is not there.
    pub(super) async fn ticket(&self, state: &AppState, id: String) -> Result<(Ticket, View), ApiError> {
        let id = ticket_id(id)?;
        let ticket = state.0.storage.ticket(&id).await?;
        let view = self.view(state, &id).await?;
        ticket.zip(view).ok_or(ApiError::TicketNotFound(id))
    }

    /// How they see a ticket; `None`: not at all.
    pub(super) async fn view(&self, state: &AppState, ticket_id: &str) -> Result<Option<View>, ApiError> {
        Ok(match self.organisation() {
            None => Some(View::House),
            Some(organisation) => state.0.storage.share(ticket_id, organisation).await?.map(View::Shared),
        })
    }

    /// Lists only what they may see. An organisation cannot ask for a customer: it is not told who that is.
    pub(super) fn limit(&self, filter: TicketFilter) -> Result<TicketFilter, ApiError> {
        if self.organisation().is_some() {
            let asked = [("user_id", filter.user_id.is_some()), ("session_id", filter.session_id.is_some())];
            if let Some((field, _)) = asked.into_iter().find(|(_, asked)| *asked) {
                return Err(ApiError::field(field, "外部机构不能按客户查找"));
            }
        }
        Ok(TicketFilter { organisation: self.0.organisation.clone(), ..filter })
    }

    /// A ticket as they see it who have just done something with it.
    pub(super) async fn shown(&self, state: &AppState, ticket: Ticket) -> Result<TicketBody, ApiError> {
        let view = self.view(state, &ticket.id).await?;
        let view = view.ok_or_else(|| ApiError::TicketNotFound(ticket.id.clone()))?;
        Ok(view.ticket(ticket).into())
    }
}
