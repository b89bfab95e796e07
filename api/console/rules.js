// Routing and targets, as supervisors change them. What they do not see here stays in the configuration file.

import { call, get } from "./api.js";
import { button, choice, field, make, pill } from "./dom.js";
import { attempt, say } from "./notice.js";
import { PRIORITIES, clock } from "./words.js";

const LEVELS = ["urgent", "high", "medium", "low"];
const CLOCKS = [["working", "工作时间"], ["around_the_clock", "全天"]];
const ROUTING = [
  ["accept_seconds", "接受时限（秒）"],
  ["skill_weight", "技能的分量"],
  ["last_agent_weight", "上次接待的分量"],
  ["load_weight", "空闲的分量"],
  ["skill_head_start_seconds", "技能对口可提前（秒）"],
  ["vip_reserved_units", "为 VIP 预留的负荷"],
  ["vip_target_seconds", "VIP 目标（秒）"],
  ["vip_overflow_seconds", "VIP 多久后可到其他团队（秒）"],
];

export function showRules(container) {
  const page = make("div", { class: "sheet" }, make("h1", {}, "分配与时限"));
  container.replaceChildren(page);

  const number = (value, properties = {}) => make("input", { type: "number", min: 0, step: "any", required: true, value: String(value), ...properties });

  function arrange(known) {
    const { tuning } = known;
    const route = make("input", { type: "checkbox" });
    route.checked = tuning.route;
    const routing = Object.fromEntries(ROUTING.map(([name]) => [name, number(tuning.routing[name])]));
    const warn = number(Math.round(tuning.service_levels.warn_at * 100), { min: 1, max: 100, step: 1 });
    const levels = Object.fromEntries(LEVELS.map((level) => {
      const target = tuning.service_levels[level];
      return [level, {
        first: number(target.first_response_minutes, { min: 1, step: 1, "aria-label": PRIORITIES[level] + "：首次响应分钟" }),
        resolution: number(target.resolution_minutes, { min: 1, step: 1, "aria-label": PRIORITIES[level] + "：解决分钟" }),
        clock: choice(CLOCKS, target.clock, { "aria-label": PRIORITIES[level] + "：计时" }),
        head: number(tuning.routing.head_start_seconds[level], { step: 1, "aria-label": PRIORITIES[level] + "：提前秒数" }),
        units: number(tuning.routing.load_units[level], { min: 1, step: 1, "aria-label": PRIORITIES[level] + "：负荷" }),
      }];
    }));
    const note = make("input", { name: "note", maxlength: 500, placeholder: "为什么改" });

    const written = () => {
      const changed = structuredClone(tuning);
      changed.route = route.checked;
      for (const [name, input] of Object.entries(routing)) changed.routing[name] = Number(input.value);
      changed.service_levels.warn_at = Number(warn.value) / 100;
      for (const level of LEVELS) {
        const { first, resolution, clock: counted, head, units } = levels[level];
        changed.service_levels[level] = { first_response_minutes: Number(first.value), resolution_minutes: Number(resolution.value), clock: counted.value };
        changed.routing.head_start_seconds[level] = Number(head.value);
        changed.routing.load_units[level] = Number(units.value);
      }
      return changed;
    };

    const save = (changed, done) => attempt(async () => {
      const body = { version: known.version, note: note.value.trim() };
      if (changed) body.tuning = changed;
      const fresh = await call("PUT", "/v1/desk/settings", body);
      say(done);
      arrange(fresh);
    });

    const cells = (level) => {
      const { first, resolution, clock: counted, head, units } = levels[level];
      return make("tr", {}, [pill("priority-" + level, PRIORITIES[level]), first, resolution, counted, head, units].map((cell) => make("td", {}, cell)));
    };
    page.replaceChildren(
      make("h1", {}, "分配与时限"),
      make("p", { class: "quiet" }, known.source === "file" ? "现在使用配置文件中的设置。保存后一秒内在所有副本上生效。"
        : known.author + " 于 " + clock(known.changed_at) + " 改过" + (known.note ? "：" + known.note : "") + "。"),
      make("form", {
        class: "card form wide",
        onsubmit: (event) => {
          event.preventDefault();
          save(written(), "已保存，一秒内生效");
        },
      },
      make("label", { class: "tick" }, route, "自动把等待的工单分配给在线的客服"),
      make("div", { class: "table", tabindex: "0", role: "region", "aria-label": "各优先级" }, make("table", {},
        make("thead", {}, make("tr", {}, ["优先级", "首次响应（分钟）", "解决（分钟）", "计时", "排队可提前（秒）", "负荷"].map((head) => make("th", { scope: "col" }, head)))),
        make("tbody", {}, LEVELS.map(cells)))),
      make("div", { class: "fields" }, field("用去多少时限后提醒（%）", warn), ROUTING.map(([name, label]) => field(label, routing[name]))),
      field("说明", note),
      make("div", { class: "row" },
        button("保存", null, { type: "submit", class: "main" }),
        known.source === "console" ? button("恢复配置文件中的设置", () => save(null, "已恢复配置文件中的设置")) : null),
      make("p", { class: "quiet" }, "团队、班次日历在配置文件的 [desk] 里" + (known.teams.length ? "：团队 " + known.teams.join("、") : "") + (known.calendars.length ? "；日历 " + known.calendars.join("、") : "") + "。")));
  }

  attempt(async () => arrange(await get("/v1/desk/settings")));
}
