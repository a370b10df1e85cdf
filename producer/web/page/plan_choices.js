// Lets the reader choose whether enrollments are planned first, and whether a file is the whole truth.

import { element, field } from "./dom.js";

const WAYS = {
  apply: "Apply it at once",
  hold: "Show me first what would change, and wait for an approval",
  report: "Only show me what it would do; nothing is ever applied",
};

const NOTHING = { way: "apply", snapshot: "", dataSet: "" };

let chosen = NOTHING; // It stays when another view is shown.

/** Forget the choices: they were for the files that have just been sent. */
export function forgetPlan() {
  chosen = NOTHING;
}

/** Return the query of a chosen file, with what was chosen here; students and courses alone need no plan. */
export function withPlan({ query, kind, isPackage }) {
  if (!isPackage && kind !== "enrollments") return query;
  const all = new URLSearchParams(query), snapshot = chosen.snapshot.trim(), dataSet = chosen.dataSet.trim();
  if (chosen.way === "hold") all.set("hold", "always");
  if (chosen.way === "report") all.set("plan", "report");
  if (snapshot) all.set("snapshot", snapshot);
  if (dataSet) all.set("data_set", dataSet);
  return all.toString();
}

/** Return the section with the choices. */
export function planChoices() {
  const set = (changes) => { chosen = { ...chosen, ...changes }; };
  const ways = Object.entries(WAYS).map(([way, text]) => element("label", { class: "choice" },
    element("input", { type: "radio", name: "way", id: `way-${way}`, value: way, checked: chosen.way === way, onchange: () => set({ way }) }), text));
  const named = (id, choice) => {
    const input = element("input", { id, value: chosen[choice], autocomplete: "off", maxlength: 128 });
    input.addEventListener("input", () => set({ [choice]: input.value }));
    return input;
  };
  const fold = element("details", { class: "fold" }, element("summary", {}, "Look before anything changes"),
    element("fieldset", {}, element("legend", {}, "When you press Send, enrollments are handled like this:"), ways),
    field("The file lists everybody who is enrolled in this data set (leave it empty for any other file)", named("snapshot", "snapshot"),
      "Students who were enrolled by an earlier file of this data set, and are not in this one, are dropped. If that would drop many, it waits for an approval. Your operator creates the data sets and tells you their names."),
    field("The file belongs to this data set, but does not list everybody (leave it empty if there is none)", named("data-set", "dataSet"),
      "What the file enrolls belongs to the data set from then on: a later file that lists everybody, and does not list these students, drops them. This file itself drops no student."));
  fold.open = Object.keys(NOTHING).some((choice) => chosen[choice] !== NOTHING[choice]);
  return element("section", { "aria-label": "How enrollments are handled" }, fold);
}
