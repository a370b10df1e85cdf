// Shows the view that the address names, and reports errors at the top of the page.

import { setToken, token } from "./api.js";
import { element, focusOn } from "./dom.js";
import { report } from "./report.js";

// Each view is a module that exports `show(main, parameters)`. It is loaded when it is needed.
const VIEWS = [
  [/^\/?$/, "Send files", () => import("./upload.js")],
  [/^\/sending\/(?<ids>[^/]+)$/, "Sending", () => import("./sending_view.js")],
  [/^\/batches$/, "Uploads", () => import("./batches.js")],
  [/^\/batches\/(?<id>[^/]+)$/, "Upload", () => import("./batch.js")],
  [/^\/batches\/(?<id>[^/]+)\/repair$/, "Correct the refused lines", () => import("./repair.js")],
  [/^\/students$/, "Students", () => import("./students.js")],
  [/^\/students\/(?<id>[^/]+)$/, "Student", () => import("./student.js")],
  [/^\/courses$/, "Courses", () => import("./courses.js")],
  [/^\/courses\/(?<id>[^/]+)$/, "Course", () => import("./course.js")],
];
const NOT_A_PAGE = { show: (main) => main.replaceChildren(element("h1", {}, "There is no such page"), element("p", {}, "Check the address, or ", element("a", { href: "#/" }, "send files"), ".")) };

const main = document.getElementById("main");
let leave = null;
let turn = 0;

function route() {
  const [path, search = ""] = location.hash.replace(/^#/, "").split(/\?(.*)/s);
  for (const [pattern, title, load] of VIEWS) {
    const match = pattern.exec(path);
    if (match) return { path, title, load, parameters: { ...decoded(match.groups), query: new URLSearchParams(search) } };
  }
  return { path, title: "No such page", load: () => NOT_A_PAGE, parameters: {} };
}

function decoded(groups = {}) {
  return Object.fromEntries(Object.entries(groups).map(([name, text]) => {
    try { return [name, decodeURIComponent(text)]; } catch { return [name, text]; }
  }));
}

async function showView(isFirst) {
  const mine = (turn += 1);
  const { path, title, load, parameters } = route();
  leave?.();
  leave = null;
  report(null);
  markLink(path);
  // A view draws into a part of its own, so that one that was left cannot draw over the next.
  const part = element("div", { class: "view" });
  main.replaceChildren(part);
  try {
    const view = await load();
    if (mine !== turn) return;
    const left = await view.show(part, parameters);
    if (mine !== turn) return left?.();
    leave = left ?? null;
  } catch (error) {
    if (mine !== turn) return;
    fail(error, part);
  }
  const heading = part.querySelector("h1");
  document.title = `${heading?.textContent ?? title} – Enrollment`;
  if (!isFirst && !part.contains(document.activeElement)) focusOn(heading ?? main);
}

function fail(error, part) {
  if (!part.querySelector("h1")) part.append(element("h1", {}, "This cannot be shown"));
  part.querySelectorAll("[role=status]").forEach((note) => { note.textContent = ""; });
  report(error.message);
}

function markLink(path) {
  const kind = /^\/(batches|students|courses)/.exec(path)?.[1] ?? "";
  for (const link of document.querySelectorAll("nav a")) {
    const isCurrent = link.getAttribute("href") === `#/${kind}`;
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function start() {
  const box = document.getElementById("token");
  box.value = token();
  document.getElementById("access").addEventListener("submit", (event) => event.preventDefault());
  box.addEventListener("change", () => {
    setToken(box.value);
    window.dispatchEvent(new Event("token"));
    const isRefused = !document.getElementById("error").hidden;
    if (isRefused) showView(true);
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    focusOn(main.querySelector("h1") ?? main);
  });
  window.addEventListener("hashchange", () => showView(false));
  // An error in a handler of a view is shown as well.
  window.addEventListener("unhandledrejection", (event) => report(event.reason?.message));
  showView(true);
}

start();
