"""Every parser refuses invalid bytes with its own error, quickly: a short search here, minutes with ``--all``.

``PMITOGEN_FUZZ_SECONDS`` is the duration of the search over all targets together.
"""

from __future__ import annotations

import os
import random
import struct

import pytest

from tests.hostile.fuzzing import mutation, targets
from tests.hostile.fuzzing.targets import Target

SECONDS = float(os.environ.get("PMITOGEN_FUZZ_SECONDS", "10"))


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("target", targets.TARGETS, ids=lambda target: target.name)
def test_each_parser_raises_only_its_own_errors(target: Target) -> None:
    assert mutation.search(target, SECONDS / len(targets.TARGETS), random.randrange(1 << 32)) > 10


def test_the_search_finds_a_planted_defect() -> None:
    """The planted defect is a parser that trusts a length."""

    def careless(data: bytes) -> None:
        (size,) = struct.unpack_from(">I", data + bytes(4))
        if size > 1 << 20:
            raise MemoryError(size)

    with pytest.raises(mutation.Finding, match="MemoryError"):
        mutation.search(Target("careless", careless, (), lambda directory: [b"\0\0\0\4abcd"]), 5, 1)
