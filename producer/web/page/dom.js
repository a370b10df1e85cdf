// Builds elements. What comes from a file or the service is inserted as text, never as markup.

/** Return a new element; attributes that are null, undefined or false are left out, and so are such children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** Return a new element of SVG. */
export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/** Return a table with a label, in a box that scrolls sideways; cells are texts or elements. */
export function table(label, headings, rows) {
  const head = element("tr", {}, headings.map((heading) => element("th", { scope: "col" }, heading)));
  const body = rows.map((cells) => element("tr", {}, cells.map((cell) => element("td", {}, cell))));
  const made = element("table", { "aria-label": label }, element("thead", {}, head), element("tbody", {}, body));
  // Without a tabindex, some browsers cannot scroll the box with the keyboard.
  return element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `${label}, table` }, made);
}

/** Return a button that runs `action`; `more` are further attributes. */
export function button(text, action, more = {}) {
  return element("button", { type: "button", onclick: action, ...more }, text);
}

let ids = 0;

/** Return a control with its label above it; `control` gets an id if it has none. */
export function field(label, control, help = null) {
  control.id ||= `field-${(ids += 1)}`;
  const note = help && element("span", { class: "help", id: `${control.id}-help` }, help);
  if (note) control.setAttribute("aria-describedby", note.id);
  return element("div", { class: "field" }, element("label", { for: control.id }, label), control, note);
}

/** Return a list to choose from; `options` are pairs of a value and its text. */
export function select(options, chosen, changed) {
  const made = element("select", { onchange: () => changed(made.value) });
  made.append(...options.map(([value, text]) => element("option", { value }, text)));
  made.value = chosen;
  return made;
}

/** Save content, a Blob, as a file of the reader's. */
export function saveFile(name, content) {
  const link = element("a", { download: name });
  link.href = URL.createObjectURL(content);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Move the focus to an element that normally has none, such as a heading. */
export function focusOn(target) {
  if (!target) return;
  if (!target.hasAttribute("tabindex")) target.tabIndex = -1;
  target.focus();
}
