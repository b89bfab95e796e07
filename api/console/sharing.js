// Partners outside the house: what they may see of a ticket, and who they are.

import { call, get, post, ticketPath } from "./api.js";
import { button, field, make, table } from "./dom.js";
import { ask } from "./dialog.js";
import { attempt, say } from "./notice.js";
import { clock } from "./words.js";

export const SEES = { summary: "摘要：分类、优先级、原因", conversation: "从现在起的对话", everything: "全部对话和时间线" };

const organisationPath = (id) => "/v1/organisations/" + encodeURIComponent(id);

// All organisations; somebody from outside is told of none.
export const organisations = async (me) => (me.organisation ? [] : (await get("/v1/organisations")).organisations);

// What the other side is to see, asked where one of these teams is chosen.
export const seesQuestion = (teams) => ({ name: "sees", label: "对方可见", choices: Object.entries(SEES), value: "conversation", when: { name: "team", values: teams } });

// With whom a ticket is shared, for the house.
export function sharesSection(ticket, me, changed) {
  if (me.organisation) return null;
  const share = async () => {
    const known = await attempt(() => organisations(me));
    if (!known) return;
    if (!known.length) return say("还没有外部机构，管理员可在「用户」页添加", "alarm");
    ask("共享给外部机构", "对方看不到客户资料和编号，也看不到内部备注。", "共享", [
      { name: "organisation", label: "机构", required: true, choices: known.map((one) => [one.organisation_id, one.name]) },
      { name: "sees", label: "对方可见", required: true, choices: Object.entries(SEES), value: "conversation" },
    ], async (answers) => {
      await post(ticketPath(ticket.ticket_id, "shares"), answers);
      say("已共享");
      await changed();
    });
  };
  const takeBack = (one) => attempt(async () => {
    await call("DELETE", ticketPath(ticket.ticket_id, "shares/" + encodeURIComponent(one.organisation)));
    say("已收回，" + one.name + "不再看到这张工单");
    await changed();
  });
  return make("section", {}, make("h3", {}, "外部共享"),
    (ticket.shares || []).map((one) => make("div", { class: "row between", "data-share": one.organisation },
      make("span", {}, one.name, make("span", { class: "quiet" }, " " + (SEES[one.sees] || one.sees) + "，" + clock(one.since) + " 起")),
      button("收回", () => takeBack(one), { class: "small danger" }))),
    button("共享", share, { "data-action": "share" }));
}

// The organisations, for admins; `changed` is told when there is another one.
export function organisationsCard(changed) {
  const list = make("div");
  const name = make("input", { name: "organisation-name", required: true, maxlength: 128, autocomplete: "off" });
  const team = make("input", { name: "organisation-team", required: true, maxlength: 128, autocomplete: "off" });
  const form = make("form", {
    class: "form",
    onsubmit: (event) => {
      event.preventDefault();
      attempt(async () => {
        await post("/v1/organisations", { name: name.value.trim(), team: team.value.trim() });
        say("已添加 " + name.value.trim());
        form.reset();
        await load();
        await changed();
      });
    },
  }, make("div", { class: "fields" }, field("机构名称", name), field("机构的团队（转交到此团队即共享）", team)),
  make("div", { class: "row" }, button("添加机构", null, { type: "submit" })));

  const rename = (one) => ask("更改名称", "", "保存", [{ name: "name", label: "机构名称", required: true, value: one.name }], async (answers) => {
    await call("PATCH", organisationPath(one.organisation_id), answers);
    await load();
    await changed();
  });

  async function load() {
    const { organisations: known } = await get("/v1/organisations");
    const rows = known.map((one) => [one.name, one.team, clock(one.created_at), button("更改名称", () => rename(one), { class: "small" })]);
    list.replaceChildren(...(rows.length ? [table(["名称", "团队", "添加于", ""], rows, "外部机构")] : []));
  }

  attempt(load);
  return make("section", { class: "card form wide" }, make("h2", {}, "外部机构"),
    make("p", { class: "quiet" }, "外部机构的人只能看到共享给该机构的工单；看不到客户资料、看板、报表和知识。"), list, form);
}
