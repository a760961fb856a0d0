"""`llmspell tls`: does it make what processes and clients take, and say what is wrong?"""

import json
import stat

import pytest
from cryptography import x509
from typer.testing import CliRunner

from services.common.config import load_settings
from services.common.tls import process_tls
from services.gateway.cli.main import app
from services.gateway.cli.output import ExitCode
from tests.certificates import authority, days_ago, files


def run(*arguments):
    """One command."""
    return CliRunner().invoke(app, ["tls", *map(str, arguments)])


def contents(folder):
    """Every file."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def names(file):
    """Whom a certificate is for."""
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in found}


def test_init_makes_what_every_process_takes(tmp_path):
    """Files for the four processes and a client; keys are their owner's; each process reads its."""
    folder = tmp_path / "tls"
    done = run("init", folder, "--host", "spell.example.org", "--host", "192.0.2.7", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["names"][-1] == "client"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for key in folder.rglob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert names(folder / "gateway" / "tls.crt") >= {"gateway", "127.0.0.1", "spell.example.org"}
    assert names(folder / "gateway" / "tls.crt") >= {"192.0.2.7", "::1", "localhost"}
    assert names(folder / "state" / "tls.crt") == {"state", "localhost", "127.0.0.1", "::1"}
    for name in ("gateway", "runtime", "vector", "state"):
        given = {"CERTIFICATE": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}
        settings = {
            f"LLMSPELL__DEPLOYMENT__TLS_{key}_FILE": str(folder / name / file)
            for key, file in given.items()
        }
        (inner,) = process_tls(load_settings(None, settings), name).every()
        assert inner.problem() == ""


def test_init_does_not_replace_and_renew_does(tmp_path):
    """An authority is never made anew in its place; renewing keeps it and changes the rest."""
    assert run("init", tmp_path).exit_code == 0
    kept = contents(tmp_path)
    refused = run("init", tmp_path)
    assert refused.exit_code == ExitCode.PRECONDITION
    assert "renew" in refused.stderr
    assert contents(tmp_path) == kept
    assert run("renew", tmp_path, "--days", "7").exit_code == 0
    changed = {file.name for file, content in contents(tmp_path).items() if content != kept[file]}
    assert changed == {"tls.crt", "tls.key"}


def test_renew_without_an_authority_says_so(tmp_path):
    """Nothing to sign with: a message with the file, no trace."""
    refused = run("renew", tmp_path)
    assert refused.exit_code == ExitCode.PRECONDITION
    assert "ca.crt" in refused.stderr
    (tmp_path / "ca.crt").write_text("x")
    assert "has no authority" in run("renew", tmp_path).stderr


def test_show_tells_what_counts(tmp_path):
    """Names, signer and end; exit code 1 once it has expired."""
    good = files(tmp_path / "good", authority("my authority"), days=9).certificate
    done = run("show", good, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)[0]["issuer"] == "CN=my authority"
    older = files(tmp_path / "older", authority(), days=1, now=days_ago(9)).certificate
    assert run("show", older).exit_code == ExitCode.PARTIAL


@pytest.mark.parametrize("host", ["", "a b", "-x", "a/../b", "x" * 300, "é.example"])
def test_impossible_hosts_are_refused(host, tmp_path):
    """A name that no certificate can have: nothing is written."""
    assert run("init", tmp_path / "t", f"--host={host}").exit_code == ExitCode.USAGE
    assert not (tmp_path / "t").exists()
