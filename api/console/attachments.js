// Files beside a conversation: small pictures and links, and three ways to send one: a button, dragging, pasting.

import { address, ticketPath, upload } from "./api.js";
import { button, make } from "./dom.js";
import { attempt, say } from "./notice.js";

const isPicture = (file) => file.type.startsWith("image/");

function size(bytes) {
  if (bytes < 1024) return bytes + " B";
  if (bytes < 1024 * 1024) return Math.round(bytes / 1024) + " KB";
  return (bytes / 1024 / 1024).toFixed(1) + " MB";
}

// The files of a turn or a note, or nothing.
export function files(attachments) {
  if (!attachments || !attachments.length) return null;
  return make("div", { class: "files" }, attachments.map((file) => {
    const href = "/v1/attachments/" + encodeURIComponent(file.id);
    return make("a", { class: isPicture(file) ? "picture" : "file", href, target: "_blank", rel: "noopener noreferrer", title: file.name + "，" + size(file.bytes) },
      isPicture(file) ? make("img", { src: href, alt: file.name, loading: "lazy" }) : ["📎 " + file.name, make("span", { class: "quiet" }, " " + size(file.bytes))]);
  }));
}

// What lets a person send files with a ticket: nodes for below the reply, and an area onto which files are dragged or pasted.
// `done` is told when one was sent.
export function sender(ticketId, area, done) {
  const inside = make("input", { type: "checkbox", name: "inside" });
  const input = make("input", { type: "file", name: "file", multiple: true, hidden: true, onchange: async () => {
    await send([...input.files]);
    input.value = "";
  } });

  async function send(chosen) {
    for (const file of chosen) {
      await attempt(async () => {
        await upload(address(ticketPath(ticketId, "attachments"), { name: file.name || "文件", inside: inside.checked || null }), file);
        say((inside.checked ? "已存给同事：" : "已发送：") + file.name);
        await done();
      });
    }
  }

  const take = (event, data) => {
    if (!data || !data.files.length || area.hidden) return;
    event.preventDefault();
    send([...data.files]);
  };
  area.addEventListener("paste", (event) => take(event, event.clipboardData));
  area.addEventListener("drop", (event) => take(event, event.dataTransfer));
  area.addEventListener("dragover", (event) => event.preventDefault());
  return [
    button("图片/文件", () => input.click(), { class: "small", "data-action": "attach" }),
    make("label", { class: "tick quiet" }, inside, "只给同事看"),
    input,
  ];
}
