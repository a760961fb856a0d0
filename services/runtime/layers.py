"""What of the jail holds on this machine, in words that an operator can read."""

from __future__ import annotations

from collections.abc import Mapping

_ALWAYS = "closed descriptors, an empty environment, limits of the process"
"""On every Linux; `sandbox.enter` fails where they cannot be had."""


def told(layers: Mapping[str, object]) -> str:
    """One line: what is on, and what is off; `layers` as `sandbox.enter` gives them."""
    landlock, user = layers.get("landlock"), layers.get("user")
    known = {
        "seccomp": bool(layers.get("seccomp")),
        f"Landlock (ABI {landlock})" if landlock else "Landlock": bool(landlock),
        "no new privileges": bool(layers.get("no_new_privs")),
        "first to go when memory runs out": bool(layers.get("oom_score_adj")),
    }
    on = [name for name, held in known.items() if held]
    off = [name for name, held in known.items() if not held]
    who = "user nobody" if user == "nobody" else "this process's own user"
    line = f"Strangers' code is held by {', '.join([*on, who, _ALWAYS])}."
    return f"{line} OFF: {', '.join(off)}." if off else line
