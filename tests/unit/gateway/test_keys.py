"""API keys: their form, and what is kept of them."""

import pytest
from blake3 import blake3

from services.gateway.keys import OPERATOR_ID, PREFIX, Digests, new_key, read_credential

DIGESTS = Digests(b"p" * 32)


def test_a_new_key_can_be_read():
    """Id and digest of a key are those that it was made with."""
    key_id, key = new_key()
    credential = read_credential(key)
    assert credential.key_id == key_id
    assert DIGESTS.fits(credential, [DIGESTS.of(key)])
    assert key.startswith(f"{PREFIX}_{key_id}_")


def test_a_named_key_keeps_its_name():
    """The operator's key says so."""
    assert read_credential(new_key(OPERATOR_ID)[1]).key_id == OPERATOR_ID


def test_keys_are_never_the_same():
    """Ids and secrets are new each time, and an id is never the operator's."""
    keys = [new_key() for _ in range(200)]
    assert len({key_id for key_id, _ in keys}) == 200
    assert len({key.removeprefix(f"{PREFIX}_{key_id}_") for key_id, key in keys}) == 200
    assert OPERATOR_ID not in dict(keys)


def test_the_secret_has_256_bits():
    """So that no slow hash is needed."""
    key_id, key = new_key()
    assert len(key.removeprefix(f"{PREFIX}_{key_id}_")) == 43


def test_the_digest_is_of_the_whole_key():
    """The same secret under another id is another key."""
    first, second = f"{PREFIX}_a_{'x' * 43}", f"{PREFIX}_b_{'x' * 43}"
    assert not DIGESTS.fits(read_credential(first), [DIGESTS.of(second)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "llms",
        "llms__" + "x" * 43,
        "llms_a_",
        "llms_a_" + "x" * 19,
        "llms_a_" + "x" * 65,
        "llms_A_" + "x" * 43,
        "LLMS_a_" + "x" * 43,
        "xxxx_a_" + "x" * 43,
        "llms_" + "a" * 33 + "_" + "x" * 43,
        "llms_a_" + "x" * 43 + "\n",
        " llms_a_" + "x" * 43,
        "llms_a_" + "x" * 42 + " ",
        "llms_a_" + "x" * 42 + "é",
        "llms_\u0661_" + "x" * 43,
        "llms_a_" + "x" * 20 + "\x00" + "x" * 22,
        "llms_../etc_" + "x" * 43,
        "x" * 1_000_000,
    ],
)
def test_what_is_no_key(text):
    """Only the exact form is read; nothing is trimmed or converted here."""
    assert read_credential(text) is None


def test_what_is_kept_needs_the_pepper():
    """Whoever has the store alone can neither check a guess nor plant a key that he knows."""
    _, key = new_key()
    kept = DIGESTS.of(key)
    assert key not in kept
    assert kept != Digests(b"q" * 32).of(key)
    assert not Digests(b"q" * 32).fits(read_credential(key), [kept])


def test_two_secrets_fit_while_both_are_kept():
    """The one before and the one now; a third is none of them."""
    first, second, third = (new_key("a")[1] for _ in range(3))
    kept = [DIGESTS.of(first), DIGESTS.of(second)]
    assert [DIGESTS.fits(read_credential(key), kept) for key in (first, second, third)] == [
        True,
        True,
        False,
    ]


def test_a_key_of_an_earlier_release_fits():
    """Its digest is blake3 without a pepper, as it was kept then."""
    _, key = new_key()
    assert DIGESTS.fits(read_credential(key), [blake3(key.encode()).hexdigest()])


@pytest.mark.parametrize("kept", [[], [""], ["zz"], ["hmac-sha256:"], ["00"], ["00" * 32], ["é"]])
def test_nothing_fits_what_is_no_digest(kept):
    """Damage in the store lets nobody in."""
    assert not DIGESTS.fits(read_credential(new_key()[1]), kept)


def test_a_credential_does_not_show_its_secret():
    """In a log or a trace."""
    _, key = new_key()
    assert key[-20:] not in repr(read_credential(key))
