"""Is what we are made of known, and does an install refuse what is not that?"""

import hashlib
import json
import re
import subprocess
import sys
import zipfile

import yaml

from docs import supply
from tests.house import tree

LOCK = tree.text("requirements.lock")
MAY_USE = re.compile(
    r"MIT|Apache|BSD|PSF|Python Software Foundation|ISC|MPL|Mozilla|Zlib|CC0|OLDAP|Unlicense"
    r"|Public Domain|not installed on this platform"
)
SEEN = set(tree.text("tests/data/system_calls_seen.txt").split())
"""System calls of a deployment that was started, asked for all kinds of things, and stopped."""
OPENS_THE_MACHINE = set(tree.text("tests/data/system_calls_refused.txt").split())


def test_the_bill_has_what_the_lock_has():
    """`make sbom` was run after the lock changed: the same packages, of the same versions."""
    kept = json.loads(supply.SBOM.read_text("utf-8"))
    assert kept["bomFormat"] == "CycloneDX"
    told = {(each["name"], each["version"]) for each in kept["components"]}
    assert told == {(name, version) for name, version, _ in supply.pins(LOCK)}
    assert len(told) > 50


def test_licences_are_such_as_we_may_use():
    """Each package says a licence, and each is one that asks for no source in return."""
    rows = [line.split(" | ") for line in supply.LICENCES.read_text("utf-8").splitlines()]
    told = {row[0].strip("| "): row[2].strip("| ") for row in rows if len(row) == 3}
    del told["package"]
    assert [name for name, licence in told.items() if not MAY_USE.search(licence)] == []
    assert set(told) == {name for name, _, _ in supply.pins(LOCK)}


def test_an_altered_hash_ends_the_install(tmp_path):
    """With the right hash a package is installed; with one digit of it changed nothing is."""
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("tiny.py", "")
        about = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        made.writestr("tiny-1.0.dist-info/METADATA", about)
        made.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        made.writestr("tiny-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    altered = ("0" if digest[0] != "0" else "1") + digest[1:]
    assert _install(tmp_path, wheel, altered).returncode != 0
    assert not (tmp_path / "into" / "tiny.py").exists()
    done = _install(tmp_path, wheel, digest)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "into" / "tiny.py").exists()


def _install(folder, wheel, digest):
    """As the Makefile does it, without an index."""
    lock = folder / "lock"
    lock.write_text(f"tiny @ file://{wheel} --hash=sha256:{digest}\n")
    flags = [
        "--quiet",
        "--no-index",
        "--no-deps",
        "--require-hashes",
        "--disable-pip-version-check",
    ]
    return subprocess.run(
        [sys.executable, "-m", "pip", "install", *flags, "--target", folder / "into", "-r", lock],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_profile_allows_what_was_seen_and_nothing_that_opens_the_machine():
    """deploy/seccomp.json: a list of what is allowed, and compose.seccomp.yaml lays it over all."""
    profile = json.loads(tree.text("deploy/seccomp.json"))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    (group,) = profile["syscalls"]
    assert group["action"] == "SCMP_ACT_ALLOW"
    allowed = set(group["names"])
    assert allowed >= SEEN
    assert allowed.isdisjoint(OPENS_THE_MACHINE)
    services = yaml.safe_load(tree.text("compose.seccomp.yaml"))["services"]
    assert set(services) == set(yaml.safe_load(tree.text("compose.yaml"))["services"])
    for one in services.values():
        assert one["security_opt"] == ["no-new-privileges:true", "seccomp:./deploy/seccomp.json"]
