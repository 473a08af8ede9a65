"""What a spare does before it is told what to run: pmitogen/target/payload/payload_child.py."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support import programs, session

# gc.freeze, without which a round of the collector would undo it all, is there since 3.7.
PYTHONS = {version: path for version, path in programs.target_pythons().items() if version not in ("2.7", "3.6")}
PROGRAM = (
    programs.ON_A_TARGET
    + """
import gc, json, os, resource
from pmitogen.target.payload import payload_child
import argparse, asyncio, decimal, email.message, http.client, logging.handlers, unittest.mock, xml.dom.minidom
codes = [one.__code__ for one in gc.get_objects() if type(one).__name__ == "function"]
gc.collect()
gc.freeze()
def faults(prepare):
    reading, writing = os.pipe()
    if not os.fork():
        prepare()
        start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for code in codes:
            code.co_consts
        os.write(writing, b"%d" % (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start))
        os._exit(0)
    os.wait()
    return int(os.read(reading, 20))
idle, told = os.pipe(), os.pipe()
os.write(told[1], b"an order")
touch = payload_child.pretouch_heap
print(json.dumps([faults(lambda: None), faults(lambda: touch(idle[0])), faults(lambda: touch(told[0]))]))
"""
)


@pytest.mark.parametrize("python", PYTHONS)
def test_memory_is_its_own_before_there_is_an_order_and_nobody_waits_for_that(python: str) -> None:
    args = [PYTHONS[python], "-I", "-c", PROGRAM, str(session.repository)]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    untouched, touched, told = json.loads(done.stdout)
    assert touched < untouched / 4 and told > untouched / 3, (untouched, touched, told)
