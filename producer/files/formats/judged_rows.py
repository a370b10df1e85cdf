"""Make records of rows that are judged first, and whose columns are read like our own.

This is for files whose columns are mapped, and whose lines have times of their own.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from producer.contract.chunks import RefusedLine
from producer.files.account import Account
from producer.files.cells import Pair, Row, refused_line, request_of
from producer.files.columns import AS_OF, REASON, BadCell
from producer.files.formats.base import DROP, PASS
from producer.files.formats.judging import Judge, Tally
from producer.files.formats.verdicts import ENDED, TERM_ENDED, Verdict
from producer.files.grouping import WINDOW, group_requests
from producer.files.layout import Lines
from producer.publishing.chunking import SourceRecord

Rows = Iterator[Row | RefusedLine]


class JudgedRows:
    """Makes the records of one reading of a file.

    `shown` has the names that columns of ours have in the file, for messages. With `no_drops`, a
    column and a problem with it, each line that would be a drop is refused.
    """

    def __init__(
        self,
        judge: Judge,
        account: Account,
        tally: Tally,
        shown: Mapping[str, str],
        no_drops: tuple[str, str] | None = None,
    ) -> None:
        self._judge = judge
        self._account = account
        self._tally = tally
        self._shown = shown
        self._no_drops = no_drops

    def requests(self, rows: Rows, read: Callable[[list[str]], Pair]) -> Lines:
        """Yield requests: pairs of a student are grouped, and a drop is a request of its own.

        The lines describe a state: it does not matter in which order they stand.
        """
        read_pair = self._with_name(read)
        while window := list(islice(rows, WINDOW)):
            drops: list[SourceRecord] = []
            kept = self._kept(window, read_pair, drops)
            yield from group_requests(kept, read_pair, keep_cells=True)
            yield from drops

    def _kept(
        self,
        window: list[Row | RefusedLine],
        read: Callable[[list[str]], Pair],
        drops: list[SourceRecord],
    ) -> Rows:
        """Yield the rows that enroll; add the drops among the others to `drops`."""
        for entry in window:
            if not isinstance(entry, tuple):
                yield entry
                continue
            line, row = entry
            try:
                verdict = self._judge(row)
                if verdict.action is PASS:
                    self._pass_over(line, verdict)
                    continue
                if verdict.action is DROP:
                    request = self._drop(read(row), verdict)
                    drops.append(SourceRecord(request, [line], [row]))
            except BadCell as bad_cell:
                yield refused_line(line, row, bad_cell)
                continue
            self._tally.add(line, verdict)
            if verdict.action is not DROP:
                yield entry

    def _drop(self, pair: Pair, verdict: Verdict) -> dict[str, Any]:
        """Return the request of a drop. Raises BadCell."""
        if self._no_drops is not None:
            raise BadCell(*self._no_drops)
        student, course, details = pair
        # The end of an enrollment is seen now; its line may have been written long before.
        left_out = AS_OF if verdict.why in (ENDED, TERM_ENDED) else ""
        kept = {name: text for name, text in details.items() if name != left_out}
        return request_of((student, course, {REASON: verdict.why, **kept}), DROP)

    def roster(self, rows: Rows, read: Callable[[list[str]], dict[str, str]]) -> Lines:
        """Yield roster records."""
        read_record = self._with_name(read)
        for entry in rows:
            if not isinstance(entry, tuple):
                yield entry
                continue
            line, row = entry
            try:
                verdict = self._judge(row)
                if verdict.action is PASS or verdict.action is DROP:
                    self._pass_over(line, verdict._replace(action=PASS))
                    continue
                yield SourceRecord(read_record(row), [line], [row])
            except BadCell as bad_cell:
                yield refused_line(line, row, bad_cell)

    def _with_name(self, read: Callable[[list[str]], Any]) -> Callable[[list[str]], Any]:
        """Return a reader whose errors have the name that the file has for a column."""

        def named(row: list[str]) -> Any:
            try:
                return read(row)
            except BadCell as bad_cell:
                name = self._shown.get(bad_cell.column, bad_cell.column)
                problem = str(bad_cell).removeprefix(f"{bad_cell.column}: ")
                raise BadCell(name, problem) from None

        return named

    def _pass_over(self, line: int, verdict: Verdict) -> None:
        self._account.skip()
        self._tally.add(line, verdict)
