"""Compare how fast enrollments of other systems are read with our own CSV with the same pairs.

Only the reader is measured: its CPU time, by turns. Run it alone with
`PYTHONPATH=tests python tests/benchmarks/formats.py`.
"""

import gc
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import rig
from producer.files.reader import open_source

if TYPE_CHECKING:
    from benchmarks.bench import Bench

Pair = rig.Pair
TURNS = 7
OURS = "our CSV"

_ONEROSTER = (
    "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,"
    "beginDate,endDate"
)


def _oneroster(number: int, pair: Pair) -> str:
    student, course = pair
    return (
        f"E{number:08},active,2026-08-01T00:00:00.000Z,C{course},SCHOOL-{number % 30},S{student},"
        "student,,2026-08-01,2099-06-30"
    )


FORMATS: Mapping[str, tuple[str, Callable[[int, Pair], str]]] = {
    OURS: ("student_id,course_id", lambda _, pair: f"S{pair[0]},C{pair[1]}"),
    "OneRoster": (
        _ONEROSTER,
        _oneroster,
    ),
    "Canvas": (
        "course_id,user_id,role,section_id,status,associated_user_id,limit_section_privileges",
        lambda number, pair: f"K{number % 500},S{pair[0]},student,C{pair[1]},active,,",
    ),
    "Clever": (
        "School_id,Section_id,Student_id",
        lambda number, pair: f"{number % 30},C{pair[1]},S{pair[0]}",
    ),
    "School Data Sync": (
        "classSourcedId,userSourcedId,role",
        lambda _, pair: f"C{pair[1]},S{pair[0]},student",
    ),
}
"""The header of a file of each format, and a function that writes a line."""


def measure(bench: "Bench") -> None:
    """Measure the slowest format."""
    seconds = read_seconds(rig.pairs_by_student(), bench.rig.folder)
    ours = seconds.pop(OURS)
    ratios = {
        name: statistics.median(own / each for own, each in zip(ours, taken, strict=True))
        for name, taken in seconds.items()
    }
    for name, ratio in ratios.items():
        bench.note(f"{name} vs {OURS}", ratio)
    bench.ratios["formats_vs_csv"] = min(ratios.values())


def read_seconds(pairs: Sequence[Pair], folder: Path) -> dict[str, list[float]]:
    """Return the CPU seconds that it takes to read the pairs in each format, by turns."""
    files: dict[str, Path] = {}
    for name, (header, line) in FORMATS.items():
        files[name] = folder / f"{name}.csv"
        with files[name].open("w") as file:
            print(header, file=file)
            file.writelines(f"{line(number, pair)}\n" for number, pair in enumerate(pairs))
    taken: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(TURNS):
        for name, path in files.items():
            source = open_source(path, None, {})
            started = time.process_time()
            deque(source.records(), maxlen=0)
            taken[name].append(time.process_time() - started)
    return taken


def main() -> None:
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # As the command line does.
    with tempfile.TemporaryDirectory() as folder:
        seconds = read_seconds(rig.pairs_by_student(), Path(folder))
    for name, taken in seconds.items():
        ratio = statistics.median(o / t for o, t in zip(seconds[OURS], taken, strict=True))
        print(f"{name:18} {statistics.median(taken):6.2f} s  {ratio:.2f}")


if __name__ == "__main__":
    main()
