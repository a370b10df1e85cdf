"""Decide what a line of another system asks for: by its role, its status and its dates."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, tzinfo
from operator import itemgetter

from producer.files.columns import BadCell
from producer.files.formats.base import DROP, KEEP, NO_COURSE, NOT_NAMED, PASS, Rule, folded
from producer.files.formats.dates import days_of, is_plausible
from producer.files.formats.terms import ClassEnds
from producer.files.formats.verdicts import AHEAD, BAD_DATE, ENDED, GONE, PLAIN, UNSURE, Verdict
from producer.files.row_blocks import RowBlock
from producer.schemas import Action

_MAX_WORDS = 20
"""The most different roles, reasons and remarks that are counted by themselves."""
_MAX_REMEMBERED = 10_000
"""The most combinations of cells whose verdict is remembered."""

_A_STATUS = {"operation": "an operation"}
"""What the words of a column with another name than status are."""

_OTHERWISE = {
    NOT_NAMED: (
        "1 user is passed over, because no file of the package names this user as a student",
        "{:,} users are passed over, because no file of the package names them as students",
    ),
    NO_COURSE: (
        "1 line is passed over, because it names no course",
        "{:,} lines are passed over, because they name no course",
    ),
}
"""What is said of lines that are passed over for another reason than their role."""

_DATE_PROBLEMS = {
    BAD_DATE: "a date cannot be read",
    UNSURE: (
        "the end may be in the past, because it can be read as two dates, lies before the begin, or"
        " is too early to be meant; no student is dropped for it"
    ),
}


Key = str | tuple[str, ...]
"""The cells of a row that its verdict depends on."""


class Judge:
    """Decides what rows ask for, and remembers the verdict on the cells that it looks at."""

    def __init__(
        self,
        decide: Callable[[Sequence[str]], Verdict],
        places: Sequence[int],
        class_ends: ClassEnds | None = None,
    ) -> None:
        self._decide = decide
        self._class_ends = class_ends
        self._remembered: dict[Key, Verdict] = {}
        self._places = places
        self.key_of: Callable[[Sequence[str]], Key] = itemgetter(*places) if places else _no_key
        """Returns the cells of a row that decide."""
        self.plain: set[Key] = set()
        """Such cells on which the verdict was PLAIN: it still is, unless the class is over."""

    def __call__(self, row: list[str]) -> Verdict:
        """Return the verdict on a row. Raises BadCell for a cell that has no meaning."""
        verdict = self._own_verdict(row)
        return verdict if self._class_ends is None else self._class_ends.apply(row, verdict)

    def is_over(self, class_: int | str) -> bool:
        """Return whether a class has ended, so that its rows may have ended with it."""
        return self._class_ends is not None and self._class_ends.is_over(class_)

    def plain_rows(self, block: RowBlock) -> Sequence[bool]:
        """Return for each row of a block whether the verdict on its own cells is PLAIN.

        Unless its class is over, that is the verdict on the row.
        """
        columns = [block.column(at) for at in self._places]
        size = len(block.texts)
        if all(column.count(column[0]) == size for column in columns):
            return [self._is_plain(block.row(0))] * size
        keys: list[Key] = list(zip(*columns, strict=True)) if len(columns) > 1 else [*columns[0]]
        unknown = {key: at for at, key in enumerate(keys) if key not in self._remembered}
        for at in unknown.values():
            self._is_plain(block.row(at))
        return list(map(self.plain.__contains__, keys))

    def _is_plain(self, row: Sequence[str]) -> bool:
        try:
            return self._own_verdict(row) is PLAIN
        except BadCell:
            return False

    def _own_verdict(self, row: Sequence[str]) -> Verdict:
        key = self.key_of(row)
        verdict = self._remembered.get(key)
        if verdict is None:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
                self.plain.clear()
            verdict = self._remembered[key] = self._decide(row)
            if verdict is PLAIN:
                self.plain.add(key)
        return verdict


def judge_of(
    rule: Rule,
    header: Sequence[str],
    today: date,
    zone: tzinfo,
    class_ends: ClassEnds | None = None,
) -> Judge:
    """Return a judge of rows by a rule; `header` has the folded names.

    With `class_ends`, a row without an end of its own ends with the last term of its class.
    """
    positions = {name: at for at, name in reversed(list(enumerate(header)))}
    names = [*rule.roles, rule.status, rule.begin, rule.end]
    places = [positions[name] for name in names if name in positions]
    if not places:
        return Judge(lambda _row: PLAIN, [])
    return Judge(_Decision(rule, positions, today, zone), places, class_ends)


def _no_key(_row: Sequence[str]) -> Key:
    return ""


class _Decision:
    """Decides what a row asks for by a rule."""

    def __init__(self, rule: Rule, positions: Mapping[str, int], today: date, zone: tzinfo) -> None:
        self._rule = rule
        self._positions = positions
        self._today = today
        self._zone = zone
        self._has_role = any(name in positions for name in rule.roles)

    def __call__(self, row: Sequence[str]) -> Verdict:
        rule = self._rule
        if self._has_role:
            role = next(filter(None, (self._text(name, row) for name in rule.roles)), "")
            if not role and rule.no_role == "":
                raise BadCell(rule.roles[-1], "the cell is empty; write the role of the user")
            if not rule.is_student(folded(role or rule.no_role)):
                return Verdict(PASS, folded(role or rule.no_role)[:60])
        action, why = self._status(row)
        if action is not KEEP:
            return Verdict(action, why, GONE if action is PASS else "")
        return self._dated(row)

    def _text(self, name: str | None, row: Sequence[str]) -> str:
        at = None if name is None else self._positions.get(name)
        return "" if at is None else row[at].strip()

    def _status(self, row: Sequence[str]) -> tuple[Action | None, str]:
        rule = self._rule
        if rule.status not in self._positions:
            return KEEP, ""
        word = folded(self._text(rule.status, row)) or rule.no_status
        if word not in rule.words:
            known = ", ".join(rule.words)
            problem = (
                f"{word[:60]!a} is not {_A_STATUS.get(rule.status or '', 'a status')}; write one of"
                f" {known}"
                if word
                else f"the cell is empty; write one of {known}"
            )
            raise BadCell(rule.status or "", problem)
        return rule.words[word], word

    def _dated(self, row: Sequence[str]) -> Verdict:
        rule = self._rule
        texts = [self._text(name, row) for name in (rule.begin, rule.end)]
        texts = ["" if text in rule.no_dates else text for text in texts]
        if not any(texts) or (rule.dates_need_both and not all(texts)):
            return PLAIN
        begin, end = (days_of(text, self._zone) for text in texts)
        if any(day < self._today for day in end):
            is_sure = max(end) < self._today and is_plausible(begin, end)
            return Verdict(DROP, ENDED) if is_sure else Verdict(KEEP, "", UNSURE, texts[1][:40])
        for text, days in zip(texts, (begin, end), strict=True):
            if text and not days:
                return Verdict(KEEP, remark=BAD_DATE, example=text[:40])
        if begin and min(begin) > self._today:
            return Verdict(KEEP, remark=AHEAD)
        return PLAIN


class Tally:
    """Counts the lines that are no plain enrollments, for the notices at the end of a file.

    `passed_over` is where the lines about others than students are counted, by their roles.
    """

    def __init__(self, passed_over: Counter[str] | None = None) -> None:
        self.passed_over: Counter[str] = Counter() if passed_over is None else passed_over
        self._gone: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self._remarks: Counter[str] = Counter()
        self._first: dict[str, tuple[int, str]] = {}

    def add(self, line: int, verdict: Verdict) -> None:
        """Count a line."""
        if verdict.action is PASS:
            (self._gone if verdict.is_gone else self.passed_over)[self._label(verdict)] += 1
        elif verdict.action is DROP:
            self.drops[verdict.why] += 1
        elif verdict.remark:
            self._remarks[verdict.remark] += 1
        if verdict.example:
            self._first.setdefault(verdict.remark, (line, verdict.example))

    def _label(self, verdict: Verdict) -> str:
        """Return the word that a line is counted under, of a bounded number of words."""
        known = verdict.why in self.passed_over or len(self.passed_over) < _MAX_WORDS
        return verdict.why if known else "others"

    def sentences(self, name: str, *, is_snapshot: bool = False) -> Iterator[str]:
        """Yield what the submitter should know about the lines of a file.

        The reader of a snapshot counts the lines that it leaves out in place of drops.
        """
        others = Counter({r: n for r, n in self.passed_over.items() if r not in _OTHERWISE})
        if count := others.total():
            yield (
                f"{name}: {_lines(count)} passed over, because only students are read:"
                f" {_shown(others)}."
            )
        for reason, (one, many) in _OTHERWISE.items():
            if count := self.passed_over[reason]:
                yield f"{name}: {one if count == 1 else many.format(count)}."
        if count := self._gone.total():
            yield (
                f"{name}: {_lines(count)} passed over because of the status:"
                f" {_shown(self._gone)}. A roster removes nothing; to end enrollments, submit them"
                " as drops."
            )
        if (count := self.drops.total()) and not is_snapshot:
            drops = "a drop" if count == 1 else "drops"
            yield f"{name}: {_lines(count)} read as {drops}: {_shown(self.drops)}."
        if count := self._remarks[AHEAD]:
            begin = "1 line begins" if count == 1 else f"{count:,} lines begin"
            who = "the student is" if count == 1 else "the students are"
            yield f"{name}: {begin} after today; {who} enrolled from now on."
        for remark, (line, text) in self._first.items():
            yield (
                f"{name}: {_lines(self._remarks[remark])} read although {_DATE_PROBLEMS[remark]},"
                f" first in line {line:,}: {text!a}. Write dates as 2026-09-01."
            )


def _lines(count: int) -> str:
    return "1 line is" if count == 1 else f"{count:,} lines are"


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word!a}" for word, count in Counter(counts).most_common())
