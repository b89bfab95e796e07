// The knowledge: find an entry, write a draft of it, publish.

import { address, call, get, post } from "./api.js";
import { button, empty, field, make, pill } from "./dom.js";
import { ask } from "./dialog.js";
import { attempt, say } from "./notice.js";
import { knowledgeFiles, releaseList } from "./releases.js";
import { clock } from "./words.js";

const PAGE = 50;
const entryPath = (id, more = "") => "/v1/knowledge/entries/" + encodeURIComponent(id) + more;

export function showKnowledge(container, me) {
  const query = make("input", { type: "search", name: "q", placeholder: "搜索问题、答案、标签", "aria-label": "搜索知识", maxlength: 100 });
  const drafts = make("input", { type: "checkbox", onchange: () => search() });
  const list = make("div", { class: "entries", role: "list" });
  const more = button("载入更多", () => attempt(() => load(cursor)), { hidden: true });
  const editor = make("div", { class: "editor" }, empty("选择一条知识，或新建一条"));
  let cursor = null;
  let round = 0;

  const form = make("form", {
    class: "row tools",
    onsubmit: (event) => {
      event.preventDefault();
      search();
    },
  },
  query, button("搜索", null, { type: "submit" }),
  make("label", { class: "tick" }, drafts, "只看有草稿的"),
  button("新建", create),
  me.role === "admin" ? button("发布全部草稿", () => publish(null), { class: "main" }) : null);
  container.replaceChildren(make("div", { class: "sheet" }, make("h1", {}, "知识"), form,
    make("div", { class: "split" }, make("div", {}, list, more), editor),
    knowledgeFiles(() => load(null)), releaseList(me.role === "admin", () => load(null))));

  async function load(after) {
    round += 1;
    const mine = round;
    const page = await get(address("/v1/knowledge/entries", { q: query.value.trim(), drafts: drafts.checked || null, limit: PAGE, cursor: after }));
    if (mine !== round) return;
    if (!after) list.replaceChildren();
    list.append(...page.entries.map(row));
    if (!list.childElementCount) list.append(empty("没有找到知识"));
    cursor = page.next_cursor;
    more.hidden = !cursor;
  }

  const search = () => attempt(() => load(null));

  function row(entry) {
    const shown = entry.draft?.entry || entry.published?.entry;
    const words = make("span", {},
      make("strong", {}, shown ? shown.question : entry.id),
      make("span", { class: "quiet clip" }, shown ? shown.answer : ""));
    const mark = entry.draft ? pill("draft", entry.draft.entry ? "有草稿" : "待删除") : null;
    return make("div", { role: "listitem" },
      make("button", { type: "button", class: "entry", "data-id": entry.id, onclick: () => edit(entry.id) }, words, mark));
  }

  function publish(ids) {
    ask(ids ? "发布这条知识" : "发布全部草稿", "发布后立即用于回答客户。", "发布", [{ name: "note", label: "说明" }], async ({ note }) => {
      const body = { note: note || "" };
      if (ids) body.entries = ids;
      const release = await post("/v1/knowledge/publish", body);
      say(release.state === "published" ? "已发布第 " + release.release + " 版" : "第 " + release.release + " 版正在写入");
      await load(null);
      if (ids) await edit(ids[0]);
    });
  }

  function create() {
    ask("新建知识", "", "下一步", [{ name: "id", label: "编号", required: true }, { name: "question", label: "标准问题", required: true }], async ({ id, question }) => {
      open({ id, version: 0, draft: null, published: null }, { id, question, answer: "" });
    });
  }

  const edit = (id) => attempt(async () => {
    const entry = await get(entryPath(id));
    open(entry, entry.draft ? entry.draft.entry : entry.published.entry);
  });

  function open(known, entry) {
    const removed = !entry;
    const content = entry || known.published?.entry || { id: known.id, question: "", answer: "" };
    const question = make("input", { name: "question", required: true, maxlength: 500, value: content.question });
    const answer = make("textarea", { name: "answer", rows: 4, required: true, value: content.answer });
    const similar = make("textarea", { name: "similar", rows: 4, value: (content.similar_questions || []).join("\n") });
    const intent = make("input", { name: "intent", maxlength: 128, value: content.intent || "" });
    const tags = make("input", { name: "tags", maxlength: 500, value: (content.tags || []).join(" ") });
    const note = make("input", { name: "note", maxlength: 500, placeholder: "为什么改" });
    const lines = (text, separator) => text.split(separator).map((line) => line.trim()).filter(Boolean);
    const save = (event) => {
      event.preventDefault();
      attempt(async () => {
        // What this page does not show, such as answers by channel, stays as it is.
        const changed = { ...content, question: question.value.trim(), answer: answer.value.trim(), similar_questions: lines(similar.value, "\n"), tags: lines(tags.value, /[\s,，、]+/) };
        if (intent.value.trim()) changed.intent = intent.value.trim();
        else delete changed.intent;
        await call("PUT", entryPath(known.id), { entry: changed, version: known.version, note: note.value.trim() });
        say("草稿已保存");
        await Promise.all([load(null), edit(known.id)]);
      });
    };
    const discard = () => attempt(async () => {
      await call("DELETE", entryPath(known.id, "/draft"));
      say("草稿已放弃");
      await load(null);
      if (known.published) await edit(known.id);
      else editor.replaceChildren(empty("选择一条知识，或新建一条"));
    });
    const remove = () => ask("删除这条知识", "先记为草稿，发布后不再用于回答。", "删除", [{ name: "note", label: "原因" }], async (answers) => {
      await call("DELETE", address(entryPath(known.id), { version: known.version, note: answers.note }));
      say("已记为待删除");
      await Promise.all([load(null), edit(known.id)]);
    });
    editor.replaceChildren(make("form", { class: "card form", onsubmit: save },
      make("div", { class: "row between" }, make("h2", {}, known.id), known.draft ? pill("draft", removed ? "待删除" : "有草稿") : known.published ? pill("published", "已发布") : pill("draft", "新建")),
      known.draft ? make("p", { class: "quiet" }, known.draft.author + " 于 " + clock(known.draft.created_at) + (known.draft.note ? "：" + known.draft.note : "")) : null,
      field("标准问题", question), field("答案", answer), field("相似问法（每行一条）", similar), field("意图", intent), field("标签（用空格分开）", tags), field("说明", note),
      make("div", { class: "row" },
        button("保存草稿", null, { type: "submit", class: "main" }),
        known.draft && me.role === "admin" ? button("发布", () => publish([known.id])) : null,
        known.draft ? button("放弃草稿", discard) : null,
        known.published && !removed ? button("删除", remove, { class: "danger" }) : null)));
    if (!matchMedia("(min-width: 900px)").matches) editor.scrollIntoView();
  }

  search();
}
