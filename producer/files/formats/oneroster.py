"""Describe the packages of OneRoster 1.1 and 1.2, complete ones (bulk) and changes (delta).

In 1.1, a user has a role. In 1.2, the file of roles says which users are students. A status that
ends something counts in a complete package, too. We enroll in the class.
"""

from producer.files.formats.base import DROP, KEEP, PASS, Format, Members, Rule, Table
from producer.schemas import Kind

_ROSTER = {"active": KEEP, "tobedeleted": PASS, "inactive": PASS}
_ENROLLMENTS = {"active": KEEP, "tobedeleted": DROP, "inactive": DROP}

_MOMENTS = ("datelastmodified", "datalastmodified")
"""The second name is a misspelling that real packages have."""

_USER = {
    "sis_id": ("sourcedid",),
    "name": (("givenname", "familyname"), "username"),
    "email": ("email",),
}

USERS = Table(
    name="students",
    kind=Kind.STUDENTS,
    columns=_USER,
    required=frozenset({"sourcedid", "role", "givenname", "familyname"}),
    file_names=("users.csv",),
    moments=_MOMENTS,
    rule=Rule(roles=("role",), status="status", words=_ROSTER, no_status="active"),
    members=Members.STUDENTS,
)
"""The users of 1.1."""

USERS_WITHOUT_ROLE = Table(
    name="students",
    kind=Kind.STUDENTS,
    columns=_USER,
    required=frozenset({"sourcedid", "givenname", "familyname"}),
    any_of=(frozenset({"status", "enableduser", "usermasteridentifier"}),),
    without=frozenset({"role"}),
    file_names=("users.csv",),
    moments=_MOMENTS,
    rule=Rule(status="status", words=_ROSTER, no_status="active"),
    members=Members.STUDENTS,
)
"""The users of 1.2."""

ROLES = Table(
    name="roles",
    kind=None,
    columns={},
    required=frozenset({"usersourcedid", "role", "roletype"}),
    file_names=("roles.csv",),
    rule=Rule(
        roles=("role",),
        status="status",
        words=_ROSTER,
        no_status="active",
    ),
    adds_members=("usersourcedid",),
)

CLASSES = Table(
    name="courses",
    kind=Kind.COURSES,
    columns={"sis_id": ("sourcedid",), "title": ("title", "classcode")},
    required=frozenset({"sourcedid", "title"}),
    any_of=(frozenset({"classtype", "classcode", "termsourcedids", "schoolsourcedid"}),),
    file_names=("classes.csv",),
    moments=_MOMENTS,
    rule=Rule(status="status", words=_ROSTER, no_status="active"),
    names_terms=("termsourcedids", "termsourcedid"),
)

TERMS = Table(
    name="terms",
    kind=None,
    columns={"sis_id": ("sourcedid",)},
    required=frozenset({"sourcedid", "startdate", "enddate"}),
    any_of=(frozenset({"status", *_MOMENTS}),),
    without=frozenset({"usersourcedid"}),
    file_names=("academicsessions.csv",),
    rule=Rule(status="status", words=_ROSTER, no_status="active", begin="startdate", end="enddate"),
    is_terms=True,
)

ENROLLMENTS = Table(
    name="enrollments",
    kind=Kind.ENROLLMENTS,
    columns={"student_id": ("usersourcedid",), "course_id": ("classsourcedid",)},
    required=frozenset({"sourcedid", "classsourcedid", "usersourcedid", "role"}),
    file_names=("enrollments.csv",),
    moments=_MOMENTS,
    rule=Rule(
        roles=("role",),
        status="status",
        words=_ENROLLMENTS,
        no_status="active",
        begin="begindate",
        end="enddate",
    ),
    adds_members=("usersourcedid",),
)

ONEROSTER = Format(
    name="oneroster",
    title="OneRoster",
    tables=(ENROLLMENTS, USERS, USERS_WITHOUT_ROLE, ROLES, CLASSES, TERMS),
    by_name=True,
    manifest="manifest.csv",
    passed_over=(
        "categories.csv",
        "classresources.csv",
        "courseresources.csv",
        "courses.csv",
        "demographics.csv",
        "lineitemlearningobjectiveids.csv",
        "lineitems.csv",
        "lineitemscorescales.csv",
        "orgs.csv",
        "resources.csv",
        "resultlearningobjectiveids.csv",
        "results.csv",
        "resultscorescales.csv",
        "scorescales.csv",
        "userprofiles.csv",
        "userresources.csv",
    ),
)
