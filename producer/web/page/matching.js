// Lets the reader say what a file holds and which of her columns is which of ours.

import { canBeNamed, faultOf, FIELDS } from "./columns.js";
import { button, element, field as labelled, select } from "./dom.js";
import { unreadLetters } from "./advice.js";
import { hasTimes, PLAIN, SYSTEMS } from "./systems.js";
import { KINDS } from "./words.js";

const ENCODINGS = [["", "recognized (UTF-8 or UTF-16)"], ["cp1252", "Windows, Western Europe"], ["cp1250", "Windows, Central Europe"], ["cp1251", "Windows, Cyrillic"], ["mac-roman", "Macintosh"], ["latin-1", "Western Europe (ISO)"]];
const BUILT = "built";

/** Return the choices about a file: what it holds, its letters, and its columns. */
export function matchingPart(chosen, prefix) {
  const { seen } = chosen;
  if (chosen.isPackage) return element("div", { class: "matching matches" }, systemPart(chosen, prefix), momentsPart(chosen, prefix));
  if (!seen || (!seen.format && !seen.columns && !chosen.choices.format)) return null;
  const parts = [settings(chosen, prefix)];
  if (seen.system && !choosesColumns(chosen)) parts.push(columnsOfSystem(chosen));
  else if (seen.columns && chosen.kind) parts.push(columnsPart(chosen, prefix));
  return element("div", { class: "matching" }, parts);
}

function settings(chosen, prefix) {
  const { seen, choices } = chosen;
  const decided = seen.kind && !choices.kind ? `${KINDS[seen.kind]} (recognized)` : "decided by the first line";
  const kind = select([["", decided], ...Object.entries(KINDS)], choices.kind, (value) => chosen.chooseKind(value));
  kind.id = `${prefix}-kind`;
  const encoding = select(ENCODINGS, choices.encoding, (value) => chosen.choose({ encoding: value }));
  encoding.id = `${prefix}-encoding`;
  const lines = select([["", "Enroll the student"], ["drop", "Drop the student"]], choices.drop ? "drop" : "", (value) => chosen.choose({ drop: value === "drop" }));
  lines.id = `${prefix}-drop`;
  const isDrops = chosen.kind === "enrollments" && seen.format === "csv" && !hasAction(chosen);
  const isSheet = seen.container === "workbook";
  return element("div", { class: "matches" }, labelled("What it holds", kind), !isSheet && labelled("Letters (encoding)", encoding),
    systemPart(chosen, prefix), isDrops && !seen.system && labelled("What each line asks for", lines), momentsPart(chosen, prefix), sectionsPart(chosen, prefix));
}

// Columns can be chosen if she wants to, or has done so, unless she has said which system they are from.
const choosesColumns = ({ choices, matchesColumns }) => !choices.format && (matchesColumns || Object.keys(choices.maps).length > 0);

function columnsOfSystem(chosen) {
  return element("div", {},
    element("p", { class: "help" }, `The columns are those of ${chosen.seen.system}, and need no choice.`),
    !chosen.choices.format && chosen.seen.columns && button("Choose other columns", () => chosen.matchColumns(), { class: "plain small" }));
}

function systemPart(chosen, prefix) {
  const { seen, checked, choices } = chosen, system = seen?.system ?? checked?.system;
  const decided = system && !choices.format ? `${system} (recognized)` : "recognized, or none of these";
  // Only the header of a system could mislead: other files are read in this way without being asked.
  const isOffered = !chosen.isPackage && (seen?.system || choices.format || /write plain as the format/.test(seen?.problem));
  const plain = isOffered ? [[PLAIN, "None: every line counts, whatever its role and status"]] : [];
  const list = select([["", decided], ...SYSTEMS, ...plain], choices.format, (value) => chosen.chooseSystem(value));
  list.id = `${prefix}-system`;
  return labelled("Which system it comes from", list);
}

// When lines count, for files that say when each was last changed.
function momentsPart(chosen, prefix) {
  const { seen, checked, choices } = chosen;
  if (!choices.momentsFromFile && (!hasTimes(seen?.system ?? checked?.system, seen?.columns) || choosesColumns(chosen))) return null;
  const list = select([["", "When it is sent"], ["file", "When it was last changed, as the file says"]], choices.momentsFromFile ? "file" : "",
    (value) => chosen.chooseMoments(value === "file"));
  list.id = `${prefix}-moments`;
  return labelled("When each line counts", list);
}

// What leaving a section means, for files of other systems whose courses are made from other columns.
function sectionsPart(chosen, prefix) {
  const { seen, choices } = chosen, isMapped = choices.maps.course_id || choices.maps.course_key;
  const isOfSystem = seen.system || /sections of a course are one/.test(seen.problem);
  if (!choices.sectionsAreOne && !(isOfSystem && chosen.kind === "enrollments" && isMapped)) return null;
  const list = select([["", "Is refused if the course may have other sections"], ["one", "Ends the course: each course has one section"]], choices.sectionsAreOne ? "one" : "",
    (value) => chosen.choose({ sectionsAreOne: value === "one" }));
  list.id = `${prefix}-sections`;
  return labelled("Leaving a section", list);
}

/** Return the choice of a sheet of a workbook; null if there is only one. */
export function sheetPart(chosen, prefix) {
  const { sheets, inner } = chosen.seen ?? {};
  if (!(sheets?.length > 1)) return null;
  const list = select(sheets.map((name) => [name, name]), inner, (value) => chosen.turnTo(value));
  list.id = `${prefix}-sheet`;
  return element("div", { class: "matches" }, labelled("Sheet", list, "Only this sheet is sent."));
}

const hasAction = (chosen) => chosen.choices.maps.action || chosen.ownName(FIELDS.enrollments.find(({ name }) => name === "action"));

function columnsPart(chosen, prefix) {
  const fields = FIELDS[chosen.kind], isUsed = ({ name }) => chosen.choices.maps[name];
  const rare = fields.filter((each) => each.rare && !isUsed(each) && !chosen.ownName(each));
  const shown = fields.filter((each) => !rare.includes(each));
  return element("fieldset", { class: "columns" }, element("legend", {}, "Which of your columns is which?"),
    originOf(chosen),
    element("div", { class: "matches" }, shown.map((each) => fieldPart(chosen, each, prefix))),
    rare.length > 0 && element("details", {}, element("summary", {}, "Further columns"), element("div", { class: "matches" }, rare.map((each) => fieldPart(chosen, each, prefix)))));
}

function originOf(chosen) {
  if (chosen.origin === "remembered" && chosen.isOpen) {
    return element("div", { class: "notice" },
      element("p", {}, `Your last file with these columns held ${KINDS[chosen.kind]?.toLowerCase() ?? "other data"}, and students and courses may both have such columns. Look at the rows below: if this file holds something else, choose it above.`),
      button("These columns are right", () => chosen.confirm(), { class: "confirm" }));
  }
  if (chosen.origin === "remembered") return element("p", { class: "help" }, "Chosen as for your last file with these columns.");
  if (chosen.origin !== "suggested") return null;
  if (chosen.confirmed) return element("p", { class: "help" }, "You have confirmed these columns.");
  return element("div", { class: "notice" },
    element("p", {}, "Your columns have other names than ours. These are suggestions: look at the rows below, and correct what is wrong."),
    button("These columns are right", () => chosen.confirm(), { class: "confirm" }));
}

function fieldPart(chosen, field, prefix) {
  const { columns } = chosen.seen, template = chosen.choices.maps[field.name] ?? "", { system } = chosen.seen;
  const own = system ? null : chosen.ownName(field); // Which column a system means is not shown by its name.
  const isDouble = chosen.doubles().some(([each]) => [each.name, each.key].includes(field.name));
  const nothing = own && !isDouble ? `${own} (recognized)` : system ? `as ${system} names it` : field.needed ? "– choose –" : "– not in this file –";
  const named = columns.filter((name) => canBeNamed(name, columns) && (isDouble || name !== own)).map((name) => [`{${name}}`, name]);
  const isBuilt = chosen.building?.has(field.name) || (template && !named.some(([value]) => value === template));
  const list = select([["", nothing], ...named, [BUILT, "Put together from several columns …"]], isBuilt ? BUILT : template, (value) => {
    chosen.building ??= new Set();
    if (value !== BUILT) { chosen.building.delete(field.name); map(chosen, field, value); return; }
    chosen.building.add(field.name);
    chosen.tell();
    document.getElementById(`${prefix}-${field.name}-template`)?.focus();
  });
  list.id = `${prefix}-${field.name}`;
  const part = labelled(field.needed ? `${field.label} (needed)` : field.label, list, field.help || null);
  if (isBuilt) part.append(builtPart(chosen, field, template, `${list.id}-template`));
  return part;
}

function builtPart(chosen, field, template, id) {
  const problem = element("p", { class: "bad", id: `${id}-problem`, role: "alert" });
  const box = element("input", { id, value: template, placeholder: "{module}-{term}", autocomplete: "off", spellcheck: "false", "aria-describedby": problem.id });
  box.addEventListener("change", () => {
    const fault = faultOf(box.value, chosen.seen.columns);
    problem.textContent = fault ?? "";
    box.setAttribute("aria-invalid", String(Boolean(fault)));
    if (!fault) map(chosen, field, box.value);
  });
  return element("div", {}, element("label", { for: id }, "Your columns in braces, with what stands between them"), box, problem);
}

function map(chosen, field, template) {
  const maps = { ...chosen.choices.maps };
  delete maps[field.name];
  if (template) maps[field.name] = template;
  // What she chooses herself needs no confirmation, unless other suggestions are still open.
  return chosen.choose({ maps });
}

/** Return a note about letters that cannot be read, with a button that reads them as Windows writes them. */
export function lettersPart(chosen) {
  const bad = unreadLetters(chosen);
  if (!bad.length) return null;
  return element("div", { class: "notice" },
    element("p", {}, `Some letters cannot be read, first in line ${bad[0].line}. Files from older Windows programs often store accents in another way.`),
    button("Read it as a Windows file", () => chosen.choose({ encoding: "cp1252" }), { class: "plain small" }));
}
