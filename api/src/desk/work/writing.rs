//! What people write in a ticket: answers to the customer outside, remarks for colleagues inside, and files either way.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Builder;
use yingda_engine::Role;

use super::Desk;
use crate::chat::{AttachmentItem, MessageType};
use crate::desk::attachments::File;
use crate::desk::sharing::{BOTH, FOR};
use crate::desk::ticket::{Action, Move, Ticket};
use crate::desk::{Actor, DeskError, Suggestion};
use crate::storage::{Attachment, Belongs, NewEvent, NewTurn, new_id, now};

/// The id of a file that came with an id of the caller's: the same for the same session and id. An organisation's are its own, so
/// that nobody learns from an id what others keep under it.
fn id_of_file(organisation: Option<&str>, session_id: &str, message_id: &str) -> String {
    let digest = Sha256::digest(format!("{}\n{session_id}\n{message_id}", organisation.unwrap_or_default()));
    Builder::from_custom_bytes(std::array::from_fn(|at| digest[at])).into_uuid().to_string()
}

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

    /// Keeps a file: as an answer to the customer, or with `inside` as a note for colleagues. Its name is masked already. The same
    /// `message_id` in the same session is kept once: sent again, nothing changes.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, somebody else has it, the session has too many files, or the id
    /// stands for something else.
    pub async fn attach(
        &self,
        id: &str,
        actor: &Actor,
        file: &File,
        inside: bool,
        message_id: Option<String>,
    ) -> Result<(Ticket, Attachment), DeskError> {
        let mut locked = self.lock(id).await?;
        let session_id = locked.session.id.clone();
        let organisation = self.organisation.as_deref();
        let file_id = message_id.as_ref().map_or_else(new_id, |id| id_of_file(organisation, &session_id, id));
        if let Some(message_id) = &message_id {
            if let Some(kept) = locked.tx.attachment(&file_id).await? {
                let same = kept.name == file.name
                    && usize::try_from(kept.size) == Ok(file.content.len())
                    && kept.seq.is_none() == inside;
                return if same { Ok((locked.ticket, kept)) } else { Err(DeskError::MessageIdReused) };
            }
            if locked.tx.has_reply(&session_id, message_id).await? {
                return Err(DeskError::MessageIdReused);
            }
        }
        if let Some(milliseconds) = locked.tx.wait_for_attachment(&session_id, file.per_hour).await? {
            return Err(DeskError::TooManyAttachments { milliseconds });
        }
        if inside {
            locked.ticket.updated_at = now();
            let belongs = Belongs::Ticket { id, organisation };
            let kept = locked.tx.add_attachment(file_id, &session_id, belongs, file).await?;
            let data = json!({ "text": file.name, "attachment": AttachmentItem::from(kept.clone()) });
            let ticket = locked.finish(NewEvent::new("note", actor.name()).with(data)).await?;
            return Ok((ticket, kept));
        }
        locked.ticket.make(&Move::Reply, actor, now())?;
        let author = locked.ticket.assignee.clone().unwrap_or_default();
        let text = MessageType::of_file(file.media_type).placeholder().0.to_owned();
        let turn = NewTurn { text, author: Some(author.clone()), reply_id: message_id, ..NewTurn::default() };
        let seq = locked.tx.add_turn(&mut locked.session, Role::Agent, turn).await?;
        let kept = locked.tx.add_attachment(file_id, &session_id, Belongs::Turn(seq), file).await?;
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
