"""The `darkroom` command: finds the command modules and turns every outcome into an exit code and at most one line.

A command module is `cli/NAME.py` with `register(app)`. It is imported for every call, `--help` included, so it
imports what it needs inside its functions. It raises DarkroomError; nobody else prints errors or decides exit codes.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import typer
from typer.exceptions import Abort, TyperException

from models.errors import BadSetting, DarkroomError, WrongUse

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
# In the order of `darkroom --help`.
MODULES = (
    "demo",
    "stack",
    "topics",
    "worker",
    "gateway",
    "emulator",
    "request",
    "trace",
    "audit",
    "limits",
    "tokens",
    "cache",
    "dead_letters",
    "settings",
)


def build_app() -> typer.Typer:
    """The application with all command modules."""
    app = typer.Typer(
        name="darkroom",
        help="Requests go in on Kafka, finished pictures come out, every credit is accounted for.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name in MODULES:
        import_module(f"cli.{name}").register(app)
    return app


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong use or a bad setting, 130 interrupted."""
    try:
        code = build_app()(args=arguments, prog_name="darkroom", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except (BadSetting, WrongUse) as error:
        return _say(error, WRONG_USE)
    except DarkroomError as error:
        return _say(error, FAILED)
    except TyperException as error:
        return _say_usage(error)
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, say) has gone; Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ModuleNotFoundError as error:
        if os.environ.get("DARKROOM_TRACEBACK"):
            raise
        return _say(f"this needs {error.name}, of the extra `demo`: pip install 'darkroom[demo]'", FAILED)
    except Exception as error:
        if os.environ.get("DARKROOM_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        return _say(f"unexpected {type(error).__name__}: {text} (DARKROOM_TRACEBACK=1 shows where)", FAILED)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())


def _say(problem: object, code: int) -> int:
    print(f"darkroom: {problem}", file=sys.stderr)  # noqa: T201
    return code


def _say_usage(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    if context is None:
        return _say(error.format_message(), error.exit_code)
    message = error.format_message()
    if not message:  # called without a command: the help has been printed already
        return error.exit_code
    return _say(f"{message} See `{context.command_path} --help`.", error.exit_code)


if __name__ == "__main__":
    main()
