// Lists the uploads, the newest first, with filters.

import { call } from "./api.js";
import { element } from "./dom.js";
import { addressOf, batchAddress } from "./ids.js";
import { nameOf, packageOf, siblings } from "./names.js";
import { addRows, stackedTable } from "./stacked.js";
import { shownTime } from "./times.js";
import { count, KINDS, STATES } from "./words.js";

const LISTED = ["queued", "running", "held", "stalled", "done", "planned", "discarded"];
const FILTERS = { state: Object.fromEntries(LISTED.map((state) => [state, STATES[state]])), kind: KINDS };

/** Show the uploads that match the filters in the address. */
export async function show(main, { query }) {
  const filters = Object.fromEntries(["state", "kind", "submitter"].map((name) => [name, query.get(name) ?? ""]));
  const list = element("div", {}, element("p", { role: "status" }, "Looking up the uploads …"));
  main.replaceChildren(element("h1", {}, "Uploads"), filterForm(filters), list);
  const first = await page(filters);
  list.replaceChildren(...uploads(filters, first));
}

async function page(filters, cursor) {
  const chosen = Object.entries({ ...filters, cursor }).filter(([, value]) => value);
  return (await call(`/batches?${new URLSearchParams([...chosen, ["limit", "20"]])}`)).json();
}

function filterForm(filters) {
  const selects = Object.entries({ state: "State", kind: "What it holds" }).map(([name, label]) => {
    const options = Object.entries({ "": "all", ...FILTERS[name] });
    const select = element("select", { id: `filter-${name}` }, ...options.map(([value, text]) => element("option", { value }, text)));
    select.value = filters[name];
    return element("div", {}, element("label", { for: select.id }, label), select);
  });
  const submitter = element("input", { id: "filter-submitter", value: filters.submitter, autocomplete: "off", maxlength: 255 });
  const form = element("form", { class: "row", "aria-label": "Filters" }, ...selects,
    element("div", {}, element("label", { for: submitter.id }, "Sent by"), submitter), element("button", { type: "submit", class: "plain" }, "Show these"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const values = Object.keys(filters).map((name) => [name, form.querySelector(`#filter-${name}`).value.trim()]).filter(([, value]) => value);
    location.hash = values.length ? `#/batches?${new URLSearchParams(values)}` : "#/batches";
  });
  return form;
}

const NAMES = ["File", "Holds", "Sent by", "Sent at", "Rows", "Refused", "State"];

function uploads(filters, first) {
  const shown = stackedTable("Uploads", NAMES, first.batches.map(rowOf)), body = shown.querySelector("tbody");
  const more = element("button", { type: "button", class: "plain" }, "Show older uploads");
  const news = element("p", { role: "status" });
  let { next } = first;
  const report = () => {
    shown.hidden = !body.rows.length;
    more.hidden = next === null;
    // A page may be empty although older uploads match.
    news.textContent = body.rows.length ? "" : next === null ? "No upload matches." : "None of the newest uploads matches. Older ones may.";
  };
  more.addEventListener("click", async () => {
    const older = await page(filters, next);
    next = older.next;
    addRows(shown, NAMES, older.batches.map(rowOf));
    report();
  });
  report();
  return [news, shown, element("div", { class: "row" }, more)];
}

// The batches of a package lead to all of them that the list shows.
function fileCell(batch, batches) {
  const link = element("a", { href: batchAddress(batch.batch_id) }, nameOf(batch)), name = packageOf(batch);
  const own = siblings(batch, batches);
  return name ? element("div", {}, link, element("div", { class: "faint" }, "in ", element("a", { href: addressOf(own) }, name))) : link;
}

function rowOf(batch, _, batches) {
  const { books } = batch, number = (value) => element("span", { class: "number" }, count(value));
  return [
    fileCell(batch, batches), KINDS[batch.kind] ?? "not known", batch.submitter ?? "",
    batch.submitted_at ? shownTime(batch.submitted_at) : "", number(books.received), number(books.rejected),
    element("span", { class: `state ${batch.state}` }, STATES[batch.state]),
  ];
}
