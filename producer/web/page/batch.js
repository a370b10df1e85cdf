// Shows one upload: where it stands, and its counts.

import { element } from "./dom.js";
import { uploadSection } from "./upload_section.js";

/** Show the upload whose id is in the address. */
export async function show(main, { id }) {
  const stop = new AbortController();
  const section = uploadSection(id, stop.signal);
  main.replaceChildren(element("h1", {}, "Upload"), section.node);
  await section.shown;
  return () => stop.abort();
}
