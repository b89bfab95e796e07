//! What people write in a ticket: answers to the customer outside, remarks for colleagues inside, and files either way.

use serde_json::{Value, json};
use yingda_engine::Role;

use super::Desk;
use crate::chat::{AttachmentItem, MessageType};
use crate::desk::attachments::File;
use crate::desk::sharing::{BOTH, FOR};
use crate::desk::ticket::{Action, Move, Ticket};
use crate::desk::{Actor, DeskError, Suggestion};
use crate::storage::{Attachment, Belongs, NewEvent, NewTurn, now};

impl Desk {
    /// Stores a person's answer to the customer, and the suggestion that it was made from. `text` is masked already; `said` is what
    /// they wrote, where masking changed it. The same `reply_id` in the same session is stored once: sent again, nothing changes.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, or somebody else has it.
    pub async fn reply(
        &self,
        id: &str,
        actor: &Actor,
        text: String,
        said: Option<String>,
        suggestion: Option<Suggestion>,
        reply_id: Option<String>,
    ) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        if let Some(reply_id) = &reply_id
            && locked.tx.has_reply(&locked.session.id, reply_id).await?
        {
            return Ok(locked.ticket);
        }
        locked.ticket.make(&Move::Reply, actor, now())?;
        let author = locked.ticket.assignee.clone().unwrap_or_default();
        let knowledge_id = suggestion.as_ref().map(|suggestion| suggestion.knowledge_id.clone());
        let turn = NewTurn { text, said, author: Some(author.clone()), knowledge_id, reply_id, ..NewTurn::default() };
        let seq = locked.tx.add_turn(&mut locked.session, Role::Agent, turn).await?;
        let mut data = json!({ "seq": seq });
        if let Some(Suggestion { knowledge_id, edited }) = suggestion {
            data["suggestion"] = json!({ "knowledge_id": knowledge_id, "edited": edited });
        }
        locked.finish(NewEvent::new(Action::Reply.event(), &author).with(data)).await
    }

    /// Keeps a file: as an answer to the customer, or with `inside` as a note for colleagues. Its name is masked already.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, somebody else has it, or the session has too many files.
    pub async fn attach(
        &self,
        id: &str,
        actor: &Actor,
        file: &File,
        inside: bool,
    ) -> Result<(Ticket, Attachment), DeskError> {
        let mut locked = self.lock(id).await?;
        let session_id = locked.session.id.clone();
        if let Some(milliseconds) = locked.tx.wait_for_attachment(&session_id, file.per_hour).await? {
            return Err(DeskError::TooManyAttachments { milliseconds });
        }
        if inside {
            locked.ticket.updated_at = now();
            let belongs = Belongs::Ticket { id, organisation: self.organisation.as_deref() };
            let kept = locked.tx.add_attachment(&session_id, belongs, file).await?;
            let data = json!({ "text": file.name, "attachment": AttachmentItem::from(kept.clone()) });
            let ticket = locked.finish(NewEvent::new("note", actor.name()).with(data)).await?;
            return Ok((ticket, kept));
        }
        locked.ticket.make(&Move::Reply, actor, now())?;
        let author = locked.ticket.assignee.clone().unwrap_or_default();
        let text = MessageType::of_file(file.media_type).placeholder().0.to_owned();
        let turn = NewTurn { text, author: Some(author.clone()), ..NewTurn::default() };
        let seq = locked.tx.add_turn(&mut locked.session, Role::Agent, turn).await?;
        let kept = locked.tx.add_attachment(&session_id, Belongs::Turn(seq), file).await?;
        let ticket = locked.finish(NewEvent::new(Action::Reply.event(), &author).with(json!({ "seq": seq }))).await?;
        Ok((ticket, kept))
    }

    /// Keeps a remark for colleagues; the customer does not see it. `text` is masked already.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn note(&self, id: &str, actor: &Actor, text: String) -> Result<Ticket, DeskError> {
        self.remark(id, actor, json!({ "text": text })).await
    }

    /// As [`Desk::note`], for colleagues of both sides: the house's, and those of the organisations with which it is shared.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn note_for_both(&self, id: &str, actor: &Actor, text: String) -> Result<Ticket, DeskError> {
        self.remark(id, actor, json!({ "text": text, FOR: BOTH })).await
    }

    async fn remark(&self, id: &str, actor: &Actor, data: Value) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        locked.ticket.updated_at = now();
        locked.finish(NewEvent::new("note", actor.name()).with(data)).await
    }
}
