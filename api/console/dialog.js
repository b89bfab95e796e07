// Asks for what an action needs before it is done.

import { Failure } from "./api.js";
import { button, choice, field, make } from "./dom.js";

// Asks for texts and does `work` with them; the dialog stays open, with what was written, when that fails.
// A question: { name, label, required, long, options, choices, value, when }. `choices` are pairs of value and label; `when` names
// another question and the answers to it that make this one asked.
export function ask(title, hint, confirm, questions, work) {
  const inputs = {};
  const fields = questions.map(({ name, label, required, long, options, choices, value, type, when }, index) => {
    const list = options && "options-" + name;
    const properties = { name, required, maxlength: long ? 20000 : 128, autofocus: index === 0, autocomplete: "off", value };
    inputs[name] = choices ? choice(choices, value ?? choices[0]?.[0], { name }) : long ? make("textarea", { rows: 3, ...properties }) : make("input", { list, type, ...properties });
    const node = field(label + (required || choices ? "" : "（可不填）"), inputs[name]);
    if (when) {
      const show = () => { node.hidden = !when.values.includes(inputs[when.name].value.trim()); };
      inputs[when.name].addEventListener("input", show);
      show();
    }
    return [
      node,
      options ? make("datalist", { id: list }, options.map((option) => make("option", { value: option }))) : null,
    ];
  });
  const problem = make("p", { class: "problem", role: "alert" });
  const done = button(confirm, null, { type: "submit", class: "main" });
  const form = make("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      done.disabled = true;
      problem.textContent = "";
      const answers = Object.entries(inputs).filter(([, input]) => !input.parentElement.hidden).map(([name, input]) => [name, input.value.trim()]);
      try {
        await work(Object.fromEntries(answers.filter(([, text]) => text)));
        dialog.close();
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure;
        problem.textContent = failure.message + (failure.hint ? "。" + failure.hint : "");
      } finally {
        done.disabled = false;
      }
    },
    onkeydown: (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    },
  },
  make("h2", {}, title), hint ? make("p", { class: "quiet" }, hint) : null, fields, problem,
  make("div", { class: "row end" }, button("取消", () => dialog.close()), done));
  const dialog = make("dialog", { "aria-label": title, onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
}
