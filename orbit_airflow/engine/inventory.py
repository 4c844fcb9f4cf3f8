"""What the store already has of an upload, compared part by part with the file before any of it is trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orbit_airflow.engine.body import WorkerBuffers
from orbit_airflow.engine.errors import SourceChanged
from orbit_airflow.engine.job import UploadJob
from orbit_airflow.engine.model import ListedPart, PartReceipt
from orbit_airflow.engine.plan import PartPlan
from orbit_airflow.engine.proof import part_is_local, wants_md5
from orbit_airflow.engine.runner import run_all
from orbit_airflow.engine.source import BLOCK, Source
from orbit_airflow.engine.token import UploadToken


class Inventory:
    """One look at an upload's parts. ``seen`` counts those that were listed, strangers included; ``quiet``: differing
    parts are no news, since it is not yet known whose upload this is.
    """

    def __init__(self, job: UploadJob, source: Source, token: UploadToken, *, quiet: bool = False) -> None:
        self.seen = 0
        self._quiet = quiet
        self._job = job
        self._source = source
        self._token = token
        self._plan = PartPlan(source.size, token.part_size or 1)

    def compared(self, known: Mapping[int, PartReceipt] | None = None) -> dict[int, PartReceipt]:
        """Receipts of the parts that hold the file's present bytes; the others will be sent again. Those of ``known``
        whose ETag has not changed were compared before, and are not read again.

        UploadGone when the upload is not there. SourceChanged when parts differ, the file's stat differs from the
        token's, and changes are to fail the transfer. Memory: one receipt per part, at most 10,000.
        """
        job = self._job
        buffers, before = WorkerBuffers(BLOCK), known or {}

        def compare(worker: int, listed: ListedPart) -> tuple[ListedPart, PartReceipt | None]:
            job.cancel.check()
            earlier = before.get(listed.number)
            if earlier is not None and earlier.etag == listed.etag:
                return listed, earlier
            return listed, self._compare(listed, buffers.of(worker))

        pages = self.listed()
        results = run_all(
            pages, compare, workers=job.config.parallel_operations, cancel=job.cancel, name="orbit-compare"
        )
        receipts = {receipt.number: receipt for _, receipt in results if receipt is not None}
        if not self._quiet:
            self._report([listed for listed, receipt in results if receipt is None], matched=len(receipts))
        return receipts

    def listed(self) -> Iterator[ListedPart]:
        """The listed parts that are part of the plan; strangers are left to Complete, which does not name them."""
        job, after = self._job, 0
        upload_id = self._token.upload_id or ""
        while True:
            page = job.store.list_parts(job.ref, upload_id, after)
            for listed in page.parts:
                self.seen += 1
                if 1 <= listed.number <= self._plan.count and listed.size == self._plan.part(listed.number).size:
                    yield listed
                elif not self._quiet:
                    job.notice(f"the store lists a part {listed.number} of {listed.size} bytes that is not in the plan")
            if page.next_marker is None:
                return
            after = page.next_marker

    def _compare(self, listed: ListedPart, buffer: memoryview) -> PartReceipt | None:
        part = self._plan.part(listed.number)
        crc, md5 = self._source.digest(part, buffer, md5=wants_md5(listed), check=self._job.cancel.check)
        if not part_is_local(listed, crc, md5):
            return None
        return PartReceipt(listed.number, listed.size, listed.etag, crc, md5, echoed=listed.checksum is not None)

    def _report(self, differing: list[ListedPart], *, matched: int) -> None:
        if not differing:
            return
        job = self._job
        # Where not a single ETag is the MD5 of its part, they are no MD5s, however much they look like it.
        opaque = not matched and all(part.checksum is None for part in differing)
        unprovable = [part for part in differing if opaque or (part.checksum is None and not wants_md5(part))]
        if unprovable:
            job.notice(f"{len(unprovable)} parts have no checksum and no MD5 to compare; they are sent again")
        wrong = len(differing) - len(unprovable)
        if not wrong:
            return
        if self._token.source == self._source.identity:
            job.notice(f"{wrong} parts at the store are not of this file; they are sent again", warning=True)
        elif job.options.on_source_change == "fail":
            raise SourceChanged(f"{job.path} changed since its upload began ({wrong} of the parts sent differ)")
        else:
            job.notice(f"{job.path} changed since its upload began; {wrong} parts are sent again", warning=True)
