// Who works at the desk, and what each can do: what routing goes by. Supervisors change it.

import { call, get } from "./api.js";
import { button, empty, make, pill, table } from "./dom.js";
import { ask } from "./dialog.js";
import { attempt, say } from "./notice.js";
import { PRESENCES } from "./words.js";

const agentPath = (name) => "/v1/desk/agents/" + encodeURIComponent(name);
const words = (text) => (text || "").split(/[\s,，、]+/).filter(Boolean);
const LEVEL = /^(.+?)[:：=]([123])$/;

// "退款:3 发票" as skills with levels; a skill without a level is known well enough.
function skillsOf(text) {
  return Object.fromEntries(words(text).map((word) => {
    const found = LEVEL.exec(word);
    return found ? [found[1], Number(found[2])] : [word, 2];
  }));
}

const skillsText = (skills) => Object.entries(skills).map(([name, level]) => name + ":" + level).join(" ");

export function showTeam(container, me) {
  const manages = me.role === "supervisor" || me.role === "admin";
  const list = make("div");
  container.replaceChildren(make("div", { class: "sheet" },
    make("h1", {}, "客服与技能"),
    make("p", { class: "quiet" }, "工单按技能、负荷、班次分配给在线的客服；没有登记的人不会被自动分配。"),
    manages ? make("div", { class: "row tools" }, button("登记客服", () => change(null), { class: "main" })) : null,
    list));

  function change(agent) {
    const known = agent || { name: "", team: "", skills: {}, languages: [], channels: [], capacity: 3, vip_lane: false, shift: "" };
    const questions = [
      { name: "team", label: "团队", required: true, value: known.team },
      { name: "skills", label: "技能，写作「意图:1 到 3」，用空格分开", value: skillsText(known.skills) },
      { name: "capacity", label: "同时处理的工单数（1 到 100）", required: true, type: "number", value: String(known.capacity) },
      { name: "channels", label: "渠道，不填为全部", value: known.channels.join(" ") },
      { name: "languages", label: "语言代码，例如 zh en，不填为全部", value: known.languages.join(" ") },
      { name: "shift", label: "班次（配置文件中日历的名称）", value: known.shift || "" },
      { name: "vip", label: "服务 VIP（是 / 否）", options: ["是", "否"], value: known.vip_lane ? "是" : "否" },
    ];
    if (!agent) questions.unshift({ name: "name", label: "姓名，与账号的姓名相同", required: true });
    ask(agent ? "更改 " + agent.name : "登记客服", "", "保存", questions, async (answers) => {
      const body = {
        team: answers.team, skills: skillsOf(answers.skills), capacity: Number(answers.capacity),
        channels: words(answers.channels), languages: words(answers.languages), vip_lane: answers.vip === "是",
      };
      if (answers.shift) body.shift = answers.shift;
      await call("PUT", agentPath(agent ? agent.name : answers.name), body);
      say("已保存");
      await load();
    });
  }

  const remove = (agent) => ask("不再登记 " + agent.name, "此人不会再被自动分配工单，手上的工单不变。", "不再登记", [], async () => {
    await call("DELETE", agentPath(agent.name));
    await load();
  });

  function row(agent) {
    const skills = Object.entries(agent.skills).map(([name, level]) => pill("skill", name + " " + "★".repeat(level), "技能"));
    return [
      make("span", {}, agent.name, agent.vip_lane ? pill("vip", "VIP") : null),
      agent.team,
      pill("presence-" + agent.presence, PRESENCES[agent.presence] || agent.presence),
      make("span", {}, skills.length ? skills : "—"),
      String(agent.capacity),
      agent.shift || "—",
      manages ? make("div", { class: "row" }, button("更改", () => change(agent), { class: "small" }), button("不再登记", () => remove(agent), { class: "small danger" })) : "",
    ];
  }

  async function load() {
    const { agents } = await get("/v1/desk/agents");
    list.replaceChildren(agents.length ? table(["姓名", "团队", "状态", "技能", "容量", "班次", "操作"], agents.map(row), "客服") : empty("还没有人登记为客服"));
  }

  attempt(load);
}
