//! What callers read when something goes wrong: one form, one table.
//!
//! `{"error": {"code", "message", "hint"}}`: `code` is stable and English, `message` says what is wrong and `hint` what to
//! do, both in Chinese. What is not the caller's business is logged with the request's id and never sent.

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use yingda_engine::EngineError;

use crate::auth::{KeyError, Role};
use crate::desk::attachments::FileProblem;
use crate::desk::{DeskError, InterventionError, Status, SurveyError, allowed};
use crate::knowledge::base::BaseError;
use crate::outgoing::{EVENTS, MOST_WEBHOOKS, OutgoingError};
use crate::storage::StorageError;
use crate::users::UserError;
use crate::users::password::{LEAST_CHARACTERS, MOST_BYTES};

/// Everything that a request can end with besides success.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The body is no JSON.
    #[error("invalid JSON: {0}")]
    InvalidJson(String),
    /// The query string cannot be read.
    #[error("invalid query: {0}")]
    InvalidQuery(String),
    /// The path cannot be read.
    #[error("invalid path")]
    InvalidPath,
    /// The body is not declared as JSON.
    #[error("unsupported media type")]
    UnsupportedMediaType,
    /// The body is larger than we read.
    #[error("body too large")]
    BodyTooLarge,
    /// One field is missing or wrong.
    #[error("invalid field {field}: {problem}")]
    InvalidField {
        /// Its name, as in the request.
        field: String,
        /// What is wrong, in Chinese.
        problem: String,
    },
    /// Somebody else changed the settings meanwhile.
    #[error("the settings were changed meanwhile")]
    SettingsChanged,
    /// What is only there as a WebSocket was asked for without one.
    #[error("upgrade needed")]
    UpgradeNeeded,
    /// No key came.
    #[error("no key")]
    KeyMissing,
    /// A key came that we do not know or that was revoked.
    #[error("unknown key")]
    KeyUnknown,
    /// A cookie came that belongs to nobody any more.
    #[error("login expired")]
    LoginExpired,
    /// A key came where only a person can do it.
    #[error("a person is needed")]
    LoginNeeded,
    /// Login name or password is wrong.
    #[error("wrong login")]
    LoginWrong,
    /// Too many wrong passwords came for this login name.
    #[error("locked for {seconds} s")]
    LoginLocked {
        /// Until a password is looked at again.
        seconds: i64,
    },
    /// Too many try to log in, from one address or at all.
    #[error("too many log in; wait {seconds} s")]
    LoginTooOften {
        /// Until it makes sense to try again.
        seconds: i64,
    },
    /// The password is right and the account disabled.
    #[error("user disabled")]
    UserDisabled,
    /// A cookie came without the page's own token.
    #[error("CSRF token missing or wrong")]
    Csrf,
    /// No such person.
    #[error("no user {0}")]
    UserNotFound(String),
    /// Somebody has the login name.
    #[error("login {0} taken")]
    LoginTaken(String),
    /// Somebody has the display name.
    #[error("the name {0} is taken")]
    NameTaken(String),
    /// Nobody would be left to manage the others.
    #[error("last admin")]
    LastAdmin,
    /// Nobody disables themselves.
    #[error("own account")]
    OwnAccount,
    /// The role is too small.
    #[error("role {needed} is needed")]
    Forbidden {
        /// The role that would be enough.
        needed: Role,
    },
    /// A service without keys was called under a name that is not this machine's.
    #[error("host {0} refused")]
    HostRefused(String),
    /// No such address.
    #[error("no such route")]
    RouteNotFound,
    /// The address exists, but not for this method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// No such session.
    #[error("no session")]
    SessionNotFound,
    /// No such ticket.
    #[error("no ticket {0}")]
    TicketNotFound(String),
    /// No such key.
    #[error("no key {0}")]
    KeyNotFound(String),
    /// No such entry of the knowledge.
    #[error("no entry {0}")]
    EntryNotFound(String),
    /// No such release.
    #[error("no release {0}")]
    ReleaseNotFound(String),
    /// No such report.
    #[error("no such report")]
    ReportNotFound,
    /// Somebody else wrote the entry meanwhile.
    #[error("entry {id} has version {found}")]
    EntryChanged {
        /// The entry.
        id: String,
        /// Its latest version.
        found: i64,
    },
    /// There is no draft to publish.
    #[error("nothing to publish")]
    NothingToPublish,
    /// A release is being written.
    #[error("release {0} is being written")]
    PublishingNow(i64),
    /// A release stood still, and another process gave it up.
    #[error("release {0} was given up")]
    PublishingGivenUp(i64),
    /// A knowledge file or entry is wrong.
    #[error("bad knowledge: {0:?}")]
    BadKnowledge(Vec<String>),
    /// The reply store failed.
    #[error("{0}")]
    StoreUnavailable(String),
    /// The ticket's state does not allow it.
    #[error("ticket state")]
    TicketState {
        /// Where the ticket stands.
        status: Status,
        /// What was asked, in Chinese.
        action: String,
        /// Who has it.
        assignee: Option<String>,
    },
    /// Somebody else has the ticket.
    #[error("ticket of {assignee}")]
    NotAssignee {
        /// Who has it.
        assignee: String,
    },
    /// Nobody has the ticket, and only who manages the desk may do this then.
    #[error("only a supervisor may {action} a ticket of nobody")]
    NotManager {
        /// What was asked, in Chinese.
        action: String,
    },
    /// Nobody of that name works at the desk.
    #[error("no agent {0}")]
    AgentNotFound(String),
    /// The session has another open ticket.
    #[error("the session has the open ticket {0}")]
    TicketOpen(String),
    /// Two tickets cannot be merged or linked.
    #[error("tickets cannot be put together: {0}")]
    NotTogether(&'static str),
    /// A ticket cannot be rated.
    #[error("ticket cannot be rated: {0}")]
    NotRated(&'static str),
    /// The link to a survey is none of ours.
    #[error("survey link changed")]
    SurveyLink,
    /// No such survey.
    #[error("no survey")]
    SurveyNotFound,
    /// The survey's time is over.
    #[error("survey expired")]
    SurveyExpired,
    /// The survey was answered.
    #[error("survey answered")]
    SurveyAnswered,
    /// No such alert.
    #[error("no alert {0}")]
    AlertNotFound(String),
    /// Somebody has seen the alert.
    #[error("alert acknowledged by {0}")]
    AlertAcknowledged(String),
    /// No such webhook.
    #[error("no webhook {0}")]
    WebhookNotFound(String),
    /// No such message to a webhook.
    #[error("no delivery {0}")]
    DeliveryNotFound(String),
    /// The message was not given up.
    #[error("the delivery is not dead")]
    DeliveryNotDead,
    /// No more webhooks are allowed.
    #[error("too many webhooks")]
    TooManyWebhooks,
    /// No such file.
    #[error("no attachment {0}")]
    AttachmentNotFound(String),
    /// A file is of no type that is accepted.
    #[error("attachment type refused; accepted are {0}")]
    AttachmentType(String),
    /// The session has got many files within the last hour.
    #[error("too many attachments; wait {seconds} s")]
    TooManyAttachments {
        /// Until another one may come.
        seconds: i64,
    },
    /// Somebody of an outside organisation asked for what only the house may do.
    #[error("not for an outside organisation")]
    Outside,
    /// No such organisation.
    #[error("no organisation {0}")]
    OrganisationNotFound(String),
    /// Another organisation has the name or the team.
    #[error("an organisation has {0} already")]
    OrganisationTaken(String),
    /// Too much waits already.
    #[error("busy")]
    Busy,
    /// The caller's id of the message is that of another one in the session.
    #[error("message id used before")]
    MessageIdReused,
    /// It took too long.
    #[error("timeout")]
    Timeout,
    /// The service is stopping.
    #[error("stopping")]
    Stopping,
    /// The database failed.
    #[error("{0}")]
    Storage(StorageError),
    /// The model does not answer any more.
    #[error("{0}")]
    ModelUnavailable(String),
    /// The rules file cannot be used.
    #[error("{0}")]
    RulesWrong(String),
    /// The new model could not be loaded; the old one is still served.
    #[error("reload: {0}")]
    ReloadFailed(String),
    /// A fault of ours.
    #[error("internal: {0}")]
    Internal(String),
}

/// The one form of all errors.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorContent,
}

/// What went wrong.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorContent {
    /// Stable word for programs.
    #[schema(example = "invalid_field")]
    pub code: String,
    /// What is wrong, in Chinese.
    #[schema(example = "字段 text 不能为空")]
    pub message: String,
    /// What to do, in Chinese.
    #[schema(example = "请按 /docs 中的说明修改后重试")]
    pub hint: String,
}

/// What the log says of a failed request; rides on the response and is never sent.
#[derive(Clone, Debug)]
pub(crate) struct ErrorDetail {
    pub(crate) text: Arc<str>,
    /// Whether the service can answer no more messages until it is restarted.
    pub(crate) model_stopped: bool,
}

impl ApiError {
    /// Shorthand for [`ApiError::InvalidField`].
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }

    /// That another file may come in some milliseconds. Rounded up: whoever comes when they are told to is not refused again.
    pub(crate) fn too_many_attachments(milliseconds: i64) -> Self {
        Self::TooManyAttachments { seconds: (milliseconds + 999) / 1000 }
    }

    /// The one table: stable code and status of every error.
    pub fn code_and_status(&self) -> (&'static str, StatusCode) {
        match self {
            Self::InvalidJson(_) => ("invalid_json", StatusCode::BAD_REQUEST),
            Self::InvalidQuery(_) => ("invalid_query", StatusCode::BAD_REQUEST),
            Self::InvalidPath => ("invalid_path", StatusCode::BAD_REQUEST),
            Self::UnsupportedMediaType => ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::BodyTooLarge => ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::InvalidField { .. } => ("invalid_field", StatusCode::UNPROCESSABLE_ENTITY),
            Self::SettingsChanged => ("settings_changed", StatusCode::CONFLICT),
            Self::UpgradeNeeded => ("upgrade_needed", StatusCode::UPGRADE_REQUIRED),
            Self::KeyMissing => ("key_missing", StatusCode::UNAUTHORIZED),
            Self::KeyUnknown => ("key_unknown", StatusCode::UNAUTHORIZED),
            Self::LoginExpired => ("login_expired", StatusCode::UNAUTHORIZED),
            Self::LoginNeeded => ("login_needed", StatusCode::FORBIDDEN),
            Self::LoginWrong => ("login_wrong", StatusCode::UNAUTHORIZED),
            Self::LoginLocked { .. } => ("login_locked", StatusCode::TOO_MANY_REQUESTS),
            Self::LoginTooOften { .. } => ("login_too_often", StatusCode::TOO_MANY_REQUESTS),
            Self::UserDisabled => ("user_disabled", StatusCode::FORBIDDEN),
            Self::Csrf => ("csrf", StatusCode::FORBIDDEN),
            Self::UserNotFound(_) => ("user_not_found", StatusCode::NOT_FOUND),
            Self::LoginTaken(_) => ("login_taken", StatusCode::CONFLICT),
            Self::NameTaken(_) => ("name_taken", StatusCode::CONFLICT),
            Self::LastAdmin => ("last_admin", StatusCode::CONFLICT),
            Self::OwnAccount => ("own_account", StatusCode::CONFLICT),
            Self::Forbidden { .. } => ("forbidden", StatusCode::FORBIDDEN),
            Self::HostRefused(_) => ("host_refused", StatusCode::FORBIDDEN),
            Self::RouteNotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::SessionNotFound => ("session_not_found", StatusCode::NOT_FOUND),
            Self::TicketNotFound(_) => ("ticket_not_found", StatusCode::NOT_FOUND),
            Self::KeyNotFound(_) => ("key_not_found", StatusCode::NOT_FOUND),
            Self::EntryNotFound(_) => ("entry_not_found", StatusCode::NOT_FOUND),
            Self::ReleaseNotFound(_) => ("release_not_found", StatusCode::NOT_FOUND),
            Self::ReportNotFound => ("report_not_found", StatusCode::NOT_FOUND),
            Self::EntryChanged { .. } => ("entry_changed", StatusCode::CONFLICT),
            Self::NothingToPublish => ("nothing_to_publish", StatusCode::CONFLICT),
            Self::PublishingNow(_) => ("publishing_now", StatusCode::CONFLICT),
            Self::PublishingGivenUp(_) => ("publishing_given_up", StatusCode::CONFLICT),
            Self::BadKnowledge(_) => ("bad_knowledge", StatusCode::UNPROCESSABLE_ENTITY),
            Self::StoreUnavailable(_) => ("store_unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::TicketState { .. } => ("ticket_state", StatusCode::CONFLICT),
            Self::NotAssignee { .. } => ("not_assignee", StatusCode::FORBIDDEN),
            Self::NotManager { .. } => ("not_manager", StatusCode::FORBIDDEN),
            Self::AgentNotFound(_) => ("agent_not_found", StatusCode::NOT_FOUND),
            Self::TicketOpen(_) => ("ticket_open", StatusCode::CONFLICT),
            Self::NotTogether(_) => ("not_together", StatusCode::CONFLICT),
            Self::NotRated(_) => ("not_rated", StatusCode::CONFLICT),
            Self::SurveyLink => ("survey_link", StatusCode::NOT_FOUND),
            Self::SurveyNotFound => ("survey_not_found", StatusCode::NOT_FOUND),
            Self::SurveyExpired => ("survey_expired", StatusCode::GONE),
            Self::SurveyAnswered => ("survey_answered", StatusCode::CONFLICT),
            Self::AlertNotFound(_) => ("alert_not_found", StatusCode::NOT_FOUND),
            Self::AlertAcknowledged(_) => ("alert_acknowledged", StatusCode::CONFLICT),
            Self::WebhookNotFound(_) => ("webhook_not_found", StatusCode::NOT_FOUND),
            Self::DeliveryNotFound(_) => ("delivery_not_found", StatusCode::NOT_FOUND),
            Self::DeliveryNotDead => ("delivery_not_dead", StatusCode::CONFLICT),
            Self::TooManyWebhooks => ("too_many_webhooks", StatusCode::CONFLICT),
            Self::AttachmentNotFound(_) => ("attachment_not_found", StatusCode::NOT_FOUND),
            Self::AttachmentType(_) => ("attachment_type", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::TooManyAttachments { .. } => ("too_many_attachments", StatusCode::TOO_MANY_REQUESTS),
            Self::Outside => ("outside", StatusCode::FORBIDDEN),
            Self::OrganisationNotFound(_) => ("organisation_not_found", StatusCode::NOT_FOUND),
            Self::OrganisationTaken(_) => ("organisation_taken", StatusCode::CONFLICT),
            Self::Busy => ("busy", StatusCode::TOO_MANY_REQUESTS),
            Self::Timeout => ("timeout", StatusCode::GATEWAY_TIMEOUT),
            Self::MessageIdReused => ("message_id_reused", StatusCode::CONFLICT),
            Self::Stopping => ("stopping", StatusCode::SERVICE_UNAVAILABLE),
            Self::Storage(_) => ("storage_unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::ModelUnavailable(_) => ("model_unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::RulesWrong(_) => ("rules_wrong", StatusCode::UNPROCESSABLE_ENTITY),
            Self::ReloadFailed(_) => ("reload_failed", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Internal(_) => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// What callers read of it.
    pub(crate) fn content(&self) -> ErrorContent {
        let (message, hint) = self.sentences();
        ErrorContent { code: self.code_and_status().0.to_owned(), message, hint }
    }

    /// What is wrong and what to do, in Chinese.
    pub(crate) fn sentences(&self) -> (String, String) {
        let (message, hint): (String, &str) = match self {
            Self::InvalidJson(problem) => {
                return (format!("请求体不是有效的 JSON：{problem}"), json_hint(problem).to_owned());
            }
            Self::InvalidQuery(problem) => (format!("查询参数无法识别：{problem}"), "参数名和取值见 /docs。"),
            Self::InvalidPath => ("请求路径无法识别".into(), "路径中的编号须是 UTF-8 文字，并做百分号编码。"),
            Self::UnsupportedMediaType => {
                ("请求体须声明为 JSON".into(), "请加上请求头 Content-Type: application/json。")
            }
            Self::BodyTooLarge => (
                "请求体超过上限".into(),
                "一般请求最多 256 KiB，知识文件最多 32 MiB，附件的上限见配置 [desk.attachments]；请缩短文本或分批发送。",
            ),
            Self::InvalidField { field, problem } => {
                (format!("字段 {field} {problem}"), "请按 /docs 中该字段的说明修改后重试。")
            }
            Self::SettingsChanged => ("设置刚刚被别人改过".into(), "请重新打开设置，看过新的内容后再改。"),
            Self::UpgradeNeeded => (
                "这个地址只提供 WebSocket 连接".into(),
                "请用 WebSocket 客户端连接；普通请求请用 GET /v1/sessions/{session_id}。",
            ),
            Self::KeyMissing => (
                "请求没有携带密钥，也没有登录".into(),
                "请加上请求头 Authorization: Bearer yd_…（用 yingda keys create 生成），或先登录。",
            ),
            Self::KeyUnknown => (
                "密钥无效或已吊销".into(),
                "请检查密钥是否完整；可用 yingda keys list 查看，用 yingda keys create 重新生成。",
            ),
            Self::Forbidden { needed } => {
                return (
                    "这个账号或密钥的权限不够".into(),
                    format!(
                        "此操作需要 {needed} 角色；账号请联系管理员，密钥可用 yingda keys create --role {needed} --name 名称 生成。"
                    ),
                );
            }
            Self::LoginExpired => ("登录已过期或已退出".into(), "请重新登录。"),
            Self::LoginNeeded => ("此操作只能由登录的用户进行".into(), "请用账号登录后重试；密钥没有对应的用户。"),
            Self::LoginWrong => ("登录名或密码不正确".into(), "请检查后重试；忘记密码请联系管理员。"),
            Self::LoginLocked { seconds } => {
                let minutes = (seconds + 59) / 60;
                (
                    format!("密码错误次数过多，登录已锁定，请在 {minutes} 分钟后再试"),
                    "锁定期间正确的密码也不能登录；急用请联系管理员重设密码。",
                )
            }
            Self::LoginTooOften { seconds } => {
                (format!("登录尝试太频繁，请在 {seconds} 秒后再试"), "请在响应头 Retry-After 的秒数之后重试。")
            }
            Self::UserDisabled => ("账号已停用".into(), "请联系管理员。"),
            Self::Csrf => (
                "请求没有携带本页面的校验码，或校验码不对".into(),
                "请刷新页面后重试；程序请在请求头 X-CSRF-Token 中写明登录时返回的 csrf_token。",
            ),
            Self::UserNotFound(id) => (format!("没有编号为 {id} 的用户"), "请用 GET /v1/users 查看现有用户。"),
            Self::LoginTaken(login) => (format!("登录名 {login} 已有人使用"), "请换一个登录名。"),
            Self::NameTaken(name) => (format!("姓名 {name} 已有人使用"), "工单按姓名派给人，请换一个能区分的姓名。"),
            Self::LastAdmin => {
                ("这是最后一个可以登录的管理员".into(), "请先添加另一个管理员，再停用或更改这个账号的角色。")
            }
            Self::OwnAccount => ("不能停用自己的账号".into(), "请由另一个管理员停用。"),
            Self::HostRefused(host) => (
                format!("免密钥试用模式不接受主机名 {host}"),
                "请用 http://127.0.0.1 或 http://localhost 访问，或去掉 --open 并使用密钥。",
            ),
            Self::RouteNotFound => ("没有这个地址".into(), "可用的地址见 /docs。"),
            Self::MethodNotAllowed => ("这个地址不支持此请求方法".into(), "支持的方法见响应头 Allow 与 /docs。"),
            Self::SessionNotFound => ("没有这个会话".into(), "会话在第一条消息时建立，请先调用 POST /v1/chat。"),
            Self::TicketNotFound(id) => (format!("没有工单 {id}"), "请用 GET /v1/tickets 查看现有工单。"),
            Self::KeyNotFound(id) => (format!("没有编号为 {id} 的密钥"), "请用 GET /v1/admin/keys 查看现有密钥。"),
            Self::EntryNotFound(id) => {
                (format!("没有编号为 {id} 的知识"), "请用 GET /v1/knowledge/entries 查看现有知识。")
            }
            Self::ReportNotFound => ("没有这张报表".into(), "报表的名称见 /docs 中的 /v1/reports/{name}。"),
            Self::ReleaseNotFound(number) => {
                (format!("没有可用的发布版本 {number}"), "请用 GET /v1/knowledge/releases 查看已发布的版本。")
            }
            Self::EntryChanged { id, found } => (
                format!("知识 {id} 已被别人改到第 {found} 版"),
                "请重新读取后再改；确实要覆盖时，请在 version 中填写最新版号，或不填。",
            ),
            Self::NothingToPublish => ("没有需要发布的改动".into(), "请先保存草稿，或检查 entries 中的编号。"),
            Self::PublishingNow(number) => {
                (format!("发布版本 {number} 正在写入"), "请等它完成后再试；进度见 GET /v1/knowledge/releases。")
            }
            Self::PublishingGivenUp(number) => {
                (format!("发布版本 {number} 太久没有进展，已被另一个进程放弃"), "草稿还在，请重新发布。")
            }
            Self::BadKnowledge(problems) => {
                let first = problems.iter().take(10).cloned().collect::<Vec<_>>().join("；");
                (
                    format!("知识内容有 {} 处问题：{first}", problems.len()),
                    "请修改后重试；导入时可先用 dry_run=true 查看全部问题。",
                )
            }
            Self::StoreUnavailable(_) => {
                ("答案库暂时不可用，原有内容没有改动".into(), "请稍后重试；原因见服务日志中的同一 x-request-id。")
            }
            Self::TicketState { status, action, assignee } => {
                let holder = assignee.as_deref().map(|name| format!("（{name}）")).unwrap_or_default();
                let actions = allowed(*status).into_iter().filter(|action| action.is_asked_for());
                let actions = actions.map(|action| action.to_string()).collect::<Vec<_>>().join("、");
                let actions = if actions.is_empty() { "无".to_owned() } else { actions };
                return (
                    format!("工单{}{holder}，不能{action}", status.chinese()),
                    format!("当前状态 {} 允许的操作：{actions}。", status.as_str()),
                );
            }
            Self::NotAssignee { assignee } => (
                format!("工单由 {assignee} 负责"),
                "只有负责人可以回复；解决、转交等也可由主管操作。请在 agent 字段写明负责人。",
            ),
            Self::NotManager { action } => (format!("工单还没有人领取，不能{action}"), "请先领取工单，或由主管操作。"),
            Self::AgentNotFound(name) => {
                (format!("客服名单里没有 {name}"), "请由主管用 PUT /v1/desk/agents/{姓名} 添加团队、技能和接待量。")
            }
            Self::TicketOpen(other) => (format!("该会话已有未结束的工单 {other}"), "请在那张工单里继续处理。"),
            Self::NotTogether(_) => {
                ("这两张工单不能放在一起".into(), "须是两张不同的工单；合并还要求属于同一客户，且都没有结束。")
            }
            Self::NotRated(_) => ("现在不能评价".into(), "工单解决后可以评价一次。"),
            Self::SurveyLink => ("评价链接不完整，或者被改动过".into(), "请从收到的消息里重新打开链接。"),
            Self::SurveyNotFound => ("没有这份调查，它可能已经取消".into(), "如有问题，请直接联系客服。"),
            Self::SurveyExpired => {
                ("这份调查已经过期，不能再填写".into(), "如有意见，请直接联系客服，我们会认真处理。")
            }
            Self::SurveyAnswered => ("您已经评价过了，谢谢！".into(), "每次服务只能评价一次。"),
            Self::AlertNotFound(id) => {
                (format!("没有编号为 {id} 的提醒"), "请用 GET /v1/desk/alerts 查看未确认的提醒。")
            }
            Self::AlertAcknowledged(name) => (format!("这条提醒已由 {name} 确认"), "不需要再次确认。"),
            Self::WebhookNotFound(id) => {
                (format!("没有编号为 {id} 的对接地址"), "请用 GET /v1/webhooks 查看现有的对接地址。")
            }
            Self::DeliveryNotFound(id) => {
                (format!("没有编号为 {id} 的推送"), "已送达的推送保留 7 天，请用 GET /v1/webhook-deliveries 查看。")
            }
            Self::DeliveryNotDead => ("这条推送没有失败".into(), "正在重试或已送达的推送不用重新发送。"),
            Self::TooManyWebhooks => (format!("最多 {MOST_WEBHOOKS} 个对接地址"), "请先删除不用的对接地址。"),
            Self::AttachmentNotFound(id) => {
                (format!("没有附件 {id}"), "附件的编号见会话或工单中各条消息的 attachments。")
            }
            Self::AttachmentType(accepted) => {
                return (
                    "不支持这种文件".into(),
                    format!("文件类型按内容识别，与文件名和 Content-Type 无关。可用：{accepted}。"),
                );
            }
            Self::TooManyAttachments { seconds } => {
                return (
                    "这个会话一小时内的附件太多".into(),
                    format!("请在 {} 分钟后再发送附件；文字消息不受影响。", (seconds + 59) / 60),
                );
            }
            Self::Outside => {
                ("外部机构的账号或密钥不能使用此功能".into(), "外部机构只能处理共享给它的工单；请联系管理员。")
            }
            Self::OrganisationNotFound(id) => {
                (format!("没有外部机构 {id}"), "请用 GET /v1/organisations 查看现有机构，或先共享给它。")
            }
            Self::OrganisationTaken(name) => {
                (format!("已有外部机构使用「{name}」"), "名称和团队都不能与其他机构相同，请换一个。")
            }
            Self::Busy => ("当前排队的消息太多".into(), "请在响应头 Retry-After 的秒数之后用相同的 message_id 重试。"),
            Self::MessageIdReused => (
                "这个 message_id 已用于同一会话里的另一条消息".into(),
                "每条新消息请用新的 message_id；只有重发同一条消息才用相同的。",
            ),
            Self::Timeout => ("处理超时".into(), "请用相同的 message_id 重试：已受理的消息不会重复处理。"),
            Self::Stopping => ("服务正在停止".into(), "请稍后重试。"),
            Self::Storage(_) => {
                ("数据库暂时不可用，消息没有保存".into(), "请稍后重试；原因见服务日志中的同一 x-request-id。")
            }
            Self::ModelUnavailable(_) => ("模型已停止工作".into(), "请重启服务；原因见服务日志中的同一 x-request-id。"),
            Self::RulesWrong(problems) => (
                format!("规则文件不能使用，仍在使用原来的规则：{problems}"),
                "请修改规则文件后再次重新加载；写法见 docs/rules.md。",
            ),
            Self::ReloadFailed(_) => {
                ("新模型未能加载，仍在使用原来的模型".into(), "原因见服务日志中的同一 x-request-id。")
            }
            Self::Internal(_) => ("服务内部出错".into(), "请稍后重试；原因见服务日志中的同一 x-request-id。"),
        };
        (message, hint.to_owned())
    }
}

fn json_hint(problem: &str) -> &'static str {
    if problem.contains("surrogate") || problem.contains("代理") {
        "文本里有半个表情符号（单独的 \\ud800 一类转义），请按完整的 UTF-8 文字发送。"
    } else {
        "请检查引号、逗号、括号和编码（UTF-8）。"
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.code_and_status().1;
        let mut response = (status, Json(ErrorBody { error: self.content() })).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::TOO_MANY_REQUESTS => {
                let seconds = match self {
                    Self::LoginLocked { seconds }
                    | Self::LoginTooOften { seconds }
                    | Self::TooManyAttachments { seconds } => seconds,
                    _ => 1,
                };
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        if status.is_server_error() {
            let model_stopped = matches!(self, Self::ModelUnavailable(_));
            response.extensions_mut().insert(ErrorDetail { text: self.to_string().into(), model_stopped });
        }
        response
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<FileProblem> for ApiError {
    fn from(problem: FileProblem) -> Self {
        match problem {
            FileProblem::Empty => Self::field("（请求体）", "不能为空：须为文件的内容"),
            FileProblem::Type { accepted } => Self::AttachmentType(accepted),
            FileProblem::Name(problem) => Self::field("name", problem),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Random(_) => Self::Internal(error.to_string()),
            KeyError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::LoginForm => Self::field("login", "须为 1 到 64 个文字、数字或 . _ - @"),
            UserError::NameForm => Self::field("name", "须为 1 到 64 个字符，不含控制字符"),
            UserError::TeamForm => Self::field("team", "最多 64 个字符，不含控制字符"),
            UserError::RoleForm => Self::field("role", "取值无效，可用：agent、supervisor、admin"),
            UserError::NoOrganisation(_) => {
                Self::field("organisation", "没有这个机构，请用 GET /v1/organisations 查看")
            }
            UserError::OutsideRole => Self::field("role", "外部机构的人只能是 agent"),
            UserError::PasswordShort => Self::field("password", format!("至少 {LEAST_CHARACTERS} 个字符")),
            UserError::PasswordLong => Self::field("password", format!("最多 {MOST_BYTES} 个字节")),
            UserError::PasswordIsLogin => Self::field("password", "不能与登录名相同"),
            UserError::LoginTaken(login) => Self::LoginTaken(login),
            UserError::NameTaken(name) => Self::NameTaken(name),
            UserError::HasTickets { name, tickets } => {
                Self::field("name", format!("暂不能更改：{name}名下还有 {tickets} 张未结束的工单，请先转交或解决"))
            }
            UserError::NotFound(id) => Self::UserNotFound(id),
            UserError::LastAdmin => Self::LastAdmin,
            UserError::OwnAccount => Self::OwnAccount,
            UserError::WrongLogin => Self::LoginWrong,
            UserError::Disabled => Self::UserDisabled,
            // Rounded up: whoever comes when they are told to is not refused again.
            UserError::Locked { milliseconds } => Self::LoginLocked { seconds: (milliseconds + 999) / 1000 },
            UserError::Busy => Self::LoginTooOften { seconds: 2 },
            UserError::Random(_) | UserError::Hash(_) => Self::Internal(error.to_string()),
            UserError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Busy { .. } => Self::Busy,
            EngineError::WorkerStopped => Self::ModelUnavailable(error.to_string()),
            EngineError::Store { .. }
            | EngineError::StoreOfAnotherModel { .. }
            | EngineError::StoreOfAnotherVersion { .. } => Self::StoreUnavailable(error.to_string()),
            EngineError::Knowledge { id, message } => Self::BadKnowledge(vec![format!("{id}: {message}")]),
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<BaseError> for ApiError {
    fn from(error: BaseError) -> Self {
        match error {
            BaseError::NoEntry(id) => Self::EntryNotFound(id),
            BaseError::NoRelease(number) => Self::ReleaseNotFound(number.to_string()),
            BaseError::Changed { id, found } => Self::EntryChanged { id, found },
            BaseError::NothingToPublish => Self::NothingToPublish,
            BaseError::Busy(number) => Self::PublishingNow(number),
            BaseError::GivenUp(number) => Self::PublishingGivenUp(number),
            BaseError::Engine(error) => error.into(),
            BaseError::Storage(error) => error.into(),
        }
    }
}

impl From<OutgoingError> for ApiError {
    fn from(error: OutgoingError) -> Self {
        match error {
            OutgoingError::NoWebhook(id) => Self::WebhookNotFound(id),
            OutgoingError::NoDelivery(id) => Self::DeliveryNotFound(id),
            OutgoingError::NotDead(_) => Self::DeliveryNotDead,
            OutgoingError::TooMany => Self::TooManyWebhooks,
            OutgoingError::Address(_) => {
                Self::field("address", "须为可以访问的 http 或 https 地址，如 https://crm.example.com/tickets")
            }
            OutgoingError::Event(_) => Self::field("events", format!("取值无效，可用：{}", EVENTS.join("、"))),
            OutgoingError::Secret(_) | OutgoingError::Stopped(_) => Self::Internal(error.to_string()),
            OutgoingError::Desk(error) => error.into(),
            OutgoingError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<DeskError> for ApiError {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::NotFound { id } => Self::TicketNotFound(id),
            DeskError::NotAllowed { status, action, assignee, .. } => {
                Self::TicketState { status, action: action.chinese().to_owned(), assignee }
            }
            DeskError::NotAssignee { assignee, .. } => Self::NotAssignee { assignee },
            DeskError::NotManager { action, .. } => Self::NotManager { action: action.chinese().to_owned() },
            DeskError::AnotherIsOpen { other, .. } => Self::TicketOpen(other),
            DeskError::NotTogether { why, .. } => Self::NotTogether(why),
            DeskError::NotRated { why, .. } => Self::NotRated(why),
            DeskError::NoOrganisation { id } => Self::OrganisationNotFound(id),
            DeskError::TooManyAttachments { milliseconds } => Self::too_many_attachments(milliseconds),
            DeskError::MessageIdReused => Self::MessageIdReused,
            DeskError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<SurveyError> for ApiError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::Link => Self::SurveyLink,
            SurveyError::NotFound => Self::SurveyNotFound,
            SurveyError::Expired => Self::SurveyExpired,
            SurveyError::Answered => Self::SurveyAnswered,
            SurveyError::Desk(error) => error.into(),
            SurveyError::Key(error) => error.into(),
        }
    }
}

impl From<InterventionError> for ApiError {
    fn from(error: InterventionError) -> Self {
        match error {
            InterventionError::NotFound(id) => Self::AlertNotFound(id),
            InterventionError::Acknowledged(name) => Self::AlertAcknowledged(name),
            InterventionError::Desk(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each; a new variant makes `code_and_status` fail to compile, and this list is counted below.
    fn one_of_each() -> Vec<(ApiError, &'static str, u16)> {
        let storage = || StorageError::Unknown { what: "the role", value: "secret detail".into() };
        vec![
            (ApiError::InvalidJson("x".into()), "invalid_json", 400),
            (ApiError::InvalidQuery("x".into()), "invalid_query", 400),
            (ApiError::InvalidPath, "invalid_path", 400),
            (ApiError::UnsupportedMediaType, "unsupported_media_type", 415),
            (ApiError::BodyTooLarge, "body_too_large", 413),
            (ApiError::field("text", "不能为空"), "invalid_field", 422),
            (ApiError::SettingsChanged, "settings_changed", 409),
            (ApiError::UpgradeNeeded, "upgrade_needed", 426),
            (ApiError::KeyMissing, "key_missing", 401),
            (ApiError::KeyUnknown, "key_unknown", 401),
            (ApiError::Forbidden { needed: Role::Agent }, "forbidden", 403),
            (ApiError::LoginExpired, "login_expired", 401),
            (ApiError::LoginNeeded, "login_needed", 403),
            (ApiError::LoginWrong, "login_wrong", 401),
            (ApiError::LoginLocked { seconds: 61 }, "login_locked", 429),
            (ApiError::LoginTooOften { seconds: 7 }, "login_too_often", 429),
            (ApiError::UserDisabled, "user_disabled", 403),
            (ApiError::Csrf, "csrf", 403),
            (ApiError::UserNotFound("1".into()), "user_not_found", 404),
            (ApiError::LoginTaken("xiaowang".into()), "login_taken", 409),
            (ApiError::NameTaken("小王".into()), "name_taken", 409),
            (ApiError::LastAdmin, "last_admin", 409),
            (ApiError::OwnAccount, "own_account", 409),
            (ApiError::HostRefused("a.example".into()), "host_refused", 403),
            (ApiError::RouteNotFound, "not_found", 404),
            (ApiError::MethodNotAllowed, "method_not_allowed", 405),
            (ApiError::SessionNotFound, "session_not_found", 404),
            (ApiError::TicketNotFound("1".into()), "ticket_not_found", 404),
            (ApiError::KeyNotFound("1".into()), "key_not_found", 404),
            (
                ApiError::TicketState { status: Status::Resolved, action: "回复".into(), assignee: None },
                "ticket_state",
                409,
            ),
            (ApiError::NotAssignee { assignee: "小王".into() }, "not_assignee", 403),
            (ApiError::NotManager { action: "转交".into() }, "not_manager", 403),
            (ApiError::AgentNotFound("小王".into()), "agent_not_found", 404),
            (ApiError::TicketOpen("1".into()), "ticket_open", 409),
            (ApiError::NotTogether("it is the same ticket"), "not_together", 409),
            (ApiError::NotRated("it is not done"), "not_rated", 409),
            (ApiError::EntryNotFound("1".into()), "entry_not_found", 404),
            (ApiError::ReleaseNotFound("1".into()), "release_not_found", 404),
            (ApiError::ReportNotFound, "report_not_found", 404),
            (ApiError::EntryChanged { id: "1".into(), found: 2 }, "entry_changed", 409),
            (ApiError::NothingToPublish, "nothing_to_publish", 409),
            (ApiError::PublishingNow(1), "publishing_now", 409),
            (ApiError::PublishingGivenUp(1), "publishing_given_up", 409),
            (ApiError::BadKnowledge(vec!["x".into()]), "bad_knowledge", 422),
            (ApiError::StoreUnavailable("secret detail".into()), "store_unavailable", 503),
            (ApiError::SurveyLink, "survey_link", 404),
            (ApiError::SurveyNotFound, "survey_not_found", 404),
            (ApiError::SurveyExpired, "survey_expired", 410),
            (ApiError::SurveyAnswered, "survey_answered", 409),
            (ApiError::AlertNotFound("1".into()), "alert_not_found", 404),
            (ApiError::AlertAcknowledged("陈主管".into()), "alert_acknowledged", 409),
            (ApiError::WebhookNotFound("1".into()), "webhook_not_found", 404),
            (ApiError::DeliveryNotFound("1".into()), "delivery_not_found", 404),
            (ApiError::DeliveryNotDead, "delivery_not_dead", 409),
            (ApiError::TooManyWebhooks, "too_many_webhooks", 409),
            (ApiError::AttachmentNotFound("1".into()), "attachment_not_found", 404),
            (ApiError::AttachmentType("image/png".into()), "attachment_type", 415),
            (ApiError::TooManyAttachments { seconds: 61 }, "too_many_attachments", 429),
            (ApiError::Outside, "outside", 403),
            (ApiError::OrganisationNotFound("1".into()), "organisation_not_found", 404),
            (ApiError::OrganisationTaken("安达快递".into()), "organisation_taken", 409),
            (ApiError::Busy, "busy", 429),
            (ApiError::Timeout, "timeout", 504),
            (ApiError::MessageIdReused, "message_id_reused", 409),
            (ApiError::Stopping, "stopping", 503),
            (ApiError::Storage(storage()), "storage_unavailable", 503),
            (ApiError::ModelUnavailable("secret detail".into()), "model_unavailable", 503),
            (ApiError::RulesWrong("x".into()), "rules_wrong", 422),
            (ApiError::ReloadFailed("secret detail".into()), "reload_failed", 500),
            (ApiError::Internal("secret detail".into()), "internal", 500),
        ]
    }

    #[test]
    fn every_error_has_its_own_code_its_status_and_two_sentences() {
        let all = one_of_each();
        let mut codes = std::collections::BTreeSet::new();
        for (error, code, status) in &all {
            let (found, found_status) = error.code_and_status();
            assert_eq!((found, found_status.as_u16()), (*code, *status), "{error:?}");
            assert!(codes.insert(found), "{found} twice");
            let (message, hint) = error.sentences();
            assert!(!message.is_empty() && !hint.is_empty(), "{error:?}");
        }
        assert_eq!(all.len(), 70);
    }

    #[test]
    fn inner_details_stay_inside() {
        for (error, _, _) in one_of_each() {
            let (message, hint) = error.sentences();
            assert!(!message.contains("secret") && !hint.contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn busy_says_when_to_come_back() {
        let response = ApiError::Busy.into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let error = ApiError::from(UserError::Locked { milliseconds: 60_001 });
        assert!(error.sentences().0.contains("2 分钟"), "{:?}", error.sentences());
        assert_eq!(error.into_response().headers()[header::RETRY_AFTER], "61");
    }

    #[test]
    fn a_wrong_state_says_what_is_allowed() {
        let error = ApiError::TicketState { status: Status::New, action: "回复".into(), assignee: None };
        assert_eq!(
            error.sentences(),
            (
                "工单待领取，不能回复".to_owned(),
                "当前状态 new 允许的操作：领取（take）、分配（assign）、转交（transfer）、合并（merge）。".to_owned(),
            )
        );
    }
}
