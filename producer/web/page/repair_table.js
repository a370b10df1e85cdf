// Draws refused lines as a table of cells that can be edited with the keyboard alone.

import { ownColumns, shownCell } from "./corrections.js";
import { element } from "./dom.js";
import { reasonOf } from "./reasons.js";
import { namesOfColumns } from "./refusals.js";
import { stackedHead } from "./stacked.js";
import { count } from "./words.js";

/** Merge the refusals of each line: [{line, cells, refusals}], in the order of the lines. */
export function mergedLines(refusals) {
  const lines = new Map();
  for (const refusal of refusals) {
    if (!lines.has(refusal.line)) lines.set(refusal.line, { line: refusal.line, cells: null, refusals: [] });
    const merged = lines.get(refusal.line);
    merged.cells ??= refusal.cells;
    merged.refusals.push(refusal);
  }
  return [...lines.values()];
}

/**
 * Return the table of these lines as `element`, its `helpers` (buttons), and `selectAll`. `edited` gets each line that she
 * changes or ticks, and `changed` is called afterwards; `meant` holds ids that were probably meant.
 */
export function repairTable({ read, lines, edited, meant, changed }) {
  const widest = Math.max(read.columns.length, ...lines.map(({ cells }) => cells?.length ?? 0));
  const names = Array.from({ length: widest }, (_, index) => read.columns[index] ?? `Cell ${index + 1}`);
  const own = ownColumns(names), context = { read, edited, meant, changed, names, own, columnOf: namesOfColumns(read) };
  const rows = lines.map((line) => new Row(context, line));
  context.rows = rows;
  const head = stackedHead(["Send", "Line", "What is wrong", ...own.map((index) => names[index])]);
  const table = element("table", { class: "stack edit", role: "table", "aria-label": "Refused lines" },
    head,
    element("tbody", { role: "rowgroup" }, ...rows.map((row) => row.element)));
  table.addEventListener("keydown", (event) => moveByKey(event, rows));
  const scroll = element("div", { class: "scroll", role: "region", "aria-label": "Refused lines, to correct", tabindex: 0 }, table);
  return { element: scroll, helpers: suggestAll(rows), selectAll: () => { for (const row of rows) row.select(true); changed(); } };
}

class Row {
  constructor(context, { line, cells, refusals }) {
    Object.assign(this, { context, line, refusals });
    this.original = context.names.map((_, index) => cells?.[index] ?? "");
    const entry = context.edited[line];
    this.cells = entry ? context.names.map((_, index) => entry.cells[index] ?? "") : [...this.original];
    this.fields = context.own.map((index) => this.field(index));
    this.tick = element("input", { type: "checkbox", "aria-label": `Send line ${line}`, checked: Boolean(entry?.send) });
    this.tick.addEventListener("change", () => { this.select(this.tick.checked); context.changed(); });
    this.element = this.draw(entry);
    this.mark();
  }

  draw(entry) {
    const { names, own } = this.context;
    const cell = (name, ...content) => element("td", { role: "cell" }, element("span", { class: "name", "aria-hidden": "true" }, name), ...content);
    const problems = entry?.problem ? [entry.problem] : this.refusals;
    const reasons = [...new Set(problems.map((problem) => reasonOf(problem, this.context.columnOf)))];
    return element("tr", { role: "row", "data-line": this.line },
      cell("Send", element("label", { class: "tick" }, this.tick)),
      element("th", { scope: "row", role: "rowheader" }, element("span", { class: "name", "aria-hidden": "true" }, "Line "), count(this.line)),
      element("td", { role: "cell", id: `wrong-${this.line}`, class: "wrong" },
        ...(entry?.problem ? [element("strong", {}, "Came back: ")] : []), ...reasons.map((text) => element("div", {}, text))),
      ...own.map((index, place) => cell(names[index], this.fields[place], this.helps[place])));
  }

  get helps() {
    return (this.helpElements ??= this.context.own.map(() => element("div", { class: "help" })));
  }

  field(index) {
    const value = shownCell(this.cells[index]), isLong = /[\r\n]/.test(value);
    const field = element(isLong ? "textarea" : "input", {
      "aria-label": `${this.context.names[index]}, line ${this.line}`, "aria-describedby": `wrong-${this.line}`, autocomplete: "off", spellcheck: "false",
    });
    field.value = value;
    field.dataset.column = index;
    // The offer appears while she types: if it came when she leaves the field, it would push away the button that she clicks.
    field.addEventListener("input", () => { this.set(index, field.value); this.offerSame(index); });
    return field;
  }

  fieldOf(index) {
    return this.fields[this.context.own.indexOf(index)];
  }

  /** Put a text into a cell; the line is then sent, unless it is as it was. */
  set(index, text) {
    this.cells[index] = text;
    const field = this.fieldOf(index);
    if (field.value !== text) field.value = text;
    this.select(this.cells.some((cell, at) => cell !== this.original[at]));
    this.context.changed();
  }

  revert(index) {
    this.set(index, this.original[index]);
    const field = this.fieldOf(index);
    field.value = shownCell(this.original[index]);
  }

  select(isSent) {
    const { edited } = this.context, isChanged = this.cells.some((cell, at) => cell !== this.original[at]);
    this.tick.checked = isSent;
    if (isSent || isChanged) edited[this.line] = { ...edited[this.line], cells: this.trimmed(), send: isSent };
    else delete edited[this.line];
    this.mark();
  }

  // Cells beyond the header are left out once they are empty.
  trimmed() {
    const cells = [...this.cells];
    while (cells.length > this.context.read.columns.length && !cells.at(-1).trim()) cells.pop();
    return cells;
  }

  mark() {
    this.element.classList.toggle("chosen", this.tick.checked);
    for (const [place, index] of this.context.own.entries()) {
      const isWrong = this.isWrong(index), isChanged = this.cells[index] !== this.original[index];
      if (isWrong && !isChanged) this.fields[place].setAttribute("aria-invalid", "true");
      else this.fields[place].removeAttribute("aria-invalid");
      this.fields[place].classList.toggle("changed", isChanged);
      const meant = this.suggestion(index), help = this.helps[place];
      help.replaceChildren(...(meant && !isChanged ? [this.helpButton(`Use “${meant}”`, () => this.set(index, meant), index)] : []));
    }
  }

  suggestion(index) {
    const text = this.cells[index].trim();
    const refusal = this.refusals.find((each) => each.code.startsWith("unknown_") && this.isAbout(each, index));
    // A worker of an older version knows only the examples of the upload as a whole.
    return refusal && (refusal.meant?.[text] ?? this.context.meant.get(text));
  }

  isWrong(index) {
    return this.refusals.some((refusal) => this.isAbout(refusal, index));
  }

  isAbout({ code, field, message }, index) {
    const ours = field ?? { unknown_student: "student_id", unknown_course: "course_id" }[code];
    return ours ? this.columnOf(ours.replace(/\[\d+\]$/, "")) === this.context.names[index] : message.startsWith(`cell ${index + 1} `);
  }

  // Where the first column with text counts, it is the one that is wrong.
  columnOf(ours) {
    const { names, read, columnOf } = this.context;
    return read.sources?.[ours]?.find((name) => this.original[names.indexOf(name)]?.trim()) ?? columnOf(ours);
  }

  helpButton(text, work, index) {
    const button = element("button", { type: "button", class: "plain small" }, text);
    button.addEventListener("click", () => { work(); this.fieldOf(index).focus(); });
    return button;
  }

  // The same wrong text often stands in many lines.
  offerSame(index) {
    const [before, now] = [this.original[index], this.cells[index]];
    const others = this.context.rows.filter((row) => row !== this && row.isWrong(index) && row.cells[index] === before);
    if (before === now || !others.length) return;
    const lines = others.length === 1 ? "one other line" : `${others.length} other lines`;
    const work = () => { for (const row of others) row.set(index, now); help.replaceChildren(); };
    const help = this.helps[this.context.own.indexOf(index)];
    help.replaceChildren(this.helpButton(`Change “${shownCell(before)}” in ${lines}, too`, work, index));
  }
}

function suggestAll(rows) {
  const places = rows.flatMap((row) => row.context.own.filter((index) => row.suggestion(index)).map((index) => [row, index]));
  if (places.length < 2) return [];
  const button = element("button", { type: "button", class: "plain" }, `Use the likely id in ${places.length === 2 ? "both" : `all ${places.length}`} places`);
  button.addEventListener("click", () => {
    for (const [row, index] of places) if (row.suggestion(index)) row.set(index, row.suggestion(index));
    rows[0].fields[0].focus();
    button.remove();
  });
  return [button];
}

// Enter and the arrows move within a column; Escape brings back what was there.
function moveByKey(event, rows) {
  const column = event.target.dataset?.column;
  if (column === undefined || event.isComposing) return;
  const isLong = event.target.localName === "textarea";
  const step = { ArrowDown: 1, ArrowUp: -1, Enter: event.shiftKey ? -1 : 1 }[event.key];
  const at = rows.findIndex((row) => row.fields.includes(event.target));
  if (event.key === "Escape") rows[at].revert(Number(column));
  if (step === undefined || isLong) return;
  event.preventDefault();
  rows[at + step]?.fieldOf(Number(column)).focus();
}
