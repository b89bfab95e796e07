// Reports: what the service counted, as tables and bars.

import { address, get } from "./api.js";
import { button, draw, empty, field, make, table } from "./dom.js";
import { attempt } from "./notice.js";
import { isoDay, span } from "./words.js";

// A chart in units of its own: height of a bar, where bars begin, and how wide all is.
const BAR = 22;
const LEFT = 130;
const WIDTH = 560;
// Bars that a chart has at most; the table below it has all rows.
const MOST = 31;

function valueText(name, value) {
  if (value === null || value === undefined) return "—";
  if (typeof value !== "number") return String(value);
  if (name.endsWith("_seconds")) return span(value);
  if (name.endsWith("_rate")) return (value * 100).toFixed(1) + "%";
  return Number.isInteger(value) ? value.toLocaleString("zh-CN") : value.toFixed(2);
}

function bars(rows, label, column) {
  const number = (row) => Number(row[column.name]) || 0;
  const shown = rows.slice(0, MOST);
  const most = Math.max(...shown.map(number)) || 1;
  const said = column.title + "：" + shown.map((row) => label(row) + " " + valueText(column.name, row[column.name])).join("，");
  return draw("svg", { class: "bars", viewBox: "0 0 " + WIDTH + " " + shown.length * BAR, role: "img", "aria-label": said },
    shown.map((row, index) => {
      const width = (number(row) / most) * (WIDTH - LEFT - 80);
      const middle = index * BAR + BAR / 2;
      return [
        draw("text", { x: LEFT - 8, y: middle, "text-anchor": "end" }, label(row).slice(0, 12)),
        draw("rect", { x: LEFT, y: index * BAR + 3, width, height: BAR - 6, rx: 3 }),
        draw("text", { x: LEFT + width + 6, y: middle }, valueText(column.name, row[column.name])),
      ];
    }));
}

const tiles = (columns, row) => make("div", { class: "tiles" }, columns.map(({ name, title }) =>
  make("div", { class: "tile" }, make("span", {}, title), make("strong", {}, valueText(name, row[name])))));

// A report: a single row stands in tiles, several under a chart of the first number in them.
function card({ title, group, columns, rows }) {
  const isNumber = ({ name }) => rows.some((row) => typeof row[name] === "number");
  const number = columns.find(isNumber);
  const first = columns.find((column) => column !== number && !isNumber(column)) || columns[0];
  const label = (row) => valueText(first.name, row[first.name]);
  const content = () => {
    if (!rows.length) return empty("这段时间没有数据");
    if (!group && rows.length === 1) return tiles(columns, rows[0]);
    return [
      number && number !== first ? make("figure", {}, make("figcaption", {}, number.title), bars(rows, label, number)) : null,
      table(columns.map((column) => column.title), rows.map((row) => columns.map(({ name }) => valueText(name, row[name]))), title),
    ];
  };
  const heading = group ? title + "（按" + columns[0].title + "）" : title;
  return make("section", { class: "card form" }, make("h2", {}, heading), content());
}

export function showReports(container) {
  const day = (back) => isoDay(new Date(Date.now() - back * 86400000));
  const from = make("input", { type: "date", name: "from", value: day(6), required: true });
  const to = make("input", { type: "date", name: "to", value: day(0), required: true });
  const output = make("div", { class: "report" });
  const load = () => attempt(async () => {
    // The service counts up to, and without, the day that it is given.
    const end = isoDay(new Date(new Date(to.value + "T12:00:00").getTime() + 86400000));
    const { reports } = await get(address("/v1/reports/summary", { from: from.value, to: end }));
    output.replaceChildren(...reports.map(card));
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
