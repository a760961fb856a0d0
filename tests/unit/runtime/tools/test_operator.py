"""What the operator tells tools: each its own, each tenant its own."""

import ipaddress

import pytest

from services.common.errors import Reason, ServiceError
from services.common.settings import ToolSettings
from services.runtime.tools.operator import OperatorSettings

DATABASES = """
[shop]
dsn = "postgresql://me:p%40ss@db.example:6543/goods"
tenants = ["acme"]

[public]
dsn = "postgres://me@[::1]"
tenants = ["*"]
write = true
tls = false
"""


@pytest.fixture
def settings(tmp_path):
    """Settings with a server of each kind."""
    for name, text in (("db", DATABASES), ("mail", "secret\n"), ("key", "k3y\n"), ("ca", "PEM")):
        (tmp_path / name).write_text(text)
    return ToolSettings(
        authorities_file=str(tmp_path / "ca"),
        smtp_host="mail.example",
        smtp_user="me",
        smtp_password_file=str(tmp_path / "mail"),
        smtp_from="a@x.example, b@x.example",
        search_provider="searxng",
        search_base_url="http://search.example/x",
        search_api_key_file=str(tmp_path / "key"),
        databases_file=str(tmp_path / "db"),
    )


def test_each_tool_is_told_its_own_secrets_only(settings):
    """No tool sees another's password or key."""
    known = OperatorSettings.read(settings)
    assert known.of("email-sender", "acme")["password"] == "secret"
    assert known.of("email-sender", "acme")["from"] == ["a@x.example", "b@x.example"]
    assert known.of("web-searcher", "acme")["api_key"] == "k3y"
    assert known.of("http-requester", "acme") == {"authorities": "PEM"}
    for tool, others in (
        ("email-sender", ("k3y", "p@ss")),
        ("web-searcher", ("secret", "p@ss")),
        ("database-connector", ("secret", "k3y")),
    ):
        assert not any(other in repr(known.of(tool, "acme")) for other in others)


def test_each_tenant_is_told_its_own_databases_only(settings):
    """A database without the tenant does not exist for it."""
    known = OperatorSettings.read(settings)
    mine = known.of("database-connector", "acme")["databases"]
    assert mine["shop"] == {
        "host": "db.example", "port": 6543, "database": "goods", "user": "me",
        "password": "p@ss", "tls": True, "write": False,
    }  # fmt: skip
    theirs = known.of("database-connector", "globex")["databases"]
    assert list(theirs) == ["public"]
    assert theirs["public"] == {
        "host": "::1", "port": 5432, "database": "me", "user": "me", "password": "",
        "tls": False, "write": True,
    }  # fmt: skip


def test_each_server_is_open_to_its_tool(settings):
    """By host and port, whether or not it is public."""
    allowed = OperatorSettings.read(settings).allowed()
    inside = ipaddress.ip_address("10.0.0.1")
    (mail,) = allowed["email-sender"]
    assert mail.fits("mail.example", inside, 587)
    assert not mail.fits("mail.example", inside, 25)
    (search,) = allowed["web-searcher"]
    assert search.fits("search.example", inside, 80)
    shop, public = allowed["database-connector"]
    assert shop.fits("db.example", inside, 6543)
    assert public.fits("::1", ipaddress.ip_address("::1"), 5432)
    assert OperatorSettings.read(ToolSettings()).allowed() == {}


@pytest.mark.parametrize(
    "text",
    [
        "not toml", "[a]\ndsn = 'mysql://u@h/d'\ntenants = []", "[a]\ndsn = 'postgres://u@h/d'",
        "[a]\ndsn = 'postgres://h/d'\ntenants = ['x']", "a = 1", "[a]\ndsn = 5\ntenants = []",
        "[a]\ndsn = 'postgres://u@h/d'\ntenants = ['x']\nwriet = true",
    ],
)  # fmt: skip
def test_a_list_of_databases_that_cannot_be_read_stops_the_start(tmp_path, text):
    """CONFIG_INVALID with the setting's name; nothing is left out in silence."""
    (tmp_path / "db").write_text(text)
    with pytest.raises(ServiceError) as caught:
        OperatorSettings.read(ToolSettings(databases_file=str(tmp_path / "db")))
    assert caught.value.reason == Reason.CONFIG_INVALID
    assert "databases_file" in caught.value.message


def test_a_missing_file_and_an_unknown_word_stop_the_start(tmp_path):
    """A password that cannot be read is not an empty one."""
    with pytest.raises(ServiceError) as caught:
        OperatorSettings.read(
            ToolSettings(smtp_host="m", smtp_password_file=str(tmp_path / "none"))
        )
    assert caught.value.reason == Reason.CONFIG_INVALID
    with pytest.raises(ValueError, match="smtp_security"):
        ToolSettings(smtp_security="maybe")
    with pytest.raises(ValueError, match="search_provider"):
        ToolSettings(search_provider="altavista")
    with pytest.raises(ValueError, match="search_base_url"):
        ToolSettings(search_provider="searxng")
