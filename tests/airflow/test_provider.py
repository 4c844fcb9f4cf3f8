"""What Airflow knows of the package."""

from __future__ import annotations

import importlib
import json
from dataclasses import fields
from pathlib import Path

import airflow
import jsonschema  # type: ignore[import-untyped]
import pytest

import orbit_airflow
from orbit_airflow.engine.options import NOT_TUNING, EngineConfig
from orbit_airflow.provider_info import get_provider_info


def test_the_metadata_is_as_the_schema_wants_it() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_every_module_that_is_named_exists() -> None:
    info = get_provider_info()
    kinds = ("hooks", "operators", "sensors", "triggers")
    modules = [name for kind in kinds for item in info[kind] for name in item["python-modules"]]
    assert modules == [
        "orbit_airflow.hooks.s3",
        "orbit_airflow.operators.transfer",
        "orbit_airflow.operators.download",
        "orbit_airflow.operators.versions",
        "orbit_airflow.operators.restore",
        "orbit_airflow.operators.prune",
        "orbit_airflow.operators.batch",
        "orbit_airflow.sensors.versioning",
        "orbit_airflow.triggers.versioning",
        "orbit_airflow.triggers.new_version",
    ]
    for name in modules:
        importlib.import_module(name)


def test_every_option_is_one_of_the_engines_and_its_example_is_accepted() -> None:
    options = get_provider_info()["config"]["orbit"]["options"]
    examples = {name: option["example"] for name, option in options.items()}
    assert set(EngineConfig.tuning_from(examples)) == set(options)
    assert all(option["default"] is None for option in options.values())


def test_the_configuration_section_has_every_tuning_option_and_no_other() -> None:
    """So that `airflow config list` shows what the engine reads."""
    tuning = {item.name for item in fields(EngineConfig)} - NOT_TUNING.keys()
    assert set(get_provider_info()["config"]["orbit"]["options"]) == tuning


def test_the_documentation_has_every_option() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    assert [item.name for item in fields(EngineConfig) if f"`{item.name}`" not in text] == []


def test_the_version_is_the_packages() -> None:
    assert get_provider_info()["versions"][0] == orbit_airflow.__version__


def test_airflow_finds_the_provider() -> None:
    from airflow.providers_manager import ProvidersManager

    provider = ProvidersManager().providers.get("orbit-airflow")  # type: ignore[no-untyped-call]
    assert provider is not None, "install the package: uv pip install -e . --no-deps"
    assert provider.version == orbit_airflow.__version__
    assert provider.data["name"] == "Orbit"


def test_an_option_without_a_value_leaves_the_engines_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.configuration import conf

    section = conf.getsection("orbit") or {}
    assert EngineConfig(**EngineConfig.tuning_from(section)) == EngineConfig()  # type: ignore[arg-type]
    monkeypatch.setenv("AIRFLOW__ORBIT__CHUNK_SIZE", "6291456")
    section = conf.getsection("orbit") or {}
    assert EngineConfig.tuning_from(section)["chunk_size"] == 6291456
