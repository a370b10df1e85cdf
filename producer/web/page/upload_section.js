// Shows one upload: first how much of it was sent, if this page sends it, then where it stands.

import { call } from "./api.js";
import { element } from "./dom.js";
import { batchAddress, batchIds } from "./ids.js";
import { nameOf } from "./names.js";
import { begunUploads, forgetUpload } from "./memory.js";
import { planPart } from "./plan.js";
import { follow, progressPart } from "./progress.js";
import { sendingOf } from "./sending.js";
import { sendingPart } from "./sending_part.js";
import { ENDS } from "./words.js";

/**
 * Return the section of an upload: `node`, and `shown`, which resolves to its first status, or to null while it is
 * being sent. `see(status)` gets each news. Stops when `signal` is aborted. `isPart` is set for a file of a package that has
 * been sent.
 */
export function uploadSection(id, signal, see = () => {}, isPart = false) {
  const sending = isPart ? null : sendingOf(id), progress = progressPart();
  const heading = element(isPart ? "h3" : "h2", {}, sending?.file.name ?? "Upload");
  const link = element("a", { href: batchAddress(id) }), more = element("p", { hidden: true }, link);
  const node = element("section", { class: "upload", "aria-label": sending?.file.name ?? "Upload" }, heading);

  // Where the upload has the page for itself, its own heading is hidden.
  const level = location.hash.startsWith("#/batches/") ? 2 : isPart ? 4 : 3;
  let plan = null, drawn = null;

  function drawPlan({ plan_id: planId, state }) {
    if (planId !== id) return; // The plan of a package is shown with its last file.
    if (!plan) node.append((plan = planPart(id, level, signal, () => look().catch(() => {}))).node);
    if (state !== "staged") plan.draw().catch((problem) => { if (problem.name !== "AbortError") progress.say(problem.message); });
  }

  function draw(status) {
    if (/^(done|planned|discarded)$/.test(status.state)) forgetUpload(id);
    if (status.file_name) heading.textContent = nameOf(status);
    node.setAttribute("aria-label", heading.textContent);
    progress.draw(status);
    if (status.plan_id && status.state !== drawn) drawPlan(status);
    drawn = status.state;
    link.textContent = status.books.rejected ? "Show what was refused, and correct it" : "Show this upload";
    more.hidden = location.hash.startsWith("#/batches/");
    see(status);
  }

  async function look() {
    const status = await (await call(`/batches/${encodeURIComponent(id)}`, { signal })).json();
    draw(status);
    if (!ENDS.includes(status.state)) follow(id, draw, signal).catch((problem) => progress.say(problem.message));
    return status;
  }

  if (!sending || sending.state === "sent") {
    node.append(progress.node, more);
    return { node, shown: look().catch((problem) => missing(problem, progress, id)) };
  }
  const part = sendingPart(sending);
  node.append(part.node);
  signal.addEventListener("abort", part.leave);
  part.sent.then(() => {
    if (signal.aborted) return null;
    node.append(progress.node, more);
    return look();
  }).catch((problem) => progress.say(problem.message));
  return { node, shown: Promise.resolve(null) };
}

const NOT_ARRIVED = "Nothing of this upload has arrived yet. If its file was being sent when you left, choose the same file again under “Send files”: it continues where it stopped.";
const NOT_SHOWN = "No upload is shown under this address. Either nothing of it has arrived yet, or your access token shows only what was sent with it: then ask your operator for one with the scope “lookup”. Check the address as well.";

function missing(problem, progress, id) {
  if (problem.name === "AbortError") return null;
  progress.bar.hidden = true;
  const isBegun = begunUploads().some((each) => batchIds(each).includes(id));
  progress.say(problem.code === "unknown_batch" ? (isBegun ? NOT_ARRIVED : NOT_SHOWN) : problem.message);
  return null;
}
