// Sends files one after another. It goes on while other views are shown.

import { call, problemIn, Problem, withToken } from "./api.js";
import { isUnchanged } from "./files.js";
import { batchIds, packageId, randomHex } from "./ids.js";
import { begunUpload, forgetUpload, rememberUpload } from "./memory.js";
import { CHANGED_FILE, UNREACHABLE } from "./words.js";

const WHOLE = /^(400|401|403|408|413|422|429|507)$/; // The statuses of refusals before anything is sent on.
const sendings = new Map();
let isRunning = false;

/** A file on its way: `state` is waiting, sending, received, sent, failed, held or cancelled. It fires `news`. */
export class Sending extends EventTarget {
  constructor(id, file, query, parts = []) {
    super();
    Object.assign(this, { id, file, query, parts, state: "waiting", share: 0, problem: null, accepted: null, mayBeSentInPart: false });
  }

  tell(state, more = {}) {
    Object.assign(this, { state, ...more });
    this.dispatchEvent(new Event("news"));
  }

  /** Stop a file of which the service has not yet received all. */
  cancel() {
    if (!["waiting", "sending", "held", "failed"].includes(this.state)) return;
    this.tell("cancelled");
    this.request?.abort();
    forgetUpload(this.id);
  }

  /** Send a file that failed, and those that were held back for it. */
  retry() {
    for (const each of sendings.values()) if (each === this || each.state === "held") each.tell("waiting", { problem: null, share: 0 });
    run();
  }
}

/** Return the file that this page sends, or has sent, under the id of a batch or package, or null. */
export const sendingOf = (id) => sendings.get(id) ?? sendings.get(packageId(id)) ?? null;

/** Begin to send files in this order; each is a file, its query and the parts of a package. Return the uploads. */
export async function send(files) {
  const begun = [];
  for (const [file, query, parts] of files) begun.push(new Sending(await idFor(file, query), file, query, parts));
  for (const each of begun) {
    sendings.set(each.id, each);
    rememberUpload(each.id, each.file, each.query, each.parts);
  }
  run();
  return begun;
}

// A file that was begun and is not done continues under its id. Once it is done, or discarded, it gets a new one:
// under the same id, the lines that were refused would not be tried again.
async function idFor(file, query) {
  const begun = begunUpload(file, query);
  if (begun && !(await Promise.all(batchIds(begun).map(isDone))).every(Boolean)) return begun.id;
  if (begun) forgetUpload(begun.id);
  return `page-${randomHex(16)}`;
}

async function isDone(id) {
  try {
    return (await (await call(`/batches/${encodeURIComponent(id)}`)).json()).state.match(/^(done|planned|discarded)$/) !== null;
  } catch (problem) {
    if (problem.status === 404) return false;
    throw problem;
  }
}

async function run() {
  if (isRunning) return;
  isRunning = true;
  window.addEventListener("beforeunload", warn);
  for (let next; (next = [...sendings.values()].find((each) => each.state === "waiting")); ) {
    await transmit(next);
    // What follows may need the students and courses in this file.
    if (next.state === "failed") for (const each of sendings.values()) if (each.state === "waiting") each.tell("held");
  }
  window.removeEventListener("beforeunload", warn);
  isRunning = false;
}

const warn = (event) => event.preventDefault();

async function transmit(sending) {
  sending.tell("sending", { share: 0 });
  try {
    const accepted = await post(sending);
    sending.tell("sent", { accepted, share: 1 });
  } catch (problem) {
    if (sending.state === "cancelled") return;
    // Until the service has all of the file, it sends nothing on; and what it refuses itself, it refuses as a whole.
    sending.mayBeSentInPart ||= (sending.state === "received" || problem.status >= 500) && !WHOLE.test(problem.status);
    sending.tell("failed", { problem });
  }
}

async function post(sending) {
  if (!(await isUnchanged(sending.file))) throw new Problem({ code: CHANGED_FILE });
  const query = new URLSearchParams(sending.query);
  query.set("batch_id", sending.id);
  const body = new FormData();
  body.append("file", sending.file, sending.file.name);
  const request = new XMLHttpRequest(); // `fetch` does not report how much was sent.
  sending.request = request;
  request.open("POST", `/batches?${query}`);
  for (const [name, value] of Object.entries(withToken())) request.setRequestHeader(name, value);
  request.upload.onprogress = (event) => { if (event.lengthComputable) sending.tell("sending", { share: event.loaded / event.total }); };
  request.upload.onload = () => sending.tell("received", { share: 1 });
  if (sending.state === "cancelled") throw new Problem({ code: "cancelled" });
  await new Promise((resolve) => { request.onloadend = resolve; request.send(body); });
  if (request.status >= 200 && request.status < 300) return JSON.parse(request.responseText);
  if (request.status) throw problemIn(request.status, request.responseText);
  throw new Problem({ code: (await isUnchanged(sending.file)) ? UNREACHABLE : CHANGED_FILE });
}
