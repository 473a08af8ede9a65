"""``pmitogen copy-id``: put public keys into an account's authorized_keys, with the command line of ssh-copy-id(1).

One login and one command are needed: a POSIX shell on the host reads the keys and appends those that are not in the file yet.
"""

from __future__ import annotations

import getopt
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pmitogen.cli.ssh import invocation, messages
from pmitogen.cli.ssh.login import log_in
from pmitogen.errors import Error, UsageError
from pmitogen.transport.keys import key_file, public_key
from pmitogen.transport.keys.private_key import UnusableKey
from pmitogen.transport.keys.ssh_agent_client import AgentError, SSHAgentClient
from pmitogen.transport.sessions import exec_command
from pmitogen.util.peer_text import escape, one_line

USAGE = """\
usage: ssh-copy-id [-h|-?|-f|-n] [-i [identity_file]] [-F ssh_config] [-J destination] [-p port] [-o ssh_option] [user@]hostname
	-f: force mode -- copy keys without trying to check if they are already installed
	-n: dry run    -- no keys are actually copied
"""
TIMEOUT = 60.0  # seconds for the command on the host
# One line and no single quotes, so that any login shell passes it on. $1: "force", "dry" or neither.
_SCRIPT = (
    "mode=$1; cd && umask 077 || exit 1; f=.ssh/authorized_keys; n=0; "
    'if [ "$mode" != dry ]; then mkdir -p .ssh && touch $f || exit 1; '
    'if [ -n "$(tail -c 1 $f)" ]; then echo >> $f || exit 1; fi; fi; '
    "while IFS= read -r line; do key=${line#* }; key=${key%% *}; "
    'if [ "$mode" != force ] && grep -v "^[[:space:]]*#" $f 2>/dev/null | grep -qF -e "$key"; then continue; fi; '
    'if [ "$mode" != dry ]; then printf "%s\\n" "$line" >> $f || exit 1; fi; n=$((n+1)); done; '
    'if [ "$mode" != dry ] && command -v restorecon >/dev/null 2>&1; then restorecon -F .ssh $f >/dev/null 2>&1; fi; '
    "echo added $n"
)


def run(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit status: 0, or 1 for every failure."""
    try:
        pairs, rest = getopt.getopt(list(argv), "hfni:F:J:p:o:", ["help"])
    except getopt.GetoptError as error:
        return _fail(f"ERROR: {error.msg}", usage=True)
    flags = dict(pairs)
    if "-h" in flags or "--help" in flags:
        sys.stdout.write(USAGE)
        return 0 if "--help" in flags else 1
    if len(rest) != 1 or not rest[0] or rest[0].startswith("-"):
        return _fail("ERROR: use one hostname", usage=True)
    options = [argument for flag, value in pairs if flag in ("-F", "-J", "-p", "-o") for argument in (flag, value)]
    destination: invocation.Invocation | None = None
    try:
        lines = _public_lines(flags.get("-i"))
        destination = invocation.read([*options, "-T", "--", rest[0], "true"])
        return _copy(destination, lines, "dry" if "-n" in flags else "force" if "-f" in flags else "", rest[0])
    except Error as error:
        for line in messages.lines_for(error, destination.settings) if destination else [error.message]:
            _fail(f"ERROR: {line}")
        return 1
    except TimeoutError:
        return _fail("ERROR: the host did not answer in time")


def _copy(destination: invocation.Invocation, lines: list[str], mode: str, host: str) -> int:
    command = f"exec sh -c {shlex.quote(_SCRIPT)} copy-id {mode or 'new'}"
    with log_in(destination) as connection:
        ended, out, err = exec_command.run(
            connection, command, stdin="".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"), timeout=TIMEOUT
        )
    count = out.split()[-1:] if ended.code == 0 else []
    if not count or not count[0].isdigit():
        return _fail(f"ERROR: {host}: the keys were not added: {escape(err, keep_end=True) or f'status {ended.code}'}")
    added = min(int(count[0]), len(lines))
    if not added:
        _fail("WARNING: All keys were skipped because they already exist on the remote system.")
    elif mode == "dry":
        print(f"Would have added {added} of the following key(s):\n\n" + "\n".join(map(escape, lines)))
    else:
        print(f"\nNumber of key(s) added: {added}\n\nNow try logging into the machine, with: {shlex.join(['ssh', host])}")
    return 0


def _public_lines(path: str | None) -> list[str]:
    """Return the lines to add: of *path*; None: of the agent's keys, or else the newest key in ~/.ssh. Raises UsageError."""
    if path is not None:
        return [_line_of(path if path.endswith(".pub") else f"{path}.pub")]
    agent = os.environ.get("SSH_AUTH_SOCK")
    if agent:
        try:
            with SSHAgentClient(agent) as client:
                lines = [_one_line(f"{public_key.public_line(key.blob)} {key.comment}") for key in client.keys()]
            if lines:
                return lines
        except AgentError:
            pass  # as ssh-copy-id: no agent, so the files
    candidates = [path for path in Path("~/.ssh").expanduser().glob("id*.pub") if not path.name.endswith("-cert.pub")]
    if not candidates:
        raise UsageError("No identities found: name one with -i")
    return [_line_of(str(max(candidates, key=lambda path: path.stat().st_mtime)))]


def _line_of(path: str) -> str:
    try:
        blob = key_file.read_public(path)
        fields = Path(path).read_text(errors="surrogateescape").split(None, 2)
    except (OSError, UnusableKey) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"failed to open ID file '{path}': {text}") from None
    comment = fields[2].splitlines()[0] if len(fields) > 2 else ""
    return _one_line(f"{public_key.public_line(blob)} {comment}")


def _one_line(text: str) -> str:
    """Return *text* as one line: a comment with a line end would begin another line of the file."""
    return text.replace("\r", " ").replace("\n", " ").replace("\0", " ").strip()


def _fail(line: str, usage: bool = False) -> int:
    sys.stdout.flush()
    sys.stderr.write(one_line(f"ssh-copy-id: {line}") + "\n" + (USAGE if usage else ""))
    return 1
