// Files beside the conversation of the chat page: how they are sent, and how those that came are shown. `page` is what the chat
// page lends: its `make` and `scrollDown`, and functions that tell its `key` and `session`.

const keyHeader = (page) => (page.key() ? { Authorization: "Bearer " + page.key() } : {});
const filesPath = (page) => "/v1/sessions/" + encodeURIComponent(page.session()) + "/attachments";

// Fetches a file with the page's key and gives an address for it in this tab.
async function fileAddress(page, file) {
  const response = await fetch(filesPath(page) + "/" + encodeURIComponent(file.id), { headers: keyHeader(page), cache: "no-store" });
  if (!response.ok) throw new Error("status " + response.status);
  return URL.createObjectURL(await response.blob());
}

// Shows the files of a turn in its node: pictures small, others as links that save them.
export function showFiles(page, node, files) {
  for (const file of files || []) {
    const link = page.make("a", "file", "📎 " + file.name);
    link.href = "#";
    link.addEventListener("click", async (event) => {
      if (link.hasAttribute("download")) return;
      event.preventDefault();
      try {
        link.href = await fileAddress(page, file);
        link.download = file.name;
        link.click();
      } catch { link.textContent = file.name + "（暂时打不开）"; }
    });
    node.append(link);
    if (file.type.startsWith("image/")) {
      fileAddress(page, file).then((source) => {
        const picture = page.make("img");
        picture.src = source;
        picture.alt = file.name;
        link.replaceChildren(picture);
        page.scrollDown();
      }, () => { /* the link still names it */ });
    }
  }
}

// Sends a file and gives the service's answer, `null` where there was none.
export async function sendFile(page, file, id) {
  const query = new URLSearchParams({ name: file.name || "文件", message_id: id, channel: "web" });
  const headers = { "Content-Type": file.type || "application/octet-stream", ...keyHeader(page) };
  try {
    const response = await fetch(filesPath(page) + "?" + query, { method: "POST", headers, body: file });
    return await response.json();
  } catch {
    return null;
  }
}

// The button beside the text; `send` gets the file that was chosen.
export function attachButton(page, form, before, send) {
  const input = page.make("input");
  input.type = "file";
  input.id = "file";
  input.hidden = true;
  const button = page.make("button", "", "图片/文件");
  button.type = "button";
  button.id = "attach";
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const file = input.files[0];
    input.value = "";
    if (file) send(file);
  });
  form.insertBefore(button, before);
  form.append(input);
}
