"""What every benchmark's `main` does: servers, a folder that is gone afterwards, the last line, the exit code."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devstack.stack import attached_stack
from models.errors import DarkroomError
from streams.settings import Settings, load_settings


def run_bench(measure: Callable[[Settings, Path], dict[str, Any]], **changed: object) -> int:
    """Measure on the servers that are set, or on some of its own, and print the outcome as the last line.

    `measure` gets the servers' settings, changed as told, and the folder. Returns 0 if `violations` is 0, else 1.
    """
    home = Path(tempfile.mkdtemp(prefix="darkroom-bench-"))
    try:
        given = load_settings()
        # With servers of its own it leaves nothing behind; given servers are found through their own home.
        settings = given.model_copy(update={"home": given.home if given.kafka else home, "topic_prefix": "", **changed})
        with attached_stack(settings, say) as running:
            outcome = measure(running, home)
    except DarkroomError as error:
        say(f"bench: {error}")
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(outcome))
    return 1 if outcome["violations"] else 0


def say(line: str) -> None:
    """Tell a person how it goes; the last line alone is for programs."""
    print(line, file=sys.stderr, flush=True)
