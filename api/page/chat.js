// The chat page. Everything that comes from the server or the customer is put in as text, never as HTML.

import { attachButton, sendFile, showFiles } from "./attach.js";
import { Live } from "./live.js";

const POLL_MILLISECONDS = 3000;
const DECISIONS = { reply: "直接回答", clarify: "请客户澄清", out_of_scope: "超出服务范围", no_answer: "暂无答案", escalate: "转人工", silent: "人工处理中" };
const SENTIMENTS = { negative: "负面", neutral: "中性", positive: "正面" };
const REASONS = {
  person_requested: "客户要求人工",
  handoff_word: "出现须转人工的词语",
  complaint: "投诉",
  negative_sentiment: "连续负面情绪",
  low_confidence: "把握不足",
  knowledge_unavailable: "答案库连不上",
  rule: "规则",
  flow: "引导流程",
  owned_by_agent: "会话由人工负责",
  called_off: "客户取消了转接",
  non_text: "不是文字消息",
  empty_message: "空消息",
};

const element = (id) => document.getElementById(id);
const turns = element("turns");
const text = element("text");
const send = element("send");
const banner = element("banner");
const stateLine = element("state");
const keyForm = element("key-form");

// The session lives as long as the tab, so that a reload finds it again.
let session = stored("session") || newId();
let key = stored("key") || "";
let lastSeq = 0;
let owner = "bot";
let ticket = "";
let agentName = "";
let waiting = 0;
let exists = false;
// Turns that are shown already: the customer's by the ids of their messages, the bot's by their numbers.
let mine = new Set();
let answered = new Set();
// Turns that may be the answer to what is under way.
let held = [];
// The customer's last turn, and its number, for the mark that it was read.
let lastOwn = null;
let lastOwnSeq = 0;
let presence = null;
// Who owns the session, as the socket told it and the page does not show yet.
let told = null;
// Counts sessions: an answer that belongs to an earlier one is dropped.
let round = 0;

store("session", session);

function stored(name) {
  try { return sessionStorage.getItem("yingda-" + name); } catch { return null; }
}

function store(name, value) {
  try { sessionStorage.setItem("yingda-" + name, value); } catch { /* private mode: the tab remembers nothing */ }
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "web-" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function make(tag, className, content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content;
  return node;
}

function scrollDown() {
  turns.scrollTop = turns.scrollHeight;
}

// A turn of the bot that holds the link to a survey shows it as a button.
function bubble(kind, content) {
  const node = make("div", "bubble", content);
  const link = kind === "bot" && /(https?:\/\/[^\s/]+)?\/survey\/[0-9a-f-]{36}\.\d+\.[0-9a-f]{64}/.exec(content);
  if (!link) return node;
  const button = make("a", "survey", "评价本次服务");
  button.href = link[0];
  button.target = "_blank";
  button.rel = "noopener";
  node.replaceChildren(make("span", "", content.replace(link[0], "").replace(/：\s*$/, "。")), button);
  return node;
}

function addTurn(kind, content, author) {
  const turn = make("div", "turn " + kind);
  if (author) turn.append(make("div", "author", author));
  turn.append(bubble(kind, content));
  turns.append(turn);
  scrollDown();
  return turn;
}

function addDots() {
  const turn = make("div", "turn bot");
  const bubble = make("div", "bubble");
  const dots = make("span", "dots");
  dots.setAttribute("role", "img");
  dots.setAttribute("aria-label", "正在输入");
  dots.append(make("i"), make("i"), make("i"));
  bubble.append(dots);
  turn.append(bubble);
  turns.append(turn);
  scrollDown();
  return turn;
}

function percent(value) {
  return (value * 100).toFixed(1) + "%";
}

function addDetails(turn, answer) {
  const details = make("details");
  details.append(make("summary", "", "详情"));
  const list = make("dl");
  const row = (name, lines) => {
    if (!lines.length) return;
    const cell = make("dd");
    for (const line of lines) cell.append(make("div", "", line));
    list.append(make("dt", "", name), cell);
  };
  const reason = answer.reason ? "（" + (REASONS[answer.reason] || answer.reason) + "）" : "";
  row("决定", [(DECISIONS[answer.decision] || answer.decision) + reason]);
  row("意图", (answer.intents || []).map((intent) => intent.label + "  " + percent(intent.probability)));
  if (answer.sentiment) {
    const scores = answer.sentiment;
    row("情绪", [
      (SENTIMENTS[scores.label] || scores.label) + "  负 " + percent(scores.negative) + " / 中 " + percent(scores.neutral) + " / 正 " + percent(scores.positive),
    ]);
  }
  row("知识", (answer.matches || []).map((match) => percent(match.probability) + "  " + match.question + "  [" + match.knowledge_id + "]"));
  row("模型", [answer.model]);
  const timings = answer.timings;
  row("用时", [
    timings.total_ms.toFixed(1) + " 毫秒（排队 " + timings.queue_ms.toFixed(1) + "，模型 " + timings.model_ms.toFixed(1) + "，检索 " + timings.search_ms.toFixed(1) + "）",
  ]);
  details.append(list);
  turn.append(details);
}

// Pictures and cards belong to the channels; this page names them and links where there is a link.
function addParts(turn, parts) {
  for (const part of parts || []) {
    const row = make("div", "part");
    const address = part.url || "";
    if (part.type === "text") row.textContent = part.text;
    else if (part.type === "mini_program") row.textContent = "小程序卡片：" + part.title;
    else if (/^https?:\/\//.test(address)) {
      const link = make("a", "", part.type === "image" ? "图片：" + (part.description || address) : part.title);
      link.href = address;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
      row.append(link);
    }
    turn.append(row);
  }
}

function addChoices(turn, choices, label = "您是不是想问") {
  if (!choices || !choices.length) return;
  const row = make("div", "choices");
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", label);
  for (const choice of choices) {
    const button = make("button", "", choice.question + (choice.reason ? "（" + choice.reason + "）" : ""));
    button.type = "button";
    button.addEventListener("click", () => {
      for (const other of row.querySelectorAll("button")) other.disabled = true;
      say(choice.question);
    });
    row.append(button);
  }
  turn.append(row);
}

function showOwner(nextOwner, ticketId, agent, isCalledOff) {
  // Who called off the hand-over has been told so.
  if (owner === "agent" && nextOwner === "bot" && !isCalledOff) {
    addTurn("note", "人工服务已结束，智能客服继续为您服务");
  }
  owner = nextOwner;
  ticket = nextOwner === "agent" ? ticketId || ticket : "";
  agentName = nextOwner === "agent" ? agent || agentName : "";
  banner.hidden = owner !== "agent";
  banner.textContent = owner === "agent" ? "已转人工，工单号 " + ticket + (agentName ? "，客服 " + agentName + " 为您服务" : "，请稍候，客服会在这里回复您") : "";
  stateLine.textContent = owner === "agent" ? "人工客服为您服务" : "智能客服为您服务";
}

// What went wrong, as a sentence; `code` is the server's word for it, or ours.
class Failure extends Error {
  constructor(code, message, retryAfter) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

async function call(method, path, body) {
  const headers = {};
  if (key) headers.Authorization = "Bearer " + key;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body ? JSON.stringify(body) : undefined, cache: "no-store" });
  } catch {
    throw new Failure("offline", "连接不上服务，请检查网络后重试。");
  }
  let answer = null;
  try { answer = await response.json(); } catch { /* no JSON: the status speaks below */ }
  if (response.ok && answer) return answer;
  const error = answer && answer.error;
  if (response.status === 401) {
    keyForm.hidden = false;
    element("key").focus();
  }
  const message = error ? error.message + "。" + (error.hint || "") : "服务出错（" + response.status + "），请稍后重试。";
  throw new Failure(error ? error.code : "status_" + response.status, message, Number(response.headers.get("Retry-After")) || 0);
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Over the socket where there is one; a message that waits there when it breaks is asked for here, under the same id.
async function ask(message) {
  if (!live.isOpen) return askByRequest(message);
  try {
    return await live.say(message);
  } catch (error) {
    if (error.code === "key_missing" || error.code === "key_unknown") return askByRequest(message);
    throw new Failure(error.code, error.message + "。" + (error.hint || ""));
  }
}

// Asks again by itself while the service is busy. The message id makes that safe: nothing is answered twice.
async function askByRequest(message) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await call("POST", "/v1/chat", message);
    } catch (failure) {
      const again = failure.code === "busy" || failure.code === "offline";
      if (!again || attempt >= 2) throw failure;
      await pause(1000 * Math.max(failure.retryAfter || 0, attempt + 1));
    }
  }
}

function say(content) {
  lastOwn = addTurn("user", content);
  return deliver({ session_id: session, message_id: newId(), channel: "web", text: content });
}

async function deliver(message) {
  const started = round;
  mine.add(message.message_id);
  const dots = owner === "bot" ? addDots() : null;
  waiting += 1;
  try {
    const answer = await ask(message);
    if (started !== round) return;
    exists = true;
    keyForm.hidden = true;
    if (answer.reply_seq) answered.add(answer.reply_seq);
    lastOwnSeq = Math.max(lastOwnSeq, answer.seq);
    const handedOver = answer.decision === "escalate" || answer.decision === "silent";
    if (answer.reply) {
      const turn = addTurn("bot", answer.reply);
      addParts(turn, answer.parts);
      addChoices(turn, answer.choices);
      addChoices(turn, answer.related, "您可能还想了解");
      addDetails(turn, answer);
    }
    showOwner(handedOver ? "agent" : "bot", answer.ticket_id, "", answer.reason === "called_off");
  } catch (failure) {
    if (started !== round) return;
    const turn = addTurn("error", failure.message || "出错了，请稍后重试。");
    turn.setAttribute("role", "alert");
    const again = make("button", "", "重试");
    again.type = "button";
    again.addEventListener("click", () => { turn.remove(); deliver(message); });
    turn.append(again);
    scrollDown();
  } finally {
    waiting -= 1;
    if (dots) dots.remove();
    showHeld();
    showTold();
  }
}

// A file is a message without words.
async function attach(file) {
  const started = round;
  const id = newId();
  mine.add(id);
  const turn = addTurn("user", file.name || "文件");
  lastOwn = turn;
  waiting += 1;
  try {
    const answer = await sendFile(page, file, id);
    if (started !== round) return;
    if (!answer || answer.error) {
      turn.remove();
      const told = answer ? answer.error.message + "。" + answer.error.hint : "连接不上服务，请检查网络后重试。";
      addTurn("error", told).setAttribute("role", "alert");
      return;
    }
    exists = true;
    turn.replaceChildren();
    showFiles(page, turn, [answer.attachment]);
    if (answer.reply_seq) answered.add(answer.reply_seq);
    lastOwnSeq = Math.max(lastOwnSeq, answer.seq);
    if (answer.reply) addTurn("bot", answer.reply);
    showOwner(answer.decision === "silent" ? "agent" : "bot", answer.ticket_id);
  } finally {
    waiting -= 1;
    showHeld();
    showTold();
  }
}

// A turn that was written elsewhere, or is shown because the page was loaded again.
function showTurn(turn, all) {
  if (turn.seq <= lastSeq) return;
  lastSeq = turn.seq;
  if (turn.role === "user") {
    lastOwnSeq = Math.max(lastOwnSeq, turn.seq);
    if (!all && mine.has(turn.message_id)) return;
    lastOwn = addTurn("user", turn.text);
    showFiles(page, lastOwn, turn.attachments);
  } else if (turn.role === "agent") {
    showFiles(page, addTurn("agent", turn.text, turn.author ? "客服 " + turn.author : "人工客服"), turn.attachments);
  } else if (all) {
    addTurn("bot", turn.text);
  } else {
    held.push(turn);
    showHeld();
  }
}

// What the bot said without being asked by this page. While a message is under way its answer may still be among them.
function showHeld() {
  if (waiting) return;
  for (const turn of held.splice(0)) if (!answered.has(turn.seq)) addTurn("bot", turn.text);
}

// Reads what is new in the session. `all`: the page was loaded again, show every turn; else what this page does not show yet.
async function catchUp(all) {
  const started = round;
  const body = await call("GET", "/v1/sessions/" + encodeURIComponent(session) + "?after=" + lastSeq);
  if (started !== round) return;
  exists = true;
  const agent = body.owner_agent;
  for (const turn of body.turns) showTurn(turn, all);
  // While a message is under way, its own answer tells who owns the session.
  if (!waiting) showOwner(body.owner, body.ticket && body.ticket.ticket_id, agent);
}

async function poll() {
  for (;;) {
    await pause(POLL_MILLISECONDS);
    if (live.isOpen || !exists || waiting || owner !== "agent" || document.hidden) continue;
    try { await catchUp(false); } catch { /* the next round tries again */ }
  }
}

async function start() {
  try {
    await catchUp(true);
  } catch (failure) {
    if (failure.code === "offline") addTurn("error", failure.message);
  }
  if (!turns.childElementCount) addTurn("bot", "您好，请问有什么可以帮您？");
  live.follow(session, lastSeq);
}

// What the socket tells.
function hear(frame) {
  if (frame.session_id !== session) return;
  if (frame.type === "turn") {
    exists = true;
    showTurn(frame.turn, false);
    markSeen();
  } else if (frame.type === "session") {
    exists = true;
    told = frame;
    showTold();
  } else if (frame.type === "standing") {
    presence = frame.agent;
    showPresence();
  }
}

// While a message is under way, its own answer tells who owns the session.
function showTold() {
  if (waiting || !told) return;
  showOwner(told.owner, told.ticket && told.ticket.ticket_id, told.owner_agent);
  told = null;
}

function markSeen() {
  if (lastSeq) live.mark(session, lastSeq, !document.hidden);
}

// Whether the person is typing, and has read what the customer said last.
function showPresence() {
  const isTyping = owner === "agent" && presence && presence.typing;
  element("presence").textContent = isTyping ? "客服正在输入…" : "";
  for (const old of turns.querySelectorAll(".read")) old.remove();
  if (owner === "agent" && presence && lastOwn && lastOwnSeq && presence.read_seq >= lastOwnSeq) lastOwn.append(make("div", "read", "已读"));
}

function fit() {
  text.style.height = "auto";
  text.style.height = Math.min(text.scrollHeight + 2, 160) + "px";
}

function submit() {
  const content = text.value.trim();
  if (!content) return;
  text.value = "";
  fit();
  say(content);
  text.focus();
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});

// While an input method composes, Enter belongs to it. Safari ends the composition before the key event and marks it with 229.
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  submit();
});

text.addEventListener("input", () => {
  fit();
  if (owner === "agent") live.typing(session);
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) markSeen();
});

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  key = element("key").value.trim();
  store("key", key);
  keyForm.hidden = true;
  live.restart();
  const failed = turns.querySelectorAll(".error button");
  if (failed.length) failed[failed.length - 1].click();
  else if (!exists) { turns.replaceChildren(); start(); }
  text.focus();
});

element("fresh").addEventListener("click", () => {
  round += 1;
  live.leave(session);
  session = newId();
  store("session", session);
  lastSeq = 0;
  exists = false;
  mine = new Set();
  answered = new Set();
  held = [];
  lastOwn = null;
  lastOwnSeq = 0;
  presence = null;
  told = null;
  owner = "bot";
  ticket = "";
  showOwner("bot");
  showPresence();
  turns.replaceChildren();
  live.follow(session, 0);
  addTurn("bot", "您好，请问有什么可以帮您？");
  text.focus();
});

// What the files of the page need of it.
const page = { make, scrollDown, key: () => key, session: () => session };

const live = new Live({
  hello: () => ({ side: "customer", ...(key && { key }) }),
  onFrame: hear,
  onChange: (isOpen) => {
    // What waits for an answer goes on as a request; the id keeps it from being answered twice.
    if (isOpen) return;
    live.takeOutbox().reduce((before, { message, resolve, reject }) =>
      before.then(() => askByRequest(message)).then(resolve, reject), Promise.resolve());
  },
});

attachButton(page, element("form"), send, attach);
start();
poll();
