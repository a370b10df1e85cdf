// Corrects refused lines in place, and sends only the corrected ones again.

import { call } from "./api.js";
import { nameOf } from "./names.js";
import { store, stored, watchOtherTabs } from "./corrections.js";
import { element } from "./dom.js";
import { batchAddress } from "./ids.js";
import { meantIds } from "./reasons.js";
import { refusedLines, waysOutOfRecords } from "./refusals.js";
import { mergedLines, repairTable } from "./repair_table.js";
import { resend, settle } from "./resend.js";
import { counted } from "./words.js";

const PAUSE = 300;
// The service has refused the corrected lines as a whole, and has accepted nothing of them.
const REFUSED = [400, 413, 415, 422];

/** Show the refused lines of the upload in the address as a table that can be edited. */
export async function show(main, { id }) {
  const left = new AbortController();
  main.replaceChildren(element("h1", {}, "Correct refused lines"), element("p", { role: "status" }, "Looking up the lines …"));
  const [status, read] = await Promise.all([batchOf(id), refusedLines(id)]);
  const view = new Repair(main, status, read, left.signal);
  view.draw();
  watchOtherTabs(view.id, () => view.join(), view.signal);
  if (view.corrections.sent) view.guarded(() => view.settle());
  return () => left.abort();
}

const batchOf = async (id) => (await call(`/batches/${encodeURIComponent(id)}`)).json();

// The state of the view: what was read, and what she has corrected.
class Repair {
  constructor(main, status, read, signal) {
    Object.assign(this, { main, status, read, signal, id: status.batch_id });
    this.corrections = stored(this.id);
    this.isStored = true;
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

  // Another tab has changed the corrections. Its lines are taken over at once, and drawn a little later.
  join() {
    if (!this.isStored) return; // What is only in this tab must not get lost.
    const { edited, applied, sent } = stored(this.id), before = Object.keys(this.corrections.applied).length;
    for (const line of Object.keys(this.corrections.edited)) delete this.corrections.edited[line];
    Object.assign(this.corrections.edited, edited); // The rows on the page write into this object.
    Object.assign(this.corrections, { applied, sent });
    this.report();
    clearTimeout(this.drawing);
    // Lines that this tab is waiting for are reported by this tab, whichever tab learns of them first.
    const others = this.isBusy ? 0 : Object.keys(applied).length - before;
    this.drawing = setTimeout(() => { if (!this.signal.aborted) this.drawAgain(others); }, PAUSE);
  }

  drawAgain(applied) {
    const field = this.main.contains(document.activeElement) ? document.activeElement : null;
    const line = field?.closest("[data-line]")?.dataset.line, { column } = field?.dataset ?? {};
    this.draw();
    if (line && column) this.main.querySelector(`[data-line="${line}"] [data-column="${column}"]`)?.focus();
    if (applied > 0) this.tell(`${counted(applied, "line")} went through from another tab.`);
  }

  draw() {
    const back = element("a", { href: batchAddress(this.id) }, nameOf(this.status));
    this.main.replaceChildren(element("h1", {}, "Correct refused lines"), element("p", {}, "Of the upload ", back), this.news, ...this.content());
    this.report();
  }

  content() {
    const open = this.open;
    if (this.read.columns === null) return waysOutOfRecords(this.status);
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
    this.isStored = store(this.id, this.corrections);
    if (!this.isStored) this.tell("This browser has no room to keep your corrections. Send them before you close the page.");
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
    // What this or another tab has sent before is settled first, so that no line is sent twice.
    if (this.corrections.sent) await this.settle();
    if (!this.chosen.length) return;
    this.tell("Checking the lines …");
    const { invalid } = await resend(this.status, this.read, this.chosen, this.corrections);
    this.changed();
    if (this.corrections.sent) await this.settle(invalid);
    else this.comeBack([], invalid);
  }

  async settle(invalid = []) {
    this.tell("The lines were sent. Waiting for what becomes of them …");
    const { sent } = this.corrections;
    const { applied, refused } = await settle(sent, this.signal).catch((problem) => {
      if (REFUSED.includes(problem.status)) this.forget(sent);
      throw problem;
    });
    for (const line of applied) {
      this.corrections.applied[line] = sent.batch;
      delete this.corrections.edited[line];
    }
    this.forget(sent);
    this.comeBack(applied, [...invalid, ...refused], sent.batch);
  }

  forget(sent) {
    if (this.corrections.sent?.batch === sent.batch) this.corrections.sent = null;
    this.changed();
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
