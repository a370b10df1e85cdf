// Shows who is enrolled in a course, or was at a time.

import { call } from "./api.js";
import { element } from "./dom.js";
import { courseAddress, inPath, studentAddress } from "./ids.js";
import { addRows, stackedTable } from "./stacked.js";
import { fieldValue, shownTime, timeZone } from "./times.js";
import { count } from "./words.js";

const PAGE = 100;

/** Show the roll of the course whose id is in the address, now or at the time there. */
export async function show(main, { id, query }) {
  const at = query.get("at");
  main.replaceChildren(element("h1", {}, `Course ${id}`), element("p", { role: "status" }, "Looking up the course …"));
  const roll = await rollOf(id, at);
  main.replaceChildren(
    element("h1", {}, roll.title ?? `Course ${roll.sis_id}`), element("p", { class: "faint" }, `Id ${roll.sis_id}`),
    element("section", { "aria-labelledby": "roll" }, element("h2", { id: "roll" }, at ? `Enrolled on ${shownTime(roll.at)}` : "Enrolled now"), ...students(roll, at), timeForm(roll, at)));
}

async function rollOf(id, at, after) {
  const query = new URLSearchParams({ limit: PAGE, ...(at && { at }), ...(after && { after }) });
  return (await call(`/courses/${inPath(id)}/students?${query}`)).json();
}

const rowOf = (student) => [
  element("a", { href: studentAddress(student.sis_id) }, student.name ?? student.sis_id), student.sis_id,
  shownTime(student.enrolled_at), student.ended_at ? shownTime(student.ended_at) : "still enrolled",
];

function students(roll, at) {
  if (!roll.students.length) return [element("p", {}, at ? "No student was enrolled at this time." : "No student is enrolled.")];
  const names = ["Name", "Id", "Enrolled since", "Until"];
  const shown = stackedTable("Students", names, roll.students.map(rowOf)), news = element("p", { role: "status" });
  const body = shown.querySelector("tbody"), more = element("button", { type: "button", class: "plain" }, "Show more students");
  let last = roll;
  const report = () => {
    const number = body.rows.length;
    news.textContent = last.more ? `The first ${count(number)} students.` : number === 1 ? "One student." : `${count(number)} students.`;
    more.hidden = !last.more;
  };
  more.addEventListener("click", async () => {
    // The roll goes on at the moment that it began with.
    last = await rollOf(roll.sis_id, roll.at, last.students.at(-1).id);
    addRows(shown, names, last.students.map(rowOf));
    report();
  });
  report();
  return [news, shown, element("div", { class: "row" }, more)];
}

function timeForm(roll, at) {
  const box = element("input", { id: "at", type: "datetime-local", required: true, value: fieldValue(at ?? roll.at), "aria-describedby": "zone" });
  const form = element("form", { class: "row" },
    element("div", {}, element("label", { for: "at" }, "Who was enrolled at this time?"), element("span", { id: "zone", class: "help" }, `In your time zone, ${timeZone}. `), box),
    element("button", { type: "submit" }, "Show"), ...(at ? [element("a", { href: courseAddress(roll.sis_id) }, "Show who is enrolled now")] : []));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = courseAddress(roll.sis_id, new Date(box.value).toISOString());
  });
  return form;
}
