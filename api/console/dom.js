// Elements. Everything goes in as text, as a property or as an attribute of ours; nothing is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

// An element. A property that begins with `on` is a listener; children are nodes or texts, and null leaves one out.
export function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

// An element of a drawing.
export function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function button(label, onclick, properties = {}) {
  return make("button", { type: "button", onclick, ...properties }, label);
}

// A short word in a coloured frame. The colour only repeats what the word says.
export function pill(kind, text, title) {
  return make("span", { class: "pill " + kind, title }, text);
}

// A choice; `options` are pairs of value and label.
export function choice(options, selected, properties = {}) {
  const node = make("select", properties, options.map(([value, label]) => make("option", { value }, label)));
  node.value = selected ?? "";
  return node;
}

// A field with its label above it.
export function field(label, input) {
  return make("label", { class: "field" }, make("span", {}, label), input);
}

// A table of texts or nodes.
export function table(heads, rows, caption) {
  return make("div", { class: "table", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {},
      make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, rows.map((cells) => make("tr", {}, cells.map((cell) => make("td", {}, cell ?? "")))))));
}

// What is shown where there is nothing to show.
export function empty(text) {
  return make("p", { class: "empty" }, text);
}
