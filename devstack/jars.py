"""The Kafka jars: fetched once per user, checked against kafka_jars.lock, kept outside of DARKROOM_HOME."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.state import locked
from models.errors import SetupFailed
from streams.settings import Settings

LOCK = Path(__file__).with_name("kafka_jars.lock")
PARALLEL = 6
TRIES = 3
TIMEOUT_S = 30
_PROGRESS_EVERY = 6
_WANTED = ("org.apache.kafka:kafka_2.13:{0}", "org.apache.kafka:kafka-tools:{0}", "org.slf4j:slf4j-simple:1.7.36")
# kafka-tools brings Kafka Connect and its web server; no broker needs them.
_UNNEEDED = (
    "org.glassfish.", "org.eclipse.jetty", "jakarta.", "javax.", "com.sun.activation", "io.swagger", "org.javassist",
    "org.codehaus.plexus", "org.apache.maven", "io.github.classgraph", "com.fasterxml.jackson.jakarta",
    "com.fasterxml.jackson.module", "org.apache.kafka:connect-",
)  # fmt: skip


@dataclass(frozen=True)
class Jar:
    """One line of the lock file."""

    coordinates: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"


def read_lock(text: str) -> list[Jar]:
    """The jars of a lock file."""
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return [Jar(coordinates, int(size_bytes), sha256) for coordinates, size_bytes, sha256 in rows]


def cache_folder(settings: Settings) -> Path:
    """Where things that are fetched once are kept."""
    if settings.cache:
        return Path(settings.cache).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom"


def kafka_class_path(settings: Settings, progress: Callable[[str], None]) -> str:
    """The broker's class path; jars that are missing are fetched first.

    Raises SetupFailed: they cannot be fetched, do not match the lock file, or there is no room for them.
    """
    jars = read_lock(LOCK.read_text())
    folder = cache_folder(settings) / "kafka" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    try:
        if any(_is_missing(folder, jar) for jar in jars):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock", progress):
                _fetch([jar for jar in jars if _is_missing(folder, jar)], folder, progress)
    except OSError as error:
        raise SetupFailed(
            f"the Kafka jars cannot be kept in {folder} ({error.strerror or error}); set DARKROOM_CACHE to a folder "
            "with 60 MiB to spare"
        ) from None
    return os.pathsep.join(str(folder / jar.file_name) for jar in jars)


def _is_missing(folder: Path, jar: Jar) -> bool:
    try:
        return (folder / jar.file_name).stat().st_size != jar.size_bytes
    except FileNotFoundError:
        return True


def _fetch(jars: list[Jar], folder: Path, progress: Callable[[str], None]) -> None:
    total, done = sum(jar.size_bytes for jar in jars), 0
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".incoming-") as incoming,
        ThreadPoolExecutor(PARALLEL) as pool,
    ):
        context = _maven(Path(incoming))
        waiting = {pool.submit(_fetch_one, context, jar, folder): jar for jar in jars}
        try:
            for count, future in enumerate(as_completed(waiting), 1):
                future.result()
                done += waiting[future].size_bytes
                if count % _PROGRESS_EVERY == 0 or count == len(jars):
                    progress(f"fetching Kafka, once: {count} of {len(jars)} jars, {done >> 20} of {total >> 20} MiB")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(context: Any, jar: Jar, folder: Path) -> None:
    """Download beside, check, then move into place: a file in the folder is always whole."""
    group, artifact, version = jar.coordinates.split(":")
    problem = ""
    for _ in range(TRIES):
        wanted = context.project(group, artifact).at_version(version).artifact()
        wanted.cached_path.unlink(missing_ok=True)
        try:
            path: Path = wanted.resolve()
        except OSError as error:  # requests' exceptions are OSErrors too
            if error.errno is not None:
                raise
            problem = str(error)
        except RuntimeError as error:
            problem = str(error)
        else:
            if hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256:
                shutil.move(path, folder / jar.file_name)
                return
            problem = "its content is not what the lock file says"
    raise SetupFailed(
        f"{jar.coordinates} cannot be fetched ({problem[:200]}); check the network and try again, or set DARKROOM_KAFKA"
    )


def _maven(repository: Path) -> Any:
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError:
        raise SetupFailed(
            "the embedded Kafka needs the extra `demo`: pip install 'darkroom[demo]', or set DARKROOM_KAFKA"
        ) from None
    logging.getLogger("jgo").setLevel(logging.ERROR)
    mirrors = GlobalSettings.load().repositories
    return MavenContext(repo_cache=repository, remote_repos=mirrors or None, timeout=TIMEOUT_S)


def write_lock(kafka_version: str) -> None:
    """Resolve that Kafka version and write the lock file anew."""
    import jgo

    artifacts = {
        f"{found.groupId}:{found.artifactId}:{found.version}": found
        for found in jgo.resolve("+".join(wanted.format(kafka_version) for wanted in _WANTED))
    }
    lines = [
        f"# Apache Kafka {kafka_version} and what it needs at run time: coordinates, size in bytes, SHA-256.",
        "# To move to another Kafka version: `python -m devstack.jars VERSION`, then run the tests.",
    ]
    for coordinates in sorted(artifacts):
        if not coordinates.startswith(_UNNEEDED):
            content = artifacts[coordinates].resolve().read_bytes()
            lines.append(f"{coordinates} {len(content)} {hashlib.sha256(content).hexdigest()}")
    LOCK.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_lock(sys.argv[1])
