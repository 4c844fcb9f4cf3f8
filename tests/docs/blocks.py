"""The fenced Python blocks of a documentation page, to be run one by one.

A block that cannot run says so in its fence, with the reason: ```` ```python no-run: needs a bucket at AWS ````. A page
with a block that is neither run nor excused does not load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<info>.*)$")
_NO_RUN = re.compile(r"python no-run: (?P<reason>\S.{9,})")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: where it stands, its code, and why it is not run, if it is not."""

    page: str
    line: int
    heading: str
    code: str
    no_run: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def run(self, given: Mapping[str, object] | None = None) -> dict[str, object]:
        """Execute it with the names that are ``given``; what it has defined comes back.

        Errors show the page and its line.
        """
        names: dict[str, object] = {"__name__": "__docs__", **(given or {})}
        code = compile("\n" * (self.line - 1) + self.code, str(REPOSITORY / self.page), "exec")
        exec(code, names)
        return names


def blocks_of(page: str) -> list[Block]:
    """All Python blocks of a page of this repository, in order. ValueError for a fence that this module cannot read."""
    blocks: list[Block] = []
    heading, info, start = "", None, 0
    body: list[str] = []
    for number, line in enumerate((REPOSITORY / page).read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            if info is not None:
                body.append(line)
            elif line.startswith("#"):
                heading = line.lstrip("# ")
        elif info is None:
            info, start, body = fence["info"].strip(), number + 1, []
        else:
            if info.split(" ")[0] == "python":
                blocks.append(Block(page, start, heading, "\n".join(body) + "\n", _reason(page, start, info)))
            info = None
    if info is not None:
        raise ValueError(f"{page}:{start}: this block has no end")
    return blocks


def _reason(page: str, line: int, info: str) -> str | None:
    if info == "python":
        return None
    excused = _NO_RUN.fullmatch(info)
    if excused is None:
        raise ValueError(f"{page}:{line}: expected 'python' or 'python no-run: <reason>', got {info!r}")
    return excused["reason"]


def runnable(page: str) -> list[Block]:
    """The page's blocks that are run."""
    return [block for block in blocks_of(page) if block.no_run is None]


def excused(page: str) -> dict[str, str]:
    """The page's blocks that are not run, with their reasons."""
    return {str(block): block.no_run for block in blocks_of(page) if block.no_run is not None}
