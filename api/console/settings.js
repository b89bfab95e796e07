// What this browser remembers for the person, and the page where they change it.

import { post, rememberToken } from "./api.js";
import { button, choice, field, make } from "./dom.js";
import { attempt, ring, say } from "./notice.js";

const STORED = "yingda-console";

function stored() {
  try { return JSON.parse(localStorage.getItem(STORED)) || {}; } catch { return {}; }
}

export const settings = { theme: "system", sound: false, ...stored() };

function keep() {
  try { localStorage.setItem(STORED, JSON.stringify(settings)); } catch { /* private mode: until the tab is closed */ }
}

export function applyTheme() {
  if (settings.theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = settings.theme;
}

function passwordForm() {
  const secret = (name, autocomplete) => make("input", { type: "password", name, autocomplete, required: true, maxlength: 256 });
  const [old, fresh, again] = [secret("old", "current-password"), secret("new", "new-password"), secret("again", "new-password")];
  return make("form", {
    class: "card form",
    onsubmit: (event) => {
      event.preventDefault();
      if (fresh.value !== again.value) return say("两次输入的新密码不一样", "alarm");
      attempt(async () => {
        const answer = await post("/v1/me/password", { old_password: old.value, new_password: fresh.value });
        rememberToken(answer.csrf_token);
        event.target.reset();
        say("密码已更改，其他浏览器上的登录已失效");
      });
    },
  },
  make("h2", {}, "更改密码"),
  field("现在的密码", old), field("新密码（至少 10 个字符）", fresh), field("再输一次新密码", again),
  button("更改密码", null, { type: "submit", class: "main" }));
}

export function showSettings(container, me) {
  const theme = choice([["system", "跟随系统"], ["light", "浅色"], ["dark", "深色"]], settings.theme, {
    id: "theme",
    onchange: () => {
      settings.theme = theme.value;
      applyTheme();
      keep();
    },
  });
  const sound = make("input", {
    type: "checkbox",
    onchange: () => {
      settings.sound = sound.checked;
      keep();
      ring();
    },
  });
  sound.checked = settings.sound;
  container.replaceChildren(make("div", { class: "sheet narrow" },
    make("h1", {}, "设置"),
    make("section", { class: "card form" },
      make("h2", {}, "此浏览器"),
      field("外观", theme),
      make("label", { class: "tick" }, sound, "有新工单时响铃")),
    me.user ? passwordForm() : null));
}
