// What is known of the customer and the ticket, and what people put right or add: priority, category, mood, tags, notes, links.

import { call, post, ticketPath } from "./api.js";
import { ask } from "./dialog.js";
import { button, choice, field, make, pill } from "./dom.js";
import { attempt, say } from "./notice.js";
import { sharesSection } from "./sharing.js";
import { LANGUAGES, PRIORITIES, SENTIMENTS, clock, languageName, moodText, percent, reasonText, shortId } from "./words.js";

function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return make("dl", { class: "facts" }, known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function profileFacts(profile) {
  return Object.entries(profile || {}).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
}

function corrections(ticket, categories, changed) {
  const amend = (change) => attempt(async () => {
    await call("PATCH", ticketPath(ticket.ticket_id), change);
    say("已保存");
    await changed();
  });
  const priority = choice(Object.entries(PRIORITIES), ticket.priority, { onchange: () => amend({ priority: priority.value }) });
  const category = make("input", {
    value: ticket.category || "", maxlength: 128, list: "categories",
    onchange: () => category.value.trim() && amend({ category: category.value.trim() }),
  });
  const known = [...new Set([ticket.language, ...LANGUAGES])].filter(Boolean);
  const language = choice([...(ticket.language ? [] : [["", "未知"]]), ...known.map((code) => [code, languageName(code)])], ticket.language || "", {
    onchange: () => language.value && amend({ language: language.value }),
  });
  const mood = choice([["", "模型判断：" + (moodText(ticket.sentiment) || "未知")], ...Object.entries(SENTIMENTS)], "", {
    onchange: () => mood.value && amend({ sentiment: mood.value }),
  });
  const tags = make("input", {
    value: ticket.tags.join(" "), placeholder: "用空格分开", maxlength: 500,
    onchange: () => amend({ tags: tags.value.split(/[\s,，、]+/).filter(Boolean) }),
  });
  return make("div", { class: "form" },
    field("优先级", priority), field("分类", category), make("datalist", { id: "categories" }, categories.map((value) => make("option", { value }))),
    field("语言", language), field("客户情绪", mood), field("标签", tags),
    make("p", { class: "quiet" }, "对优先级、分类和情绪的更正会留作训练样本。"));
}

// The panel of a ticket with its session.
export function detailsPanel(ticket, session, categories, changed, me) {
  const reader = { name: "for", label: "给谁看", required: true, choices: [["own", "只给本方同事"], ["both", "双方都能看"]] };
  const isShared = me.organisation || ticket.shares?.length;
  const note = () => ask("添加备注", "客户看不到。", "保存", [{ name: "text", label: "备注", required: true, long: true }, ...(isShared ? [reader] : [])], async (answers) => {
    await post(ticketPath(ticket.ticket_id, "notes"), answers);
    say("备注已保存");
    await changed();
  });
  const link = () => ask("关联工单", "", "关联", [{ name: "ticket_id", label: "另一张工单的编号", required: true }], async (answers) => {
    await post(ticketPath(ticket.ticket_id, "links"), answers);
    say("已关联");
    await changed();
  });
  const setField = () => ask("自定义字段", "留空则删除这个字段。", "保存", [{ name: "name", label: "字段名", required: true }, { name: "value", label: "内容" }], async ({ name, value }) => {
    await call("PATCH", ticketPath(ticket.ticket_id), { fields: { [name]: value ?? null } });
    say("已保存");
    await changed();
  });
  return make("div", {},
    me.organisation ? null : make("section", {}, make("h3", {}, "客户"), facts([
      ["编号", session.user_id || "未提供"],
      ["渠道", session.channel],
      ["首次来访", clock(session.created_at)],
      ...profileFacts(session.profile),
    ])),
    sharesSection(ticket, me, changed),
    make("section", {}, make("h3", {}, "更正与标签"), corrections(ticket, categories, changed)),
    make("section", {}, make("h3", {}, "工单"), facts([
      ["编号", make("code", {}, ticket.ticket_id)],
      ["转人工原因", reasonText(ticket.reason, ticket.detail)],
      ["意图", ticket.intent && ticket.intent.label + " " + percent(ticket.intent.probability)],
      ["团队", ticket.team || "所有人"],
      ["负责人", ticket.assignee || "无"],
      ["开出", clock(ticket.created_at)],
      ["首次回复", ticket.first_reply_at && clock(ticket.first_reply_at)],
      ["解决", ticket.resolved_at && clock(ticket.resolved_at)],
      ["重新打开", ticket.reopened ? ticket.reopened + " 次" : ""],
      ["合并到", ticket.merged_into && make("a", { href: "#/ticket/" + ticket.merged_into }, shortId(ticket.merged_into))],
      ["关联", ticket.links.length ? ticket.links.map((id) => make("a", { href: "#/ticket/" + id, class: "spaced" }, shortId(id))) : ""],
      ["客户评价", ticket.rating && ticket.rating.score + " 分 " + (ticket.rating.comment || "")],
      ...profileFacts(ticket.fields),
      ["模型", ticket.model],
    ].map(([name, value]) => [name, Array.isArray(value) ? make("span", {}, value) : value])),
    ticket.tags.length ? make("p", {}, ticket.tags.map((tag) => pill("tag", tag))) : null,
    make("div", { class: "row" }, button("备注", note, { "data-action": "note" }), button("关联", link), button("字段", setField))));
}
