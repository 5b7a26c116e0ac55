"""docker-compose.yml and the Dockerfile: valid, pinned, closed, without secrets, and true to the code."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from cli.main import build_app
from cli.worker_group import ROLES
from streams.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
EXAMPLE = (ROOT / ".env.example").read_text()
ONE_SHOT = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN")


def compose_schema() -> dict[str, Any]:
    """The compose specification's schema as check-jsonschema ships it."""
    found = find_spec("check_jsonschema")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0])
    schema: dict[str, Any] = json.loads((folder / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    return schema


def substituted(value: str, given: dict[str, str]) -> str:
    """The value as docker compose reads it: ${NAME:-default} and ${NAME:?message}."""

    def choose(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if given.get(name):
            return given[name]
        assert operator == ":-", f"{name} is required"
        return str(rest)

    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", choose, value)


FILLED_IN = {
    "POSTGRES_PASSWORD": "letters", "REPLICATE_API_TOKEN": "r8_x", "REPLICATE_WEBHOOK_SECRET": "whsec_eA==",
    "DARKROOM_TOKEN_KEY": "k" * 32,
}  # fmt: skip


def test_the_file_follows_the_compose_specification() -> None:
    jsonschema.validate(COMPOSE, compose_schema())
    broken = COMPOSE | {"services": {"kafka": {"imagine": "a typo"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, compose_schema())


def test_all_services_of_the_issue_are_there() -> None:
    assert set(SERVICES) == {"kafka", "postgres", "valkey", "setup", "emulator", "gateway", "prometheus", *ROLES}
    images = {name: SERVICES[name]["image"] for name in ("kafka", "postgres")}
    assert images == {"kafka": "apache/kafka:4.3.1", "postgres": "postgres:18"}


def test_every_image_is_pinned_to_a_version_or_built_here() -> None:
    for name, service in SERVICES.items():
        _, _, tag = service["image"].partition(":")
        assert tag == "local" if name in OURS else re.match(r"v?\d", tag), name


def test_every_service_has_a_health_check_or_runs_once() -> None:
    assert sorted(ONE_SHOT) == ["setup"]
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == ONE_SHOT


def test_services_wait_for_what_they_need_in_a_way_that_can_come_true() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            once = needed in ONE_SHOT
            assert how["condition"] == ("service_completed_successfully" if once else "service_healthy"), name
    assert all("setup" in SERVICES[role]["depends_on"] for role in ROLES)


def test_prometheus_scrapes_every_process_where_it_serves() -> None:
    config = YAML(typ="safe").load(COMPOSE["configs"]["prometheus"]["content"])
    found = {
        (name, place["port"])
        for job in config["scrape_configs"]
        for place in job["dns_sd_configs"]
        for name in place["names"]
    }
    served: dict[str, dict[str, str]] = {name: service["environment"] for name, service in OURS.items()}
    wanted = {(role, int(served[role]["DARKROOM_METRICS_PORT"])) for role in ROLES}
    wanted.add(("gateway", int(served["gateway"]["DARKROOM_GATEWAY"].partition(":")[2])))
    wanted.add(("emulator", int(SERVICES["emulator"]["command"][-1].partition(":")[2])))
    assert found == wanted
    assert {served[role]["DARKROOM_METRICS_HOST"] for role in ROLES} == {"0.0.0.0"}


def test_ports_are_open_to_this_machine_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_every_mount_is_a_named_volume() -> None:
    mounted = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    assert mounted == set(COMPOSE["volumes"])


def test_secrets_come_from_outside_and_are_required() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert re.fullmatch(rf"\$\{{{variable}:\?[^}}]+\}}", value), f"{name}: {variable}"
            for password in re.findall(r"://[^:/@]*:(.+?)@", value):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", password), f"{name}: {variable}"


def test_the_example_names_every_required_secret_and_holds_none() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert required == set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE))
    assert re.findall(r"^\w+=.+$", EXAMPLE, re.MULTILINE) == []


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_settings_of_a_service_are_settings_of_darkroom(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {str(field.validation_alias) for field in Settings.model_fields.values()}
    environment = OURS[name]["environment"]
    assert set(environment) <= known
    for variable in list(os.environ):
        if variable in known:
            monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, substituted(value, FILLED_IN))
    settings = load_settings()
    hosts = {settings.require("kafka").split(":")[0], settings.require("postgres").split("@")[1].split(":")[0]}
    assert hosts <= set(SERVICES)
    assert settings.webhook_base_url == "http://gateway:8400"
    assert settings.replicate_base_url == "http://emulator:8401"
    assert settings.blob_location.startswith("/data/")


def test_every_command_is_one_of_darkroom() -> None:
    known = {command.name or command.callback.__name__ for command in build_app().registered_commands}
    called = {service["command"][0] for service in OURS.values() if "command" in service}
    assert called <= known
    assert {tuple(SERVICES[role]["command"]) for role in ROLES} == {("worker", role) for role in ROLES}


def test_the_image_runs_without_root_on_locked_packages() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER darkroom" in lines
    assert all("-slim" in line for line in lines if line.startswith("FROM"))
    assert any("--require-hashes" in line and "requirements.lock" in line for line in lines)
    installs = [line for line in lines if "pip install" in line]
    assert installs
    assert all("--no-index" in line for line in installs)


def test_the_image_gets_every_room_and_nothing_else() -> None:
    let_in = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert let_in == rooms | {"pyproject.toml", "requirements.lock", "README.md"}
