"""Inputs made by mutating valid ones, for machines without a coverage-guided fuzzer and for a short search in every test run."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from tests.hostile.fuzzing.targets import SLOW, Target

_BYTES = (0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x0D, 0x1B, 0x22, 0x25, 0x2C, 0x3A, 0x40, 0x7C)
_VALUES = (0, 1, 255, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_NUMBERS = [value.to_bytes(size, "big") for size in (4, 8) for value in _VALUES]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return *data* with one to eight changes: bytes set, removed, repeated, or a length replaced."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randint(0, len(changed))
        end = min(len(changed), at + rng.choice((1, 1, 2, 4, 8, 40)))
        kind = rng.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] = rng.choice(_BYTES)
        elif kind == 1:
            del changed[at:end]
        elif kind == 2:
            changed[at:at] = changed[at:end] * rng.choice((1, 2, 100))
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randint(1, 16))
        elif kind == 4:
            number = rng.choice(_NUMBERS)
            changed[at : at + len(number)] = number
        elif at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed[: 1 << 17])


class Finding(AssertionError):
    """An input for which a target raised a forbidden exception or took too long. Its text has the input, for a repetition."""


def run_once(target: Target, data: bytes) -> None:
    """Try one input. Raises Finding."""
    start = time.thread_time()
    try:
        target.run(data)
    except target.allowed:
        pass
    except Exception as error:
        raise Finding(f"{target.name}: {type(error).__name__}: {error}: input {data!r}") from error
    if time.thread_time() - start > SLOW:
        raise Finding(f"{target.name}: took {time.thread_time() - start:.1f} s: input {data!r}")


def search(target: Target, seconds: float, seed: int) -> int:
    """Mutate the seeds of *target* for *seconds*; return the number of tried inputs. Raises Finding."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="pmt-fuzz") as directory:
        corpus = [*target.seeds(Path(directory)), b"", b"\0" * 16, bytes(range(256))]
    for data in corpus:
        run_once(target, data)
    tried, until = len(corpus), time.monotonic() + seconds
    while time.monotonic() < until:
        data = mutate(rng.choice(corpus), rng)
        if rng.random() < 0.1:
            data += rng.choice(corpus)
        run_once(target, data)
        tried += 1
    return tried
