//! A message as it arrives, and what is checked of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::desk::attachments::File;
use crate::error::ApiError;

/// Longest text, in characters.
pub const MAX_TEXT: usize = 20_000;
/// Longest id, in characters.
pub const MAX_ID: usize = 128;
/// Largest profile, in bytes of JSON.
pub const MAX_PROFILE: usize = 8 * 1024;

/// What kind of message it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// Words.
    #[default]
    Text,
    /// A picture.
    Image,
    /// A voice message.
    Voice,
    /// A file.
    File,
    /// A place.
    Location,
}

impl MessageType {
    /// The kind of message that a file is, by its type.
    pub(crate) fn of_file(media_type: &str) -> Self {
        match media_type.split('/').next() {
            Some("image") => Self::Image,
            Some("audio") => Self::Voice,
            _ => Self::File,
        }
    }

    /// What is stored in place of what cannot be read, the sentence that answers it.
    pub(crate) fn placeholder(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("[空消息]", "没有收到文字内容，请输入您想咨询的问题，或回复「人工」转人工客服。"),
            Self::Image => {
                ("[图片]", "收到您的图片啦，我暂时看不懂图片，麻烦用文字描述一下问题，或回复「人工」转人工客服。")
            }
            Self::Voice => {
                ("[语音]", "收到您的语音啦，我暂时听不懂语音，麻烦用文字描述一下问题，或回复「人工」转人工客服。")
            }
            Self::File => {
                ("[文件]", "收到您的文件啦，我暂时打不开文件，麻烦用文字描述一下问题，或回复「人工」转人工客服。")
            }
            Self::Location => {
                ("[位置]", "收到您的位置啦，我暂时看不懂位置信息，麻烦用文字描述一下问题，或回复「人工」转人工客服。")
            }
        }
    }
}

/// A message as a caller sends it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Incoming {
    /// The caller's id of the session, 1 to 128 characters. A session is made by its first message.
    #[schema(example = "s-20260101-0001")]
    pub session_id: String,
    /// The caller's id of the customer.
    #[schema(example = "u-42")]
    pub user_id: Option<String>,
    /// What the customer wrote, up to 20,000 characters. May be left out when `type` is not `text`.
    #[schema(example = "我想退货，怎么操作？")]
    pub text: Option<String>,
    /// The caller's id of the message: the same id in the same session gets the same answer, once.
    #[schema(example = "m-1")]
    pub message_id: Option<String>,
    /// Where it comes from: lower-case letters and `_`; `api` when left out.
    #[schema(example = "web")]
    pub channel: Option<String>,
    /// What the caller knows of the customer: a JSON object of at most 8 KiB. Stored with personal data masked. Texts and numbers
    /// fill slots of answers by their names; `audience` (such as `vip`), `viewed` and `bought` (products, latest first) are
    /// texts or lists of texts.
    #[schema(value_type = Option<Object>)]
    pub profile: Option<serde_json::Value>,
    /// What kind of message it is.
    #[serde(rename = "type", default)]
    pub kind: MessageType,
}

/// A message that has been checked.
#[derive(Clone, Debug)]
pub struct Message {
    pub(super) session_id: String,
    pub(super) user_id: Option<String>,
    /// `None` when there is nothing for the model to read.
    pub(super) text: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) profile: Option<serde_json::Value>,
    pub(super) kind: MessageType,
    /// The file that it is.
    pub(super) file: Option<File>,
}

/// NUL is in no text that people write, and PostgreSQL cannot store it.
pub(crate) fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

/// A text of 1 to [`MAX_TEXT`] characters after trimming.
pub(crate) fn checked_text(field: &str, text: String) -> Result<String, ApiError> {
    let text = without_nul(text);
    let text = text.trim();
    match text.chars().count() {
        0 => Err(ApiError::field(field, "不能为空")),
        1..=MAX_TEXT => Ok(text.to_owned()),
        length => Err(ApiError::field(field, format!("最多 {MAX_TEXT} 个字符，收到 {length} 个"))),
    }
}

/// An id or a name of 1 to [`MAX_ID`] characters without control characters.
pub(crate) fn checked_id(field: &str, id: String) -> Result<String, ApiError> {
    match id.chars().count() {
        0 => Err(ApiError::field(field, "不能为空")),
        1..=MAX_ID if id.chars().any(char::is_control) => Err(ApiError::field(field, "不能包含控制字符")),
        1..=MAX_ID => Ok(id),
        length => Err(ApiError::field(field, format!("最多 {MAX_ID} 个字符，收到 {length} 个"))),
    }
}

/// What is known of a customer: a JSON object of at most [`MAX_PROFILE`] bytes.
pub(crate) fn check_profile(profile: &serde_json::Value) -> Result<(), ApiError> {
    if !profile.is_object() {
        return Err(ApiError::field("profile", "须为 JSON 对象"));
    }
    let size = profile.to_string().len();
    if size > MAX_PROFILE {
        return Err(ApiError::field("profile", format!("最多 {MAX_PROFILE} 字节，收到 {size} 字节")));
    }
    Ok(())
}

impl Message {
    /// Checks a message.
    ///
    /// # Errors
    ///
    /// When a field is missing or wrong; the error names it.
    pub fn check(incoming: Incoming) -> Result<Self, ApiError> {
        let session_id = checked_id("session_id", incoming.session_id)?;
        let user_id = incoming.user_id.map(|id| checked_id("user_id", id)).transpose()?;
        let message_id = incoming.message_id.map(|id| checked_id("message_id", id)).transpose()?;
        if let Some(channel) = &incoming.channel
            && (!(1..=32).contains(&channel.len())
                || !channel.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'))
        {
            return Err(ApiError::field("channel", "须为 1 到 32 个小写英文字母或下划线"));
        }
        if let Some(profile) = &incoming.profile {
            check_profile(profile)?;
        }
        if incoming.text.is_none() && incoming.kind == MessageType::Text {
            return Err(ApiError::field("text", "缺失：文字消息须带 text；图片、语音等请用 type 说明"));
        }
        let text = match incoming.text {
            Some(text) if !without_nul(text.clone()).trim().is_empty() => Some(checked_text("text", text)?),
            _ => None,
        };
        Ok(Self {
            session_id,
            user_id,
            text,
            message_id,
            channel: incoming.channel,
            profile: incoming.profile,
            kind: incoming.kind,
            file: None,
        })
    }

    /// The message that a file is.
    ///
    /// # Errors
    ///
    /// When a field is missing or wrong; the error names it.
    pub(crate) fn of_file(
        session_id: String,
        message_id: Option<String>,
        channel: Option<String>,
        file: File,
    ) -> Result<Self, ApiError> {
        let kind = MessageType::of_file(file.media_type);
        let incoming = Incoming { session_id, user_id: None, text: None, message_id, channel, profile: None, kind };
        Ok(Self { file: Some(file), ..Self::check(incoming)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(json: serde_json::Value) -> Incoming {
        serde_json::from_value(json).unwrap()
    }

    fn field_of(json: serde_json::Value) -> String {
        match Message::check(incoming(json)).unwrap_err() {
            ApiError::InvalidField { field, .. } => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        use serde_json::json;
        assert_eq!(field_of(json!({"session_id": "", "text": "你好"})), "session_id");
        assert_eq!(field_of(json!({"session_id": "a\nb", "text": "你好"})), "session_id");
        assert_eq!(field_of(json!({"session_id": "a\u{0}", "text": "你好"})), "session_id");
        assert_eq!(field_of(json!({"session_id": "s".repeat(129), "text": "你好"})), "session_id");
        assert_eq!(field_of(json!({"session_id": "s", "text": "你".repeat(20_001)})), "text");
        assert_eq!(field_of(json!({"session_id": "s"})), "text");
        assert_eq!(field_of(json!({"session_id": "s", "text": "好", "channel": "Web"})), "channel");
        assert_eq!(field_of(json!({"session_id": "s", "text": "好", "profile": []})), "profile");
        let profile = json!({"note": "好".repeat(3000)});
        assert_eq!(field_of(json!({"session_id": "s", "text": "好", "profile": profile})), "profile");
        assert_eq!(field_of(json!({"session_id": "s", "text": "好", "message_id": ""})), "message_id");
    }

    #[test]
    fn the_limits_themselves_are_fine() {
        use serde_json::json;
        let session_id = "会".repeat(128);
        let text = "你".repeat(20_000);
        assert!(Message::check(incoming(json!({"session_id": session_id, "text": text}))).is_ok());
    }

    #[test]
    fn an_empty_message_and_a_picture_have_nothing_to_read() {
        use serde_json::json;
        for body in [
            json!({"session_id": "s", "text": " \n\u{0}"}),
            json!({"session_id": "s", "type": "image"}),
            json!({"session_id": "s", "type": "voice", "text": ""}),
        ] {
            assert_eq!(Message::check(incoming(body)).unwrap().text, None);
        }
    }
}
