// Shows what happened to a student's enrollments, and the requests about the student.

import { call } from "./api.js";
import { element } from "./dom.js";
import { batchAddress, courseAddress, inPath } from "./ids.js";
import { reasonOf } from "./reasons.js";
import { addRows, stackedTable } from "./stacked.js";
import { shownTime } from "./times.js";
import { count, listed } from "./words.js";

const PAGE = 20;
const CHANGES = { enrolled: "Enrolled", dropped: "Dropped", superseded: "No effect", rejected: "Refused" };
const ENDS = {
  enrolled: "Enrolled", dropped: "Dropped", changed: "Enrolled and dropped", partial: "Done in part",
  rejected: "Refused", superseded: "No effect",
};

/** Return the first page of what happened to a student: `entries`, and whether there are `more`. */
export const historyOf = (sisId, before) => page(`/students/${inPath(sisId)}/history`, before && { before });

const page = async (path, more) => (await call(`${path}?${new URLSearchParams({ limit: PAGE, ...more })}`)).json();

/** Return a section with the history, which begins with a page that was already read. */
export function historySection(sisId, first) {
  const section = element("section", { "aria-labelledby": "history" }, element("h2", { id: "history" }, "What happened, the latest first"));
  if (!first.entries.length) {
    section.append(element("p", {}, "Nothing is stored about enrollments of this student."));
    return section;
  }
  section.append(pages("What happened", ["When", "What", "Course", "Upload", "Why"], first, {
    rows: ({ entries }) => entries.map(entryRow),
    next: async ({ entries, more }) => (more ? historyOf(sisId, entries.at(-1).moment) : null),
  }));
  return section;
}

/** Return a section with the requests about a student, which are read when it is opened. */
export function requestsSection(sisId) {
  const path = `/students/${inPath(sisId)}/results`, body = element("div", {});
  const details = element("details", {}, element("summary", {}, "All requests about this student"), body);
  details.addEventListener("toggle", async () => {
    if (!details.open || body.childElementCount) return;
    const first = await page(path);
    body.replaceChildren(first.results.length
      ? pages("Requests about this student", ["Processed", "Result", "Courses", "Upload", "Why"], first, {
        rows: ({ results }) => results.map(resultRow),
        next: async ({ next }) => (next ? page(path, { cursor: next }) : null),
      })
      : element("p", {}, "No request about this student is stored."));
  });
  return element("section", {}, details);
}

// A table that grows by a page at a time.
function pages(label, names, first, { rows, next }) {
  const shown = stackedTable(label, names, rows(first)), below = element("div", { class: "row" });
  let last = first;
  const more = element("button", { type: "button", class: "plain" }, "Show older ones");
  const hasMore = (current) => current.more ?? Boolean(current.next);
  more.addEventListener("click", async () => {
    last = await next(last);
    addRows(shown, names, rows(last));
    if (!hasMore(last)) more.remove();
  });
  if (hasMore(first)) below.append(more);
  return element("div", {}, shown, below);
}

function entryRow(entry) {
  const won = entry.superseded_by && `A later request won, of ${shownTime(entry.superseded_by)}.`;
  return [
    shownTime(entry.moment), element("span", { class: `change ${entry.change}` }, CHANGES[entry.change] ?? entry.change),
    courseLink(entry.course), uploadLink(entry.batch_id, entry.lines?.length ? entry.lines : [entry.line]), reasons(entry.reason, won, entry.errors),
  ];
}

function resultRow(result) {
  const courses = [...result.enrolled_courses, ...result.dropped_courses, ...result.superseded_courses];
  const refused = result.errors.map((error) => error.course_id).filter(Boolean).map(String);
  const lines = [...new Set(result.errors.map((error) => error.line))];
  return [
    shownTime(result.completed_at), element("span", { class: `change ${result.status}` }, ENDS[result.status] ?? result.status),
    element("div", {}, ...courses.map((course) => element("div", {}, courseLink(course))), ...refused.map((id) => element("div", {}, id))),
    uploadLink(result.batch_id, lines), reasons(result.reason, null, result.errors),
  ];
}

/** Return a course as a link to it. */
export function courseLink(course) {
  if (!course) return "";
  if (!course.sis_id) return course.id === null ? "" : `number ${course.id}`;
  const text = course.title ? `${course.title} (${course.sis_id})` : course.sis_id;
  // A course without a key is not in the roster.
  return course.id === null ? text : element("a", { href: courseAddress(course.sis_id) }, text);
}

const MOST_LINES = 5;

function uploadLink(batchId, all) {
  if (!batchId) return "";
  const known = all.filter(Boolean), shown = known.slice(0, MOST_LINES).map(count);
  if (known.length > shown.length) shown.push(`${count(known.length - shown.length)} more`);
  return element("a", { href: batchAddress(batchId) }, known.length ? `${known.length > 1 ? "lines" : "line"} ${listed(shown)}` : "upload");
}

function reasons(reason, won, errors) {
  const texts = [reason, won, ...errors.map((error) => reasonOf(error))].filter(Boolean);
  return element("div", {}, ...texts.map((text) => element("div", {}, text)));
}
