"""An Ansible callback that writes every result as one line of JSON to the file in PMITOGEN_TEST_RECORDS."""

from __future__ import annotations

DOCUMENTATION = """
name: records
type: notification
short_description: writes each result as a line of JSON
description: For tests. Each line has kind, host, task, action, uuid and result; the last has the statistics.
"""

import json
import os

from ansible.plugins.callback import CallbackBase


def _public(result, name):
    """Since 2.19 the attributes have public names, and the old ones are deprecated."""
    return getattr(result, name) if hasattr(type(result), name) else getattr(result, "_" + name)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "records"

    def __init__(self):
        super().__init__()
        path = os.environ.get("PMITOGEN_TEST_RECORDS")
        self._file = open(path, "a", encoding="utf-8") if path else None  # noqa: SIM115
        self.disabled = self._file is None

    def _write(self, record):
        self._file.write(json.dumps(record, default=str) + "\n")
        self._file.flush()

    def _record(self, kind, result, **more):
        task = _public(result, "task")
        self._write(
            {
                "kind": kind,
                "host": _public(result, "host").get_name(),
                "task": task.get_name(),
                "action": task.action,
                "uuid": task._uuid,
                "result": dict(_public(result, "result")),
                **more,
            }
        )

    def v2_runner_on_ok(self, result):
        self._record("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._record("failed", result, ignored=bool(ignore_errors))

    def v2_runner_on_skipped(self, result):
        self._record("skipped", result)

    def v2_runner_on_unreachable(self, result):
        self._record("unreachable", result)

    def v2_runner_item_on_ok(self, result):
        self._record("item-ok", result)

    def v2_runner_item_on_failed(self, result):
        self._record("item-failed", result)

    def v2_playbook_on_stats(self, stats):
        hosts = sorted(stats.processed)
        self._write({"kind": "stats", "stats": {host: stats.summarize(host) for host in hosts}})
