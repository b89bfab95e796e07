// Reports: whatever rows the service counts, as tables and bars.

import { address, get } from "./api.js";
import { button, draw, empty, field, make, table } from "./dom.js";
import { attempt } from "./notice.js";
import { isoDay } from "./words.js";

const NAMES = {
  day: "日期", hour: "小时", category: "分类", team: "团队", agent: "客服", channel: "渠道", priority: "优先级", name: "名称", key: "名称",
  opened: "开出", resolved: "解决", closed: "关闭", reopened: "重新打开", merged: "合并", tickets: "工单", sessions: "会话", messages: "消息",
  first_response: "首次响应", resolution: "解决用时", mean: "平均", count: "数量", score: "评分", csat: "满意度", rating: "评价", ratings: "评价数",
  by_day: "按天", by_category: "按分类", by_team: "按团队", by_agent: "按客服", by_channel: "按渠道", by_priority: "按优先级", total: "合计",
  decisions: "智能客服的决定", reasons: "转人工原因", bot_resolution_rate: "智能客服解决率", reopen_rate: "重开率", from: "从", to: "到",
};

const nameOf = (key) => NAMES[key] || key.replaceAll("_", " ");
const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isRows = (value) => Array.isArray(value) && value.length > 0 && value.every(isRecord);

// A record without records inside: `a: { b: 1 }` becomes `a.b: 1`.
function flat(record, before = []) {
  return Object.entries(record).flatMap(([key, value]) =>
    isRecord(value) ? flat(value, [...before, key]) : Array.isArray(value) ? [] : [[[...before, key], value]]);
}

function valueText(path, value) {
  if (value === null || value === undefined) return "—";
  if (typeof value !== "number") return String(value);
  if (/(rate|share)$/.test(path.at(-1))) return (value * 100).toFixed(1) + "%";
  return Number.isInteger(value) ? value.toLocaleString("zh-CN") : value.toFixed(2);
}

const label = (path) => path.map(nameOf).join(" · ");

const BAR = 22;
const LEFT = 120;
const WIDTH = 560;

function bars(rows, name, number) {
  const shown = rows.slice(0, 31);
  const most = Math.max(...shown.map(number), 0) || 1;
  const said = shown.map((row) => name(row) + " " + number(row)).join("，");
  return draw("svg", { class: "bars", viewBox: "0 0 " + WIDTH + " " + shown.length * BAR, role: "img", "aria-label": said },
    shown.flatMap((row, index) => {
      const width = Math.max(1, (number(row) / most) * (WIDTH - LEFT - 60));
      const middle = index * BAR + BAR / 2;
      return [
        draw("text", { x: LEFT - 8, y: middle, "text-anchor": "end" }, name(row).slice(0, 12)),
        draw("rect", { x: LEFT, y: index * BAR + 3, width, height: BAR - 6, rx: 3 }),
        draw("text", { x: LEFT + width + 6, y: middle }, number(row).toLocaleString("zh-CN")),
      ];
    }));
}

function rowsCard(key, rows) {
  const flatRows = rows.map((row) => new Map(flat(row).map(([path, value]) => [path.join("."), { path, value }])));
  const columns = [...new Map(flatRows.flatMap((row) => [...row].map(([id, { path }]) => [id, path])))];
  const numeric = columns.find(([id]) => flatRows.some((row) => typeof row.get(id)?.value === "number") && id !== "hour");
  const first = columns.find(([id]) => id !== numeric?.[0]);
  const text = (row, [id, path]) => valueText(path, row.get(id)?.value);
  return make("section", { class: "card" },
    make("h2", {}, nameOf(key)),
    numeric && first ? make("figure", {}, make("figcaption", {}, label(numeric[1])), bars(flatRows, (row) => text(row, first), (row) => Number(row.get(numeric[0])?.value) || 0)) : null,
    table(columns.map(([, path]) => label(path)), flatRows.map((row) => columns.map((column) => text(row, column))), nameOf(key)));
}

function render(report) {
  const numbers = flat(report).filter(([, value]) => typeof value === "number");
  const tables = Object.entries(report).flatMap(([key, value]) =>
    isRows(value) ? [[key, value]] : isRecord(value) ? Object.entries(value).filter(([, inner]) => isRows(inner)) : []);
  if (!numbers.length && !tables.length) return [empty("这段时间没有数据")];
  return [
    numbers.length ? make("div", { class: "tiles" }, numbers.map(([path, value]) => make("div", { class: "tile" }, make("span", {}, label(path)), make("strong", {}, valueText(path, value))))) : null,
    ...tables.map(([key, rows]) => rowsCard(key, rows)),
  ].filter(Boolean);
}

export function showReports(container) {
  const day = (back) => isoDay(new Date(Date.now() - back * 86400000));
  const from = make("input", { type: "date", name: "from", value: day(6), required: true });
  const to = make("input", { type: "date", name: "to", value: day(0), required: true });
  const output = make("div", { class: "report" });
  const load = () => attempt(async () => {
    // The service counts up to, and without, the day that it is given.
    const end = isoDay(new Date(new Date(to.value + "T12:00:00").getTime() + 86400000));
    try {
      output.replaceChildren(...render(await get(address("/v1/reports/summary", { from: from.value, to: end }))));
    } catch (failure) {
      if (!failure.isMissingRoute) throw failure;
      output.replaceChildren(empty("此版本的服务没有报表。"));
    }
  });
  const form = make("form", {
    class: "row tools",
    onsubmit: (event) => {
      event.preventDefault();
      load();
    },
  }, field("从", from), field("到", to), button("查看", null, { type: "submit", class: "main" }));
  container.replaceChildren(make("div", { class: "sheet" }, make("h1", {}, "报表"), form, output));
  load();
}
