// Remembers, in this browser, how columns were matched and which uploads were begun.

import { ownColumns } from "./corrections.js";
import { batchIds } from "./ids.js";

const MATCHES = "enrollment.matches";
const UPLOADS = "enrollment.uploads";
const MOST_MATCHES = 50;
const MOST_UPLOADS = 50;

function read(key) {
  try {
    const list = JSON.parse(localStorage.getItem(key));
    return Array.isArray(list) ? list : [];
  } catch {
    return []; // The browser stores nothing, or the text was changed.
  }
}

function write(key, list) {
  try {
    localStorage.setItem(key, JSON.stringify(list));
  } catch {
    // Without storage, the page works as well, but does not remember.
  }
}

/**
 * Return a digest of a header: files with the same columns in the same order have the same one, and so do the files
 * of their refused lines.
 */
export function headerDigest(columns) {
  let hash = 0xcbf29ce484222325n; // FNV-1a; `crypto.subtle` is missing on pages without TLS.
  for (const byte of new TextEncoder().encode(JSON.stringify(ownColumns(columns).map((index) => columns[index])))) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16);
}

/** Return the choices that were made for the last file with these columns, or null. */
export const matchOf = (columns) => read(MATCHES).find(({ digest }) => digest === headerDigest(columns))?.choices ?? null;

/** Remember the choices for files with these columns. */
export function rememberMatch(columns, choices) {
  const digest = headerDigest(columns);
  write(MATCHES, [{ digest, choices }, ...read(MATCHES).filter((each) => each.digest !== digest)].slice(0, MOST_MATCHES));
}

/** Return the uploads that were begun in this browser and are not known to be done, the newest first. */
export const begunUploads = () => read(UPLOADS);

/** Return the begun upload of the same file with the same choices, or null. */
export function begunUpload(file, query) {
  const isSame = (each) => each.name === file.name && each.size === file.size && each.modified === file.lastModified && each.query === query;
  return begunUploads().find(isSame) ?? null;
}

/** Remember that an upload was begun; `parts` are those of a package. */
export function rememberUpload(id, file, query, parts = []) {
  const upload = { id, parts, name: file.name, size: file.size, modified: file.lastModified, query, begun: Date.now() };
  write(UPLOADS, [upload, ...begunUploads().filter((each) => each.id !== id)].slice(0, MOST_UPLOADS));
}

/** Forget an upload that is done, or that was cancelled before anything was sent. */
export const forgetUpload = (id) => write(UPLOADS, begunUploads().filter((each) => each.id !== id && batchIds(each).join() !== id));
