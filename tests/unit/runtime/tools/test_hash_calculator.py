"""hash-calculator."""

import base64
import hashlib

import blake3
import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha384", "sha512", "blake2b"])
async def test_a_text_has_its_checksum(hand, algorithm):
    """Checksums are those of hashlib."""
    result = await hand.result("hash-calculator", algorithm=algorithm, data="hello")
    expected = hashlib.new(algorithm, b"hello").hexdigest()
    assert result == {"algorithm": algorithm, "hash": expected, "format": "hex"}


async def test_a_file_has_its_checksum_in_base64(hand):
    """A file of the tenant's folder, by its path alone."""
    data = bytes(range(256)) * 9000
    (hand.folder / "data.bin").write_bytes(data)
    result = await hand.result(
        "hash_calculator", file="data.bin", algorithm="blake3", format="base64"
    )
    assert base64.b64decode(result["hash"]) == blake3.blake3(data).digest()


async def test_a_checksum_is_verified(hand):
    """Either writing and either case of letters; a wrong one is told with what it is."""
    digest = hashlib.sha256(b"hello")
    known = {"operation": "verify", "input": "hello"}
    for form, written in (
        ("hex", digest.hexdigest().upper()),
        ("base64", base64.b64encode(digest.digest()).decode()),
    ):
        result = await hand.result(
            "hash-calculator", **known, expected_hash=written, expected_format=form
        )
        assert result["verified"] is True
    wrong = await hand.result("hash-calculator", **known, expected_hash="00" * 32)
    assert (wrong["verified"], wrong["actual"]) == (False, digest.hexdigest())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, Reason.FIELD_REQUIRED),
        ({"input": "a", "algorithm": "crc"}, Reason.FIELD_INVALID),
        ({"operation": "verify", "input": "a"}, Reason.FIELD_REQUIRED),
        ({"operation": "verify", "input": "a", "expected_hash": "zz"}, Reason.FIELD_INVALID),
        ({"file": "absent"}, Reason.FILE_NOT_FOUND),
        ({"file": "../globex/a"}, Reason.PATH_REFUSED),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason):
    """Nothing to read, unknown names, hashes that are none, files that are not the tenant's."""
    assert (await hand.refusal("hash-calculator", **arguments)).reason == reason
