"""PROTOCOL.md, made from the tables. ``python -m pmitogen.protocol.page`` prints it; a test compares the two."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping

from pmitogen.protocol import framing, limits, messages_from_agent, messages_from_client, mitogen_messages
from pmitogen.protocol.answers import ANSWERS
from pmitogen.protocol.field_types import FieldType, Record
from pmitogen.protocol.hello import STABLE, VERSION, Identity
from pmitogen.protocol.message_checks import Table

INTRODUCTION = """# The protocol between client, hub, agent and runner

Made by `pmitogen/protocol/page.py` from the tables that the programs use. Version {version}.

| link | between | carried by |
|---|---|---|
| client | a worker of `ansible-playbook`, or a command, and the hub | a socket in a directory of this account alone |
| agent | the hub and one agent per host | Mitogen messages on one SSH channel |
| runner | the agent and the interpreter of one account | a socket pair, or the standard streams of sudo, su or doas |

## Frames

Everything is frames: two big-endian 32-bit lengths, a header of JSON (one object, ASCII, no name twice, no NaN), a body of bytes.
Paths, arguments and environment variables are bytes; the header holds them as Latin-1 text.

## The client link

A client's first frame is `hello` with {identity}. The hub serves a client only if all of it equals its own;
otherwise it answers with `refused` and closes the connection.
The framing and the operations {stable} are the same in every version; only these may have
fields that are not in the table.
Errors of a client are anything that is not in the table, a request before `open`, and a request with the number of an open one.
The hub answers with `refused`, which says what was wrong, and closes the connection.
Before an answer to a request, `warnings` may come, which belongs to no request: the severity and the text of each new warning
about a connection of the run. One client gets each of them.

### Messages of a client

{client}

## The agent link

A message has Mitogen's header of {header} bytes. In a message of an agent the destination is 0, source
and authority are the agent's own number, no reply is wanted, and the handle is {unpacked} (not compressed) or {packed}.
Handle {packed} is for bodies below {pack_below} bytes: they are compressed in one zlib stream per direction,
with a window of {window} bytes. A message holds exactly one frame.
An agent that sends anything else, or anything that is not in these tables, breaks the protocol: the hub closes the
connection to that host. If `account` names another account than the login account, only that account's interpreter is ended.
"""
STATES = """
### States

- A request is *open* from the moment it is sent until its final answer (`error`, or the one in the table). Only the account
  that it was sent to may answer it, and only while it is open. A request with `no_reply` is never open; one `deferred-error`
  reports its failure.
- An account is *starting* from `start-account` to `hello`, then *up*, until `interpreter-ended`. `hello` comes once; nothing
  comes after `interpreter-ended`. `secret-request` comes only while an account that is entered by a program is starting, once
  for each secret. `account-ended` comes only if `end-account` asked for it.
- `credit` never exceeds the data that was sent. `out` never exceeds the window of {window} bytes (and {slack} of slack) without
  credit.
"""


def render() -> str:
    """Return the text of PROTOCOL.md."""
    lines = [
        INTRODUCTION.format(
            version=VERSION,
            identity=", ".join(f"`{name}`" for name in Identity.__annotations__),
            stable=", ".join(f"`{name}`" for name in sorted(STABLE)),
            header=mitogen_messages.HEADER.size,
            unpacked=framing.TO_HUB_UNPACKED,
            packed=framing.TO_HUB_PACKED,
            pack_below=limits.COMPRESS_BELOW,
            window=1 << framing.COMPRESSION_WINDOW,
            client="\n".join(_rows(messages_from_client.TABLE)),
        ),
        "### Messages of an agent\n",
        *_rows(messages_from_agent.TABLE),
        "",
        "### Answers to requests\n",
        "| request | final answer | its fields | `out` streams | `credit` |",
        "|---|---|---|---|---|",
    ]
    for (op, do), answers in ANSWERS.items():
        fields = ", ".join(f"`{name}`" for name in sorted(answers.fields)) + (" (may be null)" if answers.null else "")
        streams = ", ".join(map(str, answers.streams))
        name = f"{op} {do}" if do else f"{op}"
        lines.append(f"| `{name}` | `{answers.final}` | {fields} | {streams} | {'yes' if answers.consumes else ''} |")
    lines.append(STATES.format(window=limits.CREDIT_WINDOW, slack=limits.WINDOW_SLACK))
    return "\n".join(lines)


def _rows(table: Table) -> Iterator[str]:
    """Return the rows of a table of messages, and then those of the objects in them."""
    records: dict[str, Record] = {}
    yield "| operation | field | holds |"
    yield "|---|---|---|"
    for row in table.rows.values():
        size = f" Body: {row.min_body} to {row.max_body} bytes." if row.max_body else ""
        yield f"| `{row.name}` | | {inspect.getdoc(row.message)}{size} |"
        yield from _fields(row.required, row.optional)
        for kind in (*row.required.values(), *row.optional.values()):
            if isinstance(kind, Record):
                records[kind.message.__name__] = kind
    for name, record in records.items():
        yield f"| object {name} | | {inspect.getdoc(record.message)} |"
        yield from _fields(record.required, record.optional)


def _fields(required: Mapping[str, FieldType], optional: Mapping[str, FieldType]) -> Iterator[str]:
    yield from (f"| | `{name}` | {kind.text} |" for name, kind in required.items())
    yield from (f"| | `{name}` (optional) | {kind.text} |" for name, kind in optional.items())


if __name__ == "__main__":
    print(render(), end="")
