// Lists the uploads that were begun in this browser and are not known to be done.

import { button, element } from "./dom.js";
import { addressOf, batchIds } from "./ids.js";
import { begunUploads, forgetUpload } from "./memory.js";
import { sendingOf } from "./sending.js";
import { shownTime } from "./times.js";

/** Return the part that leads back to unfinished uploads; null if there is none. */
export function begunPart() {
  const uploads = begunUploads();
  if (!uploads.length) return null;
  const part = element("section", { "aria-labelledby": "begun" }, element("h2", { id: "begun" }, "Not finished when you left"));
  const items = uploads.map((upload) => {
    const item = element("li", {}, element("a", { href: addressOf(batchIds(upload)) }, upload.name), ` begun ${shownTime(upload.begun)} `);
    if (!sendingOf(upload.id)) {
      item.append(button("Forget", () => {
        forgetUpload(upload.id);
        item.remove();
        if (!part.querySelector("li")) part.remove();
        document.getElementById("file")?.focus();
      }, { class: "plain small", "aria-label": `Forget ${upload.name}` }));
    }
    return item;
  });
  part.append(element("p", {}, "Open one to see where it stands. If its file had not arrived, choose the same file again: it continues where it stopped."), element("ul", {}, items));
  return part;
}
