"""The line that says what of the jail holds here."""

from services.runtime.layers import told
from services.runtime.pool import WorkerPool

ALL = {
    "seccomp": True,
    "landlock": 7,
    "no_new_privs": True,
    "oom_score_adj": True,
    "user": "nobody",
}


def test_what_is_on_is_named():
    """Each layer by its name, and nothing is called off."""
    line = told(ALL)
    for word in ("seccomp", "Landlock (ABI 7)", "no new privileges", "user nobody", "environment"):
        assert word in line
    assert "OFF" not in line


def test_what_is_off_is_named_as_off():
    """A layer that the machine lacks stands behind OFF, and nowhere else."""
    line = told(ALL | {"seccomp": False, "landlock": 0, "user": "same"})
    on, _, off = line.partition("OFF: ")
    assert off == "seccomp, Landlock."
    assert "seccomp" not in on
    assert "this process's own user" in on
    assert told({}).endswith(
        "OFF: seccomp, Landlock, no new privileges, first to go when memory runs out."
    )


async def test_this_machine_tells_its_own():
    """What the pool's zygote found is what is told."""
    async with WorkerPool() as pool:
        assert ("seccomp" in told(pool.layers).partition("OFF")[0]) is pool.layers["seccomp"]
