// Describes the files of a package, as they will be understood.

import { element } from "./dom.js";
import { isAboutOthers, noticeInWords, passedOver } from "./notices.js";
import { checkedPart, understoodRows } from "./rows.js";
import { counted, KINDS } from "./words.js";

/** Return the notices about a file for its card, in her words. */
export const noticesOf = ({ notices, passed_over: counts }) => [
  passedOver(counts), ...notices.filter((notice) => !isAboutOthers(notice) && !/only the sheet/.test(notice)).map(noticeInWords),
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
