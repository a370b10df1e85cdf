// Shows what undoing an upload would change, asks, and undoes it.

import { call } from "./api.js";
import { button, element, focusOn } from "./dom.js";
import { batchAddress, courseAddress, studentAddress } from "./ids.js";
import { addRows, stackedTable } from "./stacked.js";
import { shownTime } from "./times.js";
import { count, counted } from "./words.js";

const FIRST = 20;

/** Return the part of an upload's page with which it can be undone. */
export function undoPart(batchId) {
  const path = `/batches/${encodeURIComponent(batchId)}/undo`;
  const place = element("div", {}), problem = element("p", { class: "problem", role: "alert", hidden: true });
  const wait = element("p", { role: "status" });
  const ask = button("Undo …", () => attempt(show), { class: "plain", id: "undo" });
  const node = element("section", { class: "plan", "aria-label": "Undo" }, element("div", { class: "row" }, ask), wait, problem, place);

  // Whatever goes wrong is shown here, and the button can be pressed again.
  async function attempt(work) {
    problem.hidden = true;
    ask.disabled = true;
    try {
      await work();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      back();
    } finally {
      wait.textContent = "";
      ask.disabled = false;
    }
  }

  async function show() {
    wait.textContent = "Finding out what would change …";
    const undo = await (await call(`${path}?plan=report`, { method: "POST" })).json();
    const heading = element("h2", {}, undo.state === "running" ? "This upload is being undone" : "What undoing this upload would change");
    const changes = undo.books.dropped + undo.books.enrolled > 0;
    place.replaceChildren(heading, ...(undo.state === "running" ? underWay(undo) : preview(undo)), choice(undo.state === "running" || changes || !undo.is_complete, undo.state));
    ask.hidden = true;
    focusOn(heading);
  }

  function choice(mayUndo, state) {
    const run = mayUndo && button(state === "running" ? "Continue to undo it" : "Yes, undo it", () => { run.disabled = true; attempt(undoIt); });
    return element("div", { class: "row" }, run && element("p", { class: "grow" }, "What later uploads and requests decided stays as it is. The undo becomes an upload of its own, and can be undone, too."), run, button("Back", back, { class: "plain" }));
  }

  async function undoIt() {
    wait.textContent = "Undoing it …";
    const undo = await (await call(path, { method: "POST" })).json();
    location.hash = batchAddress(undo.undo_id);
  }

  function back() {
    place.replaceChildren();
    ask.hidden = false;
    ask.disabled = false;
    ask.focus();
  }

  return node;
}

const underWay = (undo) => [element("p", {}, "Its undo is ", element("a", { href: batchAddress(undo.undo_id) }, "an upload of its own"), ". If it does not move on, because it was interrupted, let it continue.")];

function preview(undo) {
  const { dropped, enrolled, superseded } = undo.books;
  return [
    element("p", {}, sentence(dropped, enrolled, undo.is_complete)),
    !undo.is_complete && element("p", { class: "notice" }, "The upload is very large, so only its beginning was counted here: every number below is at least so large. Undoing it undoes all of it. Your operator can count it as a whole."),
    undo.courses.length > 0 && coursesTable(undo.courses),
    undo.changes.length > 0 && changesPart(undo, dropped + enrolled),
    superseded > 0 && leftPart(undo, superseded),
  ].filter(Boolean);
}

function sentence(dropped, enrolled, isComplete) {
  if (!dropped && !enrolled) return isComplete ? "Undoing this upload would change nothing." : "Undoing what was counted so far would change nothing.";
  const parts = [
    dropped && `${counted(dropped, "enrollment")} that this upload made would be dropped`,
    enrolled && `${counted(enrolled, "enrollment")} that it ended would be made again`,
  ].filter(Boolean).join(", and ");
  return bounded({ is_complete: isComplete }, `${parts}.`);
}

const COURSE_NAMES = ["Course", "Title", "To be dropped", "To be enrolled again"];

const coursesTable = (courses) => growing("Changes by course", COURSE_NAMES, courses, "course", ({ sis_id: id, title, dropped, enrolled }) =>
  [element("a", { href: courseAddress(id) }, id), title ?? "", element("span", { class: "number" }, count(dropped)), element("span", { class: "number" }, count(enrolled))]);

const CHANGE_NAMES = ["Student", "Name", "Course", "Title", "Would be"];
const ACTIONS = { drop: "dropped", enroll: "enrolled again" };

// A count, which is a lower bound if only the beginning was examined.
const bounded = ({ is_complete: isComplete }, sentence) => (isComplete ? sentence : `At least ${sentence}`);

function changesPart(undo, total) {
  const { changes } = undo;
  const shown = growing("Who would change", CHANGE_NAMES, changes, "enrollment", (change) => [
    element("a", { href: studentAddress(change.student_sis_id) }, change.student_sis_id), change.student_name ?? "",
    element("a", { href: courseAddress(change.course_sis_id) }, change.course_sis_id), change.course_title ?? "", ACTIONS[change.action],
  ]);
  return element("div", {}, shown, total > changes.length && element("p", { class: "faint" }, `These are the first ${count(changes.length)} of ${undo.is_complete ? "" : "at least "}${counted(total, "enrollment")}.`));
}

const LEFT_NAMES = ["Student", "Course", "Decided at", "By"];

function leftPart(undo, total) {
  const { left, left_to_snapshots: lacking } = undo;
  const about = bounded(undo, `${counted(total, "enrollment stays as it is, because a later request decided about it", "enrollments stay as they are, because later requests decided about them")}.`);
  const lacked = lacking > 0 && element("p", {}, bounded(undo, `${counted(lacking, "of them is", "of them are")} not in a later complete file of the same source.`));
  return element("div", {}, element("p", {}, about), lacked, left.length > 0 && growing("What stays as it is", LEFT_NAMES, left, "enrollment", (each) => [
    element("a", { href: studentAddress(each.student_sis_id) }, each.student_sis_id), element("a", { href: courseAddress(each.course_sis_id) }, each.course_sis_id),
    shownTime(each.moment), each.request_id ?? "not known any more",
  ]));
}

// A table of the first rows, and a button that shows the others.
function growing(label, names, all, noun, rowOf) {
  const shown = stackedTable(label, names, all.slice(0, FIRST).map(rowOf));
  if (all.length <= FIRST) return shown;
  const more = button(`Show all ${counted(all.length, noun)}`, () => {
    addRows(shown, names, all.slice(FIRST).map(rowOf));
    more.remove();
  }, { class: "plain" });
  return element("div", {}, shown, element("div", { class: "row" }, more));
}
