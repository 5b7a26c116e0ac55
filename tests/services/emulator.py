"""An emulator in a process of its own: it answers in time however busy the test is.

As a module: serve with the options that the first argument names, as JSON.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec

from devstack.emulator.options import EmulatorOptions
from devstack.emulator.server import print_ready, serve


@contextmanager
def emulator_apart(options: EmulatorOptions) -> Iterator[str]:
    """Its URL; gone when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.services.emulator", msgspec.json.encode(asdict(options)).decode()],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        said, _, url = process.stdout.readline().strip().partition(" ")
        assert said == "ready"
        yield url
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    serve(EmulatorOptions(**msgspec.json.decode(sys.argv[1])), "127.0.0.1:0", ready=print_ready)
