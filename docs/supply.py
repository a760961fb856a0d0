"""What this project is made of: a bill of materials (CycloneDX) and the licences, from the lock.

`make sbom` writes both. Names and versions are those of requirements.lock, where each also has its
hashes; licences are what each installed package says of itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
SBOM = ROOT / "docs" / "reference" / "sbom.cdx.json"
LICENCES = ROOT / "docs" / "reference" / "licences.md"

_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)(?:\s*;\s*([^\\]*?))?\s*\\?$", re.MULTILINE)
_BILL = "[the bill of materials](sbom.cdx.json)"
_ELSEWHERE = "not installed on this platform"


def pins(lock: str) -> Iterator[tuple[str, str, str]]:
    """Name, version and condition of each package of a lock file."""
    for found in _PIN.finditer(lock):
        yield found[1], found[2], (found[3] or "").strip()


def licence(name: str, version: str) -> str:
    """What an installed package says of its licence."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return _ELSEWHERE
    expression = told.get("License-Expression")
    if expression:
        return str(expression)
    classes = [
        each.rpartition(" :: ")[2]
        for each in told.get_all("Classifier") or ()
        if each.startswith("License :: ")
    ]
    named = [each for each in classes if each != "OSI Approved"]
    first = (told.get("License") or "").strip().splitlines()
    return ", ".join(named) or (first[0][:80] if first else f"not said by {name} {version}")


def bill(lock: str) -> dict[str, Any]:
    """The bill of materials, the same for the same lock file."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "licenses": [{"license": {"name": licence(name, version)}}],
        }
        for name, version, _ in pins(lock)
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, lock)}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "llmspell"}},
        "components": components,
    }


def page(lock: str) -> str:
    """The licences as a page."""
    lines = [
        "# Licences",
        "",
        f"What running needs, by requirements.lock; `make sbom` prints this page and {_BILL}.",
        "",
        "| package | version | licence |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {version} | {licence(name, version)} |" for name, version, _ in pins(lock)
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write both."""
    lock = LOCK.read_text("utf-8")
    SBOM.write_text(json.dumps(bill(lock), indent=1) + "\n", "utf-8")
    LICENCES.write_text(page(lock), "utf-8")
    sys.stdout.write(f"wrote {SBOM.relative_to(ROOT)} and {LICENCES.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
