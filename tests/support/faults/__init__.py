"""The kinds of faults that strike in storms, each with the signs that an operator sees."""

from support.faults import broker, database, limits, messages, processes, sentinels, sqlite
from support.faults.kinds import Fault

MODULES = (processes, broker, messages, database, limits, sqlite, sentinels)
FAULTS: dict[str, Fault] = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, Fault)
}
"""All kinds of faults, by name."""
