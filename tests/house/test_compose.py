"""Does compose.yaml fit the settings, and is each container closed as the guide says?"""

import re

import pytest
import yaml

from services.common.config import load_settings
from services.gateway.server import OWNERS
from tests.house import tree

COMPOSE = yaml.safe_load(tree.text("compose.yaml"))
NAMES = ("gateway", "runtime", "vector", "state")
CALLS = {"gateway": ("runtime", "vector", "state"), "runtime": ("vector", "state")}


def service(name):
    """One service of the file."""
    return COMPOSE["services"][name]


def settings(name):
    """The settings that a container starts with, by the real loader."""
    return load_settings(None, service(name)["environment"])


def own(name):
    """The container's own table of them."""
    return getattr(settings(name), name)


def test_the_four_processes_are_there():
    """One service a process, each started as its own module, all from one image."""
    assert set(COMPOSE["services"]) == set(NAMES) == {"gateway", *OWNERS.values()}
    for name in NAMES:
        assert service(name)["command"] == ["python", "-m", f"services.{name}"]
    assert len({service(name)["image"] for name in NAMES}) == 1


def test_settings_are_known_and_addresses_meet():
    """Each variable is a setting; where one process calls another is where that one listens."""
    for caller, called in CALLS.items():
        for name in called:
            port = own(name).listen.rpartition(":")[2]
            assert getattr(own(caller), name) == f"{name}:{port}"


@pytest.mark.parametrize("name", NAMES)
def test_health_checks_ask_the_own_port(name):
    """Each container asks its own process by gRPC health."""
    port = own(name).listen.rpartition(":")[2]
    asked = ["python", "-m", "services.common.healthcheck", f"127.0.0.1:{port}"]
    assert service(name)["healthcheck"]["test"] == ["CMD", *asked]


def test_only_the_gateway_is_published_and_to_this_machine():
    """One port, on the loopback address unless the operator says otherwise."""
    assert [name for name in NAMES if "ports" in service(name)] == ["gateway"]
    port = own("gateway").listen.rpartition(":")[2]
    assert service("gateway")["ports"] == [f"${{LLMSPELL_PUBLISH:-127.0.0.1:{port}}}:{port}"]


def test_the_inner_network_has_no_way_out():
    """Only the gateway is on a network that leads anywhere."""
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in NAMES:
        expected = ["outside", "inside"] if name == "gateway" else ["inside"]
        assert service(name)["networks"] == expected


def test_only_stores_have_volumes():
    """Tenants' files, vectors and state are in volumes where settings say; the gateway has none."""
    for name in NAMES:
        volumes = service(name).get("volumes", [])
        expected = [f"{name}:{own(name).data}"] if name != "gateway" else []
        assert volumes == expected
    assert set(COMPOSE["volumes"]) == {"runtime", "vector", "state"}


def test_secrets_are_files():
    """Keys arrive as files; the operator's reaches the gateway alone, the master key state."""
    more = {"gateway": {"operator_key"}, "state": {"master_key"}}
    for name in NAMES:
        given = set(service(name)["secrets"])
        assert given == {"context_key"} | more.get(name, set())
        assert settings(name).deployment.context_key_file == "/run/secrets/context_key"
        assert not [key for key in service(name)["environment"] if re.search("SECRET|_KEY$", key)]
    assert own("gateway").operator_key_file == "/run/secrets/operator_key"
    assert own("state").master_key_file == "/run/secrets/master_key"
    assert {one["file"].split("/")[1] for one in COMPOSE["secrets"].values()} == {"secrets"}
    assert "/secrets/" in tree.text(".gitignore").splitlines()
    assert tree.text(".dockerignore").splitlines()[1] == "*"


@pytest.mark.parametrize("name", NAMES)
def test_containers_are_closed(name):
    """Fixed user, read-only root, no capability, no new privilege, limits, time to stop."""
    one = service(name)
    assert one["user"] == "10001:10001"
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["init"] is True
    assert one["pids_limit"]
    assert one["mem_limit"]
    assert one["tmpfs"][0].startswith("/tmp:")
    assert "noexec" in one["tmpfs"][0]
    assert float(one["stop_grace_period"].rstrip("s")) > settings(name).deployment.drain_s


def test_a_run_fits_into_its_container():
    """The runtime has room for as many runs as it may hold, and refuses to run them unjailed."""
    most = own("runtime")
    assert most.runs_at_once * most.run_memory_bytes < 2 * 1024**3
    assert service("runtime")["mem_limit"] == "2g"
    assert most.runs_at_once < service("runtime")["pids_limit"] / 4
    assert most.require_kernel_layers is True


def test_the_image_runs_as_the_same_user_and_sends_nothing():
    """The Dockerfile's user is compose.yaml's, its base is an argument, and telemetry is off."""
    text = tree.text("Dockerfile")
    assert "ARG BASE_IMAGE=" in text
    assert text.count("FROM ${BASE_IMAGE}") == 2
    assert "USER 10001:10001" in text
    assert "ORT_DISABLE_TELEMETRY=1" in text


TLS = yaml.safe_load(tree.text("compose.tls.yaml"))["services"]


def encrypted(name):
    """The settings of a container where compose.tls.yaml is laid over compose.yaml."""
    given = service(name)["environment"] | TLS[name]["environment"]
    return load_settings(None, {k: v for k, v in given.items() if k.startswith("LLMSPELL__")})


@pytest.mark.parametrize("name", NAMES)
def test_plaintext_is_allowed_where_nobody_else_listens_and_nowhere_with_tls(name):
    """compose.yaml says that its networks are closed; compose.tls.yaml takes that back."""
    assert settings(name).deployment.allow_plaintext is True
    assert settings(name).gateway.allow_plaintext is (name == "gateway")
    with_tls = encrypted(name)
    assert with_tls.deployment.allow_plaintext is False
    assert with_tls.gateway.allow_plaintext is False


@pytest.mark.parametrize("name", NAMES)
def test_each_container_has_its_own_certificate_alone(name):
    """One folder of `make certs`, read-only; the authority's key is in none; health checks too."""
    assert TLS[name]["volumes"] == [f"./secrets/tls/{name}:/run/tls:ro"]
    shared, variables = encrypted(name).deployment, TLS[name]["environment"]
    assert shared.tls_certificate_file == variables["LLMSPELL_CERTIFICATE_FILE"]
    assert shared.tls_key_file == variables["LLMSPELL_KEY_FILE"] == "/run/tls/tls.key"
    assert shared.tls_ca_file == variables["LLMSPELL_CA_FILE"] == "/run/tls/ca.crt"
    assert bool(encrypted(name).gateway.tls_certificate_file) is (name == "gateway")
