// Shows one upload: where it stands, its counts, and what was refused and why.

import { call } from "./api.js";
import { nameOf, packageOf, siblings } from "./names.js";
import { originOf, stored } from "./corrections.js";
import { element } from "./dom.js";
import { addressOf, batchAddress, undoneBy } from "./ids.js";
import { refusalsSection } from "./refusals.js";
import { sendingOf } from "./sending.js";
import { shownTime } from "./times.js";
import { undoPart } from "./undo.js";
import { isBeingUndone, undoable } from "./undoable.js";
import { uploadSection } from "./upload_section.js";
import { counted } from "./words.js";

/** Show the upload whose id is in the address. */
export async function show(main, { id }) {
  const stop = new AbortController(), heading = element("h1", {}, sendingOf(id)?.file.name ?? "Upload"), about = element("div", {}), refused = element("div", {}), undo = element("div", {});
  const see = (status) => {
    heading.textContent = nameOf(status);
    about.replaceChildren(...facts(status));
    if (packageOf(status)) wholeOf(status).then((part) => about.append(part), () => {});
    const toUndo = undoable(status);
    if (toUndo && !undo.hasChildNodes()) undo.append(undoPart(toUndo));
    if (status.state === "done") showRefused(status, refused).catch((problem) => {
      if (!stop.signal.aborted) refused.replaceChildren(element("p", { class: "problem", role: "alert" }, problem.message));
    });
  };
  const section = uploadSection(id, stop.signal, see);
  section.node.querySelector("h2").hidden = true; // The heading of the page says the same.
  main.replaceChildren(heading, about, section.node, refused, undo);
  await section.shown;
  return () => stop.abort();
}

function facts(status) {
  const sent = [status.submitted_at && `Sent on ${shownTime(status.submitted_at)}`, status.submitter && `by ${status.submitter}`].filter(Boolean).join(" ");
  const origin = originOf(status.batch_id), undone = undoneBy(status.batch_id);
  return [
    element("p", { class: "faint" }, sent),
    status.undone_by && element("p", { class: "notice" }, isBeingUndone(status) ? "This upload is being undone. " : `This upload was undone${status.undone_at ? ` on ${shownTime(status.undone_at)}` : ""}. `, element("a", { href: batchAddress(status.undone_by) }, "See its undo"), isBeingUndone(status) ? ", and how far it is." : ", which can be undone, too."),
    undone && element("p", {}, "This undoes ", element("a", { href: batchAddress(undone) }, "an earlier upload"), "."),
    origin && element("p", {}, "Corrected lines of ", element("a", { href: batchAddress(origin) }, "an earlier upload"), "."),
  ].filter(Boolean);
}

// The other files of the package, among the newest uploads.
async function wholeOf(status) {
  const { batches } = await (await call("/batches?limit=100")).json();
  return element("p", {}, "Part of ", element("a", { href: addressOf(siblings(status, batches)) }, packageOf(status)), ".");
}

async function showRefused(status, place) {
  if (!status.refusals.length) return place.replaceChildren();
  const [section, corrections] = await Promise.all([refusalsSection(status), correctionsOf(status)]);
  return place.replaceChildren(...corrections, section);
}

// What was sent again: by this browser, and among the newest uploads by others.
async function correctionsOf(status) {
  const { applied, sent } = stored(status.batch_id);
  const { batches } = await (await call("/batches?limit=100")).json();
  const later = batches.filter((batch) => originOf(batch.batch_id) === status.batch_id);
  const parts = [];
  const lines = Object.keys(applied).length;
  if (lines) parts.push(`You have corrected ${counted(lines, "refused line")} here, and ${lines === 1 ? "it" : "they"} went through. `);
  if (sent) parts.push("Corrected lines were sent, and wait for what becomes of them. ");
  if (later.length) parts.push("Lines were corrected and sent again: ", ...later.flatMap((batch) => [element("a", { href: batchAddress(batch.batch_id) }, shownTime(batch.submitted_at)), " "]));
  return parts.length ? [element("p", { class: "ready" }, ...parts)] : [];
}
