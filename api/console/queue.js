// The queue: which tickets there are, and where one stands in it. However many there are, only the rows that are seen exist.

import { address, get } from "./api.js";
import { button, choice, empty, make, pill } from "./dom.js";
import { complain } from "./notice.js";
import { poll } from "./poll.js";
import { searchField } from "./search.js";
import { PRIORITIES, STATUSES, languageName, moodText, reasonText, shortId, statusWord, waiting } from "./words.js";

// Tickets that are asked for at once.
const WINDOW = 100;
// Tickets that are loaded without scrolling, so that the most urgent of them stand first.
const EAGER = 500;
// Height of a row in pixels; console.css says the same.
const ROW = 76;
// Rows kept above and below what is seen.
const MARGIN = 6;

const RANK = { urgent: 0, high: 1, medium: 2, low: 3 };

export const TABS = [
  ["mine", "我的", (me) => ({ status: "open", assignee: me.name })],
  ["waiting", "待领取", () => ({ status: "new" })],
  ["open", "全部未结束", () => ({ status: "open" })],
  ["done", "已结束", () => ({ status: "resolved,closed,merged" })],
];

const urgentFirst = (a, b) =>
  (RANK[a.priority] ?? 4) - (RANK[b.priority] ?? 4) || (a.ticket_id < b.ticket_id ? -1 : 1);
const newestFirst = (a, b) => (a.ticket_id > b.ticket_id ? -1 : 1);

export function startQueue(container, me, open) {
  const filters = { priority: "", category: "", team: "", user_id: "" };
  let tab = TABS[0];
  let order = "urgent";
  // Tickets by id, and whether older ones are left to load.
  let loaded = new Map();
  let sorted = [];
  let more = true;
  let loading = false;
  let round = 0;
  let turn = 0;
  let current = null;

  // The page.

  const tabs = make("div", { class: "tabs", role: "tablist", "aria-label": "队列" }, TABS.map(([name, label]) =>
    make("a", { role: "tab", href: "#/queue/" + name, "data-tab": name }, label)));
  const filterOf = (name, label) => make("input", {
    type: "search", placeholder: label, "aria-label": "按" + label + "筛选", maxlength: 128, list: name === "user_id" ? null : "known-" + name,
    onchange: (event) => {
      filters[name] = event.target.value.trim();
      start();
    },
  });
  const lists = { category: make("datalist", { id: "known-category" }), team: make("datalist", { id: "known-team" }) };
  const filterBar = make("div", { class: "filters" },
    choice([["", "全部优先级"], ...Object.entries(PRIORITIES)], "", {
      "aria-label": "按优先级筛选",
      onchange: (event) => {
        filters.priority = event.target.value;
        start();
      },
    }),
    choice([["urgent", "紧急优先"], ["newest", "最新在前"]], order, {
      "aria-label": "排序",
      onchange: (event) => {
        order = event.target.value;
        arrange();
      },
    }),
    filterOf("category", "分类"), filterOf("team", "团队"), me.organisation ? null : filterOf("user_id", "客户编号"), Object.values(lists));
  const count = make("p", { class: "count", "aria-live": "polite" });
  const toggle = button("筛选", () => {
    const shown = container.classList.toggle("filtering");
    toggle.setAttribute("aria-expanded", String(shown));
    if (shown) filterBar.querySelector("select").focus();
  }, { "aria-expanded": "false", class: "small" });
  const rows = make("div", { class: "rows", role: "list" });
  const nothing = empty("");
  const list = make("div", { class: "list", tabindex: "-1" }, rows, nothing);
  container.replaceChildren(tabs, make("div", { class: "row between tools" }, count, searchField(), toggle), filterBar, list);
  list.addEventListener("scroll", () => render());
  new ResizeObserver(() => render()).observe(list);

  // What is known.

  async function load(cursor) {
    const mine = round;
    const page = await get(address("/v1/tickets", { ...tab[2](me), ...filters, limit: WINDOW, cursor }));
    if (mine !== round) return null;
    const last = page.tickets.at(-1)?.ticket_id ?? "";
    // Whatever lies in this window and is not in the answer is no longer in this queue.
    for (const id of loaded.keys()) {
      if ((!cursor || id < cursor) && (!page.next_cursor || id >= last)) loaded.delete(id);
    }
    for (const ticket of page.tickets) loaded.set(ticket.ticket_id, ticket);
    return page;
  }

  const oldest = () => [...loaded.keys()].reduce((last, id) => (id < last ? id : last), "~");

  // Loads what is older than all that is known.
  async function loadMore() {
    if (!more || loading) return;
    loading = true;
    const mine = round;
    try {
      const page = await load(loaded.size ? oldest() : null);
      if (page) more = Boolean(page.next_cursor);
    } finally {
      if (mine === round) loading = false;
    }
    if (mine === round) arrange();
  }

  // Looks again at the newest tickets and, one window each time, at the older ones.
  async function refresh() {
    if (container.hidden || container.offsetParent === null) return;
    if (!loaded.size) {
      more = true;
      await loadMore();
    } else {
      const page = await load(null);
      if (!page) return;
      if (!page.next_cursor) more = false;
      const windows = Math.ceil(loaded.size / WINDOW);
      if (windows > 1) {
        turn = (turn % (windows - 1)) + 1;
        const ids = [...loaded.keys()].sort().reverse();
        const answer = await load(ids[Math.min(turn * WINDOW, ids.length) - 1]);
        if (answer && !answer.next_cursor) more = false;
      }
    }
    while (more && loaded.size < EAGER && !loading) await loadMore();
    arrange();
  }

  function start() {
    round += 1;
    loaded = new Map();
    more = true;
    loading = false;
    turn = 0;
    list.scrollTop = 0;
    arrange();
    queue.now();
  }

  function arrange() {
    sorted = [...loaded.values()].sort(order === "urgent" && tab[0] !== "done" ? urgentFirst : newestFirst);
    for (const [name, node] of Object.entries(lists)) {
      const known = [...new Set(sorted.map((ticket) => ticket[name]).filter(Boolean))].sort();
      node.replaceChildren(...known.map((value) => make("option", { value })));
    }
    const filtered = Object.values(filters).some(Boolean);
    toggle.classList.toggle("chosen", filtered);
    count.textContent = sorted.length + (more ? "+" : "") + " 张工单" + (filtered ? "（已筛选）" : "");
    nothing.hidden = sorted.length > 0;
    nothing.textContent = loading ? "正在载入…" : filtered ? "没有符合筛选条件的工单" : { mine: "您手上没有工单，可到「待领取」看看", waiting: "没有等待领取的工单", open: "没有未结束的工单", done: "还没有结束的工单" }[tab[0]];
    render();
  }

  // What is seen.

  const shown = new Map();

  function describe(ticket) {
    const mood = moodText(ticket.sentiment);
    const title = ticket.category || (ticket.intent && ticket.intent.label) || reasonText(ticket.reason, "");
    const holder = ticket.assignee ? ticket.assignee : ticket.team || "";
    return [
      make("span", { class: "line" },
        pill("priority-" + ticket.priority, PRIORITIES[ticket.priority] || ticket.priority, "优先级"),
        make("strong", {}, title),
        make("span", { class: "since" }, waiting(ticket))),
      make("span", { class: "line" },
        tab[0] === "waiting" ? null : pill("status-" + ticket.status, statusWord(ticket)),
        mood ? pill("mood-" + ticket.sentiment.label, mood, "客户情绪") : null,
        ticket.language && ticket.language !== "zh" ? pill("language", languageName(ticket.language), "客户语言") : null,
        make("span", { class: "why" }, reasonText(ticket.reason, ticket.detail)),
        holder ? make("span", { class: "holder" }, holder) : null),
    ];
  }

  function render() {
    rows.style.height = sorted.length * ROW + "px";
    const height = list.clientHeight || 600;
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - MARGIN);
    const last = Math.min(sorted.length, Math.ceil((list.scrollTop + height) / ROW) + MARGIN);
    const wanted = new Set();
    for (let index = first; index < last; index += 1) {
      const ticket = sorted[index];
      wanted.add(ticket.ticket_id);
      let row = shown.get(ticket.ticket_id);
      if (!row) {
        row = make("a", { class: "ticket", role: "listitem", href: "#/ticket/" + ticket.ticket_id, "data-id": ticket.ticket_id });
        row.addEventListener("focus", () => { current = ticket.ticket_id; });
        shown.set(ticket.ticket_id, row);
        rows.append(row);
      }
      // A row that did not change keeps its nodes, so that a screen reader is not told of it again.
      const state = tab[0] + waiting(ticket) + JSON.stringify(ticket);
      if (row.state !== state) {
        row.state = state;
        row.replaceChildren(...describe(ticket));
        row.setAttribute("aria-label", [PRIORITIES[ticket.priority], ticket.category || "", STATUSES[ticket.status], moodText(ticket.sentiment) || "", waiting(ticket), "工单 " + shortId(ticket.ticket_id)].join("，"));
      }
      row.style.transform = "translateY(" + index * ROW + "px)";
      row.setAttribute("aria-posinset", String(index + 1));
      row.setAttribute("aria-setsize", String(more ? -1 : sorted.length));
      if (location.hash === "#/ticket/" + ticket.ticket_id) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    for (const [id, row] of shown) {
      if (wanted.has(id)) continue;
      row.remove();
      shown.delete(id);
    }
    if (more && !loading && loaded.size && last + WINDOW / 2 > sorted.length) loadMore().catch(complain);
  }

  // Moves through the queue by the keyboard.
  function step(by) {
    if (!sorted.length) return;
    const at = sorted.findIndex((ticket) => ticket.ticket_id === current);
    const index = at < 0 ? 0 : Math.min(sorted.length - 1, Math.max(0, at + by));
    current = sorted[index].ticket_id;
    const top = index * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    render();
    shown.get(current)?.focus({ preventScroll: true });
  }

  const queue = poll(5000, refresh);

  return {
    refresh: queue.now,
    mark: render,
    step,
    openCurrent: () => current && open(current),
    show(name) {
      const chosen = TABS.find(([known]) => known === name) || TABS[0];
      for (const link of tabs.children) link.setAttribute("aria-selected", String(link.dataset.tab === chosen[0]));
      const changed = chosen !== tab;
      tab = chosen;
      if (changed) start();
      else queue.now();
    },
    get tab() {
      return tab[0];
    },
  };
}
