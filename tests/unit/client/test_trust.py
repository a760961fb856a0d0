"""Does a client know whom to trust from arguments, environment and profile, in that order?"""

import pytest
from llmspell import Client
from llmspell._channel import open_channel, resolve
from llmspell._profile import write_profile
from llmspell._trust import Trust, given_trust
from llmspell.errors import FailedPrecondition, InvalidArgument


def connection(environment, *, address=None, key=None, profile=None, **trust):
    """What is made of all that is given."""
    return resolve(
        address,
        key,
        tenant=None,
        timeout_s=1.0,
        profile=profile,
        environment=environment,
        trust=given_trust(
            trust.get("ca"), trust.get("certificate"), trust.get("key_file"), environment
        ),
    )


def test_arguments_come_before_the_environment_and_that_before_the_profile(tmp_path):
    """The nearest one counts."""
    saved = write_profile(tmp_path / "p", address="a:1", api_key="k", ca_file="/saved")
    environment = {"LLMSPELL_CA_FILE": "/environment"}
    assert connection({}, profile=saved).trust.ca_file == "/saved"
    assert connection(environment, profile=saved).trust.ca_file == "/environment"
    assert connection(environment, profile=saved, ca="/given").trust.ca_file == "/given"


def test_a_profile_is_trusted_for_its_own_address_only(tmp_path):
    """Another address gets neither the saved key nor the saved authority; another key keeps it."""
    saved = write_profile(tmp_path / "p", address="a:1", api_key="k", ca_file="/saved")
    assert connection({}, profile=saved, address="b:1").trust == Trust()
    assert connection({}, profile=saved, address="b:1").api_key == ""
    again = connection({}, profile=saved, key="other")
    assert (again.trust.ca_file, again.api_key, again.tenant) == ("/saved", "other", "")


def test_half_of_a_pair_is_refused():
    """A certificate without a key, or without an authority: an error that names the argument."""
    with pytest.raises(InvalidArgument, match="need each other"):
        Trust(ca_file="a", certificate_file="b")
    with pytest.raises(InvalidArgument, match="needs ca_file"):
        Trust(certificate_file="b", key_file="c")


def test_files_that_cannot_be_used_are_named(tmp_path):
    """Not there, or not PEM: the error has the path."""
    with pytest.raises(FailedPrecondition, match=r"/no/such cannot be read"):
        Client("localhost:1", "k", ca_file="/no/such")
    (tmp_path / "ca").write_text("hello")
    with pytest.raises(FailedPrecondition, match="is not PEM"):
        Client("localhost:1", "k", ca_file=tmp_path / "ca")


def test_the_usual_authorities_need_no_file():
    """`system` opens an encrypted channel by what grpc comes with."""
    made = connection({}, address="localhost:1", ca="system")
    assert made.trust
    open_channel(made).close()
