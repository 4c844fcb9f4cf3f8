"""S3's storage classes, under AWS's names and the guide's."""

from __future__ import annotations

from enum import StrEnum

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.hints import did_you_mean


class StorageClass(StrEnum):
    """A storage class; the value is what goes over the wire.

    The first seven are the guide's. The others belong to other kinds of buckets or are no longer advised, and are
    passed on as they are. A class of a store's own (Ceph lets its operators name them) is given as
    ``extra_args={"StorageClass": ...}``, which is passed on unread.
    """

    STANDARD = "STANDARD"
    STANDARD_IA = "STANDARD_IA"
    ONEZONE_IA = "ONEZONE_IA"
    INTELLIGENT_TIERING = "INTELLIGENT_TIERING"
    GLACIER_IR = "GLACIER_IR"
    GLACIER = "GLACIER"
    DEEP_ARCHIVE = "DEEP_ARCHIVE"
    REDUCED_REDUNDANCY = "REDUCED_REDUNDANCY"
    OUTPOSTS = "OUTPOSTS"
    SNOW = "SNOW"
    EXPRESS_ONEZONE = "EXPRESS_ONEZONE"
    FSX_OPENZFS = "FSX_OPENZFS"
    FSX_ONTAP = "FSX_ONTAP"

    @property
    def archived(self) -> bool:
        """True when an object of this class must be restored before it can be read."""
        return self in (StorageClass.GLACIER, StorageClass.DEEP_ARCHIVE)

    @classmethod
    def parse(cls, text: str) -> StorageClass:
        """AWS's name or the guide's, in any case, with or without ``_`` and ``-``: ``GLACIER``, ``StandardIa``,
        ``glacier-flexible-retrieval``. Raises ConfigError with the name that was probably meant.
        """
        found = _BY_SPELLING.get(_spelling(text)) if isinstance(text, str) else None
        if found is None:
            known = [*(item.value for item in cls), *_GUIDE_NAMES]
            hint = did_you_mean(text, known) if isinstance(text, str) else ""
            raise ConfigError(f"no storage class {text!r}{hint}")
        return found


# The guide's names that are not AWS's in another spelling.
_GUIDE_NAMES = {
    "GlacierInstantRetrieval": StorageClass.GLACIER_IR,
    "GlacierFlexibleRetrieval": StorageClass.GLACIER,
    "GlacierDeepArchive": StorageClass.DEEP_ARCHIVE,
}


def _spelling(text: str) -> str:
    return text.strip().replace("_", "").replace("-", "").casefold()


_BY_SPELLING = {
    _spelling(name): item for name, item in [*((item.value, item) for item in StorageClass), *_GUIDE_NAMES.items()]
}
