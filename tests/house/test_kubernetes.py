"""Are the manifests of deploy/kubernetes valid, and do they fit the settings and compose.yaml?"""

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from services.common.config import load_settings
from tests.house import tree

FOLDER = Path("deploy/kubernetes")
BASE = sorted(path.name for path in (tree.ROOT / FOLDER / "base").glob("*.yaml"))
NAMES = ("gateway", "runtime", "vector", "state")
CALLS = {
    "gateway": {"runtime", "vector", "state"},
    "runtime": {"vector", "state"},
    "vector": {"state"},
    "state": set(),
}
VERSION = "1.31"


def documents(file):
    """All objects of a file."""
    return list(yaml.safe_load_all(tree.text(str(FOLDER / "base" / file))))


def workload(name):
    """What runs a process."""
    return next(each for each in documents(f"{name}.yaml") if "template" in each.get("spec", {}))


def pod(name):
    """Its pod."""
    return workload(name)["spec"]["template"]["spec"]


def settings(name):
    """The settings that it starts with, by the real loader."""
    environment = {each["name"]: each["value"] for each in pod(name)["containers"][0]["env"]}
    return load_settings(None, environment)


@pytest.mark.parametrize("file", [name for name in BASE if name != "kustomization.yaml"])
def test_each_object_fits_the_schema(file):
    """Of Kubernetes itself, strictly: an unknown field is refused."""
    for each in documents(file):
        kubernetes_validate.validate(each, VERSION, strict=True)


def test_an_object_that_does_not_fit_is_refused():
    """The schema is really asked."""
    bad = workload("gateway") | {"spec": workload("gateway")["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, VERSION, strict=True)


def test_every_file_is_a_resource():
    """None is forgotten."""
    listed = yaml.safe_load(tree.text(str(FOLDER / "base" / "kustomization.yaml")))["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == BASE


@pytest.mark.parametrize("name", NAMES)
def test_settings_meet(name):
    """Each variable is a setting, and whom a process calls is where that one listens."""
    own = getattr(settings(name), name)
    for called in CALLS[name]:
        port = getattr(settings(called), called).listen.rpartition(":")[2]
        assert getattr(own, called) == f"{called}:{port}"
    port = int(own.listen.rpartition(":")[2])
    container = pod(name)["containers"][0]
    assert container["ports"] == [{"name": "grpc", "containerPort": port}]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["grpc"]["port"] == port
    assert container["readinessProbe"]["grpc"]["service"] != ""


@pytest.mark.parametrize("name", NAMES)
def test_pods_are_closed(name):
    """As the containers of compose.yaml are."""
    spec, container = pod(name), pod(name)["containers"][0]
    compose = yaml.safe_load(tree.text("compose.yaml"))["services"][name]
    who = f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
    assert who == compose["user"]
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    files = next(each for each in spec["volumes"] if each["name"] == "secrets")["secret"]["items"]
    assert {each["key"] for each in files} == set(compose["secrets"])


@pytest.mark.parametrize("name", NAMES)
def test_a_process_would_start(name):
    """Plaintext off the machine is refused, unless it is said that the network is closed."""
    told = settings(name)
    assert told.deployment.allow_plaintext is True
    assert told.gateway.allow_plaintext is (name == "gateway")


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_has_time_to_leave(name):
    """Longer than it goes on serving and drains."""
    times = settings(name).deployment
    assert pod(name)["terminationGracePeriodSeconds"] > times.lame_duck_s + times.drain_s
    period = pod(name)["containers"][0]["readinessProbe"]["periodSeconds"]
    assert times.lame_duck_s > 2 * period, "whoever asks must hear of it meanwhile"


@pytest.mark.parametrize("name", NAMES)
def test_only_who_calls_gets_through(name):
    """The network's rules are the calls of the processes, and nothing else."""
    rules = {each["metadata"]["name"]: each["spec"] for each in documents("network.yaml")}
    allowed = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for rule in rules[name].get("egress", ())
        for peer in rule["to"]
    }
    assert allowed == CALLS[name]
    callers = {caller for caller, called in CALLS.items() if name in called}
    (door,) = rules[name]["ingress"]
    let_in = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for peer in door.get("from", ())
    }
    assert let_in == callers
    assert rules["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.skipif(shutil.which("kustomize") is None, reason="there is no kustomize here")
@pytest.mark.parametrize("folder", ["base", "several"])
def test_kustomize_builds_them(folder):
    """What kustomize makes of a folder fits the schema, and has as many processes as it says."""
    built = subprocess.run(
        ["kustomize", "build", str(tree.ROOT / FOLDER / folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    made = list(yaml.safe_load_all(built.stdout))
    for each in made:
        kubernetes_validate.validate(each, VERSION, strict=True)
    counts = {
        each["metadata"]["name"]: each["spec"]["replicas"]
        for each in made
        if each["kind"] in {"Deployment", "StatefulSet"}
    }
    several = 3 if folder == "several" else 1
    assert counts == {"state": 1, "vector": 1, "runtime": several, "gateway": several}
    assert {each["metadata"].get("namespace", "llmspell") for each in made} == {"llmspell"}
