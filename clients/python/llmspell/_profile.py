"""The profile file: which server to speak to, and with which key.

`$XDG_CONFIG_HOME/llmspell/profile.toml`, or what `LLMSPELL_PROFILE` names. It holds a secret, so
it must be readable by its owner only.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from llmspell.errors import FailedPrecondition

_MODE = 0o600
_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile file says; empty text where it says nothing."""

    address: str = ""
    """`HOST:PORT` of a gateway."""
    api_key: str = field(default="", repr=False)
    """Key for that gateway, and for no other."""
    tenant: str = ""
    """Tenant to act for with that key."""


def profile_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where the profile is; None: in the environment of this process."""
    environment = os.environ if environment is None else environment
    named = environment.get("LLMSPELL_PROFILE")
    if named:
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Path(home) / "llmspell" / "profile.toml"


def read_profile(path: Path) -> Profile | None:
    """What the file says; None where there is no file.

    Raises:
        FailedPrecondition: CONFIG_INVALID where others may read it, or it is not a profile.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & ~_MODE:
                raise _invalid(path, f"can be read by others; do `chmod 600 {path}`")
            content = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _invalid(path, f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(path, f"is not TOML: {error}") from None
    return _checked(path, content)


def write_profile(path: Path | None, *, address: str, api_key: str, tenant: str = "") -> Path:
    """Write a profile that only its owner can read, all at once; where it is now.

    Args:
        path: The file; None: the usual place.
        address: `HOST:PORT` of the gateway.
        api_key: Key for it.
        tenant: Tenant to act for; empty: none is named.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    target = path or profile_path()
    target.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    values = {"address": address, "api_key": api_key, "tenant": tenant}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value]
    # mkstemp makes the file 0600 from its first moment; the rename makes it whole or absent.
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".profile-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(lines)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def _checked(path: Path, content: dict[str, object]) -> Profile:
    known = [key.name for key in fields(Profile)]
    for name, value in content.items():
        if name not in known:
            raise _invalid(path, f"has the unknown key {name!r}; known are {', '.join(known)}")
        if not isinstance(value, str):
            raise _invalid(path, f"must give {name!r} as text in quotes")
    return Profile(**content)  # type: ignore[arg-type]  # checked to be text just above


def _invalid(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"The profile {path} {why}.", reason="CONFIG_INVALID", metadata={"file": str(path)}
    )
