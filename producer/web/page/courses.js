// Finds courses by id or title.

import { call } from "./api.js";
import { element } from "./dom.js";
import { courseAddress } from "./ids.js";
import { isOnlyMeant } from "./meant.js";
import { stackedTable } from "./stacked.js";

const LIMIT = 20;

/** Show the box to find a course and, if the address has a text, the courses that it finds. */
export async function show(main, { query }) {
  const text = (query.get("find") ?? "").trim();
  const result = element("div", { class: "result" });
  main.replaceChildren(element("h1", {}, "Courses"), findForm(text), result);
  if (!text) return;
  const { courses, more } = await coursesLike(text);
  result.replaceChildren(...(courses.length ? found(text, courses, more) : [element("p", { role: "status" }, `The roster has no course with the id or title “${text}”.`)]));
}

/** Return the courses that a text finds: `courses`, and whether there are `more`. */
export const coursesLike = async (text) => (await call(`/courses?${new URLSearchParams({ find: text, limit: LIMIT })}`)).json();

function findForm(text) {
  const box = element("input", { id: "find", type: "search", value: text, required: true, autocomplete: "off", maxlength: 255 });
  const form = element("form", { class: "row", role: "search" },
    element("div", { class: "grow" }, element("label", { for: "find" }, "Id or title of the course"), box),
    element("button", { type: "submit" }, "Find"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const address = `#/courses?${new URLSearchParams({ find: box.value.trim() })}`;
    if (location.hash === address) window.dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = address;
  });
  return form;
}

function found(text, courses, more) {
  const rows = courses.map((course) => [element("a", { href: courseAddress(course.sis_id) }, course.title ?? course.sis_id), course.sis_id]);
  const count = courses.length === 1 ? "One course:" : `${courses.length} courses:`;
  const all = isOnlyMeant(text, courses) ? `The roster has no course with the id “${text}”. Did you mean:` : count;
  const sentence = more ? `More than ${courses.length} courses. Here are the first; write more of the title.` : all;
  return [element("p", { role: "status" }, sentence), stackedTable("Courses found", ["Title", "Id"], rows)];
}
