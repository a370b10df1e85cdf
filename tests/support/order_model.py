"""The rules of order as a plain model: a field has the value of the latest record that names it."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class Record:
    """A row of the roster: each field with the moment of the record that last named it."""

    fields: dict[str, tuple[datetime, str]] = field(default_factory=dict)

    def upsert(self, moment: datetime, values: dict[str, str]) -> None:
        for name, value in values.items():
            named = (moment, value)
            self.fields[name] = max(self.fields.get(name, named), named)

    def values(self) -> dict[str, str]:
        return {name: value for name, (_, value) in self.fields.items()}
