"""Parts: arithmetic that must hold for every size that S3 can store."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.model import GIB, MIB, Part
from orbit_airflow.engine.plan import AWS_LIMITS, PartPlan, StoreLimits, part_size_for

LARGEST = AWS_LIMITS.max_object_size
SIZES = st.one_of(st.integers(0, LARGEST), st.integers(0, 200 * MIB), st.integers(LARGEST - 10, LARGEST))
WISHES = st.integers(5 * MIB, 5 * GIB)


def test_the_limits_are_aws_s() -> None:
    """10,000 parts of 5 MiB to 5 GiB, and so 48.8 TiB."""
    limits = StoreLimits()
    assert (limits.max_parts, limits.min_part_size, limits.max_part_size) == (10_000, 5 * MIB, 5 * GIB)
    assert round(limits.max_object_size / 1024**4, 1) == 48.8


@given(SIZES, WISHES)
@example(LARGEST, 5 * MIB)
@example(10_000 * 5 * MIB, 5 * MIB)
@example(10_000 * 5 * MIB + 1, 5 * MIB)
def test_ten_thousand_parts_are_enough(size: int, wished: int) -> None:
    """Whatever is wished, at most 10,000 parts between 5 MiB and 5 GiB hold the object."""
    part_size = part_size_for(size, wished)
    assert -(-size // part_size) <= 10_000
    assert 5 * MIB <= part_size <= 5 * GIB
    assert part_size >= wished


@given(SIZES, WISHES)
def test_growth_is_in_whole_mebibytes_and_no_more_than_needed(size: int, wished: int) -> None:
    """A wish that suffices is kept to the byte; else the size is the next whole MiB that does."""
    part_size = part_size_for(size, wished)
    if -(-size // wished) <= 10_000:
        assert part_size == wished
    else:
        assert part_size % MIB == 0
        assert -(-size // (part_size - MIB)) > 10_000


@given(st.integers(1, 10**6), st.integers(1, 10**4))
def test_parts_cover_exactly(size: int, part_size: int) -> None:
    """The parts follow each other without gap or overlap from 0 to the size, all but the last of one size."""
    if size // part_size > 2000:
        part_size = size // 2000 + 1
    parts = list(PartPlan(size, part_size))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert parts[0].offset == 0
    assert all(left.offset + left.size == right.offset for left, right in pairwise(parts))
    assert parts[-1].offset + parts[-1].size == size
    assert all(part.size == part_size for part in parts[:-1])
    assert 0 < parts[-1].size <= part_size


@given(st.integers(1, LARGEST), WISHES)
def test_the_last_part_ends_the_largest_objects(size: int, wished: int) -> None:
    """The plan of a huge object takes no memory, and its last part ends at the size."""
    plan = PartPlan(size, part_size_for(size, wished))
    last = plan.part(plan.count)
    assert last.offset + last.size == size
    assert plan.part(1) == Part(1, 0, min(size, plan.part_size))


def test_one_byte_too_many_is_refused() -> None:
    """48.8 TiB fit, one byte more does not."""
    assert part_size_for(LARGEST, 5 * MIB) == 5 * GIB
    with pytest.raises(ConfigError, match="at most"):
        part_size_for(LARGEST + 1, 5 * MIB)


@pytest.mark.parametrize("wished", [0, -1, 5 * MIB - 1, 5 * GIB + 1])
def test_a_wish_outside_of_the_limits_is_refused(wished: int) -> None:
    """The message names what is allowed."""
    with pytest.raises(ConfigError, match=str(5 * MIB)):
        part_size_for(1, wished)


def test_another_store_s_limits_are_data() -> None:
    """A store of 100 parts grows its parts in its own steps."""
    limits = StoreLimits(max_parts=100, min_part_size=10, max_part_size=1000, max_object_size=100_000, part_size_step=7)
    assert part_size_for(2000, 10, limits) == 21
    assert part_size_for(100_000, 10, limits) == 1000
    with pytest.raises(ConfigError):
        part_size_for(100_001, 10, limits)


@pytest.mark.parametrize(("size", "part_size"), [(0, 1), (1, 0), (-1, 5)])
def test_there_is_no_plan_without_bytes(size: int, part_size: int) -> None:
    """An empty object has no parts; it is a single request."""
    with pytest.raises(ConfigError):
        PartPlan(size, part_size)


@pytest.mark.parametrize("number", [0, 4, -1])
def test_a_part_outside_of_the_plan_is_an_error(number: int) -> None:
    """Parts are numbered from 1 to the count."""
    with pytest.raises(ValueError, match="not in a plan of 3"):
        PartPlan(25, 10).part(number)
