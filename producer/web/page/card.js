// Draws one chosen file: what it is, what is wrong with it, its columns, its first rows and its check.

import { doubtsAbout, packageProblem, problemOf, unreadLetters } from "./advice.js";
import { button, element } from "./dom.js";
import { MOST_SHOWN } from "./files.js";
import { lettersPart, matchingPart, sheetPart } from "./matching.js";
import { noticesOf, packagePart } from "./package.js";
import { reasonOf } from "./reasons.js";
import { checkedPart, columnOf, understoodRows } from "./rows.js";
import { counted, KINDS, plain, sizeOf } from "./words.js";

let cards = 0;

/** Return the card of a chosen file; `remove` takes it off the list, `changed` is called after each change. */
export function card(chosen, remove, changed) {
  const prefix = `file-${(cards += 1)}`;
  const node = element("article", { class: "card", "aria-labelledby": `${prefix}-title` });
  const what = element("p", { class: "what", role: "status" });
  const body = element("div", { class: "body" });
  node.append(
    element("header", {}, element("h2", { id: `${prefix}-title` }, chosen.file.name),
      button("Remove", remove, { class: "plain small", "aria-label": `Remove ${chosen.file.name}` })),
    what, body);

  function draw() {
    const sentence = describe(chosen);
    node.setAttribute("aria-busy", String(chosen.looking));
    if (what.textContent !== sentence) what.textContent = sentence;
    const focused = body.contains(document.activeElement) ? document.activeElement : null;
    body.replaceChildren(...parts(chosen, prefix).filter(Boolean));
    // The choices are drawn again, so the focus goes back to the one that was just made.
    if (focused?.id) document.getElementById(focused.id)?.focus();
    else if (focused) { what.tabIndex = -1; what.focus(); }
    changed();
  }

  chosen.addEventListener("news", draw);
  draw();
  return node;
}

function describe(chosen) {
  const { file, seen, kind, checking } = chosen, size = sizeOf(file.size);
  if (checking) return `${size}. Reading all of its lines …`;
  if (!seen) return `${size}.`;
  if (chosen.isPackage) return describePackage(chosen, size);
  if (seen.isUnseen && !chosen.checked) return `A zip archive or workbook, ${size}.`;
  const packed = seen.container === "workbook" ? `sheet “${seen.inner}” of a workbook` : seen.container ? "compressed table" : "table";
  const form = { csv: packed, jsonl: "list of records (JSON Lines)" }[seen.format];
  const holds = seen.readable && kind ? `${KINDS[kind]}${seen.system ? ` from ${seen.system}` : ""}, ` : "";
  return `${holds}${form ? `${form}, ` : ""}${size}.${seen.readable && !seen.isUnseen ? rowsOf(seen) : ""}`;
}

function describePackage({ checked }, size) {
  if (!checked?.readable) return `A package of several files, ${size}.`;
  const from = checked.system ? ` from ${checked.system}` : "";
  return `A package of ${counted(checked.files.length, "file")}${from}, ${size}. ${counted(checked.rows, "row")}.`;
}

// A line that would be refused is a row of hers as well.
function rowsOf({ row_count: good, lines, truncated }) {
  const refused = lines?.refused ?? 0, rows = counted(good + refused, "row");
  if (truncated) return ` More than ${rows}.`;
  if (!refused) return ` ${rows}.`;
  return ` ${rows}; ${good ? counted(refused, "line") : "all lines"} would be refused.`;
}

function parts(chosen, prefix) {
  const { seen, checked } = chosen, problem = problemOf(chosen);
  return [
    problem && element("p", { class: "problem", role: "alert" }, problem),
    seen?.isUnseen && !checked && element("p", { class: "notice" }, `It is larger than ${sizeOf(MOST_SHOWN)}, so what it holds is shown once you press Check.`),
    lettersPart(chosen),
    chosen.isReplacement && element("p", { class: "help" }, "It takes the place of the file with this name that you chose before. If you need both, rename one of them, and choose both."),
    ...doubtsAbout(chosen).map((sentence) => element("p", { class: "notice" }, sentence)),
    ...(seen && !seen.isUnseen && !seen.isPackage && !chosen.isEmpty ? noticesOf(seen) : []),
    sheetPart(chosen, prefix),
    foldedMatching(chosen, prefix),
    seen && !chosen.isEmpty && (seen.isPackage || seen.isUnseen ? checked?.readable && wholePart(checked) : rowsPart(chosen)),
    checked && (checked.readable ? checkedPart(checked, seen?.columns ? seen : checked) : element("p", { class: "problem", role: "alert" }, chosen.isPackage ? packageProblem(checked.problem) : plain(checked.problem))),
  ];
}

// What a check says of a file that was not looked at before.
function wholePart(checked) {
  if (checked.files.length) return packagePart(checked);
  return element("div", {}, noticesOf(checked), checked.first_rows.length > 0 && understoodRows(checked.first_rows, false));
}

// The choices are folded if the service has recognized everything by itself.
function foldedMatching(chosen, prefix) {
  const matching = matchingPart(chosen, prefix);
  const isUnclear = !chosen.seen?.readable || chosen.checked?.readable === false;
  if (!matching || isUnclear || chosen.origin || chosen.unfolded) return matching;
  const fold = element("details", { class: "fold" }, element("summary", {}, chosen.isPackage ? "Change which system it comes from" : "Change what it holds, its letters or its columns"), matching);
  fold.addEventListener("toggle", () => { chosen.unfolded ||= fold.open; });
  return fold;
}

function rowsPart(chosen) {
  const { seen, choices } = chosen;
  if (!seen.readable) return seen.raw_lines.length && seen.columns ? rawPart(seen) : null;
  const others = seen.refused.filter((line) => !unreadLetters(chosen).includes(line)).slice(0, 3);
  const nameOf = columnOf(seen);
  return element("div", {},
    element("h3", {}, "The first rows as they are understood"),
    seen.rows.length ? understoodRows(seen.rows, choices.drop) : element("p", {}, "No row at the beginning of this file can be read."),
    seen.ignored?.length > 0 && element("p", { class: "help" }, `Not used: ${seen.ignored.map((name) => name || "a column without a name").join(", ")}. These columns come back with refused lines.`),
    others.length > 0 && !chosen.checked && element("div", { class: "notice" }, element("p", {}, "At the beginning of this file, these lines would be refused:"),
      element("ul", {}, others.map((line) => element("li", {}, `Line ${line.line}: ${reasonOf(line, nameOf)}`)))));
}

function rawPart(seen) {
  return element("details", {}, element("summary", {}, "Show the first lines of the file"), element("ol", {}, seen.raw_lines.map((line) => element("li", {}, element("code", {}, line)))));
}
