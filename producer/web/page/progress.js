// Shows where an upload stands, from the first byte that is sent to the last row that is applied.

import { call, Problem } from "./api.js";
import { pictureOf, sentenceOf } from "./counts.js";
import { element } from "./dom.js";
import { statusEvents } from "./events.js";
import { undoneBy } from "./ids.js";
import { isBeingUndone } from "./undoable.js";
import { counted, ENDS, KINDS, STATES } from "./words.js";

const RETRY_SECONDS = [1, 2, 5, 10];

/** Return the part that shows the state of an upload: `draw(status)` renews it, `say(sentence)` announces. */
export function progressPart() {
  // Only a change of the state is announced: the counts change several times a second.
  const state = element("p", { class: "state", role: "status" });
  const detail = element("p", { class: "faint" });
  const bar = element("progress", { max: 1, value: 0, "aria-label": "Rows processed" });
  const counts = element("div", {});
  const node = element("div", { class: "progress" }, state, bar, detail, counts);
  const say = (sentence) => { if (state.textContent !== sentence) state.textContent = sentence; };

  function draw(status) {
    const { books } = status;
    say(stateSentence(status));
    detail.textContent = [speedOf(status), adviceOn(status)].filter(Boolean).join(" ");
    bar.value = books.received ? 1 - books.not_applied / books.received : Number(status.state === "done");
    bar.hidden = ENDS.includes(status.state);
    // Before anything is applied, the plan says what would come of the rows.
    const isApplied = !["staged", "planned", "held", "discarded"].includes(status.state);
    counts.replaceChildren(...(isApplied ? [element("p", { class: "counts" }, sentenceOf(books)), ...(books.received ? pictureOf(books) : [])] : []));
  }

  return { node, draw, say, bar };
}

function stateSentence(status) {
  const holds = status.kind ? `${KINDS[status.kind]}. ` : "";
  const { rejected } = status.books;
  const refused = status.state === "done" && rejected ? ` ${counted(rejected, "row was", "rows were")} refused.` : "";
  return `${holds}${STATES[status.state]}.${refused}`;
}

function speedOf(status) {
  if (status.state !== "running" || !status.seconds_left) return "";
  const seconds = Math.ceil(status.seconds_left);
  return seconds < 90 ? `About ${counted(seconds, "second")} left.` : `About ${counted(Math.round(seconds / 60), "minute")} left.`;
}

/** Return what to do about an upload; "" if there is nothing to do. */
export function adviceOn(status) {
  if (status.state === "done" && !status.advice) return "";
  if (status.state === "stalled" && status.undone_by) return isBeingUndone(status) ? "" : "This upload was undone before all of it was entered. There is nothing to do.";
  if (status.state === "stalled" && undoneBy(status.batch_id)) return "The undo was interrupted. Press “Undo …” below: it continues.";
  if (status.chunks_lost) return "A part of this file was lost on the way. Send the same file again: it continues where it stopped.";
  if (status.chunks_failed) return "A part of this file could not be processed. Ask your operator to look at it; nothing needs to be sent again.";
  if (status.conflicts) return "Another file was sent to this address. It was refused, and is not in the counts. Send it again as a new upload.";
  if (status.state === "stalled" && status.chunks === null) return "The file did not arrive as a whole. Send the same file again: it continues where it stopped.";
  if (status.state === "stalled") return "No more rows are arriving. If this does not change within some minutes, ask your operator.";
  const isHeldUp = ["staged", "queued", "running"].includes(status.state) && status.advice && !status.undone_by;
  return isHeldUp ? "The service cannot continue with this file right now, and tries again by itself. If this does not change within some minutes, ask your operator." : "";
}

/** Follow an upload until it is done, or waits for a decision: `see(status)` gets each news. Stops when `signal` is aborted. Throws Problem. */
export async function follow(batchId, see, signal) {
  const path = `/batches/${encodeURIComponent(batchId)}`;
  for (let attempt = 0; !signal.aborted; ) {
    try {
      const response = await call(`${path}/events`, { signal });
      for await (const status of statusEvents(response.body)) {
        attempt = 0;
        see(status);
        if (ENDS.includes(status.state)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      const isPassing = !(error instanceof Problem) || error.status === 0 || error.status === 429 || error.status >= 502;
      if (!isPassing) throw error;
    }
    await pause(RETRY_SECONDS[Math.min(attempt++, RETRY_SECONDS.length - 1)], signal);
  }
}

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
