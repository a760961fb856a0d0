"""The profile: where it is, who may read it, whom its key is told."""

import stat

import pytest
from llmspell._channel import resolve
from llmspell._profile import Profile, profile_path, read_profile, write_profile
from llmspell.errors import FailedPrecondition, InvalidArgument

ADDRESS = "127.0.0.1:50060"


@pytest.fixture
def path(tmp_path):
    """A profile that is written."""
    return write_profile(
        tmp_path / "new" / "profile.toml", address=ADDRESS, api_key='k"\\', tenant="acme"
    )


def connection(environment, address=None, api_key=None, tenant=None, profile=None):
    """What a client would use."""
    return resolve(
        address, api_key, tenant=tenant, timeout_s=1, profile=profile, environment=environment
    )


def test_written_profile_reads_back(path):
    """What is written is read, whatever characters the key has."""
    assert read_profile(path) == Profile(ADDRESS, 'k"\\', "acme")


def test_written_profile_is_for_its_owner(path):
    """The file is 0600, its folder 0700, and nothing is left beside it."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_rewriting_replaces_mode_and_content(path):
    """Writing again repairs a mode that was opened up."""
    path.chmod(0o644)
    write_profile(path, address=ADDRESS, api_key="other")
    assert read_profile(path) == Profile(ADDRESS, "other", "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_profile_that_others_may_read_is_refused(path, mode):
    """A key that others can read is not used; the message says what to do."""
    path.chmod(mode)
    with pytest.raises(FailedPrecondition, match="chmod 600") as caught:
        read_profile(path)
    assert caught.value.reason == "CONFIG_INVALID"


def test_profile_repr_hides_the_key(path):
    """Neither profile nor connection shows its key in a log."""
    used = connection({"LLMSPELL_PROFILE": str(path)})
    assert 'k"' not in repr(read_profile(path))
    assert 'k"' not in repr(used)
    assert used.api_key == 'k"\\'


@pytest.mark.parametrize(
    "content", ["address = 5\n", "adress = 'x'\n", "[broken", b"\xff\xfe"], ids=repr
)
def test_profile_mistake_names_the_file(path, content):
    """A malformed profile is an error that names it."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FailedPrecondition, match=r"profile\.toml"):
        read_profile(path)


def test_profile_place():
    """LLMSPELL_PROFILE is stronger than XDG_CONFIG_HOME, which is stronger than ~/.config."""
    assert str(profile_path({"LLMSPELL_PROFILE": "/a", "XDG_CONFIG_HOME": "/b"})) == "/a"
    assert str(profile_path({"XDG_CONFIG_HOME": "/b"})) == "/b/llmspell/profile.toml"
    assert str(profile_path({})).endswith("/.config/llmspell/profile.toml")


def test_arguments_over_environment_over_profile(path):
    """What is given wins, then the environment, then the profile."""
    environment = {"LLMSPELL_PROFILE": str(path)}
    assert connection(environment).address == ADDRESS
    named = {**environment, "LLMSPELL_ADDRESS": "h:1", "LLMSPELL_API_KEY": "e"}
    assert (connection(named).address, connection(named).api_key) == ("h:1", "e")
    given = connection(named, address="h:2", api_key="g", tenant="t")
    assert (given.address, given.api_key, given.tenant) == ("h:2", "g", "t")


def test_profile_key_is_told_to_its_own_address_only(path):
    """A key goes to the server that it was saved for, and its tenant with it."""
    environment = {"LLMSPELL_PROFILE": str(path)}
    elsewhere = connection(environment, address="127.0.0.1:1")
    assert (elsewhere.api_key, elsewhere.tenant) == ("", "")
    at_home = connection(environment, address=ADDRESS)
    assert (at_home.api_key, at_home.tenant) == ('k"\\', "acme")


def test_another_key_does_not_act_for_the_profiles_tenant(path):
    """With a key of one's own only the profile's address is used."""
    used = connection({"LLMSPELL_PROFILE": str(path)}, api_key="mine")
    assert (used.address, used.api_key, used.tenant) == (ADDRESS, "mine", "")


def test_no_address_says_what_to_do(tmp_path):
    """Without any address the error names the ways to give one."""
    with pytest.raises(FailedPrecondition, match="llmspell up"):
        connection({"LLMSPELL_PROFILE": str(tmp_path / "absent.toml")})


def test_named_profile_must_be_there(tmp_path):
    """A profile that was named explicitly and is missing is an error."""
    with pytest.raises(FailedPrecondition, match=r"absent\.toml"):
        connection({}, profile=tmp_path / "absent.toml")


@pytest.mark.parametrize("address", ["localhost", "http://h:1", "h:", "h:x", "h:1/x"])
def test_impossible_address_is_refused(address):
    """An address without a port, or with a scheme, is refused before it is tried."""
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        connection({}, address=address, api_key="k")


@pytest.mark.parametrize("address", ["h:1", "[::1]:5", "unix:/tmp/s", "dns:///h:1"])
def test_possible_address_is_kept(address):
    """Names, IPv6 and gRPC's own forms go through."""
    assert connection({}, address=address, api_key="k").address == address


@pytest.mark.parametrize("key", ["a b", "a\nb", "ä", "a\x00b"])
def test_key_that_is_no_header_text_is_refused(key):
    """A key that cannot travel in a header is named without being shown."""
    with pytest.raises(InvalidArgument, match="api_key") as caught:
        connection({}, address="h:1", api_key=key)
    assert key not in caught.value.message


def test_key_is_stripped():
    """A key read from a file keeps working with its line end."""
    assert connection({}, address="h:1", api_key="k\n").api_key == "k"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (f"00-{'ab' * 16}-{'cd' * 8}-01", True),
        ("", False),
        ("no trace", False),
        (f"00-{'AB' * 16}-{'cd' * 8}-01", False),
        (f"00-{'ab' * 16}-{'cd' * 8}-01\n", False),
    ],
)
def test_the_environments_trace_goes_with_every_call(path, given, sent):
    """Where it is one; anything else is left out, and no error."""
    found = connection({"LLMSPELL_PROFILE": str(path), "TRACEPARENT": given})
    entries = dict(found.metadata())
    assert entries.get("traceparent") == (given if sent else None)
