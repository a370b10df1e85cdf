// Says in a registrar's words why lines were refused, and groups them by mistake.

import { count, plain } from "./words.js";

const CAUSES = {
  unknown_student: {
    title: "The student is not in the roster",
    advice: "Correct the student's id. If it is right, send the list of students first, then send these lines again.",
  },
  unknown_course: {
    title: "The course is not in the roster",
    advice: "Correct the course's id. If it is right, send the list of courses first, then send these lines again.",
  },
  invalid_request: { title: "The line cannot be read as it is", advice: "Correct what the reason names." },
  request_id_reused: {
    title: "Another request already has this number",
    advice: "Give the line a request number of its own. Nothing was changed.",
  },
  not_processed: {
    title: "The service failed on this line",
    advice: "You need not change anything. Ask your operator to look at it.",
  },
  undone: {
    title: "The upload was undone before this line was entered",
    advice: "If the line is to count after all, send it in a new file.",
  },
};
const OTHER = { title: "The line was refused", advice: "Correct what the reason names." };

/** Return the title and the advice for a cause of refusals. */
export const causeOf = (code) => CAUSES[code] ?? OTHER;

const OUR_WORDS = {
  student_id: "the student", student_sis_id: "the student", student_key: "the student's number",
  course_id: "the course", course_sis_id: "the course", course_key: "the course's number",
  course_ids: "the course", drop_course_ids: "the course to drop",
  sis_id: "the id", name: "the name", email: "the e-mail address", title: "the title",
  action: "the action", reason: "the reason", as_of: "the time",
};

// Each of our messages that does not already say it as she would: what it looks like, and her sentence.
const SENTENCES = [
  [/^no student has the SIS id '(.*)'/, (id) => `No student has the id “${id}”.${severalIn(id)}`],
  [/^no course has the SIS id '(.*)'/, (id) => `No course has the id “${id}”.${severalIn(id)}`],
  [/^no (student|course) has the key (\d+)/, (what, key) => `No ${what} has the number ${key}.`],
  [/^the line has (\d+) cells, but the header has (\d+); those after/, (has, wants) =>
    `The line has ${has} cells, but the file has ${wants} columns. The cells after the last column are empty: delete them, and save the file again.`],
  [/^the line has (\d+) cells?, but the header has (\d+)/, (has, wants) =>
    Number(has) > Number(wants)
      ? `The line has ${has} cells, but the file has ${wants} columns. Perhaps a separator stands within a text.`
      : `The line has only ${has} of ${wants} cells. Fill in what is missing.`],
  [/^a quote \("\) in this line/, () => "A quotation mark in this line has no partner, or stands within a text. Remove it, or write it twice."],
  [/the line repeats the header/, () => "The line repeats the names of the columns. It needs no correction: nothing is missing."],
  [/^the line is another header/, () => "Another table begins here, with its own names of columns, as if two files had been put into one. Put this line and those below it into a file of their own, and send that file."],
  [/^the line stands below another header, line (\d+)/, (line) => `The line belongs to another table, which begins in line ${count(Number(line))}. Put that line and those below it into a file of their own, and send that file.`],
  [/has (\d+) characters; shorten it to at most (\d+)/, (has, most) => `The text has ${has} characters; at most ${most} are allowed.`],
  [/the cell of (.+) is empty; fill it in/, (column) => `“${column}” is empty. Fill it in.`],
  [/the cell is empty; fill it in/, () => "The cell is empty. Fill it in."],
  [/^not valid JSON: .*?(?: at column (\d+))?; correct the line/, (column) =>
    `The line is not a record in JSON, as the others are${column ? `: something is wrong at character ${count(Number(column))} or before it` : ""}. Export the file again from the program that it comes from, or correct the line in a text editor.`],
  [/is not UTF-8|not UTF-8/, () => "The line has letters that could not be read. Type them again or, if many lines have this, choose the file again with another encoding (Letters)."],
  [/'?(.*?)'? is not an action; write enroll or drop/, (text) => `“${text}” is not understood. Write enroll or drop, or leave the cell empty to enroll.`],
  [/'(.*)' stands for a missing value/, (text) => `“${text}” stands for a missing id. Fill in the id.`],
  [/more than five minutes ahead/, () => "The time lies in the future. Correct it, or leave the cell empty."],
  [/lies before .* was pruned/, () => "The time lies too far in the past. Write a later one, or leave the cell empty."],
  [/must be a time|valid time|time zone/, () => "The time is not understood. Write it with its time zone, such as 2026-09-01T08:00:00Z."],
  [/contains the character NUL|contains Ctrl-Z|contains a carriage return/, () => "The line contains an invisible character that does not belong there. Type the cell again."],
  [/is not one of our keys/, () => "This is not a number of this service. If the column holds ids of your own system, choose it as the column of the id; otherwise correct it."],
];

const severalIn = (id) => (/\w\s*[;,|]\s*\w/.test(id) ? " If these are several ids, write a line for each of them." : "");

// The service adds this to the refusal of a last line that ends without a line end.
const CUT_OFF = /; the file ends in this line without a line end.*$/s;
const IS_CUT_OFF = "The file ends in the middle of this line, as if its download had been cut off. If it was, get the file again, and send that.";

/** Return the reason of a refused line in her words; `columnOf` gives her name of one of our columns. */
export function reasonOf({ message, field: named }, columnOf = () => null) {
  const field = named ?? columnOf(/^(.+?): /.exec(message)?.[1] ?? "");
  const reason = reasonOfWhole(message.replace(CUT_OFF, ""), field, columnOf);
  return CUT_OFF.test(message) ? `${IS_CUT_OFF} ${reason}` : reason;
}

function reasonOfWhole(message, field, columnOf) {
  const words = bare(message, field);
  const where = field ? columnOf(base(field)) : null;
  const place = where ? `${where}: ` : "";
  for (const [form, sentence] of SENTENCES) {
    const match = form.exec(words);
    if (match) return ABOUT_A_CELL.test(message) || where ? `${place}${sentence(...match.slice(1))}` : sentence(...match.slice(1));
  }
  const text = plain(capital(words));
  return `${place || (field && OUR_WORDS[base(field)] ? `${capital(OUR_WORDS[base(field)])}: ` : "")}${text}${/[.!?]$/.test(text) ? "" : "."}`;
}

const ABOUT_A_CELL = /^cell \d+ /;
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const base = (field) => field.replace(/\[\d+\]$/, "");
const bare = (message, field) => (field && message.startsWith(`${field}: `) ? message.slice(field.length + 2) : message);

// The same mistake with other values has the same rule.
const kindOfMistake = ({ code, field, rule }) => [code, field && base(field), rule].join("\n");

/** Group refused lines by mistake: [{code, lines, first}], in the order of their first lines. */
export function mistakesIn(lines) {
  const groups = new Map();
  for (const line of lines) {
    const kind = kindOfMistake(line);
    if (!groups.has(kind)) groups.set(kind, { code: line.code, first: line, lines: [] });
    groups.get(kind).lines.push(line);
  }
  return [...groups.values()];
}

/** Return the likely reasons for a group of refusals, one sentence each. */
export function likelyReasons(group) {
  const sentences = (group.likely_causes ?? []).map((cause) => cause.message);
  if (group.examined != null && group.examined < group.count) {
    sentences.push(`Only the first ${count(group.examined)} of ${count(group.count)} refused lines were compared with the roster.`);
  }
  return sentences;
}

/** Return the ids that were probably meant, by the refused id: those for which only one is possible. */
export function meantIds(refusals) {
  const meant = new Map();
  for (const cause of refusals.flatMap((group) => group.likely_causes ?? [])) {
    for (const { id, meant: [only, ...others] } of cause.examples) if (only && !others.length) meant.set(id, only);
  }
  return meant;
}
