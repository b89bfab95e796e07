// What asks for attention: messages on the page, the title of the tab, and a sound.

import { Failure, address, get } from "./api.js";
import { button, make } from "./dom.js";
import { poll } from "./poll.js";
import { settings } from "./settings.js";
import { PRIORITIES, reasonText } from "./words.js";

const SHOWN = 6000;
const TITLE = "应答 · 客服台";

const area = document.getElementById("notices");

// Shows a sentence for a while; an alarm stays until it is put away.
export function say(text, kind = "done", hint = "") {
  for (const known of area.children) if (known.dataset.text === text) known.remove();
  const notice = make("div", { class: "notice " + kind, "data-text": text, role: kind === "alarm" ? "alert" : null },
    make("div", {}, make("strong", {}, text), hint ? make("span", {}, hint) : null),
    button("✕", () => notice.remove(), { class: "plain", "aria-label": "关闭提示" }));
  area.append(notice);
  if (kind !== "alarm") setTimeout(() => notice.remove(), SHOWN);
}

// Shows a failure as the service tells it. That the connection is lost has a place of its own on the page.
export function complain(failure) {
  if (!(failure instanceof Failure)) {
    console.error(failure);
    say("页面出错了：" + failure.message, "alarm", "请刷新页面后重试。");
  } else if (failure.code !== "offline") {
    say(failure.message, "alarm", failure.hint);
  }
}

// Does something and shows what goes wrong; the result, or undefined.
export async function attempt(work) {
  try {
    return await work();
  } catch (failure) {
    complain(failure);
    return undefined;
  }
}

let context = null;

// Two short tones. A browser allows them only after the person has touched the page.
export function ring() {
  if (!settings.sound) return;
  context ??= new AudioContext();
  [660, 880].forEach((frequency, index) => {
    const begin = context.currentTime + index * 0.16;
    const tone = context.createOscillator();
    const volume = context.createGain();
    tone.frequency.value = frequency;
    volume.gain.setValueAtTime(0.12, begin);
    volume.gain.exponentialRampToValueAtTime(0.001, begin + 0.15);
    tone.connect(volume).connect(context.destination);
    tone.start(begin);
    tone.stop(begin + 0.16);
  });
}

// How many of one's own tickets are watched for what their customers write.
const WATCHED = 20;

// Watches for what asks for the person: tickets that nobody has, of their team or of everybody; tickets that are offered to them;
// and what the customers of their tickets write while another ticket is looked at, or none. Slowly also while the tab is
// hidden: that is when the title is all that is seen of it.
export function watch(me, changed) {
  let newest = null;
  let mine = null;
  let unseen = 0;
  const seen = () => {
    unseen = 0;
    if (document.title.startsWith("●")) document.title = TITLE;
  };
  for (const event of ["pointerdown", "keydown"]) document.addEventListener(event, seen);

  async function fresh() {
    const { tickets } = await get(address("/v1/tickets", { status: "new", limit: 20 }));
    const ours = tickets.filter((ticket) => !ticket.team || !me.user?.team || ticket.team === me.user.team);
    // Ids begin with the time, so that a larger one is a newer one. A ticket that is reopened or transferred is no news here.
    const found = newest === null ? [] : ours.filter((ticket) => ticket.ticket_id > newest);
    newest = tickets.reduce((last, ticket) => (ticket.ticket_id > last ? ticket.ticket_id : last), newest ?? "");
    return found;
  }

  // What the customer of a ticket has written since it was last looked at.
  async function written(ticket, before) {
    if (!ticket.session_id || before?.updated_at === ticket.updated_at) return before?.seq ?? 0;
    const path = "/v1/sessions/" + encodeURIComponent(ticket.session_id);
    const { last_seq: seq, turns } = await get(address(path, before ? { after: before.seq, limit: 50 } : { limit: 1 }));
    const looked = !document.hidden && location.hash === "#/ticket/" + ticket.ticket_id;
    if (before && !looked) ticket.news = turns.filter((turn) => turn.role === "user" && turn.seq > before.seq);
    return seq;
  }

  async function own() {
    const { tickets } = await get(address("/v1/tickets", { status: "open", assignee: me.name, limit: WATCHED }));
    const known = new Map();
    for (const ticket of tickets) {
      const before = mine?.get(ticket.ticket_id);
      known.set(ticket.ticket_id, { updated_at: ticket.updated_at, seq: await written(ticket, before) });
    }
    const offered = mine === null ? [] : tickets.filter((ticket) => !ticket.accepted && !mine.has(ticket.ticket_id));
    const answered = tickets.filter((ticket) => ticket.news?.length);
    mine = known;
    return { offered, answered };
  }

  const about = (ticket) => ticket.category || "未分类";
  const hint = (ticket) => "优先级" + PRIORITIES[ticket.priority] + "，" + reasonText(ticket.reason, "");

  return poll(5000, async () => {
    const [waiting, { offered, answered }] = [await fresh(), await own()];
    const count = waiting.length + offered.length + answered.length;
    if (!count) return;
    unseen += count;
    document.title = "● " + unseen + " 条提醒 · 客服台";
    ring();
    if (waiting.length) say(waiting.length > 1 ? waiting.length + " 张新工单" : "新工单：" + about(waiting[0]), "news", hint(waiting[0]));
    for (const ticket of offered) say("分配给您的工单：" + about(ticket), "news", hint(ticket));
    for (const ticket of answered) say("客户有新消息：" + about(ticket), "news", ticket.news.at(-1).text.slice(0, 60));
    changed();
  }, 10000);
}
