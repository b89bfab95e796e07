// The service's words in Chinese, and numbers and times as people read them.

export const STATUSES = {
  new: "待领取",
  assigned: "已领取",
  in_progress: "处理中",
  waiting_customer: "等待客户",
  resolved: "已解决",
  closed: "已关闭",
  merged: "已合并",
};

export const PRIORITIES = { urgent: "紧急", high: "高", medium: "中", low: "低" };
export const SENTIMENTS = { negative: "负面", neutral: "中性", positive: "正面" };
export const ROLES = { agent: "客服", supervisor: "主管", admin: "管理员", caller: "程序" };
export const PRESENCES = { online: "在线", away: "离开", offline: "离线" };

export const REASONS = {
  person_requested: "客户要求人工",
  handoff_word: "出现须转人工的词语",
  complaint: "客户投诉",
  negative_sentiment: "连续负面情绪",
  low_confidence: "把握不足",
  knowledge_unavailable: "答案库连不上",
  rule: "规则要求",
  flow: "引导流程要求",
  form: "客户提交表单",
  agent: "客服代客户登记",
  owned_by_agent: "会话由人工负责",
  called_off: "客户取消了转接",
  non_text: "不是文字消息",
  empty_message: "空消息",
};

export const DECISIONS = {
  reply: "直接回答",
  clarify: "请客户澄清",
  out_of_scope: "超出服务范围",
  no_answer: "暂无答案",
  escalate: "转人工",
  silent: "人工处理中",
  survey: "请客户评价",
};

// Kinds of events, as they are chosen from a list.
export const EVENTS = {
  opened: "工单开出",
  escalated_again: "再次转人工",
  customer_message: "客户来消息",
  taken: "领取",
  accepted: "接受",
  assigned: "分配",
  returned: "退回队列",
  transferred: "转交",
  agent_reply: "回复客户",
  waiting: "等待客户",
  resolved: "解决",
  closed: "关闭",
  reopened: "重新打开",
  merged: "合并",
  merged_here: "并入",
  note: "备注",
  amended: "修改",
  linked: "关联",
  rated: "评价",
  service_level: "时限提醒",
  external_status: "外部系统状态",
  survey_sent: "发出调查",
  intervention: "自动干预",
  alert: "提醒主管",
  alert_acknowledged: "确认提醒",
  coupon: "补偿券",
  shared: "共享给外部机构",
  unshared: "收回共享",
};

export const FIELDS = {
  status: "状态",
  priority: "优先级",
  category: "分类",
  language: "语言",
  team: "团队",
  assignee: "负责人",
  accepted: "已接受",
  tags: "标签",
  fields: "自定义字段",
  merged_into: "合并到",
  intent: "分类",
  sentiment: "情绪",
};

const languageNames = new Intl.DisplayNames(["zh-CN"], { type: "language" });
export const LANGUAGES = ["zh", "en", "ja", "ko", "ru", "th", "vi", "id", "ar", "fr", "de", "es", "pt", "it"];
export const languageName = (code) => languageNames.of(code) || code;

// Open states have an agent's work before them.
export const isOpen = (status) => ["new", "assigned", "in_progress", "waiting_customer"].includes(status);

// `assigned` is only an offer until the agent has accepted it.
export const statusWord = (ticket) =>
  ticket.status === "assigned" && !ticket.accepted ? "待接受" : STATUSES[ticket.status] || ticket.status;

// Nothing that a model says is certain.
export function percent(share) {
  if (share > 0.99) return ">99%";
  if (share < 0.01) return "<1%";
  return Math.round(share * 100) + "%";
}

export const shortId = (id) => id.slice(-6).toUpperCase();

const two = (number) => String(number).padStart(2, "0");

// The day as the service takes it in an address.
export const isoDay = (date) => date.getFullYear() + "-" + two(date.getMonth() + 1) + "-" + two(date.getDate());

// The time of day, with the date where it is not today's.
export function clock(text) {
  const date = new Date(text);
  const time = two(date.getHours()) + ":" + two(date.getMinutes());
  if (isoDay(date) === isoDay(new Date())) return time;
  const day = date.getMonth() + 1 + "月" + date.getDate() + "日";
  return (date.getFullYear() === new Date().getFullYear() ? "" : date.getFullYear() + "年") + day + " " + time;
}

// A span of seconds in its largest one or two units.
export function span(seconds) {
  if (seconds < 60) return Math.max(0, Math.floor(seconds)) + " 秒";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes + " 分钟";
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return hours + " 小时" + (minutes % 60 ? " " + (minutes % 60) + " 分" : "");
  const days = Math.floor(hours / 24);
  return days + " 天" + (hours % 24 && days < 7 ? " " + (hours % 24) + " 小时" : "");
}

export const secondsSince = (text) => (Date.now() - new Date(text).getTime()) / 1000;

// What the ticket waits for, and since when.
export function waiting(ticket) {
  if (!isOpen(ticket.status)) return clock(ticket.closed_at || ticket.resolved_at || ticket.updated_at);
  if (ticket.status === "waiting_customer") return "等客户 " + span(secondsSince(ticket.updated_at));
  if (ticket.status === "new" || !ticket.first_reply_at) return "已等 " + span(secondsSince(ticket.created_at));
  return span(secondsSince(ticket.updated_at)) + "前更新";
}

// A mood of the model's three probabilities, or nothing.
export function moodText(sentiment) {
  if (!sentiment) return null;
  return (SENTIMENTS[sentiment.label] || sentiment.label) + " " + percent(sentiment[sentiment.label] ?? 0);
}

// Why the bot gave the session away.
export function reasonText(reason, detail) {
  const words = REASONS[reason] || reason;
  return detail ? words + "（" + detail + "）" : words;
}
