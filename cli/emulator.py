"""`darkroom emulator`: the provider on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from models.errors import WrongUse


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("emulator")(emulator)


def emulator(
    listen: Annotated[str, typer.Option(help="host:port, port 0 for a free one; default DARKROOM_EMULATOR")] = "",
    seed: Annotated[int, typer.Option(help="latencies and faults follow from it")] = 1,
    latency_min_s: Annotated[float, typer.Option(help="shortest prediction")] = 0.5,
    latency_max_s: Annotated[float, typer.Option(help="longest prediction")] = 2.0,
    training_min_s: Annotated[float, typer.Option(help="shortest training")] = 3.0,
    training_max_s: Annotated[float, typer.Option(help="longest training")] = 6.0,
    per_minute: Annotated[int, typer.Option(help="creations a minute before 429; 0: no limit")] = 0,
    expiry_s: Annotated[float, typer.Option(help="outputs vanish after this time")] = 3600.0,
    long_side_px: Annotated[int, typer.Option(help="long side of the pictures")] = 768,
    distinct_pictures: Annotated[
        int, typer.Option(help="draw only so many and stamp each file, for benches; 0: draw every one")
    ] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="name=probability, again for more", envvar="DARKROOM_EMULATOR_FAULTS"),
    ] = None,
) -> None:
    """Serve Replicate's API with drawn pictures, until TERM. Faults are listed at /emulator/faults."""
    from devstack.emulator.options import LOCAL_WEBHOOK_SECRET, EmulatorOptions
    from devstack.emulator.server import print_ready, serve
    from streams.settings import load_settings

    settings = load_settings()
    options = EmulatorOptions(
        seed=seed,
        latency_min_s=latency_min_s,
        latency_max_s=latency_max_s,
        training_latency_min_s=training_min_s,
        training_latency_max_s=training_max_s,
        per_minute=per_minute,
        output_expiry_s=expiry_s,
        long_side_px=long_side_px,
        distinct_pictures=distinct_pictures,
        api_token=settings.replicate_api_token,
        fault_rates=rates_in(fault or []),
        webhook_secret=settings.replicate_webhook_secret or LOCAL_WEBHOOK_SECRET,
    )
    serve(options, listen or settings.emulator, ready=print_ready)


def rates_in(given: list[str]) -> dict[str, float]:
    """`["lost_answer=0.1", …]` as a mapping. Raises WrongUse."""
    rates = {}
    for item in given:
        name, _, probability = item.partition("=")
        try:
            rates[name.strip()] = float(probability)
        except ValueError:
            raise WrongUse(f"--fault {item}: must be name=probability, such as lost_answer=0.1") from None
    return rates
