// Knows our columns by her words, and which names of other systems usually mean them.

const STUDENT = "student|studentid|studentsisid|studentnumber|studentno|studentnr|studentnum|studentcode|matricno|matricnumber|matric|matriculationnumber|matriculationno|matrikelnummer|matrikelnr|matrnr|matnr|studierendennummer|numeroetudiant|numetudiant|noetudiant|etudiant|matricule|numerodeestudiante|numeroestudiante|codigoestudiante|codigoalumno|numerodealumno|numeroalumno|estudiante|alumno|matricula|numerodematricula|learnerid|learner|pupilid|pupilnumber|candidatenumber|idstudent|idetudiant|idalumno|idestudiante|emplid|userid|universityid|campusid|usersourcedid|studentsourcedid";
const COURSE = "course|courseid|coursesisid|coursecode|courseno|coursenr|coursenumber|coursesection|section|sectionid|sectioncode|sectionno|sectionnumber|class|classid|classcode|classnumber|crn|module|moduleid|modulecode|codemodule|idcourse|kurs|kursid|kursnummer|kursnr|kurscode|kurskuerzel|lehrveranstaltung|veranstaltungsnummer|lvnummer|lvnr|modul|modulnummer|modulcode|cours|codecours|codeducours|idcours|numerodecours|curso|codigocurso|codigodelcurso|idcurso|asignatura|codigoasignatura|seccion|grupo|classsourcedid|sectionsourcedid";
const ANY_NAME = "name|fullname|displayname";
const NAME = "name|fullname|displayname|studentname|sortablename|nameofstudent|vollername|nomcomplet|nometprenom|nombrecompleto|nombreyapellidos";
const FIRST_NAME = "firstname|givenname|forename|vorname|prenom|nombre|nombres";
const LAST_NAME = "lastname|familyname|surname|nachname|familienname|nom|nomdefamille|apellido|apellidos";
const EMAIL = "email|emailaddress|mail|mailaddress|studentemail|emailadresse|courriel|adresseemail|adressemail|correo|correoelectronico";
const TITLE = "title|coursetitle|coursename|sectionname|classname|moduletitle|modulename|kurstitel|kursname|kursbezeichnung|titel|bezeichnung|intitule|titre|nomducours|titulo|nombredelcurso";

const names = (text) => text.split("|");
const field = (name, label, help, synonyms = "", more = {}) => ({ name, label, help, synonyms: names(synonyms), also: [], ...more });

const TIME = field("as_of", "Counts from", "A time with its time zone, such as 2026-09-01T08:00:00Z. Without it, the time of sending counts.", "asof");

/** Our columns of each kind of file, in the order in which the page shows them. */
export const FIELDS = {
  students: [
    field("sis_id", "Student's id", "The id in your own system.", `sisid|id|sourcedid|${STUDENT}`, { needed: true }),
    field("name", "Name", "", NAME), field("email", "E-mail address", "", EMAIL), TIME,
  ],
  courses: [
    field("sis_id", "Course's id", "The id in your own system.", `sisid|id|sourcedid|${COURSE}`, { needed: true }),
    field("title", "Title", "", `${TITLE}|${ANY_NAME}`), TIME,
  ],
  enrollments: [
    field("student_id", "Student's id", "The id in your own system.", STUDENT, { needed: true, also: ["student_sis_id"], key: "student_key" }),
    field("course_id", "Course's id", "The id in your own system.", COURSE, { needed: true, also: ["course_sis_id"], key: "course_key" }),
    field("action", "Enroll or drop", "Cells say enroll or drop; an empty cell enrolls.", "aktion|accion"),
    field("reason", "Reason", "For the student's history.", "grund|motif|motivo|raison"), TIME,
    field("student_key", "Student's number here", "Only for a file without the ids of your system.", "", { rare: true }),
    field("course_key", "Course's number here", "Only for a file without the ids of your system.", "", { rare: true }),
  ],
};

const lower = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Return the name of a column as it is compared with synonyms: lower case, without accents, spaces and signs. */
export const simple = (name) => lower(name).replace(/^n[°º.o]+\s*/, "numero").replace(/[^\p{L}\p{N}]/gu, "");

/** Return whether the service takes a column for one of ours without being asked to. */
export function isOurs(name, { name: ours, also }) {
  const joined = name.replace(/[\s\u200b-\u200f\u2060\ufeff]/g, "").toLowerCase();
  if (ours.endsWith("_key")) return joined === ours;
  return [ours, ...also].some((each) => each.replaceAll("_", "") === joined.replace(/[_-]/g, ""));
}

/** Return whether a column can be named in a template: once in the header, and without braces. */
export const canBeNamed = (name, columns) => name !== "" && !/[{}]/.test(name) && columns.filter((each) => simple(each) === simple(name)).length === 1;

const find = (columns, synonyms) => columns.find((name) => synonyms.includes(simple(name)) && canBeNamed(name, columns));

/** Return whether a header has only names that a list of students and a list of courses may both have, such as "id,name". */
export function mayBeStudentsOrCourses(columns) {
  const own = columns.map(simple), has = (text) => names(text).some((name) => own.includes(name));
  const isTelling = has([STUDENT, EMAIL, TITLE, FIRST_NAME, LAST_NAME, "studentkey"].join("|")) || own.includes("sisid");
  const isSpecific = names(NAME).some((name) => !names(ANY_NAME).includes(name) && own.includes(name));
  return has(ANY_NAME) && !isTelling && !isSpecific;
}

/** Return the kind that the names of the columns point to, or null. */
export function likelyKind(columns) {
  const has = (text) => find(columns, names(text)) !== undefined;
  if (mayBeStudentsOrCourses(columns)) return null;
  const person = has(NAME) || has(EMAIL) || (has(FIRST_NAME) && has(LAST_NAME));
  const student = has(`${STUDENT}|studentkey`), course = has(`${COURSE}|coursekey`);
  if (student && course) return "enrollments";
  if (person !== has(TITLE)) return person ? "students" : "courses";
  return student || course ? "enrollments" : null;
}

/** Return a template for each of our columns of a kind that only a synonym in the header names. */
export function suggestions(columns, kind) {
  const maps = {}, taken = new Set();
  for (const each of FIELDS[kind] ?? []) {
    const own = [each, ...(FIELDS[kind].filter(({ name }) => name === each.key))];
    if (columns.some((name) => own.some((ours) => isOurs(name, ours)))) continue;
    const column = each.synonyms.map((synonym) => find(columns.filter((name) => !taken.has(name)), [synonym])).find(Boolean);
    if (column === undefined) continue;
    taken.add(column);
    maps[each.name] = `{${column}}`;
  }
  const first = find(columns, names(FIRST_NAME)), last = find(columns, names(LAST_NAME));
  const hasName = maps.name || columns.some((name) => isOurs(name, { name: "name", also: [] }));
  if (kind === "students" && !hasName && first && last) maps.name = `{${first}} {${last}}`;
  return maps;
}

/** Return what is wrong with a template over columns, in a sentence; null if it can be used. */
export function faultOf(template, columns) {
  const named = [...template.matchAll(/\{([^{}]*)\}/g)].map((match) => match[1]);
  const unknown = named.find((name) => !columns.some((column) => simple(column) === simple(name)));
  if (unknown !== undefined) return `The file has no column “${unknown}”. Its columns are: ${columns.join(", ")}.`;
  if (/[{}]/.test(template.replace(/\{[^{}]*\}/g, ""))) return "Write a brace before and after the name of each column, such as {module}-{term}.";
  return named.length ? null : "Write the names of your columns in braces, such as {module}-{term}.";
}
