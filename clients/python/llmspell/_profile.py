"""The profile file: which server to speak to, and with which key.

`$XDG_CONFIG_HOME/llmspell/profile.toml`, or what `LLMSPELL_PROFILE` names. It holds a secret, so
it must be readable by its owner only.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from llmspell.errors import FailedPrecondition, InvalidArgument

KEYRING_SERVICE = "llmspell"
"""Under which keys are in the system's keyring."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
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
    keyring: str = ""
    """The key is under this name in the system's keyring, and not here."""
    ca_file: str = ""
    """Authority that signed the gateway's certificate, or `system`; empty: plaintext."""
    certificate_file: str = ""
    """Own certificate, where the gateway asks for one."""
    key_file: str = ""
    """Its key."""


def profile_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where the profile is that is in use; None: in the environment of this process.

    What `LLMSPELL_PROFILE` names, a file or a profile by its name; else the one that
    `llmspell profile use` chose; else that of `llmspell up`.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("LLMSPELL_PROFILE")
    if named:
        return found_profile(named, environment)
    chosen = chosen_profile(environment)
    return named_path(chosen, environment) if chosen else usual_path(environment)


def usual_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where `llmspell up` writes its profile."""
    environment = os.environ if environment is None else environment
    named = environment.get("LLMSPELL_PROFILE")
    return Path(named) if named else profile_folder(environment) / "profile.toml"


def profile_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where profiles are kept."""
    environment = os.environ if environment is None else environment
    home = environment.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Path(home) / "llmspell"


def named_path(name: str, environment: Mapping[str, str] | None = None) -> Path:
    """Where the profile of a name is kept; the name's form is checked."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            "A profile's name is 1 to 32 lower-case letters, digits, '_' and '-', beginning with "
            f"a letter or digit, not {name[:64]!r}.",
            metadata={"field": "name"},
        )
    return profile_folder(environment) / "profiles" / f"{name}.toml"


def found_profile(text: str, environment: Mapping[str, str] | None = None) -> Path:
    """The file that is meant by a path, or by the name of a profile."""
    path = Path(text)
    if _NAME.fullmatch(text) and not path.exists():
        named = named_path(text, environment)
        return named if named.exists() else path
    return path


def chosen_profile(environment: Mapping[str, str] | None = None) -> str:
    """The name of the profile that was chosen; empty: none, or it has gone."""
    try:
        name = (profile_folder(environment) / "current").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return name if _NAME.fullmatch(name) and named_path(name, environment).exists() else ""


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


def write_profile(
    path: Path | None,
    *,
    address: str,
    api_key: str = "",
    tenant: str = "",
    keyring: str = "",
    ca_file: str = "",
) -> Path:
    """Write a profile that only its owner can read, all at once; where it is now.

    Args:
        path: The file; None: the usual place.
        address: `HOST:PORT` of the gateway.
        api_key: Key for it; empty: it is in the keyring.
        tenant: Tenant to act for; empty: none is named.
        keyring: Name of the key in the system's keyring.
        ca_file: Authority that signed the gateway's certificate; empty: plaintext.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    target = path or usual_path()
    target.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    values = {"address": address, "api_key": api_key, "tenant": tenant, "keyring": keyring}
    values["ca_file"] = ca_file
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
    profile = Profile(**content)  # type: ignore[arg-type]  # checked to be text just above
    if profile.keyring and not profile.api_key:
        return replace(profile, api_key=_from_keyring(path, profile.keyring))
    return profile


def _from_keyring(path: Path, name: str) -> str:
    """The key of a profile that keeps none itself."""
    try:
        keyring = importlib.import_module("keyring")
        key = keyring.get_password(KEYRING_SERVICE, name)
    except Exception as error:  # noqa: BLE001  (each backend has errors of its own)
        raise _invalid(path, f"has its key in a keyring that cannot be read: {error}") from None
    if not key:
        raise _invalid(path, "has its key in the keyring, and it is not there; log in again")
    return str(key)


def _invalid(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"The profile {path} {why}.", reason="CONFIG_INVALID", metadata={"file": str(path)}
    )
