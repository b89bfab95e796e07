// Search over tickets: in what was said, in notes, and in what was written on them.

import { address, get } from "./api.js";
import { button, empty, make, pill } from "./dom.js";
import { attempt } from "./notice.js";
import { PRIORITIES, clock, statusWord } from "./words.js";

const SPEAKERS = { user: "客户", bot: "智能客服", agent: "客服" };
const PLACES = { note: "备注", field: "分类、标签或字段" };

// A text with what was looked for marked in it, as far as it stands there letter by letter.
function marked(text, words) {
  const parts = text.toLowerCase().split(words.toLowerCase());
  let at = 0;
  return parts.flatMap((part, index) => {
    const before = text.slice(at, at + part.length);
    at += part.length;
    const found = text.slice(at, at + words.length);
    at += words.length;
    return index < parts.length - 1 ? [before, make("mark", {}, found)] : [before];
  });
}

function row({ ticket, place, role, snippet }, words) {
  return make("li", {}, make("a", { class: "card found", href: "#/ticket/" + ticket.ticket_id },
    make("span", { class: "row" },
      pill("priority-" + ticket.priority, PRIORITIES[ticket.priority] || ticket.priority),
      make("strong", {}, ticket.category || "未分类"),
      pill("status-" + ticket.status, statusWord(ticket)),
      make("span", { class: "quiet" }, [ticket.assignee, clock(ticket.created_at)].filter(Boolean).join(" · "))),
    make("span", {}, make("span", { class: "quiet" }, (SPEAKERS[role] || PLACES[place] || place) + "："), marked(snippet, words))));
}

// The field from which one comes here.
export function searchField(words = "") {
  const input = make("input", { type: "search", name: "search", required: true, minlength: 2, maxlength: 64, placeholder: "搜索工单", "aria-label": "搜索工单", value: words });
  return make("form", {
    class: "row search", role: "search",
    onsubmit: (event) => {
      event.preventDefault();
      location.hash = "#/search/" + encodeURIComponent(input.value.trim());
    },
  }, input, words ? button("搜索", null, { type: "submit", class: "main" }) : null);
}

export function showSearch(container, me, encoded = "") {
  let words = "";
  try { words = decodeURIComponent(encoded).trim(); } catch { /* somebody changed the address: as if nothing had been asked */ }
  const field = searchField(words);
  const list = make("ul", { class: "plain-list" });
  const more = button("载入更多", () => attempt(load), { hidden: true });
  let cursor = null;

  async function load() {
    const page = await get(address("/v1/tickets/search", { q: words, cursor }));
    list.append(...page.found.map((found) => row(found, words)));
    cursor = page.next_cursor;
    more.hidden = !cursor;
    if (!cursor && !list.childElementCount) list.append(empty("没有找到「" + words + "」"));
  }

  container.replaceChildren(make("div", { class: "sheet" }, make("h1", {}, "搜索工单"), field, list, more));
  if (words) attempt(load);
  else field.search.focus();
}
