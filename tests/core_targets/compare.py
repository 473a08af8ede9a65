"""The outcomes of the runs over each connection, and their differences."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.ansible.differential import compare
from tests.support.ansible import Run, read_records


@dataclass(frozen=True)
class Outcome:
    """One run. *rc*: exit status, or None if the time limit ended the run."""

    rc: int | None
    seconds: float
    run: Run

    @property
    def passed(self) -> bool:
        return self.rc == 0

    def __str__(self) -> str:
        ended = "too long" if self.rc is None else "passed" if self.passed else f"failed ({self.rc})"
        return f"{ended}, {len(self.run.tasks)} results, {self.seconds:.0f} s"


def read_outcome(results: Path) -> Outcome:
    """Return the outcome of the run that wrote the directory *results*."""
    records, stats = read_records(results / "records")
    tasks = [record for record in records if not record.kind.startswith("item-")]
    items = [record for record in records if record.kind.startswith("item-")]
    ended = results / "ended"
    how = json.loads(ended.read_text()) if ended.exists() else {"rc": None, "seconds": 0}
    printed = (results / "output").read_text(errors="replace") if (results / "output").exists() else ""
    return Outcome(how["rc"], how["seconds"], Run(how["rc"] or 0, printed, "", tasks, items, stats))


# Further differences between two runs over the same connection: names of temporary files, numbers of new accounts, times.
_RANDOM = re.compile(
    r"\b(?:tmp|ansible_test)[.\w]\w{6,}|\b(?:1\d|40)\d{2,3}\b|\b\d{9,}\b|\b\d+:\d\d(:\d\d)?\b|load average: [\d., ]+"
)


def differences(ssh: Outcome, pmitogen: Outcome) -> list[compare.Difference]:
    """Return each field of a result with different values that are neither random nor intended."""
    found = compare.compare(ssh.run, pmitogen.run, (), ())
    return [one for one in found if _RANDOM.sub("*", json.dumps(one.ssh)) != _RANDOM.sub("*", json.dumps(one.pmitogen))]
