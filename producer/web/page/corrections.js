// Stores corrected lines in this browser until they were applied, and writes them as a file.

import { randomHex } from "./ids.js";

const keyOf = (batchId) => `corrections of ${batchId}`;
const NOTHING = { edited: {}, applied: {}, sent: null };

/**
 * Return what is stored about a batch: `edited` lines with their cells and the reason they came back
 * with, the numbers of `applied` lines with the batch that applied them, and what was `sent` and not yet
 * settled.
 */
export function stored(batchId) {
  try {
    return { ...structuredClone(NOTHING), ...JSON.parse(localStorage.getItem(keyOf(batchId)) ?? "{}") };
  } catch {
    return structuredClone(NOTHING);
  }
}

/** Store corrections; return whether the browser had room for them. */
export function store(batchId, corrections) {
  const isEmpty = !corrections.sent && ![corrections.edited, corrections.applied].some((lines) => Object.keys(lines).length);
  try {
    if (isEmpty) localStorage.removeItem(keyOf(batchId));
    else localStorage.setItem(keyOf(batchId), JSON.stringify(corrections));
    return true;
  } catch {
    return false;
  }
}

/** Call `changed` whenever another tab has stored corrections of a batch, until `signal` is aborted. */
export function watchOtherTabs(batchId, changed, signal) {
  const whenStored = ({ key }) => { if (key === keyOf(batchId) || key === null) changed(); };
  // A page that comes back from the browser's history has missed what happened in the meantime.
  const whenShownAgain = ({ persisted }) => { if (persisted) changed(); };
  window.addEventListener("storage", whenStored, { signal });
  window.addEventListener("pageshow", whenShownAgain, { signal });
}

const MAX_ID = 128;
const CORRECTS = /^fix-[0-9a-f]{8}-(.+)$/;

/** Return an id for the batch of corrected lines, which names the batch that they come from. */
export function idOfCorrection(batchId) {
  return `fix-${randomHex(4)}-${batchId}`.slice(0, MAX_ID);
}

/** Return the id of the batch whose lines a batch corrects, or null. */
export const originOf = (batchId) => (batchId.length < MAX_ID ? CORRECTS.exec(batchId)?.[1] ?? null : null);

const NEEDS_QUOTES = /[",\r\n]|^\s|\s$/;
const cellText = (cell) => {
  const text = cell.replace(/\r\n?/g, "\n");
  return NEEDS_QUOTES.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const rowText = (cells) => `${cells.map(cellText).join(",")}\n`;

/** Return a CSV file of these rows, and the line at which each row begins. */
export function csvOf(columns, rows) {
  const texts = [columns, ...rows].map(rowText), begins = [];
  let line = 1;
  for (const text of texts) {
    begins.push(line);
    line += text.split("\n").length - 1;
  }
  return { text: texts.join(""), lines: begins.slice(1) };
}

// A byte that is not text travels as two characters that stand for nothing else.
const UNREADABLE = /[\ufdd0-\ufddf][\ufde0-\ufdef]/g;
/** Return a cell as it is shown: a character that could not be read is a question mark in a diamond. */
export const shownCell = (cell) => cell.replace(UNREADABLE, "\ufffd");

// What a download adds to the columns of a file.
const ADDED = ["refused_line", "refused_code", "refused_message", "refused_guarded"];
/** Return the indexes of the columns that are hers. */
export const ownColumns = (columns) => columns.map((_, index) => index).filter((index) => !ADDED.includes(columns[index]));
