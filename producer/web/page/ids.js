// Writes ids into the paths of the service and the addresses of the page.

/** Return the part of a path that names a student or course by the id of her own system. */
export const inPath = (sisId) => encodeURIComponent(/^(key|sis):/.test(sisId) ? `sis:${sisId}` : sisId);

/** Return the address of a student in the page. */
export const studentAddress = (sisId) => `#/students/${encodeURIComponent(sisId)}`;

/** Return the address of a course in the page, now or at a time. */
export const courseAddress = (sisId, at) => `#/courses/${encodeURIComponent(sisId)}${at ? `?at=${encodeURIComponent(at)}` : ""}`;

/** Return the address of an upload in the page. */
export const batchAddress = (batchId, more = "") => `#/batches/${encodeURIComponent(batchId)}${more}`;

/** Return random hexadecimal digits, two for each byte; also where the page is not served over TLS. */
export const randomHex = (bytes) =>
  Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
