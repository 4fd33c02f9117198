"""Which Arrow types hold the values of JSON rows, found while they pass.

Rows may lack keys. Whole numbers and fractions become float64, unless that would round; values that
no type holds (an answer that is text here and a list there) are kept as JSON text, whole columns of
them: what is inside stays as it was.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from viq.errors import InputError

_MAX_KEYS = 1000  # columns; more are not columns but values
_MAX_FIELDS = 100  # of an object; one with more keys is a dictionary, not a struct
_MAX_DEPTH = 8
_EXACT = 1 << 53  # whole numbers up to here are exact in float64
_LONG = 1 << 63

_SCALARS = {
    frozenset[str](): pa.string(),  # null, always: Parquet has a type for it that few can read
    frozenset({"text"}): pa.string(),
    frozenset({"bool"}): pa.bool_(),
    frozenset({"int"}): pa.int64(),
    frozenset({"long"}): pa.int64(),
    frozenset({"int", "long"}): pa.int64(),
    frozenset({"float"}): pa.float64(),
    frozenset({"float", "int"}): pa.float64(),
}


class Shape:
    """What the values of one key have been so far."""

    __slots__ = ("depth", "fields", "item", "kinds")

    def __init__(self, depth: int = 0) -> None:
        self.kinds: set[str] = set()
        self.fields: dict[str, Shape] = {}
        self.item: Shape | None = None
        self.depth = depth

    def add(self, value: Any) -> None:
        """Takes note of one value."""
        kind = type(value)
        if kind is str:
            self.kinds.add("text")
        elif kind is dict:
            self.kinds.add("object")
            fields = self.fields
            for key, held in value.items():
                shape = fields.get(key)
                if shape is None:
                    if len(fields) >= _MAX_FIELDS or self.depth >= _MAX_DEPTH:
                        self.kinds.add("dictionary")
                        break
                    shape = fields[key] = Shape(self.depth + 1)
                shape.add(held)
        elif kind is list:
            self.kinds.add("list")
            if self.item is None:
                self.item = Shape(self.depth + 1)
            if self.depth >= _MAX_DEPTH:
                self.kinds.add("dictionary")
                return
            for held in value:
                self.item.add(held)
        elif kind is bool:
            self.kinds.add("bool")
        elif kind is int:
            exact = -_EXACT <= value <= _EXACT
            long = -_LONG <= value < _LONG
            self.kinds.add("int" if exact else "long" if long else "huge")
        elif kind is float:
            self.kinds.add("float")

    def arrow(self) -> pa.DataType | None:
        """The type that holds all of them; None if there is none."""
        if self.kinds == {"list"}:
            assert self.item is not None
            item = self.item.arrow()
            return None if item is None else pa.list_(item)
        if self.kinds == {"object"} and self.fields:  # Parquet has no structs without fields
            types = {key: shape.arrow() for key, shape in self.fields.items()}
            if None in types.values():
                return None
            return pa.struct(list(types.items()))
        return _SCALARS.get(frozenset(self.kinds))


class Shapes:
    """The columns of rows, in the order in which their keys come up."""

    def __init__(self) -> None:
        self._of: dict[str, Shape] = {}

    def add(self, row: Mapping[str, Any], where: str) -> None:
        """Takes note of one row.

        Raises:
            InputError: there are too many different keys.
        """
        for key, value in row.items():
            shape = self._of.get(key)
            if shape is None:
                if len(self._of) >= _MAX_KEYS:
                    keys = f"the rows have more than {_MAX_KEYS} different keys"
                    raise InputError(f"{keys}, the last is {key!r}: put them below one key", where)
                shape = self._of[key] = Shape()
            shape.add(value)

    def schema(self) -> tuple[pa.Schema, frozenset[str]]:
        """The columns, and the names of those that hold JSON text."""
        types = {key: shape.arrow() for key, shape in self._of.items()}
        fields = [(key, pa.string() if type is None else type) for key, type in types.items()]
        return pa.schema(fields), frozenset(key for key, type in types.items() if type is None)


def as_text(row: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """The row with the values of these columns as JSON text."""
    cells = dict(row)
    for column in columns:
        if (value := cells.get(column)) is not None:
            cells[column] = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return cells
