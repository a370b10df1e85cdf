// Shows several files that are sent one after another, each with its progress.

import { element } from "./dom.js";
import { uploadSection } from "./upload_section.js";

/** Show the uploads whose ids are in the address. */
export async function show(main, { ids }) {
  const stop = new AbortController();
  const sections = ids.split(",").map((id) => uploadSection(id, stop.signal));
  main.replaceChildren(
    element("h1", {}, "Your files"),
    element("p", {}, "They are sent in this order: students and courses first. You can keep the address of this page to come back later."),
    ...sections.map((section) => section.node),
    element("p", {}, element("a", { href: "#/" }, "Send other files")),
  );
  await Promise.all(sections.map((section) => section.shown));
  return () => stop.abort();
}
