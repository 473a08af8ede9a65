"""The OpenSSH release whose rules apply: 10.5, or an older one when a test compares with the installed ssh.

The visible differences are names and defaults of algorithms, a few default values, and the set of keywords with expanded
tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from pmitogen.flags.ssh.values.algorithms import Catalogue


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Program:
    """One ssh client. *defaults*: the values that its ``ssh -G`` prints for unset keywords, where they differ."""

    release: str = "OpenSSH_10.5p1"  # for "Match version"
    modern: bool = True  # False for 9.x: User, SetEnv and RevokedHostKeys are not expanded, %C has no jump host
    catalogue: Catalogue = dataclasses.field(default_factory=Catalogue)
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)
    batch_defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)  # those that BatchMode changes (Debian's)


OPENSSH_10 = Program()


class ValueContext(NamedTuple):
    """Context of parsing a value: OpenSSH release, environment, and whether the value is from a command line."""

    program: Program
    environ: Mapping[str, str]
    command_line: bool = False  # not a file
