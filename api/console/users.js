// The people who may log in. For admins.

import { call, get, post } from "./api.js";
import { button, choice, field, make, pill, table } from "./dom.js";
import { ask } from "./dialog.js";
import { attempt, say } from "./notice.js";
import { organisationsCard } from "./sharing.js";
import { ROLES, clock } from "./words.js";

const GIVEN = ["agent", "supervisor", "admin"].map((role) => [role, ROLES[role]]);
const userPath = (user) => "/v1/users/" + encodeURIComponent(user.user_id);

export function showUsers(container, me) {
  const list = make("div");
  const input = (name, properties) => make("input", { name, required: true, maxlength: 64, autocomplete: "off", ...properties });
  const login = input("login", { autocapitalize: "none", spellcheck: "false" });
  const name = input("name");
  const team = input("team", { required: false });
  const role = choice(GIVEN, "agent");
  const organisation = choice([["", "本公司"]], "", { name: "organisation" });
  let known = [];
  const password = input("password", { type: "password", minlength: 10, maxlength: 256, autocomplete: "new-password" });
  const form = make("form", {
    class: "card form wide",
    onsubmit: (event) => {
      event.preventDefault();
      attempt(async () => {
        const user = { login: login.value.trim(), name: name.value.trim(), role: role.value, password: password.value };
        if (team.value.trim()) user.team = team.value.trim();
        if (organisation.value) user.organisation = organisation.value;
        await post("/v1/users", user);
        say("已添加 " + user.name);
        form.reset();
        await load();
      });
    },
  },
  make("h2", {}, "添加账号"),
  make("div", { class: "fields" }, field("登录名", login), field("姓名", name), field("角色", role), field("团队（可不填）", team), field("所属", organisation), field("初始密码（至少 10 个字符）", password)),
  make("div", { class: "row" }, button("添加", null, { type: "submit", class: "main" })));
  container.replaceChildren(make("div", { class: "sheet" }, make("h1", {}, "用户"), list, form, organisationsCard(() => load())));

  const change = (user, what, done) => attempt(async () => {
    await call("PATCH", userPath(user), what);
    say(done);
    await load();
  });

  function row(user) {
    const itself = user.user_id === me.user?.user_id;
    const roles = choice(GIVEN, user.role, { "aria-label": user.name + "的角色", onchange: () => change(user, { role: roles.value }, user.name + "现在是" + ROLES[roles.value]) });
    return [
      make("span", {}, user.name, user.organisation ? pill("outside", known.find((one) => one.organisation_id === user.organisation)?.name || "外部") : null, user.disabled ? pill("disabled", "已停用") : null),
      user.login,
      roles,
      user.team || "—",
      user.last_login_at ? clock(user.last_login_at) : "从未",
      make("div", { class: "row" },
        button("姓名与团队", () => ask("更改 " + user.name, "", "保存", [{ name: "name", label: "姓名", required: true, value: user.name }, { name: "team", label: "团队", value: user.team || "" }], async (answers) => {
          await call("PATCH", userPath(user), { name: answers.name, team: answers.team || "" });
          await load();
        }), { class: "small" }),
        button("重设密码", () => ask("重设 " + user.name + " 的密码", "此人会在所有浏览器上退出登录。", "重设", [{ name: "password", label: "新密码（至少 10 个字符）", required: true, type: "password" }], async (answers) => {
          await call("PATCH", userPath(user), answers);
          say("密码已重设");
        }), { class: "small" }),
        itself ? null : button(user.disabled ? "启用" : "停用", () => change(user, { disabled: !user.disabled }, user.name + (user.disabled ? "已启用" : "已停用")), { class: user.disabled ? "small" : "small danger" })),
    ];
  }

  async function load() {
    const { users } = await get("/v1/users");
    known = (await get("/v1/organisations")).organisations;
    organisation.replaceChildren(...[["", "本公司"], ...known.map((one) => [one.organisation_id, one.name])].map(([value, label]) => make("option", { value }, label)));
    list.replaceChildren(table(["姓名", "登录名", "角色", "团队", "最近登录", "操作"], users.map(row), "用户"));
  }

  attempt(load);
}
