"""Checks a frame against its message type. The messages themselves are in messages_from_client.py and messages_from_agent.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.field_types import FieldType, OneOf, Record, fields_of
from pmitogen.util.peer_text import escape


@dataclasses.dataclass(frozen=True)
class MessageType:
    """The fields and the body of one message.

    :param message: a TypedDict whose annotations say what each field may hold. If it has ``action``, that is part of its name.
    :param min_body: bytes.
    :param max_body: bytes.
    :param extensible: whether it may have further fields, which other versions give it.
    """

    message: Any
    min_body: int = 0
    max_body: int = 0
    extensible: bool = False
    op: str = dataclasses.field(init=False)
    action: str | None = dataclasses.field(init=False)
    required: Mapping[str, FieldType] = dataclasses.field(init=False)  # except op and action
    optional: Mapping[str, FieldType] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        required, optional = fields_of(self.message)
        names = {**optional, **required}
        for name in ("op", "action"):
            kind = names.get(name)
            assert isinstance(kind, OneOf) or name == "action"
            object.__setattr__(self, name, kind.values[0] if isinstance(kind, OneOf) else None)
        named = ("op",) if self.action is None else ("op", "action")
        object.__setattr__(self, "required", {name: kind for name, kind in required.items() if name not in named})
        object.__setattr__(self, "optional", {name: kind for name, kind in optional.items() if name not in named})

    @property
    def name(self) -> str:
        """The operation, and its action if it has one, for messages."""
        return self.op if self.action is None else f"{self.op} {self.action}"


class Table:
    """All messages that may come from a peer.

    :param shows_values: whether errors quote a value that does not fit. Where values may be secret, they give its type only.
    """

    def __init__(self, *rows: MessageType, shows_values: bool = True) -> None:
        self.rows: dict[str | tuple[str, str], MessageType] = {
            row.op if row.action is None else (row.op, row.action): row for row in rows
        }
        self._describe: Callable[[object], str] = describe_value if shows_values else describe_type

    def check(self, header: dict[str, Any], body_size: int) -> None:
        """Check that a frame is one of these messages.

        :param header: as JSON has it.
        :param body_size: bytes of the frame's body.
        :raises ProtocolError: with the reason.
        """
        op = header.get("op")
        row = self.rows.get(op) if type(op) is str else None
        name_fields = 1
        if row is None:
            action = header.get("action")
            row = self.rows.get((op, action)) if type(op) is str and type(action) is str else None
            name_fields = 2
        if row is None:
            raise ProtocolError(
                f"unknown operation {describe_value(op)}{f' {describe_value(action)}' if 'action' in header else ''}"
            )
        required, optional = row.required, row.optional
        for name, kind in required.items():
            if name not in header:
                raise ProtocolError(f"{row.name} without {name}")
            if not kind.fits(header[name]):
                raise self._field_error(row.name, name, header[name], kind)
        if len(required) + name_fields < len(header):
            for name, value in header.items():
                if name in required or name == "op" or name == "action" and name_fields == 2:
                    continue
                if name in optional:
                    if not optional[name].fits(value):
                        raise self._field_error(row.name, name, value, optional[name])
                elif not row.extensible:
                    raise ProtocolError(f"{row.name} with unknown field {describe_value(name)}")
        if not row.min_body <= body_size <= row.max_body:
            raise ProtocolError(f"{row.name} with a body of {body_size} bytes; expected {row.min_body} to {row.max_body}")

    def _field_error(self, op: str, name: str, value: object, kind: FieldType) -> ProtocolError:
        """Return the error for a value that does not fit; it names the field of an object that is at fault."""
        if isinstance(kind, Record) and type(value) is dict:
            for inner, item in value.items():
                expected = kind.required.get(inner) or kind.optional.get(inner)
                if expected is None:
                    return ProtocolError(f"{op} with unknown field {name}.{escape(inner, 60)}")
                if not expected.fits(item):
                    return self._field_error(op, f"{name}.{inner}", item, expected)
            missing = next(inner for inner in kind.required if inner not in value)
            return ProtocolError(f"{op} without {name}.{missing}")
        return ProtocolError(f"{op} with {name} {self._describe(value)}; expected {kind.text}")


def describe_type(value: object) -> str:
    """Return the JSON type of a value from a peer."""
    if isinstance(value, (dict, list)):
        return describe_value(value)
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return "null" if value is None else "true or false" if isinstance(value, bool) else "a number"


def describe_value(value: object) -> str:
    """Return a value from a peer, shortened and safe to show."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    return escape(repr(value[:60] if isinstance(value, str) else value), 60)
