"""What the demo shows while it runs: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.demo_run import Run
from cli.demo_tally import STAGES, percentile
from streams.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.console import RenderableType

RATE_OVER_S = 10.0
SHOWN = 8
_LINE_EVERY_S = 5.0


class Rates:
    """Counts per second over the last ten seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[str, int]]] = deque(maxlen=100)

    def update(self, counts: dict[str, int], now: float) -> dict[str, float]:
        """Note the counts at a moment (seconds) and return the rates."""
        self._seen.append((now, dict(counts)))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_OVER_S:
            self._seen.popleft()
        then, before = self._seen[0]
        passed = now - then
        return {stage: (counts.get(stage, 0) - before.get(stage, 0)) / passed if passed else 0.0 for stage in STAGES}


def over_http(settings: Settings, tokens: dict[str, str]) -> str:
    """How to ask the gateway something with a token."""
    return f"curl -H 'Authorization: Bearer {tokens['dashboard']}' 'http://{settings.gateway}/v1/credits?user=ada'"


def guide(settings: Settings, sheet: Path, tokens: dict[str, str]) -> list[str]:
    """Where to look while the demo runs, and what to try in another terminal."""
    darkroom = _command(settings)
    return [
        f"gateway:        http://{settings.gateway}/readyz",
        f"contact sheet:  {sheet}",
        f"data and logs:  {settings.home}",
        f"a request:      {darkroom} request ada maya.image 'a fox in the rain' --wait",
        f"its timeline:   {darkroom} trace REQUEST_ID",
        f"the books:      {darkroom} audit",
        f"over HTTP:      {over_http(settings, tokens)}",
        f"to act by HTTP: {tokens['producer']} (producer), {tokens['operator']} (operator)",
        "stop:           Ctrl-C",
    ]


async def show(run: Run, *, live: bool) -> None:
    """Show the run until cancelled."""
    await (_show_live(run) if live else _show_lines(run))


async def _show_lines(run: Run) -> None:
    rates = Rates()
    while True:
        counts = dict(run.tally.counts)
        now = rates.update(counts, time.monotonic())
        newest = run.tally.newest[0] if run.tally.newest else None
        said = ", ".join(f"{counts.get(stage, 0)} {stage}" for stage in ("requested", "admitted", "completed"))
        ill = sum(counts.get(stage, 0) for stage in ("rejected", "failed"))
        last = f"; {newest.request_id} of {newest.user_id}: {newest.prompt}, {newest.took_ms} ms" if newest else ""
        typer.echo(f"{run.seconds:.0f} s: {said}, {ill} not; {now['completed']:.1f}/s{last}")
        await asyncio.sleep(_LINE_EVERY_S)


async def _show_live(run: Run) -> None:
    from rich.live import Live

    rates = Rates()
    with Live(auto_refresh=False, transient=False) as live:
        while True:
            live.update(_screen(run, rates.update(dict(run.tally.counts), time.monotonic())), refresh=True)
            await asyncio.sleep(0.25)


def _screen(run: Run, rates: dict[str, float]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    tally = run.tally
    stages = Table(box=None, pad_edge=False, header_style="bold")
    for stage in STAGES:
        stages.add_column(stage, justify="right", min_width=9)
    stages.add_row(*(str(tally.counts[stage]) for stage in STAGES))
    stages.add_row(*(f"{rates[stage]:.1f}/s" for stage in STAGES), style="dim")

    pictures = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for column in ("request", "user", "operation"):
        pictures.add_column(column, no_wrap=True)
    pictures.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    pictures.add_column("ms", justify="right", no_wrap=True)
    shown = list(tally.newest)[:SHOWN]
    for finished in shown:
        pictures.add_row(
            finished.request_id, finished.user_id, finished.operation, finished.prompt, str(finished.took_ms)
        )
    for _ in range(SHOWN - len(shown)):
        pictures.add_row()

    recent = list(tally.latencies_ms)[-500:]
    times = (
        f"{tally.images} pictures; done after {percentile(recent, 50)} ms (half of them), "
        f"{percentile(recent, 99)} ms (99 of 100)"
    )
    problems = [Text(problem, style="red") for problem in tally.problems]
    return Group(stages, "", Text(times), "", pictures, *problems)


def _command(settings: Settings) -> str:
    """How to call `darkroom` from this folder so that it finds this demo."""
    called = Path(sys.argv[0])
    command = "darkroom"
    if called.name == "darkroom" and shutil.which("darkroom") != str(called.absolute()):
        command = str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)
    if load_settings().home.absolute() == Path(".darkroom").absolute():
        return command
    return f"DARKROOM_HOME={settings.home} {command}"
