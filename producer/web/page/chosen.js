// Holds one chosen file: the choices about it, what the service says about it, and its check.

import { FIELDS, isOurs, likelyKind, mayBeStudentsOrCourses, suggestions } from "./columns.js";
import { check, isUnchanged, preview, queryOf } from "./files.js";
import { matchOf, rememberMatch } from "./memory.js";
import { PLAIN } from "./systems.js";
import { CHANGED_FILE, sentenceFor } from "./words.js";

const EMPTY_CHOICES = { kind: "", encoding: "", drop: false, maps: {}, sheet: "", format: "", sectionsAreOne: false, momentsFromFile: false };

/** A chosen file. It fires `news` after each change. */
export class Chosen extends EventTarget {
  constructor(file) {
    super();
    Object.assign(this, { file, choices: { ...EMPTY_CHOICES }, seen: null, problem: null, looking: true, checked: null, checking: false, origin: "", confirmed: false, firstLine: null });
  }

  /** The kind of the records, or an empty text while it is not known. */
  get kind() { return this.seen?.kind || this.choices.kind || this.checked?.kind || ""; }

  /** Whether it holds several files. */
  get isPackage() { return Boolean(this.seen?.isPackage || this.checked?.files.length); }

  /** What the batches of a package are called, in the order in which they are sent; none for a single file. */
  get parts() { return (this.checked?.files ?? []).filter(({ lines }) => lines.total > lines.header + lines.blank + lines.skipped).map(({ batch }) => batch); }

  /** Whether suggested columns still wait for the reader's confirmation. */
  get isOpen() { return !this.confirmed && (this.origin === "suggested" || (this.origin === "remembered" && mayBeStudentsOrCourses(this.seen?.columns ?? []))); }

  /** Whether the file can be checked and sent. */
  get isReady() { return !this.looking && Boolean(this.seen?.readable) && !this.problem && !this.isOpen && !this.isEmpty && this.checked?.readable !== false; }

  /** Whether the file has a header but no rows. */
  get isEmpty() { return Boolean(this.seen?.readable) && !this.seen.isPackage && !this.seen.isUnseen && !this.seen.truncated && !this.seen.row_count && !this.seen.lines?.refused; }

  /** The query of its submission. */
  get query() { return queryOf(this.choices).toString(); }

  /** Look at the file for the first time, with what was chosen for the last file with these columns. */
  async look() {
    this.looking = true; // Until its columns are matched as well.
    await this.#look();
    this.looking = false;
    this.tell();
  }

  async #look() {
    if (!this.file.size) return this.fail("This file is empty. Export it again, or choose another one.");
    if (!(await isUnchanged(this.file))) return this.fail("This file cannot be read. If it is a folder, choose the files in it; if it was moved, choose it again.");
    await this.refresh();
    if (this.seen?.isPackage) return this.check();
    const columns = this.seen?.columns;
    if (!columns || this.seen.system) return; // The columns of a known system need no choice.
    const remembered = matchOf(columns);
    if (remembered) await this.choose({ ...EMPTY_CHOICES, ...remembered }, "remembered");
    else await this.suggest(columns);
  }

  async suggest(columns) {
    const kind = this.kind || likelyKind(columns);
    if (!kind) return;
    const maps = suggestions(columns, kind);
    const isGuess = !this.seen.readable && !this.seen.kind;
    const guess = isGuess ? kind : "";
    if (Object.keys(maps).length) await this.choose({ maps, kind: guess }, "suggested");
    else if (guess) await this.choose({ kind: guess });
  }

  /** Change choices, and look at the file again. */
  async choose(changes, origin = this.origin) {
    this.choices = { ...this.choices, ...changes };
    this.origin = origin;
    await this.refresh();
  }

  /** Look at another sheet of a workbook. */
  async turnTo(sheet) {
    await this.choose({ ...EMPTY_CHOICES, sheet }, "");
    const { columns, system } = this.seen ?? {};
    if (columns && !system) await this.suggest(columns);
  }

  /** The reader says what the file holds; her columns are suggested for it. */
  async chooseKind(kind) {
    const maps = kind ? suggestions(this.seen?.columns ?? [], kind) : {};
    this.confirmed = false;
    await this.choose({ kind, maps }, Object.keys(maps).length ? "suggested" : "");
  }

  /** The reader wants to choose the columns of a known system herself. */
  matchColumns() {
    this.matchesColumns = true;
    this.tell();
  }

  /** The reader says when the lines of a file count; a package is read again as a whole. */
  async chooseMoments(momentsFromFile) {
    await this.choose({ momentsFromFile });
    if (this.seen?.isPackage) await this.check();
  }

  /** The reader says which system the file comes from; its columns are then known. */
  async chooseSystem(format) {
    const { encoding, sheet } = this.choices;
    Object.assign(this, { confirmed: false, matchesColumns: false });
    await this.choose({ ...EMPTY_CHOICES, encoding, sheet, format }, "");
    if (this.seen?.isPackage) return this.check();
    const { columns, system } = this.seen ?? {};
    if (columns && !system && (!format || format === PLAIN)) await this.suggest(columns);
  }

  /** The reader has seen the suggested columns and agrees. */
  confirm() {
    this.confirmed = true;
    this.tell();
  }

  async refresh() {
    this.request?.abort();
    const request = (this.request = new AbortController());
    this.checked = null;
    try {
      const seen = await preview(this.file, this.choices, request.signal);
      // The names of the columns stay known if a choice, such as an encoding, hides them.
      Object.assign(this, { seen, problem: null });
      // This stays known once she has said which of these cells are names of columns.
      if (/It looks like data;/.test(seen.problem ?? "")) this.firstLine = seen.raw_lines[0] ?? null;
    } catch (error) {
      if (request.signal.aborted) return;
      this.problem = error.message;
    }
    this.tell();
  }

  /** Read the whole file, and find what would be refused for its form. */
  async check() {
    this.request?.abort();
    const request = (this.request = new AbortController());
    Object.assign(this, { checking: true, checked: null });
    this.tell();
    try {
      this.checked = await check(this.file, this.choices, request.signal);
    } catch (error) {
      if (!request.signal.aborted) this.fail(error.message, false);
    }
    this.checking = false;
    this.tell();
  }

  /** Return whether the file is still the one that was chosen; if not, the card says so. */
  async isStill() {
    const isSame = await isUnchanged(this.file);
    if (!isSame) this.fail(sentenceFor({ code: CHANGED_FILE }));
    return isSame;
  }

  /** Remember the columns for the next file with the same header. */
  remember() {
    const { kind, encoding, maps, format } = this.choices;
    if (!this.seen?.columns || (this.seen.system && !format)) return;
    if (kind || encoding || format || Object.keys(maps).length) rememberMatch(this.seen.columns, { kind, encoding, maps, format });
  }

  /** Return the name that our column has among hers, or null. */
  ownName(field) {
    const { columns } = this.seen ?? {};
    return columns?.find((name) => isOurs(name, field)) ?? null;
  }

  /** Return our needed columns that the file has twice: pairs of the column and her names. */
  doubles() {
    return (FIELDS[this.kind] ?? []).filter((field) => field.needed).flatMap((field) => {
      const key = FIELDS[this.kind].find(({ name }) => name === field.key);
      const same = (this.seen?.columns ?? []).filter((name) => isOurs(name, field) || (key && isOurs(name, key)));
      return same.length > 1 && !this.choices.maps[field.name] && !this.choices.maps[field.key] ? [[field, same]] : [];
    });
  }

  fail(sentence, isLasting = true) {
    Object.assign(this, { problem: sentence, checked: null });
    if (isLasting) this.seen = null;
    this.tell();
  }

  tell() { this.dispatchEvent(new Event("news")); }
}

const ORDER = ["students", "courses", "enrollments"];

/** Return files in the order in which they are sent: rosters first, because enrollments need them. */
export const inOrder = (files) => [...files].sort((a, b) => placeOf(a) - placeOf(b));

// A package has rosters of its own, and other files may need them.
const placeOf = ({ kind, isPackage }) => (isPackage ? 1.5 : kind ? ORDER.indexOf(kind) : ORDER.length);
