// The console: who is here, where they are, and the way from one place to the other.

import { connection, get, post, rememberToken, whenLoggedOut } from "./api.js";
import { showApiKeys } from "./apikeys.js";
import { presenceSwitch, showBoard } from "./board.js";
import { button, make } from "./dom.js";
import { bind, listen, showKeys } from "./keys.js";
import { showKnowledge } from "./knowledge.js";
import { listenLive, startLive } from "./live.js";
import { askForLogIn } from "./login.js";
import { attempt, watch } from "./notice.js";
import { startQueue } from "./queue.js";
import { showReports } from "./reports.js";
import { showRules } from "./rules.js";
import { showSearch } from "./search.js";
import { applyTheme, showSettings } from "./settings.js";
import { showTeam } from "./team.js";
import { showTicket } from "./ticket.js";
import { showUsers } from "./users.js";
import { showWebhooks } from "./webhooks.js";
import { ROLES } from "./words.js";

const element = (id) => document.getElementById(id);
const desk = element("desk");
const page = element("page");

// Milliseconds until a page that was opened without a connection tries again.
const RETRY = 3000;

let me = null;
let queue = null;
let shown = null;
let presence = null;

const PLACES = [
  ["queue", "工单", () => true],
  ["board", "看板", () => true],
  ["reports", "报表", (role) => role === "supervisor" || role === "admin"],
  ["knowledge", "知识", () => true],
  ["team", "客服", () => true],
  ["rules", "分配", (role) => role === "supervisor" || role === "admin"],
  ["users", "用户", (role) => role === "admin"],
  ["apikeys", "密钥", (role) => role === "admin"],
  ["webhooks", "对接", (role) => role === "admin"],
  ["settings", "设置", () => true],
];

// What somebody of an outside organisation finds here.
const OUTSIDE = new Set(["queue", "settings"]);

const SHEETS = {
  apikeys: showApiKeys, board: showBoard, knowledge: showKnowledge, reports: showReports, rules: showRules, search: showSearch,
  settings: showSettings, team: showTeam, users: showUsers, webhooks: showWebhooks,
};

function go() {
  const [place = "queue", name = ""] = location.hash.replace(/^#\//, "").split("/");
  shown?.stop?.();
  shown = null;
  page.replaceChildren();
  const isDesk = place === "ticket" || !Object.hasOwn(SHEETS, place);
  desk.dataset.view = isDesk ? (place === "ticket" ? "ticket" : "queue") : "sheet";
  for (const link of element("places").children) {
    if (link.dataset.place === (isDesk || place === "search" ? "queue" : place)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (place === "ticket") {
    queue.show(queue.tab);
    shown = showTicket(page, name, me, queue.refresh);
  } else if (isDesk) {
    queue.show(name || queue.tab);
    page.append(make("div", { class: "welcome" }, make("p", {}, "从左边的队列选择一张工单"), make("p", { class: "quiet" }, "j / k 上下移动，Enter 打开，? 查看全部快捷键")));
  } else {
    shown = SHEETS[place](page, me, name);
  }
  queue.mark();
}

function bindKeys() {
  bind("j", "下一张工单", () => queue.step(1));
  bind("k", "上一张工单", () => queue.step(-1));
  bind("o", "打开选中的工单", () => queue.openCurrent());
  bind("u", "回到队列", () => { location.hash = "#/queue/" + queue.tab; });
  bind("/", "搜索工单", () => {
    const seen = [...document.querySelectorAll(".search input")].find((input) => input.offsetParent);
    if (seen) seen.focus();
    else location.hash = "#/search";
  });
  bind("r", "写回复", () => shown?.write?.());
  bind("t", "领取工单", () => shown?.press?.("take"));
  bind("e", "解决工单", () => shown?.press?.("resolve"));
  ["mine", "waiting", "open", "done"].forEach((name, index) =>
    bind(String(index + 1), "队列：" + ["我的", "待领取", "全部未结束", "已结束"][index], () => { location.hash = "#/queue/" + name; }));
  listen();
}

async function start() {
  applyTheme();
  connection.addEventListener("offline", () => { element("connection").hidden = false; });
  connection.addEventListener("online", () => { element("connection").hidden = true; });
  whenLoggedOut(async () => {
    await askForLogIn(() => me?.user);
    if (me && !me.organisation) startLive();
  });
  while (!me) {
    try {
      me = await get("/v1/me");
    } catch (failure) {
      if (failure.code !== "offline") throw failure;
      await new Promise((done) => setTimeout(done, RETRY));
    }
  }
  rememberToken(me.csrf_token);
  element("places").replaceChildren(...PLACES.filter(([place, , may]) => may(me.role) && (!me.organisation || OUTSIDE.has(place))).map(([place, label]) =>
    make("a", { href: "#/" + place, "data-place": place }, label)));
  const who = element("who");
  who.replaceChildren(
    make("span", { class: "name" }, me.name, make("span", { class: "quiet" }, ROLES[me.role] + (me.user?.team ? " · " + me.user.team : ""))),
    button("?", showKeys, { class: "small plain", "aria-label": "键盘快捷键" }),
    me.user ? button("退出", () => attempt(async () => {
      await presence?.leave();
      await post("/v1/logout");
      location.reload();
    }), { class: "small" }) : "");
  element("bar").hidden = false;
  queue = startQueue(element("queue"), me, (id) => { location.hash = "#/ticket/" + id; });
  bindKeys();
  watch(me, queue.refresh);
  listenLive((frame) => {
    if (frame.type === "tickets") queue.refresh();
  });
  // What is shared with an outside organisation is asked for, not told.
  if (!me.organisation) startLive();
  addEventListener("hashchange", go);
  go();
  presence = me.organisation ? null : await presenceSwitch(who, me);
}

attempt(start);
