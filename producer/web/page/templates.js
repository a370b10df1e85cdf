// Offers an example file of each kind, and says which columns are needed.

import { button, element, saveFile } from "./dom.js";
import { KINDS } from "./words.js";

const EXAMPLES = {
  students: { needs: "sis_id (the student's id)", may: "name, email", text: "sis_id,name,email\nS-1001,Ada Example,ada@example.edu\n" },
  courses: { needs: "sis_id (the course's id)", may: "title", text: "sis_id,title\nMATH-1,Mathematics 1\n" },
  enrollments: { needs: "student_id, course_id", may: "action (enroll or drop), reason", text: "student_id,course_id,action,reason\nS-1001,MATH-1,enroll,\n" },
};

/** Return the part with the example files. */
export function templatesPart() {
  const items = Object.entries(EXAMPLES).map(([kind, { needs, may, text }]) => element("li", {},
    element("strong", {}, `${KINDS[kind]}. `), `Needed: ${needs}. Also: ${may}. `,
    button(`Download ${kind}.csv`, () => download(`${kind}.csv`, text), { class: "plain small" })));
  return element("details", { class: "templates" }, element("summary", {}, "Which columns are needed? Example files to download"),
    element("p", {}, "A file is a table saved as CSV, with the names of its columns in the first line. Other names are fine: you choose below which column is which."),
    element("ul", { class: "examples" }, items));
}

/** Save a text as a file of the reader's. */
export function download(name, text) {
  saveFile(name, new Blob(["\ufeff", text], { type: "text/csv" }));
}
