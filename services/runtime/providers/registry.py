"""Which providers a deployment has, and open connections to them.

A provider is opened when it is first needed and kept, one for each address and key. What a tenant
gives itself, an address or a key, is used for that tenant alone: the operator's key never goes to
an address that is not the operator's, and such an address is held to what tools may reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from services.common.errors import Reason, ServiceError, required
from services.common.limits import PROVIDER_CLIENTS_MAX
from services.runtime.providers.configured import checked_base_url, checked_key, places
from services.runtime.providers.known import KnownModels
from services.runtime.providers.model import ChatProvider, ModelFacts
from services.runtime.providers.presets import Place
from services.runtime.providers.scripted import ScriptedProvider, Scripts

if TYPE_CHECKING:
    from services.common.settings import ProviderSettings
    from services.runtime.tools.network import Network

DEFAULT_PROVIDER = "openai"
_FACTS_S = 3.0
"""How long a server of the operator's own is asked for the sake of one fact."""


class Kept(ChatProvider, Protocol):
    """A provider that is open."""

    calls: int
    """Under way."""


@dataclass(frozen=True, slots=True)
class _Door:
    """Where to, with which key, and for whom alone."""

    name: str
    base_url: str
    key: str
    tenant: str
    """Empty: the operator's own address, for everybody who has this key."""


class Providers:
    """The providers of a deployment."""

    def __init__(
        self,
        places: Mapping[str, Place],
        *,
        network: Network | None = None,
        scripts: Scripts | None = None,
        authorities: str = "",
    ) -> None:
        """Open none yet.

        Args:
            places: By name.
            network: Says where tenants' own addresses may lead; None: nowhere.
            scripts: What `scripted` plays.
            authorities: Certificates (PEM) that are trusted beside the known ones.
        """
        self._places = dict(places)
        self._network = network
        self._scripts = scripts or Scripts()
        self._authorities = authorities
        self._open: OrderedDict[_Door, Kept] = OrderedDict()
        self._opening = asyncio.Lock()
        self.known = KnownModels()

    def places(self, tenant: str) -> list[Place]:
        """Those that a tenant knows of, in order of name."""
        return [place for _, place in sorted(self._places.items()) if place.is_for(tenant)]

    def place(self, name: str, tenant: str) -> Place:
        """One of them.

        Raises:
            ServiceError: PROVIDER_NOT_FOUND.
        """
        place = self._places.get(name)
        if place is None or not place.is_for(tenant):
            text = f"There is no provider {name[:100]}."
            raise ServiceError(Reason.PROVIDER_NOT_FOUND, text, provider=name[:100])
        return place

    def why_not(self, place: Place, tenant: str) -> str:
        """Why a tenant cannot use a provider; empty where it can."""
        if place.kind == "anthropic" and not _has_package("anthropic"):
            return "the package anthropic is not installed"
        return place.why_not(tenant)

    def told(self, tenant: str) -> dict[str, dict[str, Any]]:
        """What a tenant's scripts are told of those that they can use."""
        return {
            place.name: {
                "name": place.name,
                "enabled": True,
                "provider_type": place.kind,
                "base_url": place.base_url,
                "local": place.capabilities.local,
            }
            for place in self.places(tenant)
            if not self.why_not(place, tenant)
        }

    def split(self, model: str) -> tuple[str, str]:
        """The provider and its own name of a model such as `openrouter/meta/llama-3`.

        What is before the first slash is the provider; without a slash it is OpenAI.

        Raises:
            ServiceError: FIELD_REQUIRED; PROVIDER_NOT_FOUND.
        """
        provider, slash, name = model.partition("/")
        if not slash:
            provider, name = DEFAULT_PROVIDER, model
        if not name:
            raise required("model")
        if provider not in self._places:
            text = f"There is no provider {provider[:100]}; a model is written provider/model."
            raise ServiceError(Reason.PROVIDER_NOT_FOUND, text, provider=provider[:100])
        return provider, name

    async def get(
        self, name: str, tenant: str, *, base_url: str = "", api_key: str = ""
    ) -> ChatProvider:
        """A provider, open.

        Args:
            name: Its name.
            tenant: Who asks.
            base_url: The tenant's own address instead of the operator's; for `scripted` a script,
                as `data:application/json,…`.
            api_key: The tenant's own key instead of the operator's.

        Raises:
            ServiceError: PROVIDER_NOT_FOUND; PROVIDER_KEY_REFUSED where there is no key;
                NOT_IMPLEMENTED where its package is not installed; FIELD_INVALID.
        """
        place = self.place(name, tenant)
        if place.kind == "scripted":
            return ScriptedProvider(place.name, place.capabilities, self._scripts, base_url)
        door = self._door(place, tenant, base_url, api_key)
        kept = self._open.get(door)
        if kept is None:
            async with self._opening:
                kept = self._open.get(door) or await self._opened(place, door)
        self._open.move_to_end(door)
        return kept

    async def facts(self, model: str) -> ModelFacts:
        """What is known of a model. A server of the operator's own may be asked, now and then.

        Raises:
            ServiceError: As `split`.
        """
        provider, name = self.split(model)
        place = self._places[provider]
        is_near = place.capabilities.local and place.kind != "scripted"
        if is_near and not self.known.told(place, "") and self.known.is_due(place):
            with contextlib.suppress(ServiceError, TimeoutError):
                async with asyncio.timeout(_FACTS_S):
                    self.known.learn(place, "", await (await self.get(provider, "")).models())
        return await self.known.one(place, "", name) or ModelFacts(name=name)

    async def close(self) -> None:
        """Let every connection go."""
        opened, self._open = list(self._open.values()), OrderedDict()
        for provider in opened:
            await provider.close()

    def _door(self, place: Place, tenant: str, base_url: str, api_key: str) -> _Door:
        asked = _complete(place, checked_base_url(base_url)) if base_url else place.base_url
        is_own = asked != place.base_url
        key = checked_key(api_key) if api_key else ""
        if not key and not is_own:
            key = place.key_of(tenant)
        why_not = self.why_not(replace(place, base_url=asked, key=key, tenant_keys={}), tenant)
        if not why_not or (is_own and not key and place.enabled and _is_there(place)):
            return _Door(place.name, asked, key, tenant if is_own else "")
        reason = Reason.PROVIDER_KEY_REFUSED
        if not _is_there(place):
            reason = Reason.NOT_IMPLEMENTED
        elif not place.enabled or not asked:
            reason = Reason.PROVIDER_NOT_FOUND
        text = f"The provider {place.name} cannot be used: {why_not}."
        raise ServiceError(reason, text, provider=place.name)

    async def _opened(self, place: Place, door: _Door) -> Kept:
        opens = partial(_open, place, door, self._network, self._authorities)
        # Its package may take long to import, which must not hold up what else goes on.
        kept = await asyncio.to_thread(opens)
        self._open[door] = kept
        await self._let_go()
        return kept

    async def _let_go(self) -> None:
        idle = [door for door, provider in self._open.items() if not provider.calls]
        for door in idle[: max(len(self._open) - PROVIDER_CLIENTS_MAX, 0)]:
            await self._open.pop(door).close()


def deployed(
    settings: ProviderSettings,
    network: Network | None,
    *,
    environment: Mapping[str, str],
    authorities: str = "",
) -> Providers:
    """The providers that the settings tell of.

    Raises:
        ServiceError: CONFIG_INVALID.
    """
    folder = Path(settings.scripts).absolute() if settings.scripts else None
    return Providers(
        places(settings, environment),
        network=network,
        scripts=Scripts(folder),
        authorities=authorities,
    )


class Ways:
    """Addresses that a tenant's own provider may have: those that tools may reach."""

    def __init__(self, network: Network | None, tenant: str) -> None:
        self._network = network
        self._tenant = tenant

    async def addresses(self, host: str, port: int, timeout_s: float) -> list[str]:
        """All addresses of a host, checked.

        Raises:
            ServiceError: ADDRESS_REFUSED, HOST_UNREACHABLE.
        """
        if self._network is None:
            raise _refused(host, port)
        try:
            with self._network.lines("provider", self._tenant) as lines:
                return await lines.addresses(host, port, timeout_s)
        except ServiceError as error:
            if error.reason != Reason.ADDRESS_REFUSED:
                raise
            raise _refused(host, port) from None


def _open(place: Place, door: _Door, network: Network | None, authorities: str) -> Kept:
    """Import what speaks the protocol, and make it."""
    from services.runtime.providers import opening  # noqa: PLC0415 - takes half a second

    there, ways = replace(place, base_url=door.base_url), None
    if door.tenant:  # the operator's headers may be secrets, too
        there, ways = replace(there, headers={}), Ways(network, door.tenant)
    return opening.opened(there, door.key, addresses=ways, authorities=authorities)


def _complete(place: Place, base_url: str) -> str:
    """An address with the path that the protocol wants, where it has none at all."""
    is_bare = not urlsplit(base_url).path
    return f"{base_url}/v1" if is_bare and place.kind == "openai" else base_url


def _is_there(place: Place) -> bool:
    return place.kind != "anthropic" or _has_package("anthropic")


def _has_package(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _refused(host: str, port: int) -> ServiceError:
    return ServiceError(
        Reason.ADDRESS_REFUSED,
        f"Providers of a tenant's own may not be at {host} on port {port}: it is not public, or "
        "the operator does not allow it.",
        host=host,
        port=port,
    )
