"""`darkroom gateway`: the HTTP door."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def gateway() -> None:
        """Serve webhooks, pictures and health until TERM; prints `ready` and its address."""
        import uvloop

        from devstack.stack import running_settings
        from gateway.app import create_app
        from gateway.server import listen, serve
        from streams.garbage import tame_garbage_collector
        from streams.logs import configure_logs
        from streams.settings import load_settings

        configure_logs()
        settings = running_settings(load_settings())
        application = create_app(settings)
        listener = listen(settings.gateway, "DARKROOM_GATEWAY")

        def ready(url: str) -> None:
            tame_garbage_collector()
            typer.echo(f"ready {url}")

        uvloop.run(serve(application, listener, ready, application.state.followers.close))
