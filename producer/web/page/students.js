// Finds students by id, name or e-mail address.

import { call } from "./api.js";
import { element } from "./dom.js";
import { studentAddress } from "./ids.js";
import { isOnlyMeant } from "./meant.js";
import { stackedTable } from "./stacked.js";

const LIMIT = 20;

/** Show the box to find a student and, if the address has a text, the students that it finds. */
export async function show(main, { query }) {
  const text = (query.get("find") ?? "").trim();
  const result = element("div", { class: "result" });
  main.replaceChildren(element("h1", {}, "Students"), findForm(text), result);
  if (!text) return;
  const { students, more } = await studentsLike(text);
  result.replaceChildren(...(students.length ? found(text, students, more) : notFound(text)));
}

/** Return the form that finds a student. */
export function findForm(text = "") {
  const box = element("input", { id: "find", type: "search", value: text, required: true, autocomplete: "off", maxlength: 255 });
  const form = element("form", { class: "row", role: "search" },
    element("div", { class: "grow" }, element("label", { for: "find" }, "Id, name or e-mail address of the student"), box),
    element("button", { type: "submit" }, "Find"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const address = `#/students?${new URLSearchParams({ find: box.value.trim() })}`;
    if (location.hash === address) window.dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = address;
  });
  return form;
}

/** Return the student whose id was probably meant by a text that is not an id of the roster; or null. */
export async function studentMeant(text) {
  const { students } = await studentsLike(text);
  return isOnlyMeant(text, students) ? students[0] : null;
}

const studentsLike = async (text) => (await call(`/students?${new URLSearchParams({ find: text, limit: LIMIT })}`)).json();

function found(text, students, more) {
  const rows = students.map((student) => [
    element("a", { href: studentAddress(student.sis_id) }, student.name ?? student.sis_id), student.sis_id, student.email ?? "",
  ]);
  const count = students.length === 1 ? "One student" : `${students.length} students`;
  const isMeant = isOnlyMeant(text, students);
  const sentence = isMeant ? `The roster has no student with the id “${text}”. Did you mean:` : `${count}:`;
  return [
    element("p", { role: "status" }, more ? `More than ${students.length} students. Here are the first; write more of the name.` : sentence),
    stackedTable("Students found", ["Name", "Id", "E-mail"], rows),
    ...(isMeant ? [refusedFor(text)] : []),
  ];
}

function notFound(text) {
  return [element("p", { role: "status" }, `The roster has no student with the id, name or e-mail address “${text}”.`), refusedFor(text)];
}

const refusedFor = (text) =>
  element("p", {}, "Requests for this id may have been refused. ", element("a", { href: studentAddress(text) }, `Show what is known about the id “${text}”`));
