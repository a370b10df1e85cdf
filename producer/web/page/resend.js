// Sends corrected lines as an upload of their own, and finds out what became of each.

import { call } from "./api.js";
import { nameOf } from "./names.js";
import { csvOf, idOfCorrection, shownCell, store } from "./corrections.js";
import { refusedLines } from "./refusals.js";

const PAUSE = 700;
const LINE = "refused_line";
const UNREADABLE = "a cell still has letters that could not be read; type them again";

/**
 * Check the `chosen` lines and send the valid ones. Return those that are `invalid`, with the reason.
 *
 * What was sent is stored before, in `corrections.sent`, so that it can be settled after the page was
 * closed.
 */
export async function resend(status, read, chosen, corrections) {
  const unreadable = chosen.filter(({ cells }) => cells.some((cell) => shownCell(cell).includes("\ufffd")));
  const readable = chosen.filter((line) => !unreadable.includes(line));
  const unread = unreadable.map(({ line }) => ({ line, code: "invalid_request", field: null, message: UNREADABLE }));
  if (!readable.length) return { invalid: unread };
  const checked = fileOf(read, readable), name = `Corrected lines of ${nameOf(status)}`;
  const report = await (await post("/batches/check", options(status, read), checked.text, name)).json();
  const oldLine = new Map(checked.lines.map((line, index) => [line, readable[index].line]));
  const refused = (report.refused ?? []).map(({ line, field, message }) => ({ line: oldLine.get(line), code: "invalid_request", field, message }));
  const invalid = [...unread, ...refused];
  const bad = new Set(invalid.map(({ line }) => line)), valid = readable.filter(({ line }) => !bad.has(line));
  if (!report.readable) throw new Error(report.problem);
  if (!valid.length) return { invalid };
  const { text, lines } = fileOf(read, valid);
  const batch = idOfCorrection(status.batch_id);
  // What is corrected belongs to the data set of the upload, so later snapshots drop it once they do not name it.
  const owner = status.data_set ? [["data_set", status.data_set]] : [];
  corrections.sent = { batch, lines: lines.map((line, index) => [line, valid[index].line]), text, options: [...options(status, read), ...owner], name };
  store(status.batch_id, corrections);
  return { invalid };
}

// In a file of another system, the first column says that these lines were refused: what the rest of its package said of
// them holds. The names of its columns and of the file let the service recognize it again.
function fileOf({ columns, format }, lines) {
  if (!format || columns.includes(LINE)) return csvOf(columns, lines.map(({ cells }) => cells));
  return csvOf([LINE, ...columns], lines.map(({ line, cells }) => [String(line), ...cells]));
}

function options(status, read) {
  const chosen = [["kind", status.kind], ...Object.entries(read.mapping ?? {}).map(([name, template]) => ["map", `${name}=${template}`])];
  if (read.format) chosen.push(["format", read.format]);
  for (const name of ["drop", "sections_are_one", "moments_from_file"]) if (read[name]) chosen.push([name, "true"]);
  return chosen;
}

function post(path, query, text, name) {
  const body = new FormData();
  body.append("file", new Blob([text], { type: "text/csv" }), name);
  return call(`${path}?${new URLSearchParams(query)}`, { method: "POST", body });
}

/**
 * Send what is stored, unless it has arrived, and wait until it is done. Return the lines that were
 * `applied`, and those that were `refused` again, each with the reason. Throws when the wait is aborted.
 */
export async function settle(sent, signal) {
  // A repeat under the same id continues the first attempt, and nothing is done twice.
  await post("/batches", [...sent.options, ["batch_id", sent.batch]], sent.text, sent.name);
  await untilDone(sent.batch, signal);
  const refused = new Map();
  let after = null;
  do {
    const page = await refusedLines(sent.batch, { after });
    for (const refusal of page.lines) if (!refused.has(refusal.line)) refused.set(refusal.line, refusal);
    after = page.next;
  } while (after !== null);
  const again = sent.lines.filter(([line]) => refused.has(line));
  return {
    applied: sent.lines.filter(([line]) => !refused.has(line)).map(([, line]) => line),
    refused: again.map(([line, old]) => ({ line: old, code: refused.get(line).code, field: refused.get(line).field, message: refused.get(line).message })),
  };
}

async function untilDone(batchId, signal) {
  for (;;) {
    const response = await call(`/batches/${encodeURIComponent(batchId)}`).catch((problem) => {
      if (problem.code === "unknown_batch") return null; // No part of it is applied yet.
      throw problem;
    });
    const state = response && (await response.json()).state;
    if (state === "done") return;
    if (state === "stalled") throw new Error("The corrected lines wait, because the service has stopped working on them. They are kept: open this page again later.");
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    signal.throwIfAborted();
  }
}
