"""Files that people import: rows of CSV or JSON, and what is wrong with them."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final, Generic, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from ticketing.errors import TicketingError, ValidationFailed
from ticketing.web.sheets import BOM, original

DELIMITERS: Final = ",;\t"
SEPARATOR: Final = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""A first line that Excel reads, and does not show."""
SPACE: Final = re.compile(r"[\s,]*")

ModelT = TypeVar("ModelT", bound=BaseModel)
MadeT = TypeVar("MadeT")
Cell = Callable[[str], Any]
"""Returns the value of a cell. Raises ValueError with what to write instead."""


class Wrong(NamedTuple):
    """What is wrong, and where. Line 0 is the file; an empty column the whole line."""

    line: int
    column: str
    why: str

    def __str__(self) -> str:
        """Return it as one line."""
        column = f", column {self.column}" if self.column else ""
        return f"line {self.line}{column}: {self.why}" if self.line else self.why


class WrongFile(Exception):
    """Nothing can be imported from this file."""

    def __init__(self, wrong: Sequence[Wrong]) -> None:
        """Keep all that is wrong."""
        super().__init__(f"{len(wrong)} wrong")
        self.wrong = wrong


@dataclass(frozen=True)
class Row:
    """A row: the JSON of the object that the API would get, and the line where it begins."""

    line: int
    body: bytes
    columns: Mapping[str, str] = field(default_factory=dict)
    """The column of each field, by the field's path in the object. In JSON, fields are columns."""

    def wrong(self, path: str, why: str) -> Wrong:
        """Return what is wrong with the field at this path, or above or below it."""
        found = self.columns.get(path)
        for known, column in self.columns.items():
            if found is None and (known.startswith(f"{path}.") or path.startswith(f"{known}.")):
                found = column
        return Wrong(self.line, path if found is None else found, why)


@dataclass(frozen=True)
class Column:
    """A column: the path of the field that it sets, and how a cell is read."""

    path: str
    read: Cell = str


class Kept(NamedTuple, Generic[MadeT]):
    """What a row was read as."""

    row: Row
    made: MadeT


def read(
    data: bytes,
    columns: Mapping[str, Column],
    complete: Callable[[dict[str, Any]], None],
    *,
    is_json: bool,
    ignores: bool,
) -> Sequence[Row]:
    """Return the rows of a file. Raises WrongFile with everything that is wrong.

    `complete` gets the values of a line of CSV by path, and may replace some, or raise a Misread.
    With `ignores`, columns that are not known are left out.
    """
    text = _decoded(data)
    if is_json:
        return list(_objects(text))
    return _lines(text, columns, complete, ignores=ignores)


class Misread(ValueError):
    """A column of a row can't be read."""

    def __init__(self, column: str, why: str) -> None:
        """Say which column, and what to write."""
        super().__init__(why)
        self.column = column


def validated(
    rows: Sequence[Row], model: type[ModelT], made: Callable[[ModelT], MadeT]
) -> Sequence[Kept[MadeT]]:
    """Return what `made` makes of each row, read by the API's own model. Raises WrongFile."""
    found: list[Kept[MadeT]] = []
    wrong: list[Wrong] = []
    for row in rows:
        try:
            found.append(Kept(row, made(model.model_validate_json(row.body))))
        except ValidationError as error:
            wrong += [
                row.wrong(".".join(map(str, each["loc"])), each["msg"])
                for each in error.errors(include_url=False, include_input=False)
            ]
        except ValidationFailed as error:
            given: Any = error.members["errors"]
            for each in given:
                path = each["pointer"].removeprefix("#/").replace("/", ".")
                wrong.append(row.wrong(path, each["detail"]))
        except TicketingError as error:
            wrong.append(Wrong(row.line, "", error.detail))
    if wrong:
        raise WrongFile(wrong)
    return found


def require_different(
    kept: Sequence[Kept[MadeT]], key: Callable[[MadeT], object], column: str
) -> None:
    """Raise WrongFile if two rows have the same key."""
    first: dict[object, int] = {}
    wrong = [
        Wrong(row.line, column, f"is the same as in line {first[key(made)]}")
        for row, made in kept
        if first.setdefault(key(made), row.line) != row.line
    ]
    if wrong:
        raise WrongFile(wrong)


def _decoded(data: bytes) -> str:
    try:
        return data.decode().removeprefix(BOM)
    except UnicodeDecodeError:
        wrong = []
        for number, line in enumerate(data.split(b"\n"), 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                why = f"byte {error.start + 1} is not UTF-8: save the file as UTF-8"
                wrong.append(Wrong(number, "", why))
        raise WrongFile(wrong) from None


def _objects(text: str) -> Iterator[Row]:
    """Yield the objects of an array, or of objects one after the other."""
    decoder, place = json.JSONDecoder(), len(text) - len(text.lstrip())
    in_array = text[place : place + 1] == "["
    place += in_array
    while True:
        place = SPACE.match(text, place).end()  # type: ignore[union-attr] # It always matches.
        if place == len(text) or (in_array and text[place] == "]"):
            break
        line = text.count("\n", 0, place) + 1
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            at = getattr(error, "lineno", line)
            raise WrongFile([Wrong(at, "", f"this is not JSON: {error}")]) from None
        if not isinstance(value, dict):
            raise WrongFile([Wrong(line, "", "expected an object")])
        yield Row(line, text[place:end].encode())
        place = end
    if in_array and text[place:].strip() != "]":
        raise WrongFile([Wrong(text.count("\n") + 1, "", "the array does not end: is it whole?")])


def _lines(
    text: str,
    columns: Mapping[str, Column],
    complete: Callable[[dict[str, Any]], None],
    *,
    ignores: bool,
) -> Sequence[Row]:
    skipped = 0
    if given := SEPARATOR.match(text):
        text, skipped = text[given.end() :], 1
    head = text.partition("\n")[0]
    delimiter = given[1] if given else max(DELIMITERS, key=head.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    rows: list[Row] = []
    wrong: list[Wrong] = []
    line = 1 + skipped
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1 + skipped
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if names is None:
                names = values
                _require_known(names, columns, begins, ignores=ignores)
            elif len(values) != len(names):
                why = f"has {len(values)} cells, and the first line has {len(names)}"
                wrong.append(Wrong(begins, "", why))
            else:
                try:
                    rows.append(
                        _row(begins, dict(zip(names, values, strict=True)), columns, complete)
                    )
                except Misread as error:
                    wrong.append(Wrong(begins, error.column, str(error)))
    except csv.Error as error:
        wrong.append(Wrong(line, "", f"this is not CSV: {error}"))
    if names is None:
        wrong.append(Wrong(0, "", "the file is empty"))
    if wrong:
        raise WrongFile(wrong)
    return rows


def _require_known(
    names: Sequence[str], columns: Mapping[str, Column], line: int, *, ignores: bool
) -> None:
    wrong = [Wrong(line, each, "is there twice") for each in {*names} if names.count(each) > 1]
    if not ignores:
        known = ", ".join(columns)
        wrong += [
            Wrong(line, each, f"is unknown; the columns are {known}")
            for each in names
            if each not in columns
        ]
    if wrong:
        raise WrongFile(wrong)


def _row(
    line: int,
    cells: Mapping[str, str],
    columns: Mapping[str, Column],
    complete: Callable[[dict[str, Any]], None],
) -> Row:
    """Return the row of these cells. An empty cell gives nothing."""
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        if cell and name in columns:
            try:
                values[columns[name].path] = columns[name].read(original(cell))
            except Misread:
                raise
            except ValueError as error:
                raise Misread(name, str(error)) from None
    complete(values)
    document: dict[str, Any] = {}
    for path, value in values.items():
        *outer, last = path.split(".")
        into = document
        for each in outer:
            into = into.setdefault(each, {})
        into[last] = value
    return Row(line, orjson.dumps(document), {each.path: name for name, each in columns.items()})
