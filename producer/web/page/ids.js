// Writes ids into the paths of the service and the addresses of the page.

/** Return the part of a path that names a student or course by the id of her own system. A browser removes `.` and `..`. */
export const inPath = (sisId) => encodeURIComponent(/^(key|sis):|^\.{1,2}$/.test(sisId) ? `sis:${sisId}` : sisId);

/** Return the address of a student in the page. */
export const studentAddress = (sisId) => `#/students/${encodeURIComponent(sisId)}`;

/** Return the address of a course in the page, now or at a time. */
export const courseAddress = (sisId, at) => `#/courses/${encodeURIComponent(sisId)}${at ? `?at=${encodeURIComponent(at)}` : ""}`;

/** Return the address of an upload in the page. */
export const batchAddress = (batchId, more = "") => `#/batches/${encodeURIComponent(batchId)}${more}`;

/** Return the ids of the batches of an upload; a package has one for each of its `parts`. */
export const batchIds = ({ id, parts }) => (parts?.length ? parts.map((part) => `${id}:${part}`) : [id]);

/** Return the id of the package that a batch belongs to, if its id looks like that; or else null. */
export const packageId = (batchId) => /^(.+):[a-z][a-z -]*(-\d+)?$/.exec(batchId)?.[1] ?? null;

/** Return the id of the batch that a batch undoes; or else null. */
export const undoneBy = (batchId) => /^undo:(.+)$/s.exec(batchId)?.[1] ?? null;

/** Return the address of one batch, or of several together. */
export const addressOf = (ids) => (ids.length === 1 ? batchAddress(ids[0]) : `#/sending/${ids.map(encodeURIComponent).join(",")}`);

/** Return random hexadecimal digits, two for each byte; also where the page is not served over TLS. */
export const randomHex = (bytes) =>
  Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
