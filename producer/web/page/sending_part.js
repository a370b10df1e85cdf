// Shows one file on its way: how much of it was sent, and the buttons to cancel or repeat it.

import { button, element } from "./dom.js";
import { noticeInWords } from "./notices.js";
import { sizeOf } from "./words.js";

const SENTENCES = {
  waiting: "Waiting for the files before it.",
  sending: "Sending …",
  received: "The service has the file and reads it …",
  sent: "Sent.",
  failed: "Not sent.",
  broken: "Not sent, or not completely. Lines that the service had already accepted count; send the file again for the rest.",
  held: "Held back, because a file before it could not be sent.",
  cancelled: "Cancelled. Nothing of this file was sent.",
  ended: "Cancelled. Lines that the service had already accepted count; look for the upload under Uploads in a minute.",
};

/** Return the part of a file on its way: `node`, `sent` (resolves once it is sent) and `leave` (stops watching). */
export function sendingPart(sending) {
  const state = element("p", { role: "status" }), size = element("p", { class: "faint" });
  const bar = element("progress", { max: 1, "aria-label": "Sent" });
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const cancel = button("Cancel", () => sending.cancel(), { class: "plain" });
  const retry = button("Send again", () => sending.retry());
  const notices = element("div", {});
  const node = element("div", { class: "sending" }, state, bar, size, problem, notices, element("div", { class: "row" }, cancel, retry));
  let resolveSent;
  const sent = new Promise((resolve) => { resolveSent = resolve; });

  function draw() {
    const isOver = ["sent", "cancelled"].includes(sending.state);
    const sentence = SENTENCES[sending.mayBeSentInPart ? { failed: "broken", cancelled: "ended" }[sending.state] ?? sending.state : sending.state];
    if (state.textContent !== sentence) state.textContent = sentence;
    bar.value = sending.share;
    bar.hidden = isOver || sending.state === "waiting" || sending.state === "held";
    size.textContent = sending.state === "sending" ? `${sizeOf(Math.round(sending.share * sending.file.size))} of ${sizeOf(sending.file.size)}` : "";
    problem.textContent = sending.problem?.message ?? "";
    problem.hidden = !sending.problem;
    const hadFocus = [cancel, retry].includes(document.activeElement);
    cancel.hidden = isOver || sending.state === "received";
    retry.hidden = sending.state !== "failed";
    if (hadFocus && document.activeElement.hidden) { state.tabIndex = -1; state.focus(); }
    if (sending.state !== "sent") return;
    notices.replaceChildren(...sending.accepted.notices.map((notice) => element("p", { class: "notice" }, noticeInWords(notice))));
    resolveSent(sending.accepted);
  }

  sending.addEventListener("news", draw);
  draw();
  return { node, sent, leave: () => sending.removeEventListener("news", draw) };
}
