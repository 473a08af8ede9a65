"""Tables of messages: what one peer may send to another, checked in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pmitogen.protocol.errors import ProtocolError
from pmitogen.protocol.fields import FieldType, OneOf, field_type
from pmitogen.util.peer_text import escape


@dataclasses.dataclass(frozen=True)
class Row:
    """One message. *message* is a TypedDict whose annotations say what each field may hold; bodies are counted in bytes."""

    message: Any
    least_body: int = 0
    most_body: int = 0
    op: str = ""
    required: Mapping[str, FieldType] = dataclasses.field(default_factory=dict)
    optional: Mapping[str, FieldType] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        types = {name: field_type(annotation) for name, annotation in self.message.__annotations__.items()}
        op = types.pop("op")
        assert isinstance(op, OneOf)
        object.__setattr__(self, "op", op.values[0])
        object.__setattr__(self, "required", {name: types[name] for name in types if name in self.message.__required_keys__})
        object.__setattr__(self, "optional", {name: types[name] for name in types if name not in self.required})


class Table:
    """All messages that may come from a peer."""

    def __init__(self, *rows: Row) -> None:
        self.rows = {row.op: row for row in rows}

    def check(self, header: dict[str, Any], body_size: int) -> None:
        """Return if a frame is one of these messages.

        :param header: as JSON has it.
        :param body_size: bytes of the frame's body.
        :raises ProtocolError: says what is wrong with it.
        """
        op = header.get("op")
        row = self.rows.get(op) if type(op) is str else None
        if row is None:
            raise ProtocolError(f"unknown operation {shown(op)}")
        required, optional = row.required, row.optional
        found = 1
        for name, kind in required.items():
            if name not in header:
                raise ProtocolError(f"{op} without {name}")
            if not kind.fits(header[name]):
                raise ProtocolError(f"{op} with {name} {shown(header[name])}; expected {kind.text}")
            found += 1
        if found < len(header):
            for name, value in header.items():
                if name in required or name == "op":
                    continue
                if name not in optional:
                    raise ProtocolError(f"{op} with unknown field {shown(name)}")
                if not optional[name].fits(value):
                    raise ProtocolError(f"{op} with {name} {shown(value)}; expected {optional[name].text}")
        if not row.least_body <= body_size <= row.most_body:
            raise ProtocolError(f"{op} with a body of {body_size} bytes; expected {row.least_body} to {row.most_body}")


def shown(value: object) -> str:
    """A value of a peer's, short and safe to show."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    return escape(repr(value[:60] if isinstance(value, str) else value), 60)
