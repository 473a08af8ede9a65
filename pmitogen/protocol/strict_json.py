"""JSON from a peer: one object, in ASCII, without anything that only some readers accept."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from pmitogen.protocol.error_kinds import ProtocolError


def parse(data: bytes, limit: int) -> dict[str, Any]:
    """Return the object in *data*.

    :param limit: bytes that *data* may have.
    :raises ProtocolError: if it is longer, not JSON, nested too deeply, not an object, or has NaN, Infinity or a name twice.
    """
    if len(data) > limit:
        raise ProtocolError(f"frame header has {len(data)} bytes; the limit is {limit}")
    try:
        header = _DECODER.decode(data.decode("ascii"))
    except UnicodeDecodeError:
        raise ProtocolError("frame header is not ASCII") from None
    except RecursionError:
        raise ProtocolError("frame header is nested too deeply") from None
    except ValueError:
        raise ProtocolError("frame header is not JSON") from None
    if not isinstance(header, dict):
        raise ProtocolError("frame header is not a JSON object")
    return header


def _no_constant(_: str) -> NoReturn:
    raise ProtocolError("frame header has NaN or Infinity")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ProtocolError("frame header has the same name twice")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
