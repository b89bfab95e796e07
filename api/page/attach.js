// Files beside the conversation of the chat page: a button that sends one, and how those that came are shown. Loaded before
// chat.js, whose names it uses when it is called.
"use strict";

// Fetches a file with the page's key and gives an address for it in this tab.
async function fileAddress(file) {
  const headers = key ? { Authorization: "Bearer " + key } : {};
  const path = "/v1/sessions/" + encodeURIComponent(session) + "/attachments/" + encodeURIComponent(file.id);
  const response = await fetch(path, { headers, cache: "no-store" });
  if (!response.ok) throw new Error("status " + response.status);
  return URL.createObjectURL(await response.blob());
}

// Shows the files of a turn in its node: pictures small, others as links that save them.
function showFiles(node, files) {
  for (const file of files || []) {
    const link = make("a", "file", "📎 " + file.name);
    link.href = "#";
    link.addEventListener("click", async (event) => {
      if (link.hasAttribute("download")) return;
      event.preventDefault();
      try {
        link.href = await fileAddress(file);
        link.download = file.name;
        link.click();
      } catch { link.textContent = file.name + "（暂时打不开）"; }
    });
    node.append(link);
    if (file.type.startsWith("image/")) {
      fileAddress(file).then((source) => {
        const picture = make("img");
        picture.src = source;
        picture.alt = file.name;
        link.replaceChildren(picture);
        scrollDown();
      }, () => { /* the link still names it */ });
    }
  }
}

// The button beside the text, and what it sends.
function startAttaching() {
  const input = make("input");
  input.type = "file";
  input.id = "file";
  input.hidden = true;
  const button = make("button", "", "图片/文件");
  button.type = "button";
  button.id = "attach";
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const file = input.files[0];
    input.value = "";
    if (!file) return;
    const mine = round;
    const turn = addTurn("user", file.name || "文件");
    const headers = { "Content-Type": file.type || "application/octet-stream" };
    if (key) headers.Authorization = "Bearer " + key;
    const query = new URLSearchParams({ name: file.name || "文件", message_id: newId(), channel: "web" });
    let answer = null;
    try {
      const response = await fetch("/v1/sessions/" + encodeURIComponent(session) + "/attachments?" + query, { method: "POST", headers, body: file });
      answer = await response.json();
    } catch { /* told below */ }
    if (mine !== round) return;
    if (!answer || answer.error) {
      turn.remove();
      const told = answer ? answer.error.message + "。" + answer.error.hint : "连接不上服务，请检查网络后重试。";
      addTurn("error", told).setAttribute("role", "alert");
      return;
    }
    exists = true;
    turn.replaceChildren();
    showFiles(turn, [answer.attachment]);
    if (answer.reply) addTurn("bot", answer.reply);
    showOwner(answer.decision === "silent" ? "agent" : "bot", answer.ticket_id);
  });
  element("form").insertBefore(button, element("send"));
  element("form").append(input);
}
