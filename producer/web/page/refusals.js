// Shows the refused lines of an upload by cause and by mistake, each with a likely reason.

import { call } from "./api.js";
import { ownColumns, shownCell } from "./corrections.js";
import { element, saveFile } from "./dom.js";
import { batchAddress } from "./ids.js";
import { causeOf, likelyReasons, mistakesIn, reasonOf } from "./reasons.js";
import { addRows, stackedTable } from "./stacked.js";
import { count, counted } from "./words.js";

const SHOWN = 5;
const PAGE = 100;
const EXAMINED = 1000;

/** Return a page of the refused lines of an upload; `code` is that of a cause. */
export async function refusedLines(batchId, { after, code, limit = PAGE } = {}) {
  const query = new URLSearchParams({ limit, ...(after && { after }), ...(code && { code }) });
  return (await call(`/batches/${encodeURIComponent(batchId)}/errors/lines?${query}`)).json();
}

/** Return what our columns are called in a file: a function from our name to hers, or null. */
export function namesOfColumns({ columns, mapping, sources }) {
  const plain = (name) => name.replace(/[\s_-]/g, "").toLowerCase();
  const names = new Map((columns ?? []).map((name) => [plain(name), name]));
  const both = { student_id: "student_sis_id", course_id: "course_sis_id", course_ids: "course_sis_id", student_sis_id: "student_id", course_sis_id: "course_id" };
  return (field) => {
    const source = sources?.[field]?.find((name) => columns.includes(name)) ?? (columns?.includes(field) ? field : null);
    if (source) return source;
    for (const name of [field, both[field]].filter(Boolean)) {
      const template = mapping?.[name];
      const inner = template && /^\{([^{}]*)\}$/.exec(template)?.[1];
      const shown = inner ?? (template ? null : names.get(plain(name)));
      if (shown) return shown;
    }
    return null;
  };
}

/** Return the section about the refused lines of an upload that is done or in progress. */
export async function refusalsSection(status) {
  const section = element("section", { "aria-labelledby": "refused" }, element("h2", { id: "refused" }, "What was refused, and why"));
  const causes = await Promise.all(status.refusals.map((group) => causePart(status, group)));
  section.append(...causes.map(({ part }) => part), ...(causes.some(({ isTable }) => isTable) ? waysOut(status) : waysOutOfRecords(status)));
  return section;
}

function waysOut(status) {
  return [
    element("div", { class: "row" },
      element("a", { class: "button", href: batchAddress(status.batch_id, "/repair") }, "Correct the lines here"),
      download(status, "spreadsheet", "Download for a spreadsheet"), download(status, "submission", "Download for a text editor")),
    element("p", { class: "faint" }, "Either file can be corrected and sent again as it is: the columns in front, which say what is wrong, do no harm."),
  ];
}

/** Return how refused lines without columns are corrected: not on this page. */
export function waysOutOfRecords(status) {
  return [
    element("p", {}, "This file was written by a program and has no columns, so its lines cannot be corrected on this page. Correct the data where the file comes from, and send it again. Or download the refused lines, correct them in a text editor, and send that file."),
    element("div", { class: "row" }, download(status, "records", "Download the refused lines")),
  ];
}

async function causePart(status, group) {
  const { title, advice } = causeOf(group.code);
  const part = element("div", { class: "cause" }, element("h3", {}, `${title}: ${counted(group.count, "line")}`), element("p", {}, advice));
  const likely = likelyReasons(group);
  if (likely.length) part.append(element("p", {}, "Likely reason:"), element("ul", {}, ...likely.map((text) => element("li", {}, text))));
  const read = await examined(status.batch_id, group.code), columnOf = namesOfColumns(read);
  const mistakes = group.code === "invalid_request" ? mistakesIn(read.lines) : [{ lines: read.lines }];
  const isAll = read.next === null;
  if (!isAll) part.append(element("p", { class: "faint" }, `These are the first ${count(read.lines.length)}. The download has all of them.`));
  part.append(...mistakes.map((mistake) => mistakePart(read, mistake, columnOf)));
  return { part, isTable: Boolean(read.columns) };
}

async function examined(batchId, code) {
  const read = await refusedLines(batchId, { code });
  while (read.next !== null && read.lines.length < EXAMINED) {
    const more = await refusedLines(batchId, { code, after: read.next });
    read.lines.push(...more.lines);
    read.next = more.next;
  }
  return read;
}

// A line that is not a record is shown as it is.
const recordOf = ({ record, cells }) => (record === null ? shownCell((cells ?? []).join(" ")) : JSON.stringify(record));

// One mistake with its lines; the first ones are shown at once.
function mistakePart(read, { first, lines }, columnOf) {
  const isAll = read.next === null;
  const own = read.columns ? ownColumns(read.columns) : [];
  // Where all lines have the same reason, it stands above them.
  const isSame = first && lines.every((line) => reasonOf(line, columnOf) === reasonOf(first, columnOf));
  const names = ["Line", ...(read.columns ? own.map((index) => read.columns[index]) : ["Record"]), ...(isSame ? [] : ["Reason"])];
  const rowOf = (line) => [
    count(line.line),
    ...(read.columns ? own.map((index) => shownCell(line.cells?.[index] ?? "")) : [recordOf(line)]),
    ...(isSame ? [] : [reasonOf(line, columnOf)]),
  ];
  const label = first ? `Lines with this mistake: ${reasonOf(first, columnOf)}` : "Refused lines";
  const shown = stackedTable(label, names, lines.slice(0, SHOWN).map(rowOf));
  const part = element("div", {}, first ? element("h4", {}, `${reasonOf(first, columnOf)} ${lines.length > 1 ? `(${count(lines.length)} lines)` : ""}`) : "", shown);
  if (lines.length > SHOWN) {
    const more = element("button", { type: "button", class: "plain" }, `Show ${isAll ? "all" : "the first"} ${count(lines.length)} lines`);
    more.addEventListener("click", () => {
      addRows(shown, names, lines.slice(SHOWN).map(rowOf));
      more.remove();
    });
    part.append(element("div", { class: "row" }, more));
  }
  return part;
}

const NAMES = { spreadsheet: "refused-spreadsheet.csv", submission: "refused.csv", records: "refused.jsonl" };

/** Return a button that saves the refused lines of an upload; `form` says for what. */
export function download(status, form, text) {
  const button = element("button", { type: "button", class: "plain" }, text);
  button.addEventListener("click", async () => {
    const path = `/batches/${encodeURIComponent(status.batch_id)}/errors`, isRecords = form === "records";
    const response = await (isRecords
      ? call(path, { headers: { Accept: "application/jsonl" } })
      : call(`${path}?${new URLSearchParams({ form })}`, { headers: { Accept: "text/csv" } }));
    saveFile(NAMES[form], await response.blob());
  });
  return button;
}
