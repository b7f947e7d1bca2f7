"""Numbers as people hold them: tables with names, tensors, iterators; each read once, by its names.

pandas, polars, xarray, PyArrow, PyTorch and SciPy are recognised by what their objects offer, so
that none of them is imported.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, KeysView, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from itertools import islice
from numbers import Real
from types import FunctionType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Labels = tuple[Hashable, ...]
"""The names along one axis, all different."""

EXACT = 2.0**-52
"""The rounding of float64, and of numbers without rounding."""

ROUNDING = {
    "float16": 2.0**-10,
    "float32": 2.0**-23,
    "bfloat16": 2.0**-7,
    "float8_e4m3fn": 2.0**-3,
    "float8_e5m2": 2.0**-2,
}
"""The distance from 1 to the next number of a type that is coarser than float64."""

DEEPEST = 32
"""Levels of nested containers; a list that holds itself has more."""

MOST = 10**6
"""The most items that an iterator may give, since it may never end."""

PLAIN = {float, int, bool, np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_}


@dataclass(frozen=True, slots=True)
class Labelled:
    """An array of float64, the names along its axes, and the precision of what was given."""

    values: NDArray[np.float64]
    labels: tuple[Labels | None, ...]
    """The names along each axis, or None. Names that only count, 0, 1, ..., are None too."""
    rounding: float
    """The relative rounding of the coarsest number that was given: 2^-23 for float32."""

    def aligned(self, axis: int, names: Labels | None, name: str) -> Self:
        """The same numbers with `axis` in the order of `names`, or of 0, 1, ... if they are None.

        An axis without names stays as it is. `ValueError`, naming the argument `name`, if its names
        are others.
        """
        have, size = self.labels[axis], self.values.shape[axis]
        if have is None:
            return self
        wanted = tuple(range(size)) if names is None else names
        order = places(have, wanted)
        if order is None:
            raise ValueError(f"`{name}` must name {_listed(wanted)}, got {_listed(have)}.")
        moved = replace(self, values=np.take(self.values, order, axis))
        return moved.called(axis, names)

    def called(self, axis: int, names: Labels | None) -> Self:
        """The same numbers with `names` along `axis`."""
        labels = list(self.labels)
        labels[axis] = names
        return replace(self, labels=tuple(labels))

    def squared(self, name: str) -> Self:
        """The same numbers with the last axis in the order of the names of the axis before it.

        `ValueError`, naming the argument `name`, if the two axes have different names. An axis
        without names takes those of the other one.
        """
        if self.values.ndim < 2:
            return self
        rows, columns = self.labels[-2:]
        square = self.values.shape[-1] == self.values.shape[-2]
        if not (square or (rows and columns)):
            return self
        counted = tuple(range(self.values.shape[-1]))
        # Names 0, 1, ... on one side may be meant by the other one, as numbers or as text.
        meant = places(columns or counted, rows or counted)
        if meant is not None:
            values = np.take(self.values, meant, axis=-1)
            return replace(self, values=values, labels=(*self.labels[:-1], rows))
        both = rows or columns
        if (rows and columns) or {str(one) for one in both or ()} & {str(i) for i in counted}:
            raise ValueError(
                f"`{name}` must name its rows and its columns alike, got the rows "
                f"{_listed(rows or counted)} and the columns {_listed(columns or counted)}."
            )
        return replace(self, labels=(*self.labels[:-2], both, both))


def read(values: object, name: str) -> Labelled:
    """The numbers in `values`, with their names; `ValueError`, naming `name`, for anything else.

    Names come from the index and columns of a table, the coordinates of an xarray, the keys of a
    mapping. A set is refused, because it has no order, and so are masked entries, text, dates and
    complex numbers. An iterator is read once. NaN and infinity are not refused.
    """
    return _read(values, name, 0)


def ordered(values: object, name: str) -> tuple[list[Any], Labels | None]:
    """The items of a container in their order, and their names, if it has them.

    `ValueError`, naming `name`, for what has no order (a set) or no items, and for a table.
    """
    if isinstance(values, Mapping):
        return list(values.values()), labels_of(values, name)
    if isinstance(values, Set) and not isinstance(values, KeysView):
        raise _refusal(
            name, f"be in an order, which a {type(values).__name__} has not: pass a list"
        )
    if _columns(values) is not None:
        raise _refusal(name, "be one list of items, not a table")
    if not isinstance(values, Iterable):
        raise _refusal(name, f"be a list of items, got {shown(values)}")
    items = _items(values, name)
    index = _index(values)
    return items, None if index is None else labels_of(index, name)


def names_of(values: object, name: str, size: int | None = None) -> Labels:
    """Different names, `size` of them if that is given, from a container in order."""
    items, keys = ordered(values, name)
    if keys is not None:
        raise _refusal(name, "be a list of names, without further names for them")
    labels = labels_of(items, name) or tuple(items)
    if size is not None and len(labels) != size:
        raise _refusal(name, f"be {size} names, got {len(labels)}")
    return labels


def places(have: Labels, wanted: Labels) -> list[int] | None:
    """Where each of `wanted` stands in `have`; None unless both hold the same names.

    Names that are equal as text are the same: a table from a file may have 1 and '1' for one thing.
    """
    for key in (lambda label: label), str:
        at = {key(label): i for i, label in enumerate(have)}
        if len(at) == len(have) == len(wanted) and at.keys() == {key(label) for label in wanted}:
            return [at[key(label)] for label in wanted]
    return None


def _read(values: Any, name: str, depth: int) -> Labelled:
    if depth > DEEPEST:
        raise _refusal(name, "be a regular array: its lists are nested too deep")
    if isinstance(values, np.ma.MaskedArray):
        masked = 0 if values.dtype.kind == "V" else int(np.sum(np.ma.getmaskarray(values)))
        if masked:
            raise _refusal(name, f"have a number in every place, got {masked} masked")
        return _plain(np.asarray(values.data), name)
    if isinstance(values, (np.ndarray, np.generic)):
        return _plain(np.asarray(values), name)
    if isinstance(values, (str, bytes, bytearray)) or values is None:
        raise _refusal(name, f"be numbers, got {shown(values)}")
    if isinstance(values, Mapping):
        return _stacked(list(values.values()), name, depth, labels_of(values, name))
    if isinstance(values, Set):
        raise _refusal(
            name, f"be in an order, which a {type(values).__name__} has not: pass a list"
        )
    try:
        if hasattr(values, "detach") and hasattr(values, "layout"):
            return _tensor(values, name)
        named = _table(values, name)
    except ValueError:
        raise
    # A foreign object may fail in any way on its way to numbers.
    except Exception as error:
        raise ValueError(
            f"`{name}` must be numbers: a {type(values).__name__} cannot be read as such ({error})."
        ) from error
    if named is not None:
        return named
    if isinstance(values, Iterable):
        return _stacked(_items(values, name), name, depth, None)
    return Labelled(np.asarray(_number(values, name)), (), EXACT)


def _table(values: Any, name: str) -> Labelled | None:
    """The numbers of an object of a library of arrays or tables; None for any other object."""
    columns, index = _columns(values), _index(values)
    if columns is not None:
        # PyArrow's tables have no `to_numpy`.
        raw = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
        found = _plain(np.asarray(raw), name)
        # The array has the finest type of the columns, not the coarsest.
        kinds = [str(kind).lower() for kind in getattr(values, "dtypes", ())]
        rounding = max([found.rounding, *map(_rounding, kinds)])
        rows = None if index is None else labels_of(index, name)
        return Labelled(found.values, (rows, labels_of(columns, name)), rounding)
    if hasattr(values, "dims") and hasattr(values, "coords"):
        axes = [
            values.coords[d].values.tolist() if d in values.coords else None for d in values.dims
        ]
        found = _plain(np.asarray(values.values), name)
        labels = tuple(None if axis is None else labels_of(axis, name) for axis in axes)
        return replace(found, labels=labels)
    if index is not None:
        found = _plain(np.asarray(values), name)
        return replace(found, labels=(labels_of(index, name),)) if found.values.ndim == 1 else found
    if hasattr(values, "toarray"):
        return _plain(np.asarray(values.toarray()), name)
    if hasattr(values, "__array__") or isinstance(values, memoryview):
        return _plain(np.asarray(values), name)
    return None


def _tensor(values: Any, name: str) -> Labelled:
    """A tensor of PyTorch of any type, layout and device, with a gradient or not."""
    tensor = values.detach()
    if getattr(tensor, "is_quantized", False):
        tensor = tensor.dequantize()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    if tensor.is_complex():
        raise _refusal(name, "be real numbers, got complex ones")
    rounding = ROUNDING.get(str(tensor.dtype).rpartition(".")[2], EXACT)
    # In double first, because NumPy does not know bfloat16.
    array = np.array(tensor.double().cpu().numpy())
    return Labelled(array, (None,) * array.ndim, rounding)


def _stacked(items: list[Any], name: str, depth: int, keys: Labels | None) -> Labelled:
    """The items as the rows of an array, each aligned by its names with the first one."""
    kinds = set(map(type, items))
    if kinds <= PLAIN:
        try:
            values = np.array(items, dtype=np.float64)
        except OverflowError as error:
            raise _refusal(name, "be finite: it has a number beyond the range of floats") from error
        rounding = max((_rounding(kind.__name__) for kind in kinds), default=EXACT)
        return Labelled(values, (keys,), rounding)
    rows = [_read(item, name, depth + 1) for item in items]
    first = rows[0]
    for i, row in enumerate(rows):
        # Names first: which one is missing says more than a length.
        same = row.values.ndim == first.values.ndim
        for axis, labels in enumerate(first.labels if same else ()):
            if (row.labels[axis] is None) != (labels is None):
                counted = tuple(range(row.values.shape[axis]))
                mine, theirs = row.labels[axis] or counted, labels or counted
                raise _refusal(name, f"name {_listed(theirs)} in each row, got {_listed(mine)}")
            row = row.aligned(axis, labels, name)
        if row.values.shape != first.values.shape:
            raise _refusal(
                name, "be a regular array of real numbers: its rows have different lengths"
            )
        rows[i] = row
    values = np.array([row.values for row in rows])
    return Labelled(values, (keys, *first.labels), max(row.rounding for row in rows))


def _plain(array: NDArray[Any], name: str) -> Labelled:
    """An array of NumPy, without names."""
    kind, none = array.dtype.kind, (None,) * array.ndim
    if kind in "fiub" or array.dtype.name in ROUNDING:
        with np.errstate(over="ignore"):  # A long double may be too large: then it is infinite.
            values = np.asarray(array, dtype=np.float64)
        return Labelled(values, none, _rounding(array.dtype.name))
    if kind == "O":
        numbers = [_number(item, name) for item in array.ravel()]
        coarsest = max((_rounding(type(item).__name__) for item in array.ravel()), default=EXACT)
        return Labelled(np.array(numbers, dtype=np.float64).reshape(array.shape), none, coarsest)
    what = {"c": "complex numbers", "M": "dates", "m": "durations", "V": "records"}
    raise _refusal(name, f"be real numbers, got {what.get(kind, 'text')}")


def _number(value: Any, name: str) -> float:
    """`value` as a float; `ValueError` unless it is a real number."""
    while isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == "O":
        value = value.item()
    real = isinstance(value, (Real, Decimal, np.bool_))
    # Numbers of other libraries. A duration of NumPy would become a number of its unit.
    real |= hasattr(value, "__float__") and not isinstance(value, (np.generic, np.ndarray, complex))
    try:
        if real:
            return float(value)
    except OverflowError as error:
        raise _refusal(name, "be finite: it has a number beyond the range of floats") from error
    except Exception as error:
        raise ValueError(f"`{name}` must be numbers, got {shown(value)}.") from error
    raise _refusal(name, f"be a regular array of real numbers, got {shown(value)}")


def _rounding(kind: str) -> float:
    return ROUNDING.get(kind, EXACT)


def _items(values: Iterable[Any], name: str) -> list[Any]:
    """The items of a container or iterator, which is read once."""
    try:
        items = list(values) if isinstance(values, Sequence) else list(islice(values, MOST + 1))
    except TypeError as error:
        raise ValueError(f"`{name}` must be a list of items, got {shown(values)}.") from error
    if len(items) > MOST and not isinstance(values, Sequence):
        raise _refusal(name, f"be at most {MOST:,} items, and the iterator gives more")
    return items


def _columns(values: Any) -> Iterable[Hashable] | None:
    """The names of the columns of a table, or None for what is no table."""
    columns = getattr(values, "column_names", None)
    columns = getattr(values, "columns", None) if columns is None else columns
    tabular = hasattr(values, "to_numpy") or hasattr(values, "__array__")
    return columns if tabular and isinstance(columns, Iterable) else None


def _index(values: Any) -> Iterable[Hashable] | None:
    """The index of a table or series of pandas, or None for what has none."""
    index = getattr(values, "index", None)
    # Lists have an `index` too: a method.
    return None if callable(index) or not isinstance(index, Iterable) else index


def labels_of(names: Iterable[Hashable], name: str) -> Labels | None:
    """The names as a tuple, or None if they only count; `ValueError` if one is missing or twice."""
    labels = tuple(label.item() if isinstance(label, np.generic) else label for label in names)
    seen: set[Hashable] = set()
    for label in labels:
        try:
            # NaN, and pandas' missing values, differ from themselves.
            missing = label is None or not bool(label == label)
        except (TypeError, ValueError):
            missing = True
        if missing:
            raise _refusal(name, f"name everything or nothing: one name is {shown(label)}")
        try:
            # A set is looked up as if it were frozen, but has no hash.
            hash(label)
        except TypeError as error:
            raise _refusal(name, f"have names that can be compared, got {shown(label)}") from error
        if label in seen:
            raise _refusal(name, f"have different names: {shown(label)} is there twice")
        seen.add(label)
    counting = all(type(label) is int and label == i for i, label in enumerate(labels))
    return None if counting else labels


def _listed(labels: Iterable[Hashable]) -> str:
    """Names in a sentence, the first six of them."""
    first = [shown(label) for label in islice(labels, 7)]
    return ", ".join(first[:6]) + (", ..." if len(first) > 6 else "")


def closest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The known names for which `name` may be a slip: other capitals, a beginning, a few letters.

    >>> closest("mpo", ["MPO", "MMD"])
    ['MPO']
    """
    plain = {one: _letters(one) for one in known}
    wanted = _letters(name)
    if same := [one for one, text in plain.items() if text == wanted]:
        return same[:n]
    near = get_close_matches(wanted, plain.values(), n=n)
    begun = [text for text in plain.values() if len(wanted) > 2 and text.startswith(wanted)]
    texts = dict.fromkeys([*near, *begun])
    return [one for text in texts for one in plain if plain[one] == text][:n]


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower().replace("+", "plus"))) or name


def shown(value: object) -> str:
    """A value in a sentence, not longer than a line."""
    # A class where an instance is wanted: its address in a package says nothing.
    if isinstance(value, type):
        return f"the class {value.__name__}"
    # Its address in memory says nothing either.
    if isinstance(value, FunctionType):
        return f"`{value.__name__}`" if value.__name__.isidentifier() else "a function"
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = ""
    return text if 0 < len(text) <= 60 else f"a {type(value).__name__}"


def _refusal(name: str, what: str) -> ValueError:
    return ValueError(f"`{name}` must {what}.")
