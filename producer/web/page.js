"use strict";
const $ = (id) => document.getElementById(id);
const count = new Intl.NumberFormat();
const ours = {
  students: ["sis_id", "name", "email", "as_of"],
  courses: ["sis_id", "title", "as_of"],
  enrollments: ["student_id", "student_sis_id", "student_key", "course_id", "course_sis_id", "course_key", "action", "reason", "as_of"],
};
// A file needs one column of each list; the first column of the list is offered for mapping.
const needed = {
  students: [["sis_id"]],
  courses: [["sis_id"]],
  enrollments: [["student_id", "student_sis_id", "student_key"], ["course_id", "course_sis_id", "course_key"]],
};
// Names of columns are compared as the service compares them.
const joined = new Map(Object.values(ours).flat().filter((name) => !name.endsWith("_key")).map((name) => [name.replaceAll("_", ""), name]));
const plain = (name) => {
  const bare = name.replace(/^ï»¿|[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+/g, "").toLowerCase();
  return joined.get(bare.replace(/[_-]/g, "")) ?? bare;
};
let file = null, header = [], rows = [], maps = {}, batch = null;

$("token").value = sessionStorage.getItem("token") ?? "";
$("who").addEventListener("submit", (event) => event.preventDefault());
$("token").addEventListener("change", () => sessionStorage.setItem("token", $("token").value));

// What comes from a file or the service is inserted as text, never as markup.
const node = (name, text, ...children) => {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  element.append(...children);
  return element;
};
const numberCell = (value) => { const cell = node("td", count.format(value)); cell.className = "number"; return cell; };
const headRow = (...names) => node("thead", null, node("tr", null, ...names.map((name) => { const cell = node("th", name); cell.scope = "col"; return cell; })));

function fail(text) {
  $("error").textContent = text ?? "";
  $("error").hidden = !text;
  if (text) $("error").scrollIntoView({ block: "nearest" });
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  const response = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error("The service cannot be reached. Check your connection, then try again.");
  });
  if (response.ok) return response;
  let problem = {};
  try { problem = await response.json(); } catch { /* The body is not JSON. */ }
  throw Object.assign(new Error(problem.detail ?? response.statusText), { code: problem.code });
}

const guarded = (work) => async (event) => {
  event?.preventDefault?.();
  fail(null);
  try { await work(event); } catch (error) { fail(error.message); }
};

// --- the file ----------------------------------------------------------------------------

function parse(text, delimiter) {
  const parsed = [[""]];
  let quoted = false;
  for (let index = 0; index < text.length && parsed.length <= 7; index++) {
    const row = parsed[parsed.length - 1], character = text[index];
    if (quoted) {
      if (character !== '"') row[row.length - 1] += character;
      else if (text[index + 1] === '"') { row[row.length - 1] += '"'; index++; }
      else quoted = false;
    } else if (character === '"') quoted = true;
    else if (character === delimiter) row.push("");
    else if (character === "\n") parsed.push([""]);
    else if (character !== "\r") row[row.length - 1] += character;
  }
  return parsed.filter((row) => row.length > 1 || row[0]);
}

function kindOf(names) {
  if ($("kind").value) return $("kind").value;
  const has = (list) => list.some((name) => names.includes(name) || maps[name]);
  const ids = needed.enrollments.filter(has).length, ofStudent = has(["name", "email"]), ofCourse = has(["title"]);
  const roster = ofStudent === ofCourse ? "" : ofStudent ? "students" : "courses";
  // With a student or a course alone, it may be a roster that has a column of another table.
  return ids === 2 || (ids === 1 && !(roster && names.includes("sis_id"))) ? "enrollments" : roster;
}

function encodingOf(bytes) {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] && bytes[1] === 0)) return "utf-16le";
  if ((bytes[0] === 0xfe && bytes[1] === 0xff) || (bytes[0] === 0 && bytes[1])) return "utf-16be";
  return $("encoding").value || "utf-8";
}

const choose = guarded(async () => {
  maps = {}; header = []; rows = [];
  $("preview").replaceChildren();
  $("submit").disabled = !file;
  if (!file) return;
  const bytes = new Uint8Array(await file.slice(0, 65536).arrayBuffer());
  if ((bytes[0] === 0x1f && bytes[1] === 0x8b) || (bytes[0] === 0x50 && bytes[1] === 0x4b)) {
    $("preview").replaceChildren(node("p", "This file is compressed, or a workbook; it is read when you submit it."));
    return;
  }
  const text = new TextDecoder(encodingOf(bytes)).decode(bytes);
  if (text.trimStart().startsWith("{")) {
    const lines = text.split("\n").filter(Boolean).slice(0, 5);
    $("preview").replaceChildren(node("p", "This is a JSON Lines file. The first records:"), ...lines.map((line) => node("code", line.slice(0, 300))));
    return;
  }
  [header = [], ...rows] = parse(...table(text));
  header = header.map((name) => name.trim());
  show();
});

// The text from its header on, and its delimiter.
function table(text) {
  if (!text.includes("\n")) text = text.replaceAll("\r", "\n");
  const told = /^sep=([^"\r\n\0])\r?(?:\n|$)/i.exec(text);
  if (told) text = text.slice(told[0].length);
  text = text.slice(text.lastIndexOf("\n", Math.max(text.search(/[^ \t\r\n,;|]/), 0)) + 1);
  if (told) return [text, told[1]];
  const known = Object.values(ours).flat(), first = text.split("\n", 1)[0];
  const cells = (delimiter) => parse(first, delimiter)[0] ?? [];
  const score = (delimiter) => 1000 * cells(delimiter).map(plain).filter((name) => known.includes(name)).length + cells(delimiter).length;
  return [text, [",", ";", "\t", "|"].sort((a, b) => score(b) - score(a))[0]];
}

function show() {
  if (!header.length) return;
  const plainHeader = header.map(plain), kind = kindOf(plainHeader), known = ours[kind] ?? [];
  const head = node("tr", null, ...header.map((name) => {
    const cell = node("th", name, node("small", known.includes(plain(name)) ? `used as ${plain(name)}` : "not used; returned with refused lines"));
    cell.scope = "col";
    return cell;
  }));
  const body = rows.slice(0, 5).map((row) => node("tr", null, ...row.map((cell) => node("td", cell))));
  const table = node("div", null, node("table", null, node("thead", null, head), node("tbody", null, ...body)));
  table.className = "scroll";
  const parts = [node("p", kind ? `The file holds ${kind}. The first rows:` : "Choose the kind of records below. The first rows:"), table];
  for (const names of needed[kind] ?? []) {
    const present = names.filter((name) => plainHeader.includes(name));
    if (present.length === 1) continue;
    const wanted = names[0], select = node("select");
    select.append(node("option", "choose a column"), ...header.map((name) => node("option", name)));
    select.selectedIndex = header.indexOf(names.map((name) => maps[name]).find(Boolean)) + 1;
    select.addEventListener("change", () => {
      for (const name of names) delete maps[name];
      const column = header[select.selectedIndex - 1];
      if (column) maps[names.includes(plain(column)) ? plain(column) : wanted] = column;
    });
    const question = present.length ? `The file has ${present.join(" and ")}; use` : `The column ${wanted} is missing; take it from`;
    const line = node("div", null, node("label", question, select));
    line.className = "row";
    parts.push(line);
  }
  $("preview").replaceChildren(...parts);
}

$("kind").addEventListener("change", show);
$("encoding").addEventListener("change", choose);
$("file").addEventListener("change", (event) => { file = $("file").files[0] ?? null; choose(event); });
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) { file = event.dataTransfer.files[0]; choose(); }
  });
}

// --- the batch ---------------------------------------------------------------------------

// A file that is submitted again gets the same batch id, so that an interrupted upload continues
// where it stopped. Once its batch is done it gets a new one, because under the same id the lines that
// were refused would not be tried again.
const batchIds = new Map();

function batchIdOf(upload) {
  if (!batchIds.has(upload)) {
    const random = crypto.getRandomValues(new Uint8Array(16));
    batchIds.set(upload, `page-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`);
  }
  return batchIds.get(upload);
}

$("submit").addEventListener("click", guarded(async () => {
  const query = new URLSearchParams();
  if ($("kind").value) query.set("kind", $("kind").value);
  if ($("encoding").value) query.set("encoding", $("encoding").value);
  for (const [name, column] of Object.entries(maps)) if (column) query.append("map", `${name}={${column}}`);
  const upload = [file.name, file.size, file.lastModified, query].join("\n");
  query.set("batch_id", batchIdOf(upload));
  $("submit").disabled = true;
  $("batch").hidden = false;
  $("notices").replaceChildren();
  $("state").textContent = `Sending ${file.name} …`;
  try {
    const response = await call(`/batches?${query}`, { method: "POST", body: file, headers: { "Content-Type": "text/csv" } });
    const accepted = await response.json();
    batch = accepted.url;
    $("notices").replaceChildren(...accepted.notices.map((notice) => node("p", notice)));
    if (await follow(batch) === "done") batchIds.delete(upload);
  } catch (error) {
    $("state").textContent = "Stopped by an error; see the message at the top.";
    throw error;
  } finally {
    $("submit").disabled = false;
  }
}));

async function follow(url) {
  // EventSource cannot send a token, so the stream is read by hand.
  const response = await call(`${url}/events`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", state = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return state;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) if (event.startsWith("data: ")) state = report(JSON.parse(event.slice(6)));
  }
}

const names = { received: "received", enrolled: "enrolled", already_enrolled: "already enrolled", dropped: "dropped", not_enrolled: "not enrolled", upserted: "added or changed", unchanged: "unchanged", superseded: "superseded", rejected: "rejected", not_applied: "not yet applied" };

function report(status) {
  const speed = status.rows_per_second ? `, ${count.format(Math.round(status.rows_per_second))} rows per second` : "";
  const left = status.seconds_left ? `, about ${count.format(Math.ceil(status.seconds_left))} s left` : "";
  $("state").textContent = `Batch ${status.batch_id} (${status.kind ?? "?"}): ${status.state}${speed}${left}. ${status.advice ?? ""}`;
  const books = status.books;
  $("bar").value = books.received ? 1 - books.not_applied / books.received : 0;
  const shown = Object.keys(names).filter((name) => books[name] || ["received", "rejected", "not_applied"].includes(name));
  $("books").replaceChildren(headRow("Rows", ""), node("tbody", null, ...shown.map((name) => node("tr", null, node("td", names[name]), numberCell(books[name])))));
  $("refused").hidden = !status.refusals.length;
  $("refusals").replaceChildren(
    headRow("Cause", "Count", "First lines", "For example"),
    node("tbody", null, ...status.refusals.map((group) => node("tr", null,
      node("td", null, node("code", group.code), node("div", group.message)), numberCell(group.count),
      node("td", group.first_lines.join(", ")),
      node("td", group.example, ...likely(group).map((text) => node("div", text)))))));
  return status.state;
}

function likely(group) {
  const texts = (group.likely_causes ?? []).map((cause) => cause.message);
  if (group.examined != null && group.examined < group.count) {
    texts.push(`Only the first ${count.format(group.examined)} of ${count.format(group.count)} refusals were compared with the roster.`);
  }
  return texts;
}

$("download").addEventListener("click", guarded(async () => {
  const response = await call(`${batch}/errors`, { headers: { Accept: "text/csv" } });
  const link = node("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = "refused.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}));

// --- a student ---------------------------------------------------------------------------

$("lookup").addEventListener("submit", guarded(async () => {
  const path = `/students/${encodeURIComponent($("student").value)}`;
  $("found").replaceChildren();
  const history = await historyOf(path);
  let about;
  try {
    const student = await (await call(path)).json();
    const courses = student.courses.map((course) => node("li", [course.sis_id, course.title].filter(Boolean).join(" · ")));
    about = [
      node("h3", [`${student.sis_id} (key ${student.id})`, student.name, student.email].filter(Boolean).join(" · ")),
      node("p", courses.length ? "Enrolled in" : "Not enrolled in any course."), node("ul", null, ...courses),
    ];
  } catch (error) {
    // A request may have been refused because its student is not in the roster.
    if (error.code !== "unknown_student" || !history.entries.length) throw error;
    about = [node("h3", "The roster has no student with this id"), node("p", "Requests for this id were refused. If the id is right, submit the student first.")];
  }
  $("found").replaceChildren(...about, ...showHistory(path, history));
}));

async function historyOf(path, before) {
  const query = new URLSearchParams({ limit: 20, ...(before && { before }) });
  return (await call(`${path}/history?${query}`)).json();
}

function showHistory(path, history) {
  if (!history.entries.length) return [node("p", "Nothing is stored about this student's enrollments.")];
  const body = node("tbody"), older = node("button", "Show older entries"), below = node("div", null, older);
  let last = null;
  const add = (page) => {
    const added = page.entries.map(entryRow);
    body.append(...added);
    last = page.entries.at(-1)?.moment;
    below.hidden = !page.more;
    return added;
  };
  older.type = "button";
  older.addEventListener("click", guarded(async () => {
    const [first] = add(await historyOf(path, last));
    if (!below.hidden || !first) return;
    // The button with the focus is gone.
    first.tabIndex = -1;
    first.focus();
  }));
  add(history);
  const table = node("table", null, headRow("When", "What", "Course", "Request", "Why"), body);
  table.setAttribute("aria-label", "History, the latest first");
  const scroll = node("div", null, table);
  scroll.className = "scroll";
  below.className = "row";
  return [node("p", "What happened, the latest first"), scroll, below];
}

function entryRow(entry) {
  const change = node("td", entry.change);
  change.className = `word ${{ enrolled: "good", rejected: "bad" }[entry.change] ?? ""}`;
  const course = entry.course && [entry.course.sis_id ?? `key ${entry.course.id}`, entry.course.title].filter(Boolean).join(" · ");
  const source = entry.batch_id === null ? entry.request_id : [entry.batch_id, entry.line && `line ${entry.line}`].filter(Boolean).join(", ");
  const won = entry.superseded_by && `A request of ${shownMoment(entry.superseded_by)} won.`;
  const why = [entry.reason, won, ...entry.errors.map((error) => error.message)].filter(Boolean);
  return node("tr", null, node("td", shownMoment(entry.moment)), change, node("td", course), node("td", source), node("td", null, ...why.map((text) => node("div", text))));
}

const shownMoment = (moment) => new Date(moment).toLocaleString();
