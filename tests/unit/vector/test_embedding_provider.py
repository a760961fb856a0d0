"""Claims about services.vector.embedding.provider: settings and the dictionary of providers."""

from __future__ import annotations

import pytest

from services.common.errors import Reason, ServiceError
from services.vector.embedding import open_providers
from services.vector.embedding.local import LocalProvider
from services.vector.embedding.openai import OpenAIProvider
from services.vector.embedding.provider import (
    EmbeddingIdentity,
    EmbeddingSettings,
    LocalSettings,
    OpenAISettings,
)

WITH_KEY = EmbeddingSettings(openai=OpenAISettings(api_key="sk-secret"))


async def test_local_is_the_default_and_openai_is_asked_for():
    """Without settings there is `local` alone; a key or an address adds `openai`."""
    alone, both = open_providers(EmbeddingSettings()), open_providers(WITH_KEY)
    own = open_providers(EmbeddingSettings(openai=OpenAISettings(base_url="http://[::1]:1/v1")))
    assert list(alone.by_name) == ["local"]
    assert list(both.by_name) == list(own.by_name) == ["local", "openai"]
    assert isinstance(both.choose(), LocalProvider)
    assert isinstance(both.choose("openai"), OpenAIProvider)
    for providers in (alone, both, own):
        await providers.close()


async def test_the_default_may_be_another():
    """The provider used where none is named is a setting."""
    providers = open_providers(EmbeddingSettings(default_provider="openai", openai=WITH_KEY.openai))
    assert providers.choose() is providers.choose("openai")
    await providers.load()
    await providers.close()


def test_an_unknown_provider_is_refused_by_name():
    """The error lists the providers there are, both in settings and in a call."""
    for name in ("openai", "cohere"):
        with pytest.raises(ServiceError, match=r"default_provider must be one of local\."):
            open_providers(EmbeddingSettings(default_provider=name))
    with pytest.raises(ServiceError, match=r"provider must be one of local\.") as refused:
        open_providers(EmbeddingSettings()).choose("cohere")
    assert refused.value.reason == Reason.FIELD_INVALID


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalSettings(threads=0), "embedding.local.threads must be 1 to 64."),
        (lambda: LocalSettings(threads=65), "embedding.local.threads must be 1 to 64."),
        (lambda: OpenAISettings(batch=0), "embedding.openai.batch must be 1 to 2048."),
        (lambda: OpenAISettings(batch=2049), "embedding.openai.batch must be 1 to 2048."),
        (lambda: OpenAISettings(dimension=0), "embedding.openai.dimension must be 1 to 4096."),
        (lambda: OpenAISettings(dimension=4097), "embedding.openai.dimension must be 1 to 4096."),
        (lambda: OpenAISettings(timeout_s=0), "embedding.openai.timeout_s must be positive."),
        (
            lambda: OpenAISettings(max_retries=-1),
            "embedding.openai.max_retries must not be negative.",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    """The error names the setting and its limits."""
    with pytest.raises(ServiceError) as refused:
        make()
    assert refused.value.message == message


def test_a_key_is_not_printed():
    """The key does not appear where settings are printed, as in a log line."""
    assert "sk-secret" not in repr(WITH_KEY)


def test_an_identity_reads_well():
    """An identity prints as one word, with the start of the weights' hash where there is one."""
    assert str(EmbeddingIdentity("local", "m", 3, "0123456789abcdef")) == "local/m/3@0123456789ab"
    assert str(EmbeddingIdentity("openai", "m", 3, "")) == "openai/m/3"
