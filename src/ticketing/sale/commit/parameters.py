"""Rows that a statement takes as parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

Row = tuple[object, ...]


@dataclass(frozen=True)
class Rows:
    """A table of parameters: its name, and the SQL types of its columns by name."""

    name: str
    columns: Mapping[str, str]

    def sql(self, *, lone: bool) -> str:
        """Return the table, with `place` as its last column: of arrays, or if `lone` of values.

        To put values into arrays and take them out again would cost a single booking 5% of its
        time.
        """
        array = "" if lone else "[]"
        given = ", ".join(self.value(column, array) for column in self.columns)
        rows = f"(VALUES ({given}, 1))" if lone else f"unnest({given}) WITH ORDINALITY"
        return f"{rows} AS {self.name}({', '.join(self.columns)}, place)"

    def value(self, column: str, array: str = "") -> str:
        """Return the parameter of a column."""
        return f"CAST(:{self.name}_{column} AS {self.columns[column]}{array})"

    def parameters(self, rows: Sequence[Row], *, lone: bool) -> dict[str, object]:
        """Return the parameters: of each column its values, or if `lone` the only one."""
        columns = rows[0] if lone else zip(*rows, strict=True)
        return dict(zip(self._names, columns, strict=True))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{column}" for column in self.columns)
