// The keys with which programs come. For admins.

import { call, get, post } from "./api.js";
import { button, choice, field, make, pill, table } from "./dom.js";
import { ask } from "./dialog.js";
import { attempt, say } from "./notice.js";
import { ROLES, clock } from "./words.js";

const GIVEN = ["caller", "agent", "supervisor", "admin"].map((role) => [role, ROLES[role]]);

export function showApiKeys(container) {
  const list = make("div");
  const fresh = make("div", { "aria-live": "polite" });
  const name = make("input", { name: "name", required: true, maxlength: 64, autocomplete: "off", placeholder: "例如 mini-program" });
  const role = choice(GIVEN, "caller");
  const form = make("form", {
    class: "card form wide",
    onsubmit: (event) => {
      event.preventDefault();
      attempt(async () => {
        const made = await post("/v1/admin/keys", { name: name.value.trim(), role: role.value });
        show(made);
        form.reset();
        await load();
      });
    },
  },
  make("h2", {}, "新建密钥"),
  make("div", { class: "fields" }, field("名称", name), field("权限", role)),
  make("div", { class: "row" }, button("新建", null, { type: "submit", class: "main" })));
  container.replaceChildren(make("div", { class: "sheet" }, make("h1", {}, "接口密钥"), fresh, list, form));

  // The key itself can be read here and nowhere else, ever again.
  function show(made) {
    const key = make("input", { readonly: true, value: made.key, "aria-label": "密钥", onfocus: () => key.select() });
    fresh.replaceChildren(make("div", { class: "card form" },
      make("h2", {}, "密钥 " + made.name + " 已新建"),
      make("p", {}, "它只显示这一次，请现在就保存到使用它的程序里。"),
      make("div", { class: "row" }, key, button("复制", () => attempt(async () => {
        key.select();
        await navigator.clipboard?.writeText(made.key);
        say("已复制");
      })))));
  }

  const revoke = (key) => ask("停用密钥 " + key.name, "使用它的程序会立即被拒绝，不能恢复。", "停用", [], async () => {
    await call("DELETE", "/v1/admin/keys/" + encodeURIComponent(key.key_id));
    say("已停用 " + key.name);
    await load();
  });

  async function load() {
    const { keys } = await get("/v1/admin/keys");
    list.replaceChildren(table(["名称", "权限", "新建时间", "状态"], keys.map((key) => [
      key.name,
      Object.fromEntries(GIVEN)[key.role],
      clock(key.created_at),
      key.revoked_at ? pill("disabled", "已停用") : button("停用", () => revoke(key), { class: "small danger" }),
    ]), "接口密钥"));
  }

  attempt(load);
}
