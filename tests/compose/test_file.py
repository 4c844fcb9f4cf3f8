"""docker-compose.yaml, as far as it can be judged without starting it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess

import pytest

from tests.compose.file import FILE, airflow_services, load, services, text_of
from tests.servers.record import REPOSITORY

ROLES = {"airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "airflow-worker"}


def test_the_promised_services_are_there() -> None:
    """Five of Airflow and one that prepares; database, broker, two S3 servers."""
    found = services(load())
    assert found.keys() == ROLES | {"airflow-init", "postgres", "redis", "s3", "localstack"}
    assert found["localstack"]["profiles"] == ["localstack"]
    assert [name for name, item in found.items() if "profiles" in item] == ["localstack"]


def test_every_image_is_pinned() -> None:
    """To a version; `latest`, no tag and a tag without a number are none."""
    images = {name: item["image"] for name, item in services(load()).items()}
    for name, image in images.items():
        tag = image.rpartition(":")[2]
        assert re.search(r"\d+\.\d+|RELEASE\.\d{4}", tag), name
        assert "latest" not in image
    assert images["s3"] == "minio/minio:RELEASE.2025-09-07T16-13-09Z"
    assert images["localstack"] == "localstack/localstack:4.14.0"


def test_airflows_version_is_the_same_everywhere() -> None:
    """In the image's name, its base, its build, and the constraints that the tests run with."""
    dockerfile = text_of("Dockerfile")
    (constrained,) = re.findall(r"^apache-airflow==(.+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert f"ARG AIRFLOW_IMAGE=apache/airflow:{constrained}\n" in dockerfile
    assert f"ARG AIRFLOW_VERSION={constrained}\n" in dockerfile
    assert {item["image"] for item in airflow_services(load()).values()} == {f"orbit-airflow:{constrained}"}


def test_every_service_that_stays_says_whether_it_is_well() -> None:
    """Others wait for that, and for the preparation."""
    found = services(load())
    assert [name for name, item in found.items() if "healthcheck" not in item] == ["airflow-init"]
    for name, item in found.items():
        for target, wanted in item.get("depends_on", {}).items():
            well = "healthcheck" in found[target]
            assert wanted["condition"] == ("service_healthy" if well else "service_completed_successfully"), name
    for name in ROLES:
        assert found[name]["depends_on"].keys() == {"postgres", "redis", "airflow-init"}


def test_all_airflow_services_have_one_environment() -> None:
    """Two secrets that differ, and every task fails to report."""
    common = services(load())["airflow-init"]["environment"]
    for name, item in airflow_services(load()).items():
        assert {key: item["environment"].get(key) for key in common} == common, name
        assert item["environment"].keys() - common.keys() <= {"DUMB_INIT_SETSID"}
        assert item["volumes"] == services(load())["airflow-init"]["volumes"]


def test_the_environment_says_what_the_services_are() -> None:
    """Hosts are services of the file, with their ports and credentials; values are texts."""
    found = services(load())
    environment = found["airflow-init"]["environment"]
    assert all(isinstance(value, str) for value in environment.values())
    postgres = found["postgres"]["environment"]
    login = f"{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}@postgres:5432/{postgres['POSTGRES_DB']}"
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"postgresql+psycopg2://{login}"
    assert environment["AIRFLOW__CELERY__RESULT_BACKEND"] == f"db+postgresql+psycopg2://{login}"
    assert environment["AIRFLOW__CELERY__BROKER_URL"] == "redis://redis:6379/0"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-apiserver:8080/execution/"
    assert len(base64.urlsafe_b64decode(environment["AIRFLOW__CORE__FERNET_KEY"])) == 32
    assert len(environment["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64


def test_the_connection_is_the_s3_services() -> None:
    """Also with keys and an endpoint of one's own."""
    server = services(load())["s3"]["environment"]
    connection = json.loads(services(load())["airflow-init"]["environment"]["AIRFLOW_CONN_AWS_DEFAULT"])
    assert (connection["login"], connection["password"]) == (server["MINIO_ROOT_USER"], server["MINIO_ROOT_PASSWORD"])
    assert connection["extra"]["endpoint_url"] == "http://s3:9000"
    other = load({"S3_ENDPOINT": "http://localstack:4566", "S3_ACCESS_KEY": "mine"})
    connection = json.loads(services(other)["airflow-init"]["environment"]["AIRFLOW_CONN_AWS_DEFAULT"])
    assert (connection["login"], connection["extra"]["endpoint_url"]) == ("mine", "http://localstack:4566")
    assert services(other)["s3"]["environment"]["MINIO_ROOT_USER"] == "mine"


def test_every_option_is_one_of_airflows() -> None:
    """A misspelt one would be ignored silently."""
    from airflow.configuration import conf

    environment = services(load())["airflow-init"]["environment"]
    for name in environment:
        if not name.startswith("AIRFLOW__") or name.startswith("AIRFLOW__CELERY__"):
            # Celery's are the celery provider's, which the running services use: tests/compose/__main__.py.
            continue
        section, option = name.removeprefix("AIRFLOW__").lower().split("__")
        assert option in conf.configuration_description[section]["options"], name


def test_nothing_listens_beyond_this_machine() -> None:
    """It is a demo, with a password that everybody knows."""
    for name, item in services(load()).items():
        for port in item.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name


def test_what_the_image_copies_is_there_and_in_the_context() -> None:
    """And .dockerignore lets it through."""
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in text_of("Dockerfile").splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for source in [word for word in line.split()[1:-1] if not word.startswith("--")]:
                assert (REPOSITORY / source).exists()
                assert source.split("/")[0] in allowed


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed (apt-get)")
def test_docker_compose_reads_it() -> None:
    """Compose itself, which needs no engine for this."""
    for profile in ((), ("--profile", "localstack")):
        command = ["docker-compose", "-f", str(FILE), *profile, "config", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
