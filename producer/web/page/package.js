// Describes the files of a package, as they will be understood.

import { plain } from "./words.js";
import { element } from "./dom.js";
import { checkedPart, understoodRows } from "./rows.js";
import { counted, KINDS, listed } from "./words.js";

const ROLES = ["teacher", "administrator", "aide", "parent", "guardian", "relative", "observer", "proctor", "designer"];
const NO_ROLE = "no student";
const PASSED_OVER = /passed over, because only students/;

/** Return who was passed over, in a sentence; null if every line is about a student. */
export function passedOver(counts) {
  const texts = Object.entries(counts ?? {}).map(([role, number]) => textOf(role, number));
  return texts.length ? `Passed over, because only students are enrolled: ${listed(texts)}.` : null;
}

function textOf(role, number) {
  if (ROLES.includes(role)) return counted(number, role);
  if (role === NO_ROLE) return `${counted(number, "person", "people")} whom no file calls a student`;
  return `${counted(number, "line")} about “${role}”`;
}

/** Return the notices about a file for its card, in her words. */
export const noticesOf = ({ notices, passed_over: counts }) => [
  passedOver(counts), ...notices.filter((notice) => !PASSED_OVER.test(notice) && !/only the sheet/.test(notice)).map(plain),
].filter(Boolean).map((sentence) => element("p", { class: "notice" }, sentence));

/** Return the part about all files of a checked package. */
export function packagePart(checked) {
  return element("div", {}, noticesOf(checked), checked.files.map(filePart));
}

function filePart(file) {
  const title = element("h3", {}, `${file.file}: ${KINDS[file.kind].toLowerCase()}, ${counted(file.rows, "row")}`);
  const own = { ...file, notices: file.notices.map((notice) => notice.replace(/^.+? in The file: /, "The file: ")) };
  return element("section", { class: "file", "aria-label": file.file }, title, noticesOf(own),
    file.first_rows.length > 0 && understoodRows(file.first_rows, false, `The first rows of ${file.file}`),
    file.lines.refused > 0 && checkedPart(file, file));
}
