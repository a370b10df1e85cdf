// Decides which upload can be undone on the page of an upload.

import { undoneBy } from "./ids.js";

/** Return whether an upload has an undo that did not come to its end yet. */
export const isBeingUndone = (status) => Boolean(status.undone_by) && /^It is being undone/.test(status.advice ?? "");

/** Return the upload that can be undone here, or null. An undo that was interrupted goes on if its upload is undone again. */
export function undoable(status) {
  if (status.undone_by) return null;
  if (status.state === "stalled") return undoneBy(status.batch_id);
  return status.state === "done" && status.kind === "enrollments" ? status.batch_id : null;
}
