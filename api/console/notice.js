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

// Watches for tickets that nobody has, of the person's team or of everybody. Slowly also while the tab is hidden: that is when
// the title is all that is seen of it.
export function watch(me, changed) {
  let newest = null;
  let unseen = 0;
  const seen = () => {
    unseen = 0;
    if (document.title.startsWith("●")) document.title = TITLE;
  };
  for (const event of ["pointerdown", "keydown"]) document.addEventListener(event, seen);
  return poll(5000, async () => {
    const { tickets } = await get(address("/v1/tickets", { status: "new", limit: 20 }));
    const ours = tickets.filter((ticket) => !ticket.team || !me.user?.team || ticket.team === me.user.team);
    // Ids begin with the time, so that a larger one is a newer one. A ticket that is reopened or transferred is no news here.
    const fresh = newest === null ? [] : ours.filter((ticket) => ticket.ticket_id > newest);
    newest = tickets.reduce((last, ticket) => (ticket.ticket_id > last ? ticket.ticket_id : last), newest ?? "");
    if (!fresh.length) return;
    unseen += fresh.length;
    document.title = "● " + unseen + " 张新工单 · 客服台";
    ring();
    const first = fresh[0];
    const text = fresh.length > 1 ? fresh.length + " 张新工单" : "新工单：" + (first.category || "未分类");
    say(text, "news", "优先级" + PRIORITIES[first.priority] + "，" + reasonText(first.reason, ""));
    changed();
  }, 30000);
}
