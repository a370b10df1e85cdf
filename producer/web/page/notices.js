// Says in her words what the service notices about a file.

import { counted, listed, plain } from "./words.js";

const ROLES = ["teacher", "administrator", "aide", "parent", "guardian", "relative", "observer", "proctor", "designer"];
const NOT_NAMED = "not named as a student", NO_COURSE = "no course";
const PASSED_OVER = /[\d,]+ lines? (?:is|are) passed over, because only students are read: (.+)\.$/;
const GONE = /[\d,]+ lines? (?:is|are) passed over because of the status: (.+?)\. A roster removes nothing/;
const OTHERWISE = /[\d,]+ (?:line|user)s? (?:is|are) passed over, because (?:no file|it names|they name) /;
const DROPS = /[\d,]+ lines? (?:is|are) read as (?:a drop|drops): (.+)\.$/;
const OTHER_SHEETS = /^Only the sheet (.+) is read, and not (.+); to send another sheet, name it\.$/;

/** Return who was passed over, in a sentence; null if every line is about a student. */
export function passedOver(counts) {
  const texts = Object.entries(counts ?? {}).map(([role, number]) => textOf(role, number));
  return texts.length ? `Passed over, because only students are enrolled: ${listed(texts)}.` : null;
}

function textOf(role, number) {
  if (ROLES.includes(role)) return counted(number, role);
  if (role === NOT_NAMED) return `${counted(number, "person", "people")} whom no file calls a student`;
  if (role === NO_COURSE) return `${counted(number, "line")} without a course`;
  return `${counted(number, "line")} about “${role}”`;
}

/** Return whether a notice says who was passed over. */
export const isAboutOthers = (notice) => PASSED_OVER.test(notice) || OTHERWISE.test(notice);

/** Return a notice of the service about a file in her words. */
export function noticeInWords(notice) {
  const text = plain(notice).replace(OTHER_SHEETS, "Only the sheet $1 is read, and not $2. To send another one, choose the file again, and then the sheet.");
  for (const [form, sentence] of [
    [PASSED_OVER, passedOver],
    [GONE, (counts) => `Passed over, because of the status: ${linesWith(counts)}. A list of students or courses removes nothing`],
    [DROPS, (counts) => `Ends enrollments: ${linesWith(counts)}.`],
  ]) {
    const match = form.exec(text);
    if (match) return text.replace(form, () => sentence(countsIn(match[1])));
  }
  return text;
}

const linesWith = (counts) => listed(Object.entries(counts).map(([word, number]) => `${counted(number, "line")} with “${word}”`));

const countsIn = (list) => Object.fromEntries(
  [...list.matchAll(/([\d,]+) (['"])(.*?)\2(?=, \d|$)/g)].map(([, number, , word]) => [word, Number(number.replaceAll(",", ""))]));
