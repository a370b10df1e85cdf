// Describes a chosen file: what the service's own reader says about its beginning.

import { call, Problem } from "./api.js";
import { CHANGED_FILE } from "./words.js";

const BEGINNING = 1 << 20;
const SHOWN_ROWS = 5;

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
export function queryOf({ kind, encoding, drop, maps }) {
  const query = new URLSearchParams();
  if (kind) query.set("kind", kind);
  if (encoding) query.set("encoding", encoding);
  if (drop) query.set("drop", "true");
  for (const [column, template] of Object.entries(maps ?? {})) if (template) query.append("map", `${column}=${template}`);
  return query;
}

/** Return the preview of a file with these choices. Throws Problem, also if the file changed. */
export async function preview(file, choices, signal) {
  const query = queryOf(choices);
  query.set("limit", SHOWN_ROWS);
  if (file.size > BEGINNING) query.set("partial", "true");
  return post(file, `/batches/preview?${query}`, file.slice(0, BEGINNING), signal);
}

/** Return the check of a whole file: what would be refused for its form. Throws Problem. */
export const check = (file, choices, signal) => post(file, `/batches/check?${queryOf(choices)}`, file, signal);

async function post(file, path, body, signal) {
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    return await (await call(path, { method: "POST", body, headers, signal })).json();
  } catch (error) {
    if (error.name !== "AbortError" && !(await isUnchanged(file))) throw new Problem({ code: CHANGED_FILE });
    throw error;
  }
}
