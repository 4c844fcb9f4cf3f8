"""docs/reference.md from the docstrings: `python -m tests.docs.reference` writes it, a test holds it to be current.

Every public class of the modules below is in it: a new operator appears when this is run.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from typing import Any

from tests.docs.blocks import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference.md"
# What DAG authors write; packages that are not there yet are left out.
PACKAGES = ("operators", "sensors", "decorators")
HEAD = """# Reference

Generated from the docstrings by `python -m tests.docs.reference`; change those, and run it again. Parameters that all
of Airflow's operators have (`task_id`, `retries`, `pool`, ...) are Airflow's own.
"""
_PARAMETER = re.compile(r"^:param (?P<name>\w+): (?P<text>.*)$")
_REST_CODE = re.compile(r"``(.+?)``")


def public_classes() -> list[type]:
    """All, ordered by module and by where they stand in it."""
    found = []
    for module in _modules():
        own = [
            item
            for name, item in vars(module).items()
            if inspect.isclass(item) and item.__module__ == module.__name__ and not name.startswith("_")
        ]
        found += sorted(own, key=lambda item: inspect.getsourcelines(item)[1])
    return found


def _modules() -> Iterator[Any]:
    home = importlib.import_module("orbit_airflow")
    for package in PACKAGES:
        if package not in {item.name for item in pkgutil.iter_modules(home.__path__)}:
            continue
        name = f"orbit_airflow.{package}"
        module = importlib.import_module(name)
        yield module
        for item in sorted(pkgutil.iter_modules(getattr(module, "__path__", ())), key=lambda found: found.name):
            if not item.name.startswith("_"):
                yield importlib.import_module(f"{name}.{item.name}")


def split_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The prose, and what is said about each parameter, in one line."""
    prose: list[str] = []
    parameters: dict[str, str] = {}
    current = ""
    for line in text.splitlines():
        if begun := _PARAMETER.match(line):
            current = begun["name"]
            parameters[current] = begun["text"]
        elif current and line.strip():
            parameters[current] += " " + line.strip()
        else:
            prose.append(line)
    return "\n".join(prose).strip(), parameters


def parameters_of(item: type) -> dict[str, inspect.Parameter]:
    """The named parameters of the constructor."""
    signature = inspect.signature(item.__init__)  # type: ignore[misc]  # the class itself has Airflow's signature
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {name: found for name, found in signature.parameters.items() if name != "self" and found.kind in kinds}


def section(item: type) -> str:
    """One class."""
    prose, told = split_docstring(inspect.getdoc(item) or "")
    lines = [f"## {item.__name__}", "", f"`from {item.__module__} import {item.__name__}`", "", _markdown(prose)]
    if parameters := parameters_of(item):
        templated = set(getattr(item, "template_fields", ()))
        lines += ["", "| parameter | default | templated | |", "|---|---|---|---|"]
        for name, parameter in parameters.items():
            mark = "yes" if name in templated else ""
            text = told.get(name, "").replace(" (templated)", "").replace("|", "\\|")
            lines.append(f"| `{name}` | {_default(parameter)} | {mark} | {_markdown(text)} |")
    return "\n".join(lines) + "\n"


def _default(parameter: inspect.Parameter) -> str:
    return "required" if parameter.default is inspect.Parameter.empty else f"`{parameter.default!r}`"


def _markdown(text: str) -> str:
    return _REST_CODE.sub(r"`\1`", text)


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section(item) for item in public_classes())])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
