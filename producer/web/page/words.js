// Holds the sentences and words that the page uses for the codes of the service.

export const UNREACHABLE = "unreachable";
export const CHANGED_FILE = "changed_file";

const SENTENCES = {
  [UNREACHABLE]: "The service cannot be reached. Check your connection, then try again.",
  [CHANGED_FILE]: "The file changed since you chose it. Choose it again.",
  cancelled: "You cancelled this file. Nothing of it was sent.",
  token_required: "This service asks for an access token, and does not know the one at the top of the page. Enter the token that you were given; if it is not accepted, ask your operator for a new one.",
  unknown_plan: "This plan is not known. Check the address.",
  drops_not_known: "It is not known yet which enrollments this plan would drop. Load the page again in a moment.",
  decision_refused: "Your decision did not count: the plan has changed, or somebody else has decided. Load the page again, and look at the present report.",
  scope_required: "Your access token does not allow this. Ask your operator for one that does.",
  foreign: "This service accepts only readers on its own machine, because it has no access tokens. Ask your operator.",
  unknown_student: "The roster has no student with this id. Check the id.",
  unknown_course: "The roster has no course with this id. Check the id.",
  unknown_batch: "No upload with this address is known. Check the address, or look for it under Uploads.",
  batch_conflict: "This file is not the one that was sent first under this address. Remove it, choose it again, and send it as a new upload.",
  cut_off: "The connection broke while the file was being sent. Send it again: it continues where it stopped.",
  body_timeout: "The file took too long to arrive. Send it again over a faster connection.",
  too_large: "The file is larger than this service accepts. Split it, or ask your operator for a higher limit.",
  too_many_requests: "The service is busy with other uploads. Wait a moment, then try again.",
  stopping: "The service is being restarted. Wait a moment, then try again: an upload continues where it stopped.",
  no_room: "The service has no room to store the file. Ask your operator to make room.",
  broker_unavailable: "The service cannot pass on anything at the moment. Wait a few seconds, then try again.",
  no_worker: "The service is up, but the program that looks things up does not answer. Try again in a minute; if that does not help, ask your operator.",
  lookup_failed: "This could not be looked up. Try again in a minute; if that does not help, ask your operator.",
  submission_lost: "What you sent was lost and had no effect. Send it again.",
  audit_unavailable: "The service cannot record who sees personal data, so it shows none. Ask your operator.",
  internal_error: "The service failed. Try again; if that does not help, ask your operator.",
};

const BY_STATUS = {
  401: SENTENCES.token_required,
  403: SENTENCES.scope_required,
  404: "Nothing is stored under this address. Check it.",
  413: SENTENCES.too_large,
  429: SENTENCES.too_many_requests,
  500: SENTENCES.internal_error,
  502: SENTENCES[UNREACHABLE],
  503: "The service is not available at the moment. Wait a few seconds, then try again.",
  504: SENTENCES[UNREACHABLE],
};

const BY_SCOPE = {
  submit: "Your access token does not allow sending anything. Ask your operator for one with the scope “submit”.",
  lookup: "Your access token does not allow looking up students and courses. Ask your operator for one with the scope “lookup”.",
  drop: "Your access token does not allow dropping students. Ask your operator for one with the scope “drop”.",
  decide: "Your access token does not allow deciding about uploads that wait, or undoing uploads. Ask your operator for one with the scope “decide”, or to do it.",
};

/** Return the sentence for a refusal of the service; its own words are used where the page has none. */
export function sentenceFor({ code, status, detail }) {
  const scope = code === "scope_required" ? /scope (\w+)/.exec(detail)?.[1] : null;
  return BY_SCOPE[scope] ?? SENTENCES[code] ?? (plain(detail ?? "") || BY_STATUS[status]) ?? "The service refused this call. Ask your operator.";
}

const PLAIN = [
  [/^The file(?: \([^)]*\))?: (.)/, (_, first) => first.toUpperCase()],
  [/^(.+?) in The file: (.)/, (_, name, first) => `${name}: ${first}`],
  [/ in The file\b/g, ""],
  [/^The file\b/, "This file"],
  [/^This file is a file of an old Office program/, "This file comes from an old Office program"],
  [/^This file is a binary file;/, "This file is not a table of text;"],
  [/Get the file again, and submit it; if a part of it was already submitted, use the same batch id\./, "Get the file again, and choose the new one here."],
  [/It looks like a JSON (array|document); write one JSON object on each line instead\./, "It looks like JSON, a format for programs. Export it as CSV."],
  [/export it as CSV or JSON Lines in UTF-8/, "export it as CSV"],
  [/,? or write plain as the format if every line is meant to count, whatever these columns say/, ", or choose “None: every line counts” below as the system"],
  [/^The batch .+ was undone already, by .+\. To undo that, run .+$/s, "This upload was undone already. To undo that, look under Uploads for its undo, and press “Undo …” there."],
  [/^The plan .+ of the batch .+ is being applied\. Wait until it is done \(.+?\), then undo the batch\.$/s, "This upload is still being applied. Wait until it is finished, then undo it."],
  [/^The batch (.+?) (counts|is|cannot)/s, "The upload $1 $2"],
  [/leave out the option that takes moments from the file/, "choose below that each line counts when it is sent"],
  [/; leave the kind out, or map its columns to ours\./, "; choose below what it holds."],
  [/, so its columns cannot be mapped\. Submit it without a mapping/, ". Take back the columns that you chose below"],
  [/, or submit the whole package without a mapping/, ", or send the whole package"],
  [/\. Make the course from (.+?), or say that the sections of a course are one\b/, ". Choose $1 below as the course, or choose below that each course has one section"],
  [/ and without a column action/, ""],
  [/submit it without the option that makes every line a drop/, "choose below that each line enrolls its student"],
  [/ Choose the kind of the records, and map .* than ours\./, " Choose below what it holds."],
  [/([Mm]ap) another column to it, for example [^ ]+\.$/, "choose below which column it is."],
  [/send more of it for a preview/, "check that it is the right one"],
  [/\bsubmitted\b/g, "sent"], [/\bsubmit\b/g, "send"], [/\bSIS ids?\b/g, "id of your system"], [/\bour key\b/g, "a number of this service"],
];

/** Return what a sentence of the service about a file says on this page. */
export const plain = (sentence) => PLAIN.reduce((text, [form, words]) => text.replace(form, words), sentence);

export const KINDS = { students: "Students", courses: "Courses", enrollments: "Enrollments" };

/** The states in which an upload stays, until somebody decides about it. */
export const ENDS = ["done", "planned", "held", "discarded"];

export const STATES = {
  sending: "Being sent",
  unknown: "Not known yet",
  queued: "Waiting to be processed",
  running: "Being processed",
  stalled: "Stopped",
  done: "Finished",
  staged: "Being planned",
  planned: "Planned, and not applied",
  held: "Waiting for a decision",
  discarded: "Discarded",
};

const numbers = new Intl.NumberFormat("en");

/** Return a number with its thousands separated. */
export const count = (number) => numbers.format(number);

/** Return "1 row" or "2 rows". */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Return texts as a list in a sentence: "a, b and c". */
export const listed = (texts) => new Intl.ListFormat("en", { type: "conjunction" }).format(texts);

/** Return the size of a file for people. */
export function sizeOf(bytes) {
  if (bytes < 1000) return counted(bytes, "byte");
  const unit = bytes < 1e6 ? [1e3, "kB"] : bytes < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  return `${new Intl.NumberFormat("en", { maximumSignificantDigits: 3 }).format(bytes / unit[0])} ${unit[1]}`;
}
