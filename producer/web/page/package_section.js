// Shows a package on its way: how much of it was sent, then where each of its files stands.

import { element } from "./dom.js";
import { packageId } from "./ids.js";
import { forgetUpload } from "./memory.js";
import { packageOf } from "./names.js";
import { sendingOf } from "./sending.js";
import { sendingPart } from "./sending_part.js";
import { uploadSection } from "./upload_section.js";

/** Return the section of a package whose batches have these ids, as `uploadSection` does for a single file. */
export function packageSection(ids, signal) {
  const id = packageId(ids[0]), sending = sendingOf(id), name = sending?.file.name ?? "A package of files";
  const heading = element("h2", {}, name), node = element("section", { class: "upload", "aria-label": name }, heading);
  const done = new Set();

  function see(status) {
    heading.textContent = packageOf(status) ?? heading.textContent;
    node.setAttribute("aria-label", heading.textContent);
    if (status.state === "done") done.add(status.batch_id);
    if (done.size === ids.length) forgetUpload(id);
  }

  async function showFiles() {
    const sections = ids.map((each) => uploadSection(each, signal, see, true));
    node.append(...sections.map((section) => section.node));
    return (await Promise.all(sections.map((section) => section.shown)))[0];
  }

  if (!sending || sending.state === "sent") return { node, shown: showFiles() };
  const part = sendingPart(sending);
  node.append(part.node);
  signal.addEventListener("abort", part.leave);
  part.sent.then(() => (signal.aborted ? null : showFiles()));
  return { node, shown: Promise.resolve(null) };
}
