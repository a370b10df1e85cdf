// Lets the reader choose whether enrollments are planned first, and whether a file is the whole truth.

import { element, field } from "./dom.js";

const WAYS = {
  apply: "Apply it at once",
  hold: "Show me first what would change, and wait for an approval",
  report: "Only show me what it would do; nothing is ever applied",
};

let chosen = { way: "apply", snapshot: "" }; // It stays when another view is shown.

/** Forget the choices: they were for the files that have just been sent. */
export function forgetPlan() {
  chosen = { way: "apply", snapshot: "" };
}

/** Return the query of a chosen file, with what was chosen here; students and courses alone need no plan. */
export function withPlan({ query, kind, isPackage }) {
  if (!isPackage && kind !== "enrollments") return query;
  const all = new URLSearchParams(query), snapshot = chosen.snapshot.trim();
  if (chosen.way === "hold") all.set("hold", "always");
  if (chosen.way === "report") all.set("plan", "report");
  if (snapshot) all.set("snapshot", snapshot);
  return all.toString();
}

/** Return the section with the choices. */
export function planChoices() {
  const set = (changes) => { chosen = { ...chosen, ...changes }; };
  const ways = Object.entries(WAYS).map(([way, text]) => element("label", { class: "choice" },
    element("input", { type: "radio", name: "way", id: `way-${way}`, value: way, checked: chosen.way === way, onchange: () => set({ way }) }), text));
  const name = element("input", { id: "snapshot", value: chosen.snapshot, autocomplete: "off", maxlength: 128 });
  name.addEventListener("input", () => set({ snapshot: name.value }));
  const fold = element("details", { class: "fold" }, element("summary", {}, "Look before anything changes"),
    element("fieldset", {}, element("legend", {}, "When you press Send, enrollments are handled like this:"), ways),
    field("The file lists everybody who is enrolled in this data set (leave it empty for any other file)", name,
      "Students whom an earlier file of this data set enrolled, and whom this file does not list, are dropped. If that would drop many, it waits for an approval. Your operator creates the data sets and tells you their names."));
  fold.open = chosen.way !== "apply" || chosen.snapshot !== "";
  return element("section", { "aria-label": "How enrollments are handled" }, fold);
}
