// Describes a chosen file: what the service's own reader says about its beginning.

import { call, Problem } from "./api.js";
import { CHANGED_FILE } from "./words.js";

const BEGINNING = 1 << 20;
const SHOWN_ROWS = 5;
/** The largest zip archive or workbook in bytes whose rows can be shown before all of it is checked. */
export const MOST_SHOWN = 8e6;

// A zip archive or workbook is described as a whole: the list of its parts stands at its end.
async function isArchive(file) {
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  return first === 0x50 && second === 0x4b;
}

const NOT_LOOKED_AT = { readable: true, isUnseen: true, container: null, kind: null, format: null, columns: null, notices: [], rows: [], refused: [], raw_lines: [] };

/** Return whether the file on the disk is still the one that was chosen. */
export async function isUnchanged(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

/** Return the query of a submission for the choices about a file. */
export function queryOf({ kind, encoding, drop, maps, sheet, format, sectionsAreOne, momentsFromFile }) {
  const query = new URLSearchParams();
  if (kind) query.set("kind", kind);
  if (encoding) query.set("encoding", encoding);
  if (drop) query.set("drop", "true");
  if (sheet) query.set("sheet", sheet);
  if (format) query.set("format", format);
  if (sectionsAreOne) query.set("sections_are_one", "true");
  if (momentsFromFile) query.set("moments_from_file", "true");
  for (const [column, template] of Object.entries(maps ?? {})) if (template) query.append("map", `${column}=${template}`);
  return query;
}

/**
 * Return the preview of a file with these choices; `isPackage` is set if it holds several files, and `isUnseen` if it is
 * too large to be looked at before its check. Throws Problem, also if the file changed.
 */
export async function preview(file, choices, signal) {
  const query = queryOf(choices);
  query.set("limit", SHOWN_ROWS);
  const isWhole = await isArchive(file);
  if (isWhole && file.size > MOST_SHOWN) return NOT_LOOKED_AT;
  if (!isWhole && file.size > BEGINNING) query.set("partial", "true");
  const seen = await post(file, `/batches/preview?${query}`, isWhole ? file : file.slice(0, BEGINNING), signal);
  return seen.container === "package" ? { ...seen, readable: true, problem: null, isPackage: true } : seen;
}

/** Return the check of a whole file: what would be refused for its form. Throws Problem. */
export const check = (file, choices, signal) => post(file, `/batches/check?${queryOf(choices)}`, file, signal);

async function post(file, path, content, signal) {
  const body = new FormData(); // The name of a file may decide what it holds.
  body.append("file", content, file.name);
  try {
    return await (await call(path, { method: "POST", body, signal })).json();
  } catch (error) {
    if (error.name !== "AbortError" && !(await isUnchanged(file))) throw new Problem({ code: CHANGED_FILE });
    throw error;
  }
}
