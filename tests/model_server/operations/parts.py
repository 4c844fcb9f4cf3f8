"""The parts of a finished object, as a GET or HEAD by part number sees them."""

from tests.model_server.checksums import encode_digest
from tests.model_server.errors import S3Error
from tests.model_server.operations.traits import checksum_headers
from tests.model_server.state import StoredVersion


def part_span(version: StoredVersion, number: int) -> tuple[int, int] | None:
    """The bytes of the part; None when the object has none. InvalidPartNumber for a part that there is not.

    What was never multipart is its own first part.
    """
    index, blobs = _index(version, number), version.content.blobs
    start = sum(blob.size for blob in blobs[:index])
    return (start, start + blobs[index].size) if version.size else None


def count_header(version: StoredVersion) -> dict[str, str]:
    """How many parts a multipart object has."""
    return {"x-amz-mp-parts-count": str(len(version.content.blobs))} if version.multipart else {}


def part_checksum_headers(version: StoredVersion, number: int) -> dict[str, str]:
    """The checksum of the part: its own of a COMPOSITE one; of a FULL_OBJECT one only when the part is the whole."""
    checksum = version.checksum
    if checksum is None:
        return {}
    if checksum.type == "COMPOSITE":
        value = encode_digest(version.part_digests[_index(version, number)])
        return {checksum.algorithm.header: value, "x-amz-checksum-type": checksum.type}
    return checksum_headers(version) if len(version.content.blobs) == 1 else {}


def _index(version: StoredVersion, number: int) -> int:
    numbers = version.part_numbers if version.multipart else (1,)
    if number not in numbers:
        fields = {"PartNumberRequested": str(number), "ActualPartCount": str(len(numbers))}
        raise S3Error("InvalidPartNumber", "The requested partnumber is not satisfiable", fields=fields)
    return numbers.index(number)
