"""What is taken out of logs and errors, and what is left in them."""

import json
import time
import uuid

import pytest
from blake3 import blake3

from services.common.redaction import REDACTED, is_credential_name, redact

PEM = "-----{0} RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx4fm9c\nq83vZ0\n-----{1} RSA PRIVATE KEY-----"
PEM = PEM.format("BEGIN", "END")
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
SHAPES = [
    "sk-abcdefghijklmnopqrstuvwxyz012345",
    "sk-proj-AbCdEf012345_-AbCdEf012345",
    "sk-ant-api03-AbCdEf012345_-AbCdEf012345",
    "llms_acme12ab_AbCdEf012345_-AbCdEf012345",
    "llms_operator_AbCdEf012345_-AbCdEf012345",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijklmnopqrstuvwxyz",
    "glpat-abcdefghijklmnopqrst",
    "xoxb-123456789012-abcdefghijkl",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "ya29.a0AfH6SMBabcdefghijklmnop",
    "sk_live_abcdefghijklmnop1234",
    "hf_abcdefghijklmnopqrstuvwxyz012345",
    "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    JWT,
    PEM,
]
NAMES = [
    "password", "Password", "db_password", "passwd", "secret", "client_secret", "clientSecret",
    "token", "access_token", "accessToken", "refresh_token", "api_key", "apiKey", "apikey",
    "API_KEY", "X-Api-Key", "openai_api_key", "OPENAI_API_KEY", "authorization", "Authorization",
    "private_key", "privateKey", "cookie", "Set-Cookie", "credentials", "aws_secret_access_key",
    "passphrase", "master_key",
]  # fmt: skip
PLAIN_NAMES = [
    "key", "keys", "token_count", "tokens", "max_tokens", "prompt_tokens", "total_tokens",
    "token_limit", "next_page_token_bytes", "api_key_id", "secret_count", "master_key_id",
    "master_key_file", "monkey", "keyboard", "author", "tokenizer", "passage", "passed", "bypass",
    "secretary", "compass", "field", "scope", "path",
]  # fmt: skip
PLAIN = [
    str(uuid.UUID(int=0x1234567890ABCDEF1234567890ABCDEF)),
    blake3(b"x").hexdigest(),
    "sha256:" + "ab" * 32,
    "0123456789" * 8,
    "the risk-free-rate-of-return is low",
    "a task-list-of-the-whole-department",
    "disk-usage-by-folder-of-user",
    "https://example.com/a/b?c=d",
    "unix:/tmp/llmspell-abc/state.sock",
    "127.0.0.1:50060",
    "key must be text, not a table",
    "There is no item 'token' in scope global.",
    "The API key is not known.",
    "the secret of a good soup",
    "basic arithmetic", "BASIC is a language", "bearer of bad news",
    "token: 12",
    "tokens: 1234567",
    "ITEM_NOT_FOUND",
    "This key may not do that: SetState needs the permission state.write.",
    "Write 64 hexadecimal digits into it (`openssl rand -hex 32`).",
    "2026-11-27T10:17:41.123+00:00",
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[:12])
def test_forms_of_credentials_go(shape):
    """Alone, within a sentence, deep in a structure, in bytes: nothing of it is left."""
    body = shape[len("-----BEGIN") :][:60] if shape is PEM else shape[5:]
    for value in (
        shape,
        f"cannot call with {shape}, sorry",
        f'{{"x": "{shape}"}}',
        {"a": [{"b": (shape, 1)}]},
        shape.encode(),
        f"{shape} and {shape}",
    ):
        clean = repr(redact(value))
        assert body not in clean
        assert REDACTED in clean
    assert redact(f"before {shape} after") == f"before {REDACTED} after"


@pytest.mark.parametrize("name", NAMES)
def test_names_of_credentials_tell(name):
    """All of the value goes, whatever it is; a count or a switch stays."""
    for value in ("hunter2", ["hunter2"], {"x": "hunter2"}, b"hunter2"):
        assert redact({"a": {name: value}}) == {"a": {name: REDACTED}}
    assert redact({name: None}) == {name: None}
    assert redact({name: True}) == {name: True}


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_other_names_do_not(name):
    """What tells of tokens and keys is not a token or a key."""
    assert not is_credential_name(name)
    assert redact({name: "value"}) == {name: "value"}


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_credential_stays(text):
    """Ids, digests, addresses and sentences about secrets come back as they were."""
    assert redact(text) is text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [REDACTED]"),
        ("password=hunter2&user=ann", "password=[REDACTED]&user=ann"),
        ('{"api_key": "0123456789abcdef"}', '{"api_key": "[REDACTED]"}'),
        ("OPENAI_API_KEY=abcdef123456 make run", "OPENAI_API_KEY=[REDACTED] make run"),
        ("postgres://ann:hunter2@db:5432/x", "postgres://ann:[REDACTED]@db:5432/x"),
        ("db_password: 'hunter2!'", "db_password: '[REDACTED]'"),
    ],
)
def test_values_after_telling_words_go(text, clean):
    """In a command, a header, an address, a document; doing it twice changes nothing."""
    assert redact(text) == clean
    assert redact(clean) == clean


def test_counts_stay_and_depth_ends():
    """`token_count: 12` stays; what is nested without end ends."""
    assert redact({"token_count": 12, "token": 12}) == {"token_count": 12, "token": 12}
    value = "hunter2"
    for _ in range(100):
        value = [value]
    assert "hunter2" not in repr(redact(value))
    json.dumps(redact(value))


def test_it_is_quick_with_long_texts():
    """A megabyte of nothing, and one that seems to begin a secret again and again."""
    beginnings = ("a", "password", "a://", "sk-a-", "eyJ", "a_token", PEM[:31])
    for text in (beginning * (10**6 // len(beginning)) for beginning in beginnings):
        began = time.perf_counter()
        redact(text)
        assert time.perf_counter() - began < 2.0
