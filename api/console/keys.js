// The keyboard: what each key does, and the list of them.

import { button, make } from "./dom.js";

const keys = new Map();

// Whether the person is writing, so that letters are letters.
const isWriting = (target) => target instanceof Element && target.matches("input:not([type=checkbox]), textarea, select");

// Gives a key something to do wherever nobody writes.
export function bind(key, meaning, work) {
  keys.set(key, { meaning, work });
}

const ALWAYS = [
  ["Enter", "打开选中的工单"],
  ["Alt + 1 / 2 / 3", "采用第几条建议回复"],
  ["Ctrl + Enter", "发送回复"],
  ["Esc", "离开输入框，关闭对话框"],
];

export function showKeys() {
  if (document.querySelector("dialog.keys")) return;
  const rows = [...[...keys].map(([key, { meaning }]) => [key, meaning]), ...ALWAYS];
  const dialog = make("dialog", { class: "keys", "aria-label": "键盘快捷键", onclose: () => dialog.remove() },
    make("h2", {}, "键盘快捷键"),
    make("dl", {}, rows.flatMap(([key, meaning]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, meaning)])),
    make("div", { class: "row end" }, button("知道了", () => dialog.close(), { class: "main" })));
  document.body.append(dialog);
  dialog.showModal();
}

export function listen() {
  bind("?", "显示快捷键", showKeys);
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && isWriting(event.target)) return event.target.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
    const found = keys.get(event.key);
    if (!found) return;
    event.preventDefault();
    found.work();
  });
}
