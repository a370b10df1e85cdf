// Says in her words what is wrong with a chosen file, and what to do.

import { FIELDS, simple } from "./columns.js";
import { listed, plain } from "./words.js";

const AS_TABLE = "Open it in the program that it comes from, choose “Save as” and the format “CSV UTF-8”, then choose the new file here.";

// What the service says of every workbook if it cannot read any, and of those of other programs.
const NOT_READ = /^The file is (an Excel workbook|a binary Excel workbook|an OpenDocument file|an Apple Numbers|an old Excel)[^;:.]*; save/;

// What the service says of a file of another system: the choice of columns would not help.
const OF_A_SYSTEM = /^The file holds .* of |the course is made without/;

/** Return why a file cannot be used as it is, with the way out; null if it can. */
export function problemOf(chosen) {
  if (chosen.problem) return chosen.problem;
  const { seen } = chosen;
  if (!seen) return null;
  if (!seen.readable) return unreadable(chosen, seen);
  return chosen.isEmpty ? "This file has a header but no rows, so there is nothing to send. Export it again, or choose another one." : null;
}

/** Return why a package cannot be read, with the way out. */
export const packageProblem = (problem) => plain(problem).replace(/ Choose below what it holds\./,
  " If it is not needed, remove it from the archive. Otherwise unpack the archive, and choose its files one by one: then you can say what each of them holds.");

function unreadable(chosen, { problem, field, columns }) {
  if (NOT_READ.test(problem)) return `This is a workbook of a kind that cannot be read here. ${AS_TABLE}`;
  if (/is empty/.test(problem)) return "This file is empty. Export it again, or choose another one.";
  if (field === "encoding") return "The letters in this file cannot be read with the chosen encoding. Choose another one below.";
  const [double] = chosen.doubles();
  if (double) return `This file has ${double[1].length} columns for the ${double[0].label.toLowerCase()}: ${listed(double[1])}. Choose below which one counts.`;
  if (!columns || !["map", "kind"].includes(field) || OF_A_SYSTEM.test(problem)) return plain(problem);
  if (!chosen.kind) return unclear(columns, looksLike(problem));
  const missing = missingFields(chosen).map(({ label }) => label.toLowerCase());
  if (missing.length) return withoutColumns(listed(missing), looksLike(problem));
  return plain(problem);
}

const OTHERS = /^(teacher|instructor|lecturer|professor|tutor|staff|faculty|employee|parent|guardian|lehrer|lehrkraft|dozent|enseignant|professeur|profesor|docente)(user|person)?(sis|sourced)?(id|key|no|nr|num|number|code)$/;

/** Return what may be wrong with a file that can be read, or has been matched so far: sentences for its reader. */
export function doubtsAbout({ seen, firstLine, choices }) {
  const columns = seen?.columns ?? [], used = Object.values(choices.maps).join(" ");
  const other = columns.find((name) => OTHERS.test(simple(name)));
  const isRead = other && (seen.readable ? used.includes(`{${other}}`) : !columns.some((name) => /^(student|user|person)/.test(simple(name))));
  return [
    firstLine && seen?.readable && `The first line of this file looks like data: “${firstLine}”. It is read as the names of the columns, so it is not sent. If it is data, add a line with the names of the columns above it, and choose the file again.`,
    isRead && `The column “${other}” seems to hold people who are not students. Everyone in it would be taken for a student. If this is not a list of students, remove the file: other people are not needed here.`,
  ].filter(Boolean);
}

function withoutColumns(missing, looks) {
  const sentence = `This file has no column that is known as the ${missing}.`;
  return looks
    ? `${sentence} ${plain(looks)} If its first line does have the names of the columns, choose below which of them holds it.`
    : `${sentence} Choose below which of your columns holds it.`;
}

// A choice helps only if the first line has names of columns.
function unclear(columns, looks) {
  if (looks) return `It is not clear what this file holds. ${plain(looks)} If its first line does have the names of the columns, choose below what it holds.`;
  return `It is not clear what this file holds. Its columns are: ${listed(columns.slice(0, MOST_NAMES).map((name) => name.replace(/[\ufdd0-\ufdef]+/g, "\ufffd") || "one without a name"))}. Choose below what it holds, or remove it if it is the wrong file.`;
}

const MOST_NAMES = 12;
const looksLike = (problem) => /\. ((?:It (?:looks|has)|Its cells seem|The whole line)\b.*?\.)(?= Otherwise| Choose|$)/.exec(problem)?.[1] ?? "";

/** Return our needed columns for which the file has none. */
export function missingFields(chosen) {
  const fields = FIELDS[chosen.kind] ?? [], { maps } = chosen.choices;
  return fields.filter((field) => {
    const key = fields.find(({ name }) => name === field.key);
    const has = (each) => each && (maps[each.name] || chosen.ownName(each));
    return field.needed && !has(field) && !has(key);
  });
}

/** Return the lines at the beginning of a file whose letters cannot be read; the encoding may be another one. */
export const unreadLetters = ({ seen }) => (seen?.refused ?? []).filter(({ message }) => message.includes("not UTF-8"));
