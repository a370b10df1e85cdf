// Says the counts of an upload in a sentence and in a picture.

import { element, svg } from "./dom.js";
import { count, counted, listed } from "./words.js";

/** What a count is called in a legend; a picture shows them in this order. */
export const COUNTS = {
  enrolled: "newly enrolled",
  dropped: "dropped",
  upserted: "added or changed",
  already_enrolled: "enrolled before",
  not_enrolled: "not enrolled before",
  unchanged: "already up to date",
  superseded: "overtaken by something later",
  rejected: "refused",
  not_applied: "still waiting",
};

const WIDTH = 1000;
const GAP = 4;

const parts = (books) => Object.entries(COUNTS).filter(([name]) => books[name]);

/** Return the counts of an upload as a sentence; those of an upload that is not applied `ifApplied`. */
export function sentenceOf(books, ifApplied = false) {
  if (!books.received) return ifApplied ? "no rows." : "Nothing has been counted yet.";
  const texts = parts(books).map(([name, text]) => `${count(books[name])} ${text}`);
  return `${counted(books.received, "row")}${ifApplied ? "; if applied" : ""}: ${listed(texts)}.`;
}

/** Return a bar with a part for each count, and its legend. The sentence says the same to those who cannot see it. */
export function pictureOf(books) {
  const shown = parts(books), gaps = GAP * Math.max(shown.length - 1, 0);
  const bar = svg("svg", { class: "picture", viewBox: `0 0 ${WIDTH} 24`, preserveAspectRatio: "none", "aria-hidden": "true" });
  let start = 0;
  // Every count can be seen, however small it is beside the others.
  const least = 6, spare = WIDTH - gaps - least * shown.length;
  for (const [name] of shown) {
    const width = least + (spare * books[name]) / books.received;
    bar.append(svg("rect", { class: `part-${name}`, x: start, y: 0, width, height: 24 }));
    start += width + GAP;
  }
  const legend = shown.map(([name, text]) => element("li", {},
    svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: `part-${name}`, width: 10, height: 10 })), `${count(books[name])} ${text}`));
  return [bar, element("ul", { class: "legend" }, legend)];
}
