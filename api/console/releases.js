// Knowledge as files, and its releases: in, out, and back.

import { address, get, post, upload } from "./api.js";
import { button, choice, empty, field, make, pill, table } from "./dom.js";
import { ask } from "./dialog.js";
import { attempt, say } from "./notice.js";
import { clock } from "./words.js";

const FORMATS = [["xlsx", "Excel"], ["csv", "CSV"], ["jsonl", "JSON Lines"], ["json", "JSON"], ["md", "Markdown"]];
const KINDS = { publish: "发布", import: "导入", rollback: "退回" };
const STATES = { writing: "正在写入", published: "已发布", failed: "失败" };

// What a file would change is told before anything is kept.
export function knowledgeFiles(changed) {
  const file = make("input", { type: "file", accept: FORMATS.map(([name]) => "." + name).join(","), "aria-label": "知识文件" });
  const replace = make("input", { type: "checkbox" });
  const format = choice(FORMATS, "xlsx", { "aria-label": "导出格式" });
  const told = make("div", { "aria-live": "polite" });

  const path = (dry) => address("/v1/knowledge/import", {
    format: file.files[0].name.split(".").pop().toLowerCase(), replace: replace.checked || null, dry_run: dry || null,
  });

  const look = () => attempt(async () => {
    if (!file.files.length) return say("请先选择一个文件", "alarm");
    const found = await upload(path(true), file.files[0]);
    const { problems } = found;
    told.replaceChildren(
      make("p", {}, "新增 " + found.added + " 条，更改 " + found.changed + " 条，删除 " + found.removed + " 条，不变 " + found.unchanged + " 条。"),
      problems.length
        ? table(["位置", "问题"], problems.map((problem) => [problem.place, problem.message]), "文件里的问题")
        : button("导入为草稿", keep, { class: "main" }));
  });

  const keep = () => attempt(async () => {
    await upload(path(false), file.files[0]);
    told.replaceChildren();
    say("已导入为草稿，发布后生效");
    await changed();
  });

  return make("details", { class: "card form" },
    make("summary", {}, "导入与导出"),
    make("div", { class: "fields" }, field("文件（Excel、CSV、JSON、JSON Lines、Markdown）", file)),
    make("label", { class: "tick" }, replace, "文件里没有的条目记为待删除"),
    make("div", { class: "row" }, button("检查文件", look)),
    told,
    make("div", { class: "row" }, format, button("导出", () => { location.href = address("/v1/knowledge/export", { format: format.value }); })));
}

export function releaseList(isAdmin, changed) {
  const list = make("div");

  const back = (release) => ask("退回到第 " + release.release + " 版", "以这一版的内容发布新的一版；现有草稿不变。", "退回", [{ name: "note", label: "原因" }], async ({ note }) => {
    const made = await post("/v1/knowledge/rollback", { release: release.release, note: note || "" });
    say("已发布第 " + made.release + " 版");
    await Promise.all([load(), changed()]);
  });

  async function load() {
    const { releases } = await get("/v1/knowledge/releases?limit=20");
    const newest = releases.find((release) => release.state === "published");
    list.replaceChildren(releases.length ? table(["版本", "方式", "说明", "更改", "条目", "时间", ""], releases.map((release) => [
      make("span", {}, "第 " + release.release + " 版 ", release === newest ? pill("published", "使用中") : release.state === "published" ? null : pill("draft", STATES[release.state] || release.state)),
      (KINDS[release.kind] || release.kind) + (release.restores ? "到第 " + release.restores + " 版" : "") + "，" + release.author,
      release.note || release.problem || "",
      String(release.changes),
      String(release.entries),
      clock(release.created_at),
      isAdmin && release.state === "published" && release !== newest ? button("退回到这一版", () => back(release), { class: "small" }) : "",
    ]), "知识的版本") : empty("还没有发布过"));
  }

  return make("details", { class: "card form", ontoggle: (event) => { if (event.target.open) attempt(load); } }, make("summary", {}, "版本"), list);
}
