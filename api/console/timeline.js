// What happened to a ticket, in sentences.

import { files } from "./attachments.js";
import { empty, make } from "./dom.js";
import { SEES } from "./sharing.js";
import { FIELDS, PRIORITIES, SENTIMENTS, STATUSES, clock, languageName, reasonText, shortId } from "./words.js";

const NAMES = { bot: "智能客服", customer: "客户", system: "系统", form: "客户", agent: "客服" };

function valueText(name, value) {
  if (value === null || value === undefined || value === "") return "无";
  if (name === "status") return STATUSES[value] || value;
  if (name === "priority") return PRIORITIES[value] || value;
  if (name === "sentiment") return SENTIMENTS[value] || value;
  if (name === "language") return languageName(value);
  if (name === "merged_into") return shortId(value);
  if (value === true || value === false) return value ? "是" : "否";
  if (Array.isArray(value)) return value.join("、") || "无";
  if (typeof value === "object") return Object.entries(value).map(([key, inner]) => key + "：" + inner).join("、") || "无";
  return String(value);
}

function amendments(event) {
  const names = Object.keys(event.after || {});
  const changes = names.map((name) =>
    (FIELDS[name] || name) + "由「" + valueText(name, event.before[name]) + "」改为「" + valueText(name, event.after[name]) + "」");
  // What was put right of the model's opinion alone changes nothing about the ticket.
  for (const name of event.data?.corrected || []) if (name === "sentiment") changes.push("纠正了情绪");
  return changes.join("，") || "没有改变内容";
}

const SENTENCES = {
  opened: ({ data }, who) => (who === "智能客服" ? "智能客服转人工：" : who + "开出工单：") + reasonText(data.reason, data.detail),
  escalated_again: ({ data }) => "再次转人工：" + reasonText(data.reason, data.detail),
  customer_message: () => "客户发来消息",
  taken: (_, who) => who + "领取了工单",
  accepted: (_, who) => who + "接受了工单",
  assigned: ({ after, data }, who) => who + "把工单分配给 " + valueText("assignee", after.assignee) + (data.routing ? routed(data.routing) : ""),
  returned: ({ data }, who) =>
    data.why === "not_accepted" ? data.agent + " 没有接受，工单回到队列" : data.why === "left_behind" ? data.agent + " 已离线，工单回到队列" : who + "把工单退回队列",
  service_level: ({ data }) => (TARGETS[data.target] || data.target) + (data.state === "breached" ? "超时，优先级提高" : "即将超时"),
  external_status: ({ data }) => data.service_desk + " 工单 " + data.remote_id + "：" + (OUTSIDE[data.status] || data.status),
  transferred: ({ after, before, data }, who) => who + "把工单转交给「" + valueText("team", after.team ?? before.team) + "」" + (data.sees ? "（外部机构，可见：" + (SEES[data.sees] || data.sees) + "）" : ""),
  shared: ({ data }, who) => who + "把工单共享给外部机构「" + data.name + "」，可见：" + (SEES[data.sees] || data.sees),
  unshared: ({ data }, who) => who + "从外部机构「" + data.name + "」收回了工单",
  agent_reply: ({ data }, who) => who + "回复了客户" + (data.suggestion ? (data.suggestion.edited ? "（修改后采用建议）" : "（采用建议）") : ""),
  waiting: (_, who) => who + "等待客户回复",
  resolved: ({ data }, who) => who + "解决了工单" + (data.note ? "：" + data.note : ""),
  closed: ({ data }, who) => (data.why === "called_off" ? who + "取消了转接" : who + "关闭了工单"),
  reopened: (_, who) => who + "重新打开了工单",
  merged: ({ after }, who) => who + "把工单合并到 " + valueText("merged_into", after.merged_into),
  merged_here: ({ data }, who) => who + "把工单 " + shortId(data.ticket_id) + " 合并进来",
  note: ({ data }, who) => who + (data.for === "both" ? "备注（双方可见）：" : "备注：") + data.text,
  amended: (event, who) => who + "修改：" + amendments(event),
  linked: ({ data }, who) => who + "关联了工单 " + shortId(data.ticket_id),
  rated: ({ data }) => "客户评价 " + data.score + " 分" + (data.reasons?.length ? "：" + data.reasons.join("、") : ""),
  survey_sent: ({ data }) => (data.survey === "nps" ? "已请客户回答推荐意愿" : "已请客户评价本次服务"),
  intervention: ({ data }) => "自动干预「" + data.intervention + "」：优先级改为紧急，由「" + data.team + "」接手",
  alert: ({ data }) => "自动提醒主管：" + data.intervention,
  alert_acknowledged: ({ data }, who) => who + "确认了提醒「" + data.intervention + "」",
  coupon: ({ data }) => "补偿券「" + data.intervention + "」" + yuan(data.amount_fen) + (COUPONS[data.outcome] || data.outcome) + (data.why ? "：" + (REFUSALS[data.why] || data.why) : ""),
};

const COUPONS = { given: "已发放", failed: "发放失败，金额已退回预算", refused: "没有发放" };
const REFUSALS = { budget: "本月预算已用完", customer_limit: "该客户本月已达上限", no_customer: "不知道客户是谁" };
const yuan = (fen) => " " + (fen / 100).toFixed(2) + " 元";
// The words of Zendesk; those of Jira are its users' own.
const OUTSIDE = { new: "已创建", open: "处理中", pending: "等待客户", hold: "暂停", solved: "已解决", closed: "已关闭" };

const TARGETS = { first_response: "首次响应", resolution: "解决" };

// Why the service gave a ticket to this person.
function routed({ lane, skill, last_agent, overflow }) {
  const why = [
    lane === "vip" && "VIP 优先",
    skill && "擅长「" + skill.name + "」",
    last_agent && "上次服务过这位客户",
    overflow && "原团队忙",
  ].filter(Boolean);
  return why.length ? "（" + why.join("，") + "）" : "";
}

// One event as a sentence. A kind that this page does not know is told as it is called.
export function sentence(event) {
  const who = (NAMES[event.actor] || event.actor) + (event.data?.by_organisation ? "（外部机构）" : "");
  const tell = SENTENCES[event.kind] || (() => who + "：" + event.kind);
  return tell({ before: {}, after: {}, ...event, data: event.data || {} }, who) + (event.reason ? "，原因：" + event.reason : "");
}

export function timeline(events) {
  if (!events.length) return empty("还没有记录");
  return make("ol", { class: "timeline" }, events.map((event) =>
    make("li", { "data-kind": event.kind, "data-seq": event.seq },
      make("time", { datetime: event.at }, clock(event.at)),
      make("span", {}, sentence(event)),
      event.data?.attachment ? files([event.data.attachment]) : null)));
}
