// Draws one chosen file: what it is, what is wrong with it, its columns, its first rows and its check.

import { problemOf, unreadLetters } from "./advice.js";
import { button, element } from "./dom.js";
import { lettersPart, matchingPart } from "./matching.js";
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

function describe({ file, seen, kind, checking }) {
  const size = sizeOf(file.size);
  if (checking) return `${size}. Checking all of its lines …`;
  if (!seen) return `${size}.`;
  const packed = seen.container && seen.container !== "plain" ? "compressed " : "";
  const form = { csv: "table", jsonl: "list of records (JSON Lines)" }[seen.format];
  const holds = seen.readable && kind ? `${KINDS[kind]}, ` : "";
  return `${holds}${form ? `${packed}${form}, ` : ""}${size}.${seen.readable ? rowsOf(seen) : ""}`;
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
    lettersPart(chosen),
    chosen.isReplacement && element("p", { class: "help" }, "It takes the place of the file with this name that you chose before. If you need both, rename one of them, and choose both."),
    ...(chosen.isEmpty ? [] : seen?.notices ?? []).map((notice) => element("p", { class: "notice" }, plain(notice))),
    foldedMatching(chosen, prefix),
    seen && !chosen.isEmpty && rowsPart(chosen),
    checked && (checked.readable ? checkedPart(checked, seen) : element("p", { class: "problem", role: "alert" }, plain(checked.problem))),
  ];
}

// The choices are folded if the service has recognized everything by itself.
function foldedMatching(chosen, prefix) {
  const matching = matchingPart(chosen, prefix);
  if (!matching || !chosen.seen.readable || chosen.origin || chosen.unfolded) return matching;
  const fold = element("details", { class: "fold" }, element("summary", {}, "Change what it holds, its letters or its columns"), matching);
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
