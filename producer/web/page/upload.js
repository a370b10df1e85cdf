// Lets the reader choose files, match their columns, check and send them.

import { button, element } from "./dom.js";
import { preview } from "./files.js";
import { send } from "./sending.js";

/** Show the view. */
export async function show(main) {
  const input = element("input", { type: "file", id: "file", multiple: true });
  const list = element("div", {});
  input.addEventListener("change", async () => {
    for (const file of input.files) {
      const seen = await preview(file, {});
      list.append(element("p", {}, `${file.name}: ${seen.readable ? seen.kind : seen.problem}`));
    }
  });
  const go = button("Send", async () => {
    const begun = await send([...input.files].map((file) => [file, ""]));
    location.hash = begun.length === 1 ? `#/batches/${begun[0].id}` : `#/sending/${begun.map((each) => each.id).join(",")}`;
  });
  main.replaceChildren(element("h1", {}, "Send files"), element("section", {}, element("label", { for: "file" }, "Choose files"), input, list, go));
}
