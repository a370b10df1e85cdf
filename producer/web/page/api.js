// Calls the service with the caller's token, and turns its refusals into sentences.

import { sentenceFor, UNREACHABLE } from "./words.js";

/** A call that failed: `message` is a sentence for the reader; `code`, `field` and `status` are for programs. */
export class Problem extends Error {
  constructor({ code = "", field = null, status = 0, detail = "" }) {
    super(sentenceFor({ code, field, status, detail }));
    Object.assign(this, { code, field, status, detail });
  }
}

export const token = () => sessionStorage.getItem("token") ?? "";
export const setToken = (value) => sessionStorage.setItem("token", value.trim());

/** Return the headers of a call: the given ones and the token, if there is one. */
export function withToken(headers = {}) {
  return token() ? { ...headers, Authorization: `Bearer ${token()}` } : { ...headers };
}

/** Call the service; `options` are those of `fetch`. Return the response. Throws Problem. */
export async function call(path, options = {}) {
  const response = await fetch(path, { ...options, headers: withToken(options.headers) }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: UNREACHABLE });
  });
  if (response.ok) return response;
  throw problemIn(response.status, await response.text().catch(() => ""));
}

/** Return the Problem in the body of a response that refuses a call. */
export function problemIn(status, text) {
  try {
    return new Problem({ status, ...JSON.parse(text) });
  } catch {
    return new Problem({ status }); // A proxy has answered.
  }
}
