"""`llmspell login`, `logout` and `profile`: which deployment to speak to, and with which key.

The key goes into the system's keyring where the package `keyring` and a backend are there, else
into a file that its owner alone can read.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from services.gateway.cli.output import say, show_json, show_line, show_table
from services.gateway.cli.target import TIMEOUT_S, JsonOption, Target, TenantOption

profiles = typer.Typer(
    no_args_is_help=True, help="Deployments that were logged in to, and which of them is in use."
)

_ADDRESS = "127.0.0.1:50060"
_KEY_LENGTH_MAX = 16 * 1024
_UNFIT = ("fail", "null", "chainer")
"""Backends of keyring that keep nothing."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the profile.")]


def login(
    context: typer.Context,
    *,
    name: Annotated[
        str | None, typer.Option(help="Of the profile; else the tenant's id.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    key_stdin: Annotated[
        bool, typer.Option("--key-stdin", help="Read the key from stdin instead of asking.")
    ] = False,
    file: Annotated[
        bool, typer.Option("--file", help="Keep the key in the profile's file, not a keyring.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask for an address and a key, try them, and keep them as a profile."""
    from llmspell import Client  # noqa: PLC0415  (grpc is slow to import)

    target = context.find_object(Target) or Target()
    address = target.address or os.environ.get("LLMSPELL_ADDRESS") or _asked_address()
    key = target.api_key or (_stdin_key() if key_stdin else _asked_key())
    ca = target.ca or os.environ.get("LLMSPELL_CA_FILE") or ""
    with Client(
        address,
        key,
        tenant=tenant,
        timeout_s=TIMEOUT_S,
        ca_file=ca or None,
        certificate_file=target.certificate,
        key_file=target.key,
    ) as client:
        caller = client.who_am_i()
    name = name or caller.tenant_id or caller.principal
    saved = {"address": address, "tenant": tenant or "", "ca_file": _absolute(ca)}
    where = _keep(name, key, saved, to_file=file)
    if as_json:
        show_json(
            {
                "profile": name,
                "tenant_id": caller.tenant_id,
                "principal": caller.principal,
                "kept": where,
            }
        )
        return
    whom = f"{caller.principal} of {caller.tenant_id}" if caller.tenant_id else caller.principal
    show_line(f"Logged in to {address} as {whom}; the profile {name} is in use.")
    say(f"The key is in {where}.")


def logout(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Of the profile; else the one in use.")
    ] = "",
) -> None:
    """Forget a profile and its key; the key itself stays good until it is revoked."""
    from llmspell._profile import chosen_profile, named_path  # noqa: PLC0415

    name = name or chosen_profile()
    path = named_path(name) if name else None
    if path is None or not path.exists():
        raise typer.BadParameter(f"there is no profile {name}" if name else "no profile is in use")
    _forget_in_keyring(name)
    path.unlink()
    show_line(f"The profile {name} is forgotten.")


@profiles.command("list")
def list_profiles(*, as_json: JsonOption = False) -> None:
    """List the profiles; a star marks the one in use."""
    from llmspell._profile import chosen_profile  # noqa: PLC0415

    chosen = chosen_profile()
    rows = {name: _shown(path) for name, path in _all().items()}
    if as_json:
        show_json([{"name": name, "in_use": name == chosen, **row} for name, row in rows.items()])
    elif rows:
        cells = [["*" if name == chosen else "", name, *row.values()] for name, row in rows.items()]
        show_table(["", "profile", "address", "tenant", "key in"], cells)
    else:
        say("There are no profiles. `llmspell login` makes one.")


@profiles.command("use")
def use(name: NameArgument) -> None:
    """Speak to the deployment of this profile from now on."""
    if name not in _all():
        raise typer.BadParameter(f"there is no profile {name}; `llmspell profile list` has them")
    _choose(name)
    show_line(f"The profile {name} is in use.")


@profiles.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Of the profile; else the one in use.")
    ] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Show a profile without its key."""
    from llmspell._profile import named_path, profile_path  # noqa: PLC0415

    path = named_path(name) if name else profile_path()
    shown = {"file": str(path), **_shown(path)}
    if as_json:
        show_json(shown)
    else:
        show_table(["", ""], [[key.replace("_", " "), value] for key, value in shown.items()])


def _keep(name: str, key: str, saved: Mapping[str, str], *, to_file: bool) -> str:
    """Write the profile and put it into use; where the key is now."""
    from llmspell._profile import named_path, write_profile  # noqa: PLC0415

    path = named_path(name)
    ring = None if to_file else _keyring()
    if ring is not None and _put_into(ring, name, key):
        write_profile(path, keyring=name, **saved)
        where = "the system's keyring"
    else:
        write_profile(path, api_key=key, **saved)
        where = str(path)
    _choose(name)
    return where


def _absolute(ca: str) -> str:
    """The authority's file wherever the profile is used from; `system` is none."""
    return ca if ca in {"", "system"} else str(Path(ca).absolute())


def _choose(name: str) -> None:
    from llmspell._profile import profile_folder  # noqa: PLC0415

    current = profile_folder() / "current"
    aside = current.with_name(f".current-{os.getpid()}")
    aside.write_text(f"{name}\n", "utf-8")
    aside.replace(current)


def _all() -> dict[str, Path]:
    """The profiles by name."""
    from llmspell._profile import profile_folder  # noqa: PLC0415

    return {path.stem: path for path in sorted((profile_folder() / "profiles").glob("*.toml"))}


def _shown(path: Path) -> dict[str, str]:
    """What may be shown of a profile."""
    import tomllib  # noqa: PLC0415

    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {"address": "", "tenant": "", "key_in": "nowhere: the file cannot be read"}
    place = "keyring" if content.get("keyring") else "file"
    return {
        "address": str(content.get("address", "")),
        "tenant": str(content.get("tenant", "")),
        "key_in": place,
    }


def _keyring() -> Any:
    """The system's keyring; None where there is none that keeps anything."""
    try:
        keyring = importlib.import_module("keyring")
        backend = type(keyring.get_keyring()).__module__
    except Exception:  # noqa: BLE001  (each backend has errors of its own)
        return None
    return None if backend.rpartition(".")[2] in _UNFIT else keyring


def _put_into(ring: Any, name: str, key: str) -> bool:
    """Whether the keyring has the key now."""
    from llmspell._profile import KEYRING_SERVICE  # noqa: PLC0415

    try:
        ring.set_password(KEYRING_SERVICE, name, key)
        return bool(ring.get_password(KEYRING_SERVICE, name) == key)
    except Exception:  # noqa: BLE001  (locked, denied, away: the file is there)
        return False


def _forget_in_keyring(name: str) -> None:
    from llmspell._profile import KEYRING_SERVICE  # noqa: PLC0415

    ring = _keyring()
    if ring is None:
        return
    try:
        ring.delete_password(KEYRING_SERVICE, name)
    except Exception:  # noqa: BLE001  (it was never there, or the keyring is locked)
        return


def _asked_address() -> str:
    if not sys.stdin.isatty():
        return _ADDRESS
    return str(typer.prompt("Address of the gateway", default=_ADDRESS, err=True)).strip()


def _asked_key() -> str:
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is nobody to ask: give --key-stdin")
    return str(typer.prompt("Key", hide_input=True, err=True)).strip()


def _stdin_key() -> str:
    key = sys.stdin.read(_KEY_LENGTH_MAX).strip()
    if not key:
        raise typer.BadParameter("nothing came from stdin", param_hint="--key-stdin")
    return key
