// Builds tables whose rows become cards on a narrow screen.

import { element } from "./dom.js";

// Where a style sheet turns rows into blocks, browsers forget that they are a table unless roles say so.
const cellOf = (name, cell) => element("td", { role: "cell" }, element("span", { class: "name", "aria-hidden": "true" }, name), cell);

/** Return rows for a table with these headings; cells are texts or elements. */
export const stackedRows = (headings, rows) =>
  rows.map((cells) => element("tr", { role: "row" }, cells.map((cell, index) => cellOf(headings[index], cell))));

/** Return the head of a table. */
export const stackedHead = (headings) =>
  element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, headings.map((name) => element("th", { scope: "col", role: "columnheader" }, name))));

/** Return a table with a label; on a wide screen it scrolls sideways if it must. */
export function stackedTable(label, headings, rows) {
  const body = element("tbody", { role: "rowgroup" }, stackedRows(headings, rows));
  const made = element("table", { class: "stack", role: "table", "aria-label": label }, stackedHead(headings), body);
  return element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `${label}, table` }, made);
}

/** Add rows to a table, and move the focus to the first of them. */
export function addRows(table, headings, rows) {
  const added = stackedRows(headings, rows);
  table.querySelector("tbody").append(...added);
  if (!added.length) return;
  added[0].tabIndex = -1;
  added[0].focus();
}
