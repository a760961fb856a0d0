"""The hooks of a process, made from the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.common.errors import Reason, ServiceError
from services.common.settings import HooksSettings
from services.common.telemetry import Counts, HookCount
from services.runtime.hooks.announcing import Announcer
from services.runtime.hooks.breaker import Thresholds
from services.runtime.hooks.guard import Guarded
from services.runtime.hooks.kept import KeptAnswers
from services.runtime.hooks.limiting import CachingHook, RateLimitHook, RetryHook, SecurityHook
from services.runtime.hooks.model import HostCall, HostHook
from services.runtime.hooks.watching import CostHook, DebuggingHook, LoggingHook, MetricsHook


def _caching(settings: HooksSettings) -> HostHook:
    return CachingHook(
        KeptAnswers(entries_max=settings.caching_entries),
        methods=names(settings.caching_methods),
        tools=names(settings.caching_tools),
        ttl_s=settings.caching_ttl_s,
        slower_than_s=settings.caching_slower_than_s,
    )


def _rate_limit(settings: HooksSettings) -> HostHook:
    return RateLimitHook(
        per_minute=settings.rate_limit_per_minute,
        burst=settings.rate_limit_burst,
        warn_share=settings.rate_limit_warn_share,
    )


def _retry(settings: HooksSettings) -> HostHook:
    return RetryHook(
        attempts=settings.retry_attempts,
        delay_s=settings.retry_delay_s,
        total_s=settings.retry_total_s,
    )


def _security(settings: HooksSettings) -> HostHook:
    return SecurityHook(
        parameter_bytes=settings.security_parameter_bytes,
        audit_events=settings.security_audit_events,
    )


BUILT_IN: dict[str, Callable[[HooksSettings], HostHook]] = {
    "logging": lambda settings: LoggingHook(data_bytes=settings.logging_data_bytes),
    "metrics": lambda settings: MetricsHook(interval_s=settings.metrics_interval_s),
    "caching": _caching,
    "rate_limit": _rate_limit,
    "retry": _retry,
    "cost": lambda _: CostHook(),
    "security": _security,
    "debugging": lambda settings: DebuggingHook(traces=settings.debugging_traces),
}
"""Name in the settings → the hook."""


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


def build_hooks(settings: HooksSettings, counts: Counts, announcer: Announcer) -> list[Guarded]:
    """The hooks that the settings name, in their order.

    Raises:
        ServiceError: CONFIG_INVALID for a name that there is not, or that is there twice.
    """
    order = names(settings.order)
    for name in order:
        if name not in BUILT_IN or order.count(name) > 1:
            known = ", ".join(BUILT_IN)
            raise ServiceError(
                Reason.CONFIG_INVALID,
                f"hooks.order names {name!r}; it may name each of {known} once.",
                key="hooks.order",
            )
    hooks = [(name, BUILT_IN[name](settings)) for name in order]
    return guarded(hooks, settings, counts, announcer)


def guarded(
    hooks: Sequence[tuple[str, HostHook]],
    settings: HooksSettings,
    counts: Counts,
    announcer: Announcer,
) -> list[Guarded]:
    """Hooks with their guards, counted among the process's counts."""
    thresholds = Thresholds(
        failures=settings.failure_threshold,
        successes=settings.success_threshold,
        window_s=settings.window_s,
        open_s=settings.open_s,
        slow_s=settings.slow_s,
        slow_calls=settings.slow_threshold,
    )

    def tell(call: HostCall, event: str, name: str, why: str) -> None:
        announcer.hook(call.run, event, name, call.method, why)

    made = []
    for name, hook in hooks:
        count = HookCount(name)
        counts.hooks.append(count)
        timeout_s = settings.timeout_s
        made.append(
            Guarded(name, hook, count, tell=tell, thresholds=thresholds, timeout_s=timeout_s)
        )
    return made
