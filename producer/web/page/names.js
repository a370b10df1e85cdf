// Names uploads, and finds those that belong to one package.

import { originOf } from "./corrections.js";
import { packageId, undoneBy } from "./ids.js";

/** Return the name of the package that an upload belongs to, or null. */
export const packageOf = ({ batch_id, file_name }) => (!undoneBy(batch_id) && packageId(batch_id) && file_name?.includes("/") ? file_name.slice(0, file_name.lastIndexOf("/")) : null);

/** Return the name of an upload: that of its file, in a package or alone, or what it corrects. */
export function nameOf(batch) {
  if (packageOf(batch)) return batch.file_name.slice(batch.file_name.lastIndexOf("/") + 1);
  const undone = undoneBy(batch.batch_id);
  if (undone) return `Undo of ${undoneName(undone, batch.file_name)}`;
  return batch.file_name ?? (originOf(batch.batch_id) ? "Corrected lines" : `Upload ${batch.batch_id}`);
}

// The undo of an upload has the name of its file, and so has the undo of that undo.
function undoneName(id, fileName) {
  const earlier = undoneBy(id);
  return earlier ? `the undo of ${undoneName(earlier, fileName)}` : (fileName ?? `upload ${id}`);
}

const ORDER = ["students", "courses", "enrollments"];

/** Return the ids of the uploads of the same package, in the order in which they were sent. */
export function siblings(batch, batches) {
  const own = batches.filter((each) => packageId(each.batch_id) === packageId(batch.batch_id) && packageOf(each) === packageOf(batch));
  const all = own.some(({ batch_id }) => batch_id === batch.batch_id) ? own : [...own, batch];
  return all.sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind)).map(({ batch_id }) => batch_id);
}
