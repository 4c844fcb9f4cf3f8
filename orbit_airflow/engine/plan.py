"""How a file becomes parts. Arithmetic only; a store's limits are data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import GIB, MIB, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """A store's multipart limits in bytes. The defaults are AWS's (its user guide's page "qfacts").

    AWS writes "50 TB" for the largest object; 10,000 parts of 5 GiB are the 48.8 TiB that its other pages name.
    """

    max_parts: int = 10_000
    min_part_size: int = 5 * MIB
    max_part_size: int = 5 * GIB
    max_object_size: int = 10_000 * 5 * GIB
    max_put_size: int = 5 * GIB
    part_size_step: int = MIB


AWS_LIMITS = StoreLimits()


def part_size_for(size: int, wished: int, limits: StoreLimits = AWS_LIMITS) -> int:
    """The part size for a new upload of ``size`` bytes: the wish, grown (in whole MiB) until the parts suffice.

    Never used on resume: there the token's part size rules. Raises ConfigError for what the store cannot hold.
    """
    if size > limits.max_object_size:
        raise ConfigError(f"an object holds at most {limits.max_object_size} bytes, the source has {size}")
    if not limits.min_part_size <= wished <= limits.max_part_size:
        raise ConfigError(
            f"chunk_size must be {limits.min_part_size} to {limits.max_part_size} bytes for this store, got {wished}"
        )
    needed = -(-size // limits.max_parts)
    if needed <= wished:
        return wished
    step = limits.part_size_step
    return min(-(-needed // step) * step, limits.max_part_size)


@dataclass(frozen=True, slots=True)
class PartPlan:
    """The parts of one object: all of ``part_size`` but the last. Constant memory at any size."""

    size: int
    part_size: int

    def __post_init__(self) -> None:
        if self.size <= 0 or self.part_size <= 0:
            raise ConfigError(f"no parts for size {self.size} and part size {self.part_size}")

    @property
    def count(self) -> int:
        """The number of parts."""
        return -(-self.size // self.part_size)

    def part(self, number: int) -> Part:
        """Part ``number`` (from 1); ValueError outside of the plan."""
        if not 1 <= number <= self.count:
            raise ValueError(f"part {number} is not in a plan of {self.count}")
        offset = (number - 1) * self.part_size
        return Part(number, offset, min(self.part_size, self.size - offset))

    def __iter__(self) -> Iterator[Part]:
        return (self.part(number) for number in range(1, self.count + 1))
