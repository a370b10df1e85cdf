// Corrects refused lines in place, and sends only the corrected ones again.

import { call } from "./api.js";
import { nameOf } from "./names.js";
import { store, stored } from "./corrections.js";
import { element } from "./dom.js";
import { batchAddress } from "./ids.js";
import { meantIds } from "./reasons.js";
import { refusedLines } from "./refusals.js";
import { mergedLines, repairTable } from "./repair_table.js";
import { resend, settle } from "./resend.js";
import { counted } from "./words.js";

/** Show the refused lines of the upload in the address as a table that can be edited. */
export async function show(main, { id }) {
  const left = new AbortController();
  main.replaceChildren(element("h1", {}, "Correct refused lines"), element("p", { role: "status" }, "Looking up the lines …"));
  const [status, read] = await Promise.all([batchOf(id), refusedLines(id)]);
  const view = new Repair(main, status, read, left.signal);
  view.draw();
  if (view.corrections.sent) view.guarded(() => view.settle());
  return () => left.abort();
}

const batchOf = async (id) => (await call(`/batches/${encodeURIComponent(id)}`)).json();

// The state of the view: what was read, and what she has corrected.
class Repair {
  constructor(main, status, read, signal) {
    Object.assign(this, { main, status, read, signal, id: status.batch_id });
    this.corrections = stored(this.id);
    this.news = element("p", { class: "news", role: "status", tabindex: -1 });
    this.send = element("button", { type: "button" });
    this.send.addEventListener("click", () => this.guarded(() => this.resend()));
  }

  get open() {
    return mergedLines(this.read.lines).filter((line) => !(line.line in this.corrections.applied));
  }

  get chosen() {
    return this.open.filter(({ line }) => this.corrections.edited[line]?.send).map(({ line }) => ({ line, cells: this.corrections.edited[line].cells }));
  }

  draw() {
    const back = element("a", { href: batchAddress(this.id) }, nameOf(this.status));
    this.main.replaceChildren(element("h1", {}, "Correct refused lines"), element("p", {}, "Of the upload ", back), this.news, ...this.content());
    this.report();
  }

  content() {
    const open = this.open;
    if (this.read.columns === null) return [element("p", {}, "This file was written by a program, and its lines have no columns. Download the refused lines on the page of the upload, have them corrected, and send that file.")];
    if (!open.length && this.read.next === null) return [element("p", {}, this.read.lines.length ? "Every refused line was corrected and sent." : "No line was refused.")];
    const table = repairTable({ read: this.read, lines: open, edited: this.corrections.edited, meant: meantIds(this.status.refusals), changed: () => this.changed() });
    const all = element("button", { type: "button", class: "plain" }, "Select all, as they are now");
    all.addEventListener("click", () => table.selectAll());
    const more = element("button", { type: "button", class: "plain", hidden: this.read.next === null }, "Show more lines");
    more.addEventListener("click", () => this.guarded(() => this.readMore()));
    return [
      element("p", {}, "Type over what is wrong. Enter and the arrow keys move up and down, Escape brings back what was there. What you change is kept in this browser until it was sent, also if you close the page. Only the lines with a tick are sent."),
      element("div", { class: "row" }, all, ...table.helpers), table.element, element("div", { class: "row" }, more), element("div", { class: "row sticky" }, this.send),
    ];
  }

  changed() {
    if (!store(this.id, this.corrections)) this.tell("This browser has no room to keep your corrections. Send them before you close the page.");
    this.report();
  }

  report() {
    const count = this.chosen.length;
    this.send.textContent = count === 0 ? "Send the corrected lines" : count === 1 ? "Send the corrected line" : `Send the ${count} corrected lines`;
    this.send.disabled = count === 0 || this.isBusy === true;
  }

  tell(...parts) {
    this.news.replaceChildren(...parts);
  }

  async readMore() {
    const more = await refusedLines(this.id, { after: this.read.next });
    const [first] = more.lines;
    this.read.lines.push(...more.lines);
    this.read.next = more.next;
    this.draw();
    if (first) this.main.querySelector(`[data-line="${first.line}"] input`)?.focus();
  }

  async resend() {
    this.tell("Checking the lines …");
    const { invalid } = await resend(this.status, this.read, this.chosen, this.corrections);
    this.changed();
    if (this.corrections.sent) await this.settle(invalid);
    else this.comeBack([], invalid);
  }

  async settle(invalid = []) {
    this.tell("The lines were sent. Waiting for what becomes of them …");
    const { sent } = this.corrections;
    const { applied, refused } = await settle(sent, this.signal);
    for (const line of applied) {
      this.corrections.applied[line] = sent.batch;
      delete this.corrections.edited[line];
    }
    this.corrections.sent = null;
    this.comeBack(applied, [...invalid, ...refused], sent.batch);
  }

  comeBack(applied, refused, batch) {
    for (const { line, ...problem } of refused) if (this.corrections.edited[line]) Object.assign(this.corrections.edited[line], { send: false, problem });
    this.changed();
    this.draw();
    const sentences = [];
    if (applied.length) sentences.push(`${counted(applied.length, "line")} went through.`);
    if (refused.length) sentences.push(`${counted(refused.length, "line")} came back; the reason stands beside ${refused.length === 1 ? "it" : "each"}.`);
    this.tell(sentences.join(" "), ...(batch ? [" ", element("a", { href: batchAddress(batch) }, "Show what was sent")] : []));
    this.news.focus();
  }

  async guarded(work) {
    this.isBusy = true;
    this.report();
    try {
      await work();
    } catch (problem) {
      if (this.signal.aborted) return;
      this.tell(problem.message);
      this.news.focus();
    } finally {
      this.isBusy = false;
      this.report();
    }
  }
}
