// Shows what an upload would change before it does, and lets the reader decide about it.

import { call } from "./api.js";
import { sentenceOf } from "./counts.js";
import { button, element, focusOn, saveFile } from "./dom.js";
import { courseAddress, studentAddress } from "./ids.js";
import { causeOf, likelyReasons } from "./reasons.js";
import { download } from "./refusals.js";
import { addRows, stackedTable } from "./stacked.js";
import { shownTime } from "./times.js";
import { count, counted, KINDS } from "./words.js";

const FIRST = 20;
const PAGE = 100;

/**
 * Return the part about the plan of an upload: `node`, and `draw()`, which looks the plan up. `level` is that of its heading,
 * and `decided` is called after a decision.
 */
export function planPart(planId, level, signal, decided) {
  const path = `/plans/${encodeURIComponent(planId)}`;
  const node = element("section", { class: "plan", "aria-label": "What would change", hidden: true });
  async function draw(hasDecided = false) {
    const plan = await (await call(path, { signal })).json();
    node.hidden = false;
    // The button that had the focus goes: a reader with a keyboard stays here, and hears the new state.
    const hadFocus = hasDecided || node.contains(document.activeElement), heading = element(`h${level}`, {}, HEADINGS[plan.state] ?? "Being planned");
    node.replaceChildren(heading, ...parts(plan, path, async (decision) => {
      await call(`${path}/decision`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ decision, digest: plan.digest }) });
      await draw(true);
      decided();
    }).filter(Boolean));
    if (hadFocus) focusOn(heading);
  }
  return { node, draw };
}

const HEADINGS = {
  planned: "What this file would do",
  held: "This upload waits for a decision",
  approved: "Approved",
  applying: "Approved",
  sweeping: "Approved",
  done: "What was planned",
  discarded: "This upload was discarded",
};

function parts(plan, path, decide) {
  const isOpen = ["planned", "held"].includes(plan.state);
  return [
    plan.state === "staged" && element("p", {}, "The service is finding out what this file would change. Nothing has changed yet."),
    plan.state === "planned" && element("p", {}, "You only asked what it would do. Nothing was changed, and nothing will be."),
    plan.state === "discarded" && element("p", { class: "notice" }, plan.advice ?? "Nothing was applied."),
    plan.state === "planned" && plan.reasons.length > 0 && element("p", {}, "If you send it to be applied, it waits for an approval:"),
    isOpen && plan.reasons.length > 0 && element("ul", { class: "notice reasons" }, plan.reasons.map(({ message }) => element("li", {}, message))),
    plan.planned_at && element("p", { class: "faint" }, `As of ${shownTime(plan.planned_at)}.`),
    ...(plan.planned_at ? plan.batches.map((batch) => batchPart(batch, plan.state)) : []),
    plan.snapshot && plan.planned_at && element("p", {}, absentSentence(plan)),
    plan.courses.length > 0 && coursesTable(plan.courses),
    plan.absent.dropped > 0 && isOpen && whoPart(path),
    plan.differences.length > 0 && element("div", {}, element("p", {}, "What happened differs from this plan:"), element("ul", {}, plan.differences.map((text) => element("li", {}, text)))),
    plan.state === "held" && decisionPart(plan, decide),
    plan.state === "held" && plan.expires_at && element("p", { class: "faint" }, `Without a decision, it is discarded on ${shownTime(plan.expires_at)}.`),
  ];
}

function batchPart({ batch_id, kind, books, refusals }, state) {
  const isOpen = ["planned", "held"].includes(state);
  const causes = refusals.map((group) => element("li", {}, `${causeOf(group.code).title}: ${counted(group.count, "line")}, for example: ${group.example}`,
    likelyReasons(group).map((text) => element("p", {}, `Likely reason: ${text}`))));
  return element("div", {}, element("p", {}, `${KINDS[kind]}: ${sentenceOf(books, isOpen || state === "discarded")}`), causes.length > 0 && element("ul", {}, causes), causes.length > 0 && isOpen && element("div", { class: "row" },
    element("p", { class: "grow" }, "Nothing of this file is applied yet. To correct these lines, correct them in the file, and send the whole file again."), download({ batch_id }, "spreadsheet", "Download these lines")));
}

const FATES = {
  dropped: "would be dropped",
  kept_newer: "stay, because something later enrolled or confirmed them",
  passed_on: "pass to another data set that lists them",
  kept_refused: "stay, because a refused line names them",
};

function absentSentence({ absent, owned_before: owned, data_set: name, state }) {
  const before = `The data set ${name} had ${counted(owned, "enrollment")} before.`;
  if (!absent.absent) return `${before} The file lists all of them.`;
  const verbs = ["planned", "held", "discarded"].includes(state) ? FATES : { ...FATES, dropped: "to be dropped" };
  const fates = Object.entries(verbs).filter(([fate]) => absent[fate]).map(([fate, text]) => `${count(absent[fate])} ${text}`);
  return `${before} ${count(absent.absent)} of them ${absent.absent === 1 ? "is" : "are"} not in the file: ${fates.join("; ")}.`;
}

function coursesTable(courses) {
  // What was done is known once the plan is finished.
  const isDone = courses.some(({ dropped }) => dropped !== null);
  const names = ["Course", "Title", "Enrolled before", "To be dropped", ...(isDone ? ["Dropped"] : [])];
  const number = (value) => element("span", { class: "number" }, value === null ? "" : count(value));
  const rowOf = ({ sis_id: id, title, owned, drops, dropped }) => [
    element("a", { href: courseAddress(id) }, id), title ?? "", number(owned), number(drops), ...(isDone ? [number(dropped)] : []),
  ];
  const shown = stackedTable("Drops by course", names, courses.slice(0, FIRST).map(rowOf));
  if (courses.length <= FIRST) return shown;
  const more = button(`Show all ${counted(courses.length, "course")}`, () => {
    addRows(shown, names, courses.slice(FIRST).map(rowOf));
    more.remove();
  }, { class: "plain" });
  return element("div", {}, shown, element("div", { class: "row" }, more));
}

const WHO_NAMES = ["Student", "Name", "Course", "Title"];

function whoPart(path) {
  const place = element("div", {});
  let shown = null, next = null;
  const rowOf = (drop) => [
    element("a", { href: studentAddress(drop.student_sis_id) }, drop.student_sis_id), drop.student_name ?? "",
    element("a", { href: courseAddress(drop.course_sis_id) }, drop.course_sis_id), drop.course_title ?? "",
  ];
  const more = button("Show who would be dropped", async () => {
    const query = new URLSearchParams({ limit: PAGE, ...(next && { cursor: next }) });
    const page = await (await call(`${path}/drops?${query}`)).json(), rows = page.drops.map(rowOf);
    if (shown) addRows(shown, WHO_NAMES, rows);
    else place.append(shown = stackedTable("Who would be dropped", WHO_NAMES, rows));
    next = page.next;
    more.textContent = "Show more";
    more.hidden = next === null;
  }, { class: "plain" });
  const all = button("Download all drops", async () => {
    const response = await call(`${path}/drops`, { headers: { Accept: "text/csv" } });
    saveFile("drops.csv", await response.blob());
  }, { class: "plain" });
  return element("div", {}, place, element("div", { class: "row" }, more, all));
}

const QUESTIONS = {
  approve: { ask: "Approve …", yes: "Yes, apply it", sentence: "Everything that is shown above is then applied; what was changed later by other requests stays as it is." },
  discard: { ask: "Discard …", yes: "Yes, discard it", sentence: "Nothing of this file is then applied. Send a corrected file as a new upload." },
};

// Each decision is confirmed: it cannot be taken back here.
function decisionPart(plan, decide) {
  const row = element("div", { class: "row" }), problem = element("p", { class: "problem", role: "alert", hidden: true });
  const part = element("div", {}, problem, row);
  const offer = (focused) => {
    row.replaceChildren(...Object.entries(QUESTIONS).map(([decision, { ask }]) =>
      button(ask, () => confirm(decision), { class: decision === "approve" ? null : "plain", id: `decide-${decision}` })));
    if (focused) row.querySelector(`#decide-${focused}`)?.focus();
  };
  const confirm = (decision) => {
    const { yes, sentence } = QUESTIONS[decision];
    const run = button(yes, async () => {
      run.disabled = true;
      problem.hidden = true;
      try {
        await decide(decision);
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
        offer(decision);
      }
    });
    row.replaceChildren(element("p", { class: "grow" }, sentence), run, button("Back", () => offer(decision), { class: "plain" }));
    run.focus();
  };
  offer();
  return part;
}
