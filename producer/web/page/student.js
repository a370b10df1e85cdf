// Shows one student: courses, history and requests; enrolls and drops the student.

import { call } from "./api.js";
import { element } from "./dom.js";
import { changeDialog, enrollForm } from "./enrolling.js";
import { courseLink, historyOf, historySection, requestsSection } from "./history.js";
import { inPath, studentAddress } from "./ids.js";
import { stackedTable } from "./stacked.js";
import { findForm, studentMeant } from "./students.js";
import { shownTime } from "./times.js";

/** Show the student whose id is in the address. */
export async function show(main, { id }) {
  main.replaceChildren(element("h1", {}, `Student ${id}`), element("p", { role: "status" }, "Looking up the student …"));
  await refresh(main, id, null);
}

async function refresh(main, id, news) {
  const [student, history] = await Promise.all([studentOf(id), historyOf(id)]);
  const known = student ? about(student, (sentence) => refresh(main, id, sentence)) : unknown(id, history, await studentMeant(id));
  main.replaceChildren(...known, historySection(id, history), requestsSection(id), element("section", {}, element("h2", {}, "Find another student"), findForm()));
  const status = element("p", { class: "news", role: "status", tabindex: -1 });
  main.querySelector("h1").after(status);
  if (news === null) return;
  status.textContent = news;
  status.focus();
}

async function studentOf(id) {
  try {
    return await (await call(`/students/${inPath(id)}`)).json();
  } catch (problem) {
    if (problem.code === "unknown_student") return null;
    throw problem;
  }
}

function unknown(id, history, meant) {
  return [
    element("h1", {}, `Student ${id}`),
    element("section", {},
      element("p", {}, `The roster has no student with the id “${id}”.`),
      meant && element("p", {}, "Did you mean ", element("a", { href: studentAddress(meant.sis_id) }, meant.name ? `${meant.name} (${meant.sis_id})` : meant.sis_id), "?"),
      element("p", {}, history.entries.length
        ? "Requests for this id were refused. If the id is right, send the list of students first."
        : "Check the id, or send the list of students first.")),
  ];
}

function about(student, done) {
  const rows = student.courses.map((course) => [courseLink(course), shownTime(course.enrolled_at), dropButton(student, course, done)]);
  return [
    element("h1", {}, student.name ?? `Student ${student.sis_id}`),
    element("p", { class: "faint" }, [`Id ${student.sis_id}`, student.email].filter(Boolean).join(" · ")),
    element("section", { "aria-labelledby": "courses" },
      element("h2", { id: "courses" }, "Courses"),
      rows.length ? stackedTable("Courses", ["Course", "Enrolled since", "Change"], rows) : element("p", {}, "This student is not enrolled in any course."),
      enrollForm(student, done)),
  ];
}

function dropButton(student, course, done) {
  const name = course.title ?? course.sis_id;
  const button = element("button", { type: "button", class: "plain small", "aria-label": `Drop from ${name}` }, "Drop …");
  button.addEventListener("click", () => changeDialog({ action: "drop", student, course, done }));
  return button;
}
