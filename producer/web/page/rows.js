// Shows rows as they are understood, and lines that would be refused.

import { element, table } from "./dom.js";
import { reasonOf } from "./reasons.js";
import { stackedTable } from "./stacked.js";
import { count, counted, listed } from "./words.js";

const NAMES = {
  student_id: "Student", student_sis_id: "Student", student_key: "Student's number here", student: "Student",
  course_id: "Course", course_sis_id: "Course", course_key: "Course's number here", course_ids: "Courses", drop_course_ids: "Courses to drop",
  sis_id: "Id", name: "Name", email: "E-mail address", title: "Title", action: "Enroll or drop", reason: "Reason", as_of: "Counts from",
};

const textOf = (value) => (value === null || value === undefined ? "" : Array.isArray(value) ? value.join(", ") : String(value));

/** Return a table of rows as they are understood; `isDrop` is set if each line drops its student. */
export function understoodRows(rows, isDrop, label = "The first rows as they are understood") {
  const names = [...new Set(rows.flatMap(({ fields }) => Object.keys(fields)))];
  const cells = rows.map(({ line, fields }) => [count(line), ...names.map((name) => textOf(fields[name]))]);
  if (isDrop && !names.includes("action")) {
    names.push("action");
    cells.forEach((row) => row.push("drop"));
  }
  return table(label, ["Line", ...names.map((name) => NAMES[name] ?? name)], cells);
}

/** Return a function from the name of our column to hers; `seen` is a preview. */
export function columnOf(seen) {
  const sources = new Map((seen.mapping ?? []).map(({ column, header, template }) => [column, header ?? /^\{([^{}]*)\}$/.exec(template)?.[1] ?? null]));
  const columns = seen.columns ?? [];
  const isHers = (field) => columns.includes(field) || field.split(" or ").every((name) => columns.includes(name));
  // A check does not say what our columns are made from.
  return (field) => sources.get(field) ?? (isHers(field) ? field : (!seen.mapping && NAMES[field]) || null);
}

/** Return what a check of a whole file found; of a package, the mistakes stand beside each file. */
export function checkedPart(checked, seen) {
  if (checked.lines.refused && checked.files?.length) {
    return element("p", { class: "notice" }, `Checked: ${counted(checked.rows, "row")} can be read, and ${counted(checked.lines.refused, "line")} would be refused. Nothing was sent.`);
  }
  if (!checked.lines.refused) {
    const rows = checked.rows === 1 ? "the only row" : `all ${counted(checked.rows, "row")}`;
    const roster = checked.kind === "enrollments" ? " Whether the roster has the students and courses shows when the file is sent." : "";
    return element("p", { class: "ready" }, `Checked: ${rows} can be read.${roster}`);
  }
  const nameOf = columnOf(seen);
  const rows = checked.groups.map((group) => [
    reasonOf({ message: group.example, field: group.field }, nameOf), count(group.count), listed(group.first_lines.map(count)),
  ]);
  return element("div", {},
    element("p", { class: "notice" }, `Checked: ${counted(checked.rows, "row")} can be read, and ${counted(checked.lines.refused, "line")} would be refused. Nothing was sent. Correct the file and choose it again, or send it as it is and correct these lines here afterwards.`),
    stackedTable("Mistakes", ["What is wrong (for example)", "Lines", "First lines"], rows),
    linesPart(checked, nameOf));
}

const SHOWN = 100;

function linesPart({ refused, columns, lines }, nameOf) {
  const shown = refused.slice(0, SHOWN), widest = Math.max(0, ...shown.map(({ cells }) => cells?.length ?? 0));
  const names = [...(columns ?? [])].concat(Array(Math.max(0, widest - (columns?.length ?? 0))).fill("Further cell"));
  const cells = shown.map(({ line, cells: own, field, message }) => [
    count(line), ...names.map((_, index) => (own?.[index] ?? "").replace(/[\ufdd0-\ufdef]+/g, "\ufffd")), reasonOf({ message, field }, nameOf),
  ]);
  const more = lines.refused > shown.length ? `The first ${shown.length} of ${counted(lines.refused, "line")}` : counted(lines.refused, "line");
  return element("details", {}, element("summary", {}, `Show the lines (${more.toLowerCase()})`), table("Lines that would be refused", ["Line", ...names.map((name) => name || "Column without a name"), "What is wrong"], cells));
}
