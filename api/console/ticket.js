// One ticket: what was said, what to say next, and what is known.

import { address, get, newId, post, ticketPath } from "./api.js";
import { actionButtons, isOffered, mayReply, whySilent } from "./actions.js";
import { assistPanel } from "./assist.js";
import { files, sender } from "./attachments.js";
import { detailsPanel } from "./details.js";
import { button, empty, make, pill } from "./dom.js";
import { follow, isLive, leave, listenLive, markSeen, typing } from "./live.js";
import { attempt } from "./notice.js";
import { poll } from "./poll.js";
import { timeline } from "./timeline.js";
import { DECISIONS, PRIORITIES, clock, moodText, percent, reasonText, shortId, statusWord, waiting } from "./words.js";

// Turns before the ticket's own that are shown at first, and that are added at a time.
const EARLIER = 40;
// Every so many looks at the session the ticket itself is looked at too: colleagues may change it.
const LOOKS = 5;
// Milliseconds between looks: with a socket that tells what is new, and without.
const PAUSE = { live: 15000, alone: 2000 };

// What was written and not sent, by ticket, as long as the page lives.
const drafts = new Map();

const PANELS = [["talk", "对话"], ["assist", "助手"], ["details", "资料"], ["timeline", "时间线"]];

// The link to a survey is the customer's: whoever helped does not answer it.
const LINK = /(https?:\/\/[^\s/]+)?\/survey\/\S+/;

function turnNode(turn, mine) {
  const name = { user: "客户", bot: "智能客服", agent: turn.author || "客服" }[turn.role] || turn.role;
  const told = [];
  if (turn.role === "user") {
    if (turn.intent) told.push(pill("intent", turn.intent.label + " " + percent(turn.intent.probability), "意图"));
    if (turn.sentiment) told.push(pill("mood-" + turn.sentiment.label, moodText(turn.sentiment), "情绪"));
  } else if (turn.role === "bot" && turn.decision) {
    told.push(pill("decision", (DECISIONS[turn.decision] || turn.decision) + (turn.reason ? "：" + reasonText(turn.reason, "") : ""), "智能客服的决定"));
  }
  return make("div", { class: "turn " + turn.role + (turn.role === "agent" && turn.author === mine ? " mine" : ""), "data-seq": turn.seq },
    make("div", { class: "by" }, make("span", {}, name), make("time", { datetime: turn.created_at }, clock(turn.created_at))),
    turn.text ? make("div", { class: "bubble" }, turn.decision === "survey" ? turn.text.replace(LINK, "（评价链接）") : turn.text) : null,
    files(turn.attachments),
    told.length ? make("div", { class: "told" }, told) : null);
}

export function showTicket(container, id, me, queueChanged) {
  let ticket = null;
  let session = null;
  let turns = [];
  let looks = 0;
  let suggestion = null;
  // The id of the reply that is being sent, and its words: sent again after a failure, it is stored once.
  let sending = null;
  let customer = null;
  let isStopped = false;

  // The page.

  const title = make("h1", {}, "工单 " + shortId(id));
  const state = make("div", { class: "state" });
  const actions = make("div", { class: "actions", role: "group", "aria-label": "可以做的操作" });
  const earlier = button("更早的对话", () => attempt(loadEarlier), { class: "small earlier", hidden: true });
  const log = make("div", { class: "turns", role: "log", "aria-live": "polite", "aria-label": "对话", tabindex: "0" }, earlier);
  const text = make("textarea", {
    name: "reply", rows: 3, maxlength: 20000, "aria-label": "回复客户", placeholder: "回复客户…", value: drafts.get(id) || "",
    oninput: () => {
      drafts.set(id, text.value);
      if (session) typing(session.session_id);
    },
    onkeydown: (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      reply.requestSubmit();
    },
  });
  const send = button("发送", null, { type: "submit", class: "main", "aria-keyshortcuts": "Control+Enter" });
  const source = make("span", { class: "quiet" });
  const silent = make("p", { class: "quiet silent" });
  const presence = make("p", { class: "quiet presence", "aria-live": "polite" });
  const reply = make("form", {
    class: "reply", hidden: true,
    onsubmit: (event) => {
      event.preventDefault();
      submit();
    },
  }, text, make("div", { class: "row between" }, source, send));
  reply.lastChild.prepend(make("div", { class: "row" }, sender(id, reply, changed)));
  const assist = assistPanel(id, () => turns, insert, me.organisation);
  const details = make("div");
  const events = make("div");
  const bodies = {
    assist: make("div", { id: "panel-assist", class: "panel", role: "tabpanel" }, assist.node),
    details: make("div", { id: "panel-details", class: "panel", role: "tabpanel" }, details),
    timeline: make("div", { id: "panel-timeline", class: "panel", role: "tabpanel" }, events),
  };
  const panelTabs = make("div", { class: "tabs", role: "tablist", "aria-label": "工单的各部分" }, PANELS.map(([name, label]) =>
    button(label, () => choose(name), { role: "tab", "data-panel": name, "aria-controls": bodies[name] && bodies[name].id })));
  const whole = make("article", { class: "ticket-page" },
    make("header", { class: "ticket-head" },
      make("div", { class: "row between" },
        make("div", { class: "row" }, make("a", { class: "back", href: "#/queue/mine", "aria-label": "回到队列" }, "‹ 队列"), title),
        actions),
      state),
    panelTabs,
    make("div", { class: "talk" }, log, presence, silent, reply),
    Object.values(bodies));
  container.replaceChildren(whole);

  function choose(name) {
    whole.dataset.panel = name;
    for (const tab of panelTabs.children) tab.setAttribute("aria-selected", String(tab.dataset.panel === name));
  }
  choose(matchMedia("(min-width: 1100px)").matches ? "assist" : "talk");

  // What is known.

  // Whoever reads the end goes on reading the end; whoever has scrolled up is not moved.
  let atEnd = true;
  let height = 0;
  const stayAtEnd = () => {
    if (atEnd) log.scrollTop = log.scrollHeight;
  };
  log.addEventListener("scroll", () => {
    // Where the box itself has become smaller, nobody has scrolled.
    if (log.clientHeight === height) atEnd = log.scrollHeight - log.scrollTop - height < 80;
  });
  const resized = new ResizeObserver(() => {
    height = log.clientHeight;
    stayAtEnd();
  });
  resized.observe(log);

  function add(more) {
    const fresh = more.filter((turn) => !turns.length || turn.seq > turns.at(-1).seq);
    if (!fresh.length) return;
    turns = turns.concat(fresh);
    log.append(...fresh.map((turn) => turnNode(turn, me.name)));
    stayAtEnd();
  }

  const sessionPath = (query) => address("/v1/sessions/" + encodeURIComponent(ticket.session_id), query);

  async function catchUp() {
    if (me.organisation) {
      // What somebody from outside may read comes with the ticket; the session itself is not theirs.
      const seen = session ? await get(ticketPath(id)) : ticket;
      if (isStopped) return;
      session = { last_seq: seen.turns.at(-1)?.seq ?? 0, turns: seen.turns };
      add(seen.turns);
      return;
    }
    do {
      session = await get(sessionPath({ after: turns.length ? turns.at(-1).seq : Math.max(0, (ticket.turns[0]?.seq ?? 1) - 1 - EARLIER) }));
      if (isStopped) return;
      add(session.turns);
      if (turns.length) markSeen(session.session_id, turns.at(-1).seq);
      // A session of many turns comes in pages.
    } while (session.turns.length && turns.at(-1).seq < session.last_seq);
    earlier.hidden = !turns.length || turns[0].seq <= 1;
  }

  async function loadEarlier() {
    const first = turns[0].seq;
    const page = await get(sessionPath({ after: Math.max(0, first - 1 - EARLIER), limit: EARLIER }));
    const older = page.turns.filter((turn) => turn.seq < first);
    const height = log.scrollHeight;
    turns = older.concat(turns);
    earlier.after(...older.map((turn) => turnNode(turn, me.name)));
    log.scrollTop += log.scrollHeight - height;
    earlier.hidden = turns[0].seq <= 1;
  }

  function describe() {
    const mood = turns.findLast((turn) => turn.role === "user" && turn.sentiment)?.sentiment || ticket.sentiment;
    title.textContent = ticket.category || ticket.intent?.label || "工单 " + shortId(id);
    state.replaceChildren(
      pill("priority-" + ticket.priority, PRIORITIES[ticket.priority] || ticket.priority, "优先级"),
      pill("status-" + ticket.status, statusWord(ticket), "状态"),
      mood ? pill("mood-" + mood.label, moodText(mood), "客户最近的情绪") : "",
      ...ticket.tags.map((tag) => pill("tag", tag, "标签")),
      make("span", { class: "quiet" }, [
        "#" + shortId(id),
        session?.user_id && "客户 " + session.user_id,
        ticket.team && "团队 " + ticket.team,
        ticket.assignee && (isOffered(ticket, me) ? "分配给 " : "负责人 ") + ticket.assignee,
        waiting(ticket),
      ].filter(Boolean).join(" · ")));
  }

  // Shows what the ticket is; what somebody is just writing in is left alone.
  function arrange() {
    const focused = document.activeElement?.dataset?.action;
    actions.replaceChildren(...actionButtons(ticket, me, changed));
    if (focused) actions.querySelector("[data-action=" + focused + "]")?.focus();
    reply.hidden = !mayReply(ticket, me);
    silent.textContent = whySilent(ticket, me);
    silent.hidden = !silent.textContent;
    describe();
    events.replaceChildren(timeline(ticket.events));
    if (!details.contains(document.activeElement)) {
      const intents = turns.map((turn) => turn.intent?.label);
      const categories = [...new Set([...intents, ticket.category].filter(Boolean))].sort();
      details.replaceChildren(detailsPanel(ticket, session, categories, changed, me));
    }
  }

  async function loadTicket() {
    const fresh = await get(ticketPath(id));
    if (isStopped) return;
    const isSame = session && ticket.updated_at === fresh.updated_at && ticket.events.length === fresh.events.length;
    ticket = fresh;
    if (!session) {
      await catchUp();
      // From the first turn that is not read yet; who is there is told at once.
      if (!isStopped) follow(session.session_id, session.last_seq);
    }
    if (!isStopped && !isSame) arrange();
  }

  async function changed() {
    await loadTicket();
    await catchUp();
    queueChanged();
  }

  async function look() {
    try {
      if (!session) await loadTicket();
      else {
        const before = session.last_seq;
        await catchUp();
        looks += 1;
        const known = session.ticket?.ticket_id === id ? session.ticket : null;
        const moved = known && (known.status !== ticket.status || known.assignee !== ticket.assignee);
        if (moved || session.last_seq !== before || isLive() || looks % LOOKS === 0) await loadTicket();
        else describe();
      }
    } catch (failure) {
      if (failure.code !== "ticket_not_found") throw failure;
      looker.stop();
      container.replaceChildren(empty("没有这张工单，它可能已被删除。"));
      return;
    }
    if (!isStopped) await assist.refresh();
  }

  const hush = listenLive((frame) => {
    if (!session || frame.session_id !== session.session_id) return;
    if (frame.type === "turn" || frame.type === "session") looker.now();
    if (frame.type === "standing") {
      customer = frame.customer;
      showPresence();
    }
  });

  // Whether the customer is there, is typing, and has read what was answered last.
  function showPresence() {
    const last = turns.findLast((turn) => turn.role === "agent");
    const hasRead = last && customer.read_seq >= last.seq;
    const hasIt = last && customer.received_seq >= last.seq;
    presence.textContent = [
      customer.typing ? "客户正在输入…" : customer.present ? "客户在线" : "客户不在线",
      last && (hasRead ? "回复已读" : hasIt ? "回复已送达" : "回复未送达"),
    ].filter(Boolean).join(" · ");
  }

  // What is said next.

  function insert(item) {
    if (!mayReply(ticket, me)) return;
    text.value = text.value.trim() ? text.value.trimEnd() + "\n" + item.text : item.text;
    drafts.set(id, text.value);
    if (item.knowledge_id) {
      suggestion = item;
      source.textContent = "来自知识 " + item.knowledge_id;
    }
    if (whole.dataset.panel !== "talk" && !matchMedia("(min-width: 1100px)").matches) choose("talk");
    text.focus();
  }

  async function submit() {
    const said = text.value.trim();
    if (!said || send.disabled) return;
    if (sending?.text !== said) sending = { text: said, message_id: newId() };
    const body = { ...sending };
    if (suggestion) body.suggestion = { knowledge_id: suggestion.knowledge_id, edited: said !== suggestion.text.trim() };
    send.disabled = true;
    await attempt(async () => {
      await post(ticketPath(id, "reply"), body);
      // What was typed while it was on its way stays.
      const typed = text.value.trimStart();
      text.value = typed.startsWith(said) ? typed.slice(said.length).trimStart() : typed;
      sending = null;
      if (text.value) drafts.set(id, text.value);
      else drafts.delete(id);
      suggestion = null;
      source.textContent = "";
      atEnd = true;
      await changed();
    });
    send.disabled = false;
    text.focus();
  }

  const pickByKey = (event) => {
    const number = /^(?:Digit|Numpad)([1-3])$/.exec(event.code);
    if (!event.altKey || !number || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    assist.pick(Number(number[1]) - 1);
  };
  document.addEventListener("keydown", pickByKey);

  const looker = poll(() => (isLive() ? PAUSE.live : PAUSE.alone), look);
  return {
    write: () => {
      if (!matchMedia("(min-width: 1100px)").matches) choose("talk");
      text.focus();
    },
    press: (name) => actions.querySelector("[data-action=" + name + "]")?.click(),
    stop() {
      isStopped = true;
      looker.stop();
      hush();
      if (session) leave(session.session_id);
      resized.disconnect();
      document.removeEventListener("keydown", pickByKey);
    },
  };
}
