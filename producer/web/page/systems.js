// Lists the systems whose files the service reads as they are.

/** The name of each format and the title of its system, as `enroll formats` prints them. */
export const SYSTEMS = [
  ["canvas", "Canvas SIS import"], ["oneroster", "OneRoster"], ["clever", "Clever"],
  ["sds-v2", "School Data Sync v2 and v2.1"], ["sds-v1", "School Data Sync v1"],
  ["moodle-flatfile", "Moodle flat file"], ["moodle-users", "Moodle upload of users"], ["edx", "Open edX"],
];
