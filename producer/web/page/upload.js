// Lets the reader choose files, match their columns, check and send them.

import { card } from "./card.js";
import { begunPart } from "./begun.js";
import { Chosen, inOrder } from "./chosen.js";
import { button, element } from "./dom.js";
import { addressOf, batchIds } from "./ids.js";
import { forgetPlan, planChoices, withPlan } from "./plan_choices.js";
import { report } from "./report.js";
import { send } from "./sending.js";
import { templatesPart } from "./templates.js";
import { KINDS } from "./words.js";

const ACCEPT = ".csv,.tsv,.txt,.jsonl,.ndjson,.json,.gz,.zip,.xlsx,.xls,.ods";

let files = []; // They stay when another view is shown.

/** Show the view. */
export function show(main) {
  const list = element("div", { class: "files" });
  const bar = element("section", { "aria-label": "Check and send", hidden: true });
  const choices = planChoices(); // It is not drawn again with the rest: she may be typing there.
  const input = element("input", { type: "file", id: "file", multiple: true, accept: ACCEPT });
  const place = element("div", { class: "drop" }, element("label", { for: "file" }, "Drop your files here, or choose them"), input);
  main.replaceChildren(element("h1", {}, "Send files"), element("section", { "aria-label": "Choose files" }, place, templatesPart()), list, choices, bar, begunPart() ?? "");

  function add(added) {
    for (const file of added) {
      const same = files.find((each) => each.file.name === file.name);
      if (same) remove(same); // It was corrected and chosen again, or is another file of this name.
      const chosen = new Chosen(file);
      chosen.isReplacement = Boolean(same) && (same.file.size !== file.size || same.file.lastModified !== file.lastModified);
      files.push(chosen);
      put(chosen);
      chosen.look();
    }
    input.value = ""; // So that the same file can be chosen again.
  }

  function put(chosen) {
    chosen.node = card(chosen, () => { remove(chosen); input.focus(); }, draw);
    list.append(chosen.node);
  }

  function remove(chosen) {
    chosen.request?.abort();
    files = files.filter((each) => each !== chosen);
    chosen.node.remove();
    draw();
  }

  function draw() {
    choices.hidden = !files.some(({ kind, isPackage }) => isPackage || kind === "enrollments");
    drawBar(bar);
  }

  input.addEventListener("change", () => add(input.files));
  for (const name of ["dragover", "dragleave", "drop"]) {
    place.addEventListener(name, (event) => {
      event.preventDefault();
      place.classList.toggle("over", name === "dragover");
      if (name === "drop") add(event.dataTransfer.files);
    });
  }
  files.forEach(put);
  draw();
  const lookAgain = () => files.filter((each) => each.problem).forEach((each) => each.look());
  window.addEventListener("token", lookAgain);
  return () => window.removeEventListener("token", lookAgain);
}

function drawBar(bar) {
  const ordered = inOrder(files), isReady = files.length > 0 && files.every((each) => each.isReady);
  const isChecked = isReady && files.every((each) => each.checked?.readable), isBusy = files.some((each) => each.checking);
  bar.hidden = !files.length;
  if (bar.hidden) { bar.replaceChildren(); return; }
  const focused = bar.contains(document.activeElement) ? document.activeElement.id : "";
  const many = files.length === 1 ? "the file" : `${files.length} files`;
  const state = isReady ? (isChecked ? "Nothing was sent yet." : "Check reads every line, and sends nothing.") : "Something above needs your attention before you can go on.";
  bar.replaceChildren(
    files.length > 1 ? element("p", {}, `Order of sending: ${ordered.map(({ file, kind, isPackage }) => `${file.name}${kind ? ` (${KINDS[kind].toLowerCase()})` : isPackage ? " (a package)" : ""}`).join(", then ")}.`) : "",
    element("p", { class: "help" }, isBusy ? "Checking …" : state),
    element("div", { class: "row" },
      button(`Check ${many}`, () => checkAll(), { id: "check", class: isChecked ? "plain" : null, disabled: !isReady || isBusy }),
      button(`Send ${many}`, () => sendAll(), { id: "send", class: isChecked ? null : "plain", disabled: !isChecked || isBusy })));
  if (focused) focusAgain(bar, focused);
}

function focusAgain(bar, id) {
  const same = bar.querySelector(`#${id}:enabled`) ?? bar.querySelector("button:enabled");
  if (same) same.focus();
  else { bar.tabIndex = -1; bar.focus(); }
}

async function checkAll() {
  report(null);
  for (const chosen of files) await chosen.check();
  if (files.every((each) => each.checked?.readable)) document.getElementById("send")?.focus();
}

async function sendAll() {
  report(null);
  const ordered = inOrder(files);
  for (const chosen of ordered) if (!(await chosen.isStill())) return;
  ordered.forEach((chosen) => chosen.remember());
  const begun = await send(ordered.map((chosen) => [chosen.file, withPlan(chosen), chosen.parts]));
  files = [];
  forgetPlan();
  location.hash = addressOf(begun.flatMap(batchIds));
}
