"""`llmspell tls`: a private authority and certificates, and what certificates say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from services.gateway.cli.output import ExitCode, say, show_json, show_line, show_table
from services.gateway.cli.target import JsonOption

if TYPE_CHECKING:
    from services.gateway.cli.authority import Authority

app = typer.Typer(no_args_is_help=True, help="Certificates of a private authority.")

PROCESSES = ("gateway", "runtime", "vector", "state")
CLIENT = "client"
_AUTHORITY_DAYS = 3650.0
_DAYS = 365.0
_HOST = re.compile(r"[A-Za-z0-9*]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?")

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files are.")]
HostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        metavar="NAME",
        help="A name or address under which the gateway is called, beside localhost; may repeat.",
    ),
]
DaysOption = Annotated[
    float, typer.Option(min=0.001, max=36500, help="How many days the certificates count.")
]


@app.command("init")
def init(
    folder: FolderArgument,
    *,
    host: HostOption = None,
    days: DaysOption = _DAYS,
    as_json: JsonOption = False,
) -> None:
    """Make an authority, and certificates for the four processes and a client.

    A folder for each, with tls.crt, tls.key and ca.crt. `ca.key` signs: keep it away from them.
    """
    if (folder / "ca.crt").exists() or (folder / "ca.key").exists():
        _fail(f"{folder} has an authority already; `llmspell tls renew` makes certificates anew.")
    hosts = _hosts(host)
    with _written(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _new_authority()
        authority.write(folder)
        names = write_certificates(folder, authority, hosts, days)
    _tell(folder, names, as_json=as_json)


@app.command("renew")
def renew(
    folder: FolderArgument,
    *,
    host: HostOption = None,
    days: DaysOption = _DAYS,
    as_json: JsonOption = False,
) -> None:
    """Make new certificates of the authority that is there; processes take them without a restart.

    Give the hosts again.
    """
    from services.gateway.cli.authority import Authority  # noqa: PLC0415  (slow to import)

    hosts = _hosts(host)
    with _written(folder):
        names = write_certificates(folder, Authority.load(folder), hosts, days)
    _tell(folder, names, as_json=as_json)


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Certificates (PEM).")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show whom a certificate is for and when it ends; exit code 1 where it does not count now."""
    from cryptography import x509  # noqa: PLC0415  (slow to import)

    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        _fail(f"{file} cannot be read: {error.strerror}.")
    except ValueError:
        _fail(f"{file} holds no certificate (PEM).")
    told = [_described(each) for each in found]
    if as_json:
        show_json(told)
    else:
        rows = [[each["subject"], each["hosts"], each["issuer"], each["expires"]] for each in told]
        show_table(["for", "hosts", "signed by", "ends"], rows)
    if not all(each["valid_now"] for each in told):
        say("It does not count now.")
        raise typer.Exit(ExitCode.PARTIAL)


def write_certificates(
    folder: Path, authority: Authority, hosts: list[str], days: float
) -> list[str]:
    """A pair for each process and a client; their names.

    Args:
        folder: Where they are written.
        authority: Who signs them.
        hosts: Further names of the gateway.
        days: How long they count.

    Raises:
        OSError: a file cannot be written.
    """
    from services.gateway.cli.authority import LOCAL_NAMES, write_pair  # noqa: PLC0415

    for name in PROCESSES:
        more = hosts if name == "gateway" else []
        names = list(dict.fromkeys([name, *LOCAL_NAMES, *more]))
        pair = authority.issue(name, names, days=days)
        write_pair(folder / name, pair, authority.pem)
    pair = authority.issue(CLIENT, [CLIENT], days=days)
    write_pair(folder / CLIENT, pair, authority.pem)
    return [*PROCESSES, CLIENT]


def ensure(folder: Path) -> None:
    """Make all of it where it is not there, for `llmspell up --tls`.

    Raises:
        OSError: a file cannot be written.
    """
    if not (folder / "ca.crt").exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _new_authority()
        write_certificates(folder, authority, [], _DAYS)
        authority.write(folder)


def _new_authority() -> Authority:
    from services.gateway.cli.authority import Authority  # noqa: PLC0415  (slow to import)

    return Authority.make("LLMSpell private authority", days=_AUTHORITY_DAYS)


def _described(certificate: Any) -> dict[str, Any]:
    from cryptography import x509  # noqa: PLC0415  (slow to import)

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [str(each.value) for each in names]
    except x509.ExtensionNotFound:
        hosts = []
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return {
        "subject": certificate.subject.rfc4514_string(),
        "hosts": ", ".join(hosts),
        "issuer": certificate.issuer.rfc4514_string(),
        "begins": f"{begin:%Y-%m-%d %H:%M} UTC",
        "expires": f"{end:%Y-%m-%d %H:%M} UTC",
        "valid_now": begin <= datetime.now(UTC) <= end,
    }


def _hosts(given: list[str] | None) -> list[str]:
    for host in given or ():
        if not _HOST.fullmatch(host):
            raise typer.BadParameter(f"--host must be a name or an address, not {host!r}")
    return list(given or ())


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Files that cannot be read or written become a message."""
    try:
        yield
    except OSError as error:
        _fail(f"{error.filename or folder}: {error.strerror}.")
    except ValueError as error:
        _fail(f"{folder} has no authority of `llmspell tls init`: {error}.")


def _tell(folder: Path, names: list[str], *, as_json: bool) -> None:
    if as_json:
        show_json({"folder": str(folder), "names": names})
        return
    show_line(f"{folder} has {', '.join(names)}: each a folder with tls.crt, tls.key and ca.crt.")


def _fail(message: str) -> NoReturn:
    from llmspell.errors import FailedPrecondition  # noqa: PLC0415  (slow to import)

    raise FailedPrecondition(message)
