// Enrolls one student in a course or drops the student, once she has confirmed it.

import { call } from "./api.js";
import { coursesLike } from "./courses.js";
import { element } from "./dom.js";
import { inPath, randomHex } from "./ids.js";
import { reasonOf } from "./reasons.js";

const WAIT = { Prefer: "wait=20" };
const titled = (course) => (course.title ? `${course.title} (${course.sis_id})` : course.sis_id);
const named = (student) => (student.name ? `${student.name} (${student.sis_id})` : student.sis_id);

/** Return the form that asks for a course to enroll a student in; `done` gets a sentence. */
export function enrollForm(student, done) {
  const box = element("input", { id: "enroll", required: true, autocomplete: "off", maxlength: 255, "aria-describedby": "enroll-problem" });
  const problem = element("p", { id: "enroll-problem", class: "bad", role: "alert" }), choice = element("div", { class: "row" });
  const ask = (course) => changeDialog({ action: "enroll", student, course, done });
  const form = element("form", { class: "row" },
    element("div", { class: "grow" }, element("label", { for: "enroll" }, "Enroll in the course with the id or title"), box),
    element("button", { type: "submit" }, "Enroll …"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = box.value.trim();
    const tell = (sentence) => { problem.textContent = sentence; box.setAttribute("aria-invalid", "true"); box.focus(); };
    problem.textContent = "";
    choice.replaceChildren();
    box.removeAttribute("aria-invalid");
    try {
      const [course, ...others] = await coursesFor(text);
      if (!course) tell(`The roster has no course with the id or title “${text}”. Check the id.`);
      else if (!others.length) ask(course);
      else {
        tell("More than one course has this in its title. Choose one of them, or write the id.");
        choice.replaceChildren(...[course, ...others].map((one) => element("button", { type: "button", class: "plain small", onclick: () => ask(one) }, titled(one))));
      }
    } catch (error) {
      tell(error.message);
    }
  });
  return element("div", {}, form, problem, choice);
}

// The course with this id; if there is none, those with this title.
async function coursesFor(text) {
  try {
    return [await courseOf(text)];
  } catch (error) {
    if (error.code !== "unknown_course") throw error;
    return (await coursesLike(text)).courses;
  }
}

const courseOf = async (id) => (await call(`/courses/${inPath(id)}/students?limit=1`)).json();

const TEXTS = {
  enroll: { title: "Enroll the student?", sentence: (student, course) => `${student} will be enrolled in ${course}.`, button: "Enroll", doing: "Enrolling …" },
  drop: { title: "Drop the student?", sentence: (student, course) => `${student} will no longer be enrolled in ${course}. The history keeps the enrollment and your reason.`, button: "Drop", doing: "Dropping …" },
};

/** Ask whether to enroll or drop a student, with a reason, and do it; `done` gets what happened. */
export function changeDialog({ action, student, course, done }) {
  const texts = TEXTS[action];
  const reason = element("input", { id: "reason", maxlength: 255, autocomplete: "off" });
  const problem = element("p", { class: "bad", role: "alert" });
  const confirm = element("button", { type: "submit", class: action === "drop" ? "danger" : "" }, texts.button);
  const cancel = element("button", { type: "button", class: "plain" }, "Cancel");
  const form = element("form", {},
    element("h2", { id: "dialog-title" }, texts.title),
    element("p", { id: "dialog-text" }, texts.sentence(named(student), titled(course))),
    element("label", { for: "reason" }, "Reason (you may leave it empty)"), reason, problem,
    element("div", { class: "row" }, confirm, cancel));
  const dialog = element("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" }, form);
  const requestId = `page-${randomHex(16)}`;
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    confirm.textContent = texts.doing;
    try {
      const response = await change(action, student, course, reason.value.trim(), requestId);
      const sentence = response.status === 202 ? WAITING : sentenceOf(action, await response.json(), named(student), titled(course));
      dialog.close();
      await done(sentence);
    } catch (error) {
      problem.textContent = error.message;
      confirm.disabled = false;
      confirm.textContent = texts.button;
    }
  });
  document.body.append(dialog);
  dialog.showModal();
}

const WAITING = "The request was accepted, and it waits for its turn. Look at this page again in a minute.";

// A repeat under the same id has no second effect.
function change(action, student, course, reason, requestId) {
  const headers = { ...WAIT, "Idempotency-Key": requestId };
  if (action === "drop") {
    const query = reason ? `?${new URLSearchParams({ reason })}` : "";
    return call(`/students/${inPath(student.sis_id)}/courses/${inPath(course.sis_id)}${query}`, { method: "DELETE", headers });
  }
  const body = JSON.stringify({ student_id: student.sis_id, course_ids: [course.sis_id], ...(reason && { reason }) });
  return call("/students/enroll", { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body });
}

function sentenceOf(action, result, student, course) {
  switch (result.status) {
    case "enrolled":
      return result.enrolled_courses.some((one) => one.added) ? `${student} is now enrolled in ${course}.` : `${student} was already enrolled in ${course}.`;
    case "dropped":
      return result.dropped_courses.some((one) => one.removed) ? `${student} was dropped from ${course}.` : `${student} was not enrolled in ${course}.`;
    case "superseded":
      return "Nothing was changed: a later request asks for the opposite.";
    default:
      return `Nothing was changed. ${result.errors.map((error) => reasonOf(error)).join(" ")}`;
  }
}
