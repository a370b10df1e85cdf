// Shows several files that are sent one after another, each with its progress.

import { element } from "./dom.js";
import { packageId } from "./ids.js";
import { packageSection } from "./package_section.js";
import { uploadSection } from "./upload_section.js";

/** Show the uploads whose ids are in the address. */
export async function show(main, { ids }) {
  const stop = new AbortController();
  const sections = grouped(ids.split(",")).map(([owner, own]) => (owner ? packageSection(own, stop.signal) : uploadSection(own[0], stop.signal)));
  main.replaceChildren(
    element("h1", {}, "Your files"),
    element("p", {}, "They are sent in this order: students and courses first. You can keep the address of this page to come back later."),
    ...sections.map((section) => section.node),
    element("p", {}, element("a", { href: "#/" }, "Send other files")),
  );
  await Promise.all(sections.map((section) => section.shown));
  return () => stop.abort();
}

// The batches of a package stand together.
function grouped(ids) {
  const groups = new Map();
  for (const id of ids) {
    const owner = packageId(id);
    groups.set(owner ?? id, [owner, [...(groups.get(owner ?? id)?.[1] ?? []), id]]);
  }
  return [...groups.values()];
}
