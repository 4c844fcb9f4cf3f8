"""What is looked at before a batch begins: too many keys, too large a share, none at all, a bad row."""

from __future__ import annotations

from orbit_airflow.engine.batch.config import BatchConfig
from orbit_airflow.engine.batch.report import RUN_PART, is_remote, report_prefix
from orbit_airflow.engine.batch.work import BatchWork
from orbit_airflow.engine.call import Call
from orbit_airflow.engine.errors import BatchRefused, ConfigError
from orbit_airflow.engine.keys import KeySource, PrefixKeys
from orbit_airflow.engine.manifest import ManifestKeys
from orbit_airflow.engine.version_keys import VersionKeys


def check_report(place: str | None, source: KeySource) -> None:
    """ConfigError for a report whose objects the source's prefix may list: the batch would work on its own report."""
    if not is_remote(place) or not isinstance(source, PrefixKeys | VersionKeys):
        return
    report, where = report_prefix(place), source.where
    pages = report.prefix + RUN_PART
    if report.bucket == where.bucket and (pages.startswith(where.prefix) or where.prefix.startswith(pages)):
        raise ConfigError(
            f"the report at {place} would lie below s3://{where.bucket}/{where.prefix}, which the batch works on; "
            "choose another prefix, or a path"
        )


def check_guards(call: Call, work: BatchWork, source: KeySource, config: BatchConfig) -> None:
    """BatchRefused when a guard says no. Reads a listing only as far as it must, and a manifest to its end: ConfigError
    or SourceError for what is wrong with any of its rows, before anything was changed.
    """
    share = config.max_delete_percent if work.removes else None
    if share is not None and not isinstance(source, PrefixKeys | VersionKeys):
        raise ConfigError("max_delete_percent needs a prefix: a share of what is there")
    if isinstance(source, ManifestKeys):
        source.check(call)
    if config.max_keys is None and share is None and not config.require_non_empty:
        return
    taken = scanned = 0
    for page in source.pages(call):
        taken += len(page.entries)
        scanned += page.scanned
        if config.max_keys is not None and taken > config.max_keys:
            raise BatchRefused(f"the source has more than {config.max_keys} keys (max_keys); nothing was changed")
        if taken and config.max_keys is None and share is None:
            break
    if config.require_non_empty and not taken:
        raise BatchRefused("the source has no keys (require_non_empty); nothing was changed")
    if share is not None and scanned and 100 * taken > share * scanned:
        raise BatchRefused(
            f"{taken} of {scanned} keys ({100 * taken / scanned:.1f} %) would be deleted, more than {share:g} % "
            "(max_delete_percent); nothing was changed"
        )
