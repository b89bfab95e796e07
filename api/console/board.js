// The board: how much waits, and who is there.

import { alertList } from "./alerts.js";
import { call, get } from "./api.js";
import { choice, empty, make, pill, table } from "./dom.js";
import { attempt, say } from "./notice.js";
import { poll } from "./poll.js";
import { PRESENCES, STATUSES, span } from "./words.js";

const tile = (label, value, alarm) => make("div", { class: "tile" + (alarm ? " alarm" : "") }, make("span", {}, label), make("strong", {}, value));

// Longer than this, in seconds, nobody should have to wait.
const LONG = 300;
// Milliseconds after which it is said again that somebody is there.
const REPEAT = 10000;

export function showBoard(container, me) {
  const tiles = make("div", { class: "tiles" });
  const agents = make("div");
  const alerts = alertList(me);
  container.replaceChildren(make("div", { class: "sheet" }, make("h1", {}, "实时看板"), alerts.node, tiles, agents));
  return poll(5000, async () => {
    await alerts.load();
    const board = await get("/v1/desk/board");
    const oldest = board.oldest_waiting_seconds;
    tiles.replaceChildren(
      tile(STATUSES.new, board.waiting, board.waiting > 0 && oldest > LONG),
      tile("最长等待", oldest === null ? "无" : span(oldest), oldest > LONG),
      tile(STATUSES.assigned, board.assigned),
      tile(STATUSES.in_progress, board.in_progress),
      tile(STATUSES.waiting_customer, board.waiting_customer));
    const rows = board.agents.map((agent) => [
      agent.name,
      agent.team || "—",
      agent.presence ? pill("presence-" + agent.presence, PRESENCES[agent.presence] || agent.presence) : "—",
      String(agent.open),
    ]);
    agents.replaceChildren(make("h2", {}, "客服"), rows.length ? table(["姓名", "团队", "状态", "手上的工单"], rows, "客服") : empty("还没有人登记为客服"));
  });
}

// Lets a person say whether they are there, and repeats it: who is silent for a while counts as offline. Nothing is shown to
// those who are not listed at the desk.
export async function presenceSwitch(place, me) {
  const { agents } = await get("/v1/desk/agents");
  const mine = agents.find((agent) => agent.name === me.name);
  if (!me.user || !mine) return null;
  const tell = (presence) => call("PUT", "/v1/me/presence", { presence });
  const select = choice(Object.entries(PRESENCES), mine.presence === "away" ? "away" : "online", {
    id: "presence",
    "aria-label": "我的状态",
    onchange: () => attempt(async () => {
      await tell(select.value);
      say("状态已改为" + PRESENCES[select.value]);
    }),
  });
  place.prepend(select);
  poll(REPEAT, () => tell(select.value), REPEAT);
  return { leave: () => tell("offline") };
}
