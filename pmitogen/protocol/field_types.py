"""Types of fields, with their bounds: each checks a value, and has a text that says what it expects.

A TypedDict names them in ``Annotated``: ``rc: Annotated[int, Range(0, 255)]``. So the type checker and :func:`field_type` read
the same line.
"""

import collections.abc
import dataclasses
import math
import types
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin


class FieldType(Protocol):
    """The type and bounds of a field."""

    @property
    def text(self) -> str:
        """The expected value, for messages and PROTOCOL.md."""

    def fits(self, value: object) -> bool:
        """Return whether the JSON value *value* has this type and is within its bounds. Never raises."""


@dataclasses.dataclass(frozen=True)
class Range:
    """A whole number from *minimum* to *maximum*."""

    minimum: int
    maximum: int

    @property
    def text(self) -> str:
        return f"number from {self.minimum} to {self.maximum}"

    def fits(self, value: object) -> bool:
        return type(value) is int and self.minimum <= value <= self.maximum


@dataclasses.dataclass(frozen=True)
class Seconds:
    """A duration: a number that is not negative, at most *maximum*."""

    maximum: float

    @property
    def text(self) -> str:
        return f"seconds, at most {self.maximum:g}"

    def fits(self, value: object) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= self.maximum  # type: ignore[operator,arg-type]


@dataclasses.dataclass(frozen=True)
class Text:
    """Text of at most *maximum* characters."""

    maximum: int

    @property
    def text(self) -> str:
        return f"text of at most {self.maximum} characters"

    def fits(self, value: object) -> bool:
        return type(value) is str and len(value) <= self.maximum


@dataclasses.dataclass(frozen=True)
class ByteText:
    """At most *maximum* bytes, as text whose code points are the bytes. *nul*: whether NUL may be among them."""

    maximum: int
    nul: bool = False

    @property
    def text(self) -> str:
        return f"at most {self.maximum} bytes, as Latin-1 text{'' if self.nul else ' without NUL'}"

    def fits(self, value: object) -> bool:
        return (
            type(value) is str
            and len(value) <= self.maximum
            and (self.nul or "\0" not in value)
            and (value.isascii() or max(value) <= "\xff")
        )


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number."""

    text: str = "finite number"

    def fits(self, value: object) -> bool:
        return type(value) in (int, float) and -1e18 < value < 1e18  # type: ignore[operator]


@dataclasses.dataclass(frozen=True)
class Scalar:
    """Text of at most *maximum* characters, a finite number, true, false or null."""

    maximum: int

    @property
    def text(self) -> str:
        return f"text of at most {self.maximum} characters, number, true, false or null"

    def fits(self, value: object) -> bool:
        if type(value) is str:
            return len(value) <= self.maximum
        return value is None or type(value) is bool or Number().fits(value)


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of *minimum* to *maximum* items of one type."""

    minimum: int
    maximum: int
    item: FieldType | None = None

    @property
    def text(self) -> str:
        count = str(self.minimum) if self.minimum == self.maximum else f"{self.minimum} to {self.maximum}"
        return f"list of {count}: {self.item.text if self.item else 'anything'}"

    def fits(self, value: object) -> bool:
        item = self.item
        return type(value) is list and self.minimum <= len(value) <= self.maximum and (item is None or all(map(item.fits, value)))


@dataclasses.dataclass(frozen=True)
class Mapping:
    """An object of at most *maximum* names, with names and values of one type each."""

    maximum: int
    name: FieldType
    value: FieldType

    @property
    def text(self) -> str:
        return f"object of at most {self.maximum}: {self.name.text} -> {self.value.text}"

    def fits(self, value: object) -> bool:
        return (
            type(value) is dict
            and len(value) <= self.maximum
            and all(map(self.name.fits, value))
            and all(map(self.value.fits, value.values()))
        )


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A list with one item of each of these types."""

    items: tuple[FieldType, ...]

    @property
    def text(self) -> str:
        return f"list of {len(self.items)}: {', '.join(item.text for item in self.items)}"

    def fits(self, value: object) -> bool:
        items = self.items
        return type(value) is list and len(value) == len(items) and all(map(lambda item, each: item.fits(each), items, value))


@dataclasses.dataclass(frozen=True)
class Record:
    """An object whose names and types of values *message*, a TypedDict, gives."""

    message: Any
    required: collections.abc.Mapping[str, FieldType] = dataclasses.field(init=False)
    optional: collections.abc.Mapping[str, FieldType] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        required, optional = fields_of(self.message)
        object.__setattr__(self, "required", required)
        object.__setattr__(self, "optional", optional)

    @property
    def text(self) -> str:
        return f"object {self.message.__name__}"

    def fits(self, value: object) -> bool:
        return (
            type(value) is dict
            and self.required.keys() <= value.keys() <= self.required.keys() | self.optional.keys()
            and all((self.required.get(name) or self.optional[name]).fits(item) for name, item in value.items())
        )


@dataclasses.dataclass(frozen=True)
class Unchecked:
    """Anything; its reader checks it."""

    text: str = "anything"

    def fits(self, value: object) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or false."""

    text: str = "true or false"

    def fits(self, value: object) -> bool:
        return type(value) is bool


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of these values."""

    values: tuple[object, ...]

    @property
    def text(self) -> str:
        return " or ".join(str(value) for value in self.values)

    def fits(self, value: object) -> bool:
        return type(value) in (str, int) and value in self.values


@dataclasses.dataclass(frozen=True)
class OrNull:
    """Null, or what *inner* may hold."""

    inner: FieldType

    @property
    def text(self) -> str:
        return f"{self.inner.text}; or null"

    def fits(self, value: object) -> bool:
        return value is None or self.inner.fits(value)


def fields_of(message: Any) -> tuple[dict[str, FieldType], dict[str, FieldType]]:
    """Return the required and the optional fields of a TypedDict. Raises TypeError for a field that has no bounds."""
    types = {name: field_type(annotation) for name, annotation in message.__annotations__.items()}
    required = {name: kind for name, kind in types.items() if name in message.__required_keys__}
    return required, {name: kind for name, kind in types.items() if name not in required}


def field_type(annotation: Any) -> FieldType:
    """Return the type of a field from the annotation of a TypedDict. Raises TypeError for one that has no bounds."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _completed(args[0], args[1])
    if annotation is bool:
        return Flag()
    if origin is Literal:
        return OneOf(tuple(getattr(value, "value", value) for value in args))
    if origin in (Union, types.UnionType) and len(args) == 2 and type(None) in args:
        return OrNull(field_type(args[args[0] is type(None)]))
    raise TypeError(f"no bounds for {annotation!r}")


def _completed(annotation: Any, bounds: FieldType) -> FieldType:
    """Return *bounds*, for a list with the type of its items."""
    if isinstance(bounds, Items) and bounds.item is None:
        (inner,) = get_args(annotation) or (None,)
        return dataclasses.replace(bounds, item=field_type(inner))
    return bounds
