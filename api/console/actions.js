// What can be done with a ticket: a button for each action that its state allows and this person may do.

import { get, post, ticketPath } from "./api.js";
import { button } from "./dom.js";
import { ask } from "./dialog.js";
import { attempt, say } from "./notice.js";
import { organisations, seesQuestion } from "./sharing.js";
import { isOpen } from "./words.js";

const REASON = { name: "reason", label: "原因", long: true };

// The people at the desk, to choose from.
const colleagues = async (me) => (me.organisation ? [] : (await get("/v1/desk/agents")).agents);

const once = (values) => [...new Set(values.filter(Boolean))].sort();

const ACTIONS = [
  { name: "take", label: "领取", main: true, done: "已领取" },
  { name: "resolve", label: "解决", main: true, done: "已解决，会话交还智能客服",
    title: "解决工单", hint: "解决后由智能客服继续服务；说明只有同事能看到。", questions: async () => [{ name: "note", label: "处理说明", long: true }] },
  { name: "wait", label: "等客户", done: "等待客户回复", title: "等待客户", hint: "客户回复前不计时。", questions: async () => [REASON] },
  { name: "transfer", label: "转交", done: "已转交", title: "转交给其他团队", hint: "工单连同全部记录进入对方团队的队列。",
    questions: async (me) => {
      const outside = (await organisations(me)).map((one) => one.team);
      const teams = (await colleagues(me)).map((agent) => agent.team);
      return [{ name: "team", label: "团队", required: true, options: once([...teams, ...outside]) }, seesQuestion(outside), { ...REASON, required: true }];
    } },
  { name: "assign", label: "分配", done: "已分配", title: "分配给同事", hint: "对方接受或回复之前，只是提供给对方。",
    questions: async (me) => [{ name: "to", label: "同事的名字", required: true, options: once((await colleagues(me)).map((agent) => agent.name)) }, REASON] },
  { name: "return", label: "退回", done: "已退回队列", title: "退回队列", questions: async () => [REASON] },
  { name: "merge", label: "合并", done: "已合并", title: "合并到另一张工单", hint: "两张工单须属于同一客户，且都没有结束。",
    questions: async () => [{ name: "into", label: "另一张工单的编号", required: true }, REASON] },
  { name: "close", label: "关闭", main: true, done: "已关闭" },
  { name: "reopen", label: "重新打开", done: "已重新打开", title: "重新打开工单", questions: async () => [REASON] },
];

// Whoever has it speaks for it; a supervisor may move it too.
const ANYBODY = new Set(["take", "close", "reopen"]);

export const isMine = (ticket, me) => ticket.assignee === me.name;
export const manages = (me) => me.role === "supervisor" || me.role === "admin";

// Offered to this person, who has not accepted it yet.
export const isOffered = (ticket, me) => ticket.status === "assigned" && !ticket.accepted && isMine(ticket, me);

export const mayReply = (ticket, me) => ticket.actions.includes("reply") && isMine(ticket, me);

function may(name, ticket, me) {
  return ticket.actions.includes(name) && (ANYBODY.has(name) || isMine(ticket, me) || manages(me));
}

// The buttons of a ticket; `changed` is told when one has done something.
export function actionButtons(ticket, me, changed) {
  const act = async (action, body) => {
    await post(ticketPath(ticket.ticket_id, action.name), body);
    say(action.done);
    await changed();
  };
  const start = async (action) => {
    if (!action.questions) {
      await attempt(() => act(action, {}));
      return;
    }
    const questions = await attempt(() => action.questions(me));
    if (questions) ask(action.title, action.hint, action.label, questions, (answers) => act(action, answers));
  };
  const allowed = ACTIONS.filter((action) => may(action.name, ticket, me));
  const buttons = allowed.map((action) => button(action.label, () => start(action), { "data-action": action.name, class: action.main ? "main" : null }));
  if (isOffered(ticket, me)) {
    buttons.unshift(button("接受", () => attempt(() => act({ name: "take", done: "已接受" }, {})), { "data-action": "take", class: "main" }));
  }
  return buttons;
}

// Why this person cannot write to the customer, or nothing.
export function whySilent(ticket, me) {
  if (mayReply(ticket, me)) return "";
  if (!isOpen(ticket.status)) return "工单已结束，由智能客服接待。";
  if (!ticket.assignee) return "领取后可以回复客户。";
  return "工单由 " + ticket.assignee + " 负责，只有负责人可以回复。";
}
