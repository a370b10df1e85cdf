// Lists the systems whose files the service reads as they are.

/** The name of each format and the title of its system, as `enroll formats` prints them. */
export const SYSTEMS = [
  ["canvas", "Canvas SIS import"], ["oneroster", "OneRoster"], ["clever", "Clever"],
  ["sds-v2", "School Data Sync v2 and v2.1"], ["sds-v1", "School Data Sync v1"],
  ["moodle-flatfile", "Moodle flat file"], ["moodle-users", "Moodle upload of users"], ["edx", "Open edX"],
];

/** The name of the choice that every line counts, whatever system its header is from. */
export const PLAIN = "plain";

/** The system whose files say when each line was last changed, and the columns with that time. */
export const TIMED = "OneRoster";
const CHANGED = ["datelastmodified", "datalastmodified"];

/** Return whether the lines of a file may say when they were last changed; a package is not asked for its columns. */
export const hasTimes = (system, columns) => system === TIMED && (!columns || columns.some((name) => CHANGED.includes(name.trim().toLowerCase())));
