"""From a checkout to an environment: the lock file, bootstrap.py, the Makefile and the package itself."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.devstack.commands import ROOT

ROOMS = ("models", "streams", "agents", "services", "adapters", "gateway", "devstack", "cli", "bench")


def _locked() -> dict[str, str]:
    text = (ROOT / "requirements.lock").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE))


def test_the_lock_file_names_packages_and_hashes_and_nothing_else() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        marker = r"[a-z_]+ [!=<>]+ '[A-Za-z0-9.]+'"
        pinned = rf"[a-z0-9._-]+(\[[a-z,]+\])?==[A-Za-z0-9.]+( ; {marker}( and {marker})*)? \\"
        assert re.fullmatch(rf"#.*|{pinned}| {{4}}--hash=sha256:[0-9a-f]{{64}}( \\)?", line), line
        assert not re.search(r"://|\bwww\.|/\w+/", line), line


def test_the_lock_file_satisfies_every_requirement_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = _locked()
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["demo"], *extras["tests"]]:
        wanted = Requirement(line)
        if wanted.name == "darkroom":
            continue
        version = locked.get(canonicalize_name(wanted.name))
        assert version is not None, f"{line} is not in requirements.lock; run make lock"
        assert wanted.specifier.contains(version, prereleases=True), f"{line}, locked {version}; run make lock"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that bootstrap.py reads, somewhere else."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("bootstrap.py", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def _bootstrap(checkout: Path, prelude: str, **environment: str) -> subprocess.CompletedProcess[str]:
    start = "import runpy, sys; sys.argv = ['bootstrap.py']; runpy.run_path('bootstrap.py', run_name='__main__')"
    code = f"{prelude}\n{start}"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_python_that_is_too_old_is_told_so_in_one_line(checkout: Path) -> None:
    line = _one_line(_bootstrap(checkout, "import sys; sys.version_info = (3, 6, 15)", PATH="/nowhere"))
    assert "Python 3.11 or newer is needed" in line
    assert "3.6" in line


def test_bootstrap_can_be_read_by_an_old_python() -> None:
    source = (ROOT / "bootstrap.py").read_text()
    tree = ast.parse(source, feature_version=(3, 4))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
    source.encode("ascii")


def test_a_newer_python_on_the_path_takes_over(checkout: Path, tmp_path: Path) -> None:
    newer = tmp_path / "bin" / "python3.12"
    newer.parent.mkdir()
    newer.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "took over: $1"\n')
    newer.chmod(0o755)
    done = _bootstrap(checkout, "import sys; sys.version_info = (3, 6, 15)", PATH=str(newer.parent))
    assert done.stdout == "took over: bootstrap.py\n"


def test_a_python_without_its_venv_module_is_told_what_to_install(checkout: Path) -> None:
    line = _one_line(_bootstrap(checkout, "import sys; sys.modules['ensurepip'] = None"))
    assert "venv" in line
    assert "apt install python3." in line


def test_a_full_disk_is_told_in_one_line(checkout: Path) -> None:
    prelude = "import shutil; shutil.disk_usage = lambda path: type('Usage', (), {'free': 1})"
    assert "MiB of disk are needed" in _one_line(_bootstrap(checkout, prelude))


def test_packages_that_cannot_be_fetched_are_told_in_one_line(checkout: Path) -> None:
    # A port that nobody listens on stands for a network that is away.
    away = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_FIND_LINKS": "", "PIP_RETRIES": "1"}
    assert "check the network" in _one_line(_bootstrap(checkout, "", **away))


def test_setup_is_done_again_only_when_its_input_has_changed(checkout: Path) -> None:
    names = runpy.run_path(str(checkout / "bootstrap.py"))
    (checkout / ".venv" / "bin").mkdir(parents=True)
    command = checkout / ".venv" / "bin" / "darkroom"
    command.touch(mode=0o755)
    stamp = names["wanted_stamp"]()
    assert not names["is_current"](stamp)
    (checkout / ".venv" / "darkroom.stamp").write_text(stamp)
    assert names["is_current"](stamp)
    done = _bootstrap(checkout, "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert not names["is_current"](names["wanted_stamp"]())
    command.unlink()
    assert not names["is_current"](stamp)


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A make that runs us has left its own flags in the environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_an_unknown_target_is_one_line_that_lists_the_targets() -> None:
    done = _make("deploy")
    assert done.returncode == 2
    assert (
        done.stderr.splitlines()[0]
        == "there is no target 'deploy'; there are: demo test mixture simulate setup lint lock help"
    )
    assert len([line for line in done.stderr.splitlines() if not line.startswith("make: ***")]) == 1


def test_make_alone_says_what_there_is() -> None:
    done = _make()
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "demo",
        "test",
        "mixture",
        "simulate",
        "setup",
        "lint",
        "lock",
    ]


def test_a_python_that_is_not_there_is_named() -> None:
    done = _make("setup", "PYTHON=python-of-nowhere")
    assert done.returncode == 2
    assert "python-of-nowhere is not there" in done.stderr


def test_an_installed_package_has_every_file_the_project_needs(tmp_path: Path) -> None:
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "node_modules")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", source)
    (source / "README.md").touch()
    wanted = {
        str(path.relative_to(source))
        for room in ROOMS
        for path in (source / room).rglob("*")
        if path.is_file() and path.suffix in {".py", ".sql", ".lua", ".lock"}
    }
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
    built = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr

    (wheel,) = wheels.glob("darkroom-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        (entry_points,) = (name for name in files if name.endswith("entry_points.txt"))
        assert "darkroom = cli.main:main" in archive.read(entry_points).decode()
    assert wanted - files == set()
