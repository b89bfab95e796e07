// What helps with the next reply: suggested answers, what a guided flow asks next, the customer's mood, similar tickets, and a search in the knowledge.

import { get, post, ticketPath } from "./api.js";
import { button, draw, empty, make } from "./dom.js";
import { attempt } from "./notice.js";
import { clock, percent } from "./words.js";

const WIDTH = 280;
const HEIGHT = 64;

// A curve of how negative the customer was, message by message.
function moodCurve(points) {
  if (points.length < 2) return empty("消息太少，还看不出情绪变化");
  const x = (index) => 4 + (index * (WIDTH - 8)) / (points.length - 1);
  const y = (negative) => 4 + (1 - negative) * (HEIGHT - 8);
  const last = points.at(-1).negative;
  const change = last - points[0].negative;
  const words = "从 " + percent(points[0].negative) + " 到 " + percent(last) + (change > 0.1 ? "，情绪在变差" : change < -0.1 ? "，情绪在好转" : "，变化不大");
  return make("figure", {},
    draw("svg", { viewBox: "0 0 " + WIDTH + " " + HEIGHT, role: "img", "aria-label": "负面情绪" + words, class: "curve" },
      draw("line", { x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2 }),
      draw("polyline", { points: points.map((point, index) => x(index) + "," + y(point.negative)).join(" ") }),
      points.map((point, index) => draw("circle", { cx: x(index), cy: y(point.negative), r: 3 }))),
    make("figcaption", {}, "负面程度" + words));
}

// `insert` puts a suggestion into the reply box; `history` gives the turns so far. Somebody `outside` the house is not shown its
// knowledge and its other tickets.
export function assistPanel(ticketId, history, insert, outside) {
  const suggestions = make("ol", { class: "suggestions" });
  const step = make("section", { hidden: true, "data-assist": "step" });
  const mood = make("div");
  const similar = make("div");
  const found = make("ol", { class: "suggestions" });
  const query = make("input", { type: "search", name: "knowledge", placeholder: "在知识库里找答案", "aria-label": "在知识库里找答案", maxlength: 500 });
  const search = make("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      const text = query.value.trim();
      if (text) attempt(async () => list(found, await matches(text, 5), false));
    },
  }, query, button("搜索", null, { type: "submit" }));
  let shown = [];
  let asked = null;

  async function matches(text, limit) {
    const answer = await post("/v1/search", { text, limit });
    return answer.matches.map((match) => ({ knowledge_id: match.knowledge_id, question: match.question, text: match.answer, probability: match.probability }));
  }

  function list(node, items, numbered) {
    node.replaceChildren(...items.map((item, index) => make("li", { class: "suggestion" },
      make("div", { class: "row between" },
        make("strong", {}, item.question),
        make("span", { class: "quiet", title: "这条答案正确的概率" }, percent(item.probability))),
      make("p", {}, item.text),
      make("div", { class: "row between" },
        make("code", { class: "quiet" }, item.knowledge_id),
        button(numbered ? "采用 Alt+" + (index + 1) : "采用", () => insert(item), { class: "small", "aria-keyshortcuts": numbered ? "Alt+" + (index + 1) : null })))));
    if (!items.length) node.append(empty("没有找到合适的答案"));
  }

  // What the flow asks next that waited when a person took over, and what it knows already.
  function showStep(next) {
    step.hidden = !next;
    step.replaceChildren(...(next ? [
      make("h3", {}, "引导流程"),
      make("div", { class: "suggestion" },
        make("div", { class: "row between" }, make("strong", {}, "还需要：" + next.slot), make("code", { class: "quiet" }, next.flow)),
        make("p", {}, next.text),
        Object.keys(next.given).length ? make("p", { class: "quiet" }, "已知：" + Object.entries(next.given).map(([slot, value]) => slot + " " + value).join("，")) : null,
        make("div", { class: "row between" }, make("span"), button("采用", () => insert({ text: next.text }), { class: "small" }))),
    ] : []));
  }

  async function refresh() {
    // There is something new to suggest when the customer has said something new.
    const last = history().findLast((turn) => turn.role === "user")?.seq ?? 0;
    if (last === asked) return;
    asked = last;
    let answer;
    try {
      answer = await get(ticketPath(ticketId, "assist"));
    } catch (failure) {
      asked = null;
      throw failure;
    }
    shown = answer.suggestions.slice(0, 3);
    list(suggestions, shown, true);
    showStep(answer.next_step);
    mood.replaceChildren(moodCurve(answer.mood));
    const others = answer.similar;
    similar.replaceChildren(others.length ? make("ul", { class: "plain-list" }, others.map((other) => make("li", {},
      make("a", { href: "#/ticket/" + other.ticket_id }, other.category || "未分类"),
      make("span", { class: "quiet" }, " " + (other.resolved_at ? clock(other.resolved_at) : "")),
      make("p", {}, other.note || "没有留下处理说明")))) : empty("没有相似的已解决工单"));
  }

  const node = make("div", {},
    step,
    make("section", {}, make("h3", {}, "建议回复"), suggestions),
    outside ? null : make("section", {}, make("h3", {}, "查知识"), search, found),
    make("section", {}, make("h3", {}, "情绪变化"), mood),
    outside ? null : make("section", {}, make("h3", {}, "相似工单"), similar));
  return { node, refresh, pick: (index) => shown[index] && insert(shown[index]) };
}
