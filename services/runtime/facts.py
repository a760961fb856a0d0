"""What a run is told of itself: its limits, its tenant, what its key allows. `Config` shows it.

It goes to the worker with the run's order, so that it is part of what a replay is given again. No
secret is among it: a script may print all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common import limits
from services.common.context import CallContext
from services.runtime.runs import RunLimits

_TOOLS = "tool.execute"
_ALL = "*"
_LEVELS = {"safe": _TOOLS, "restricted": "tool.restricted", "privileged": "tool.privileged"}
_SPAWNS = "process-executor"


@dataclass(frozen=True, slots=True)
class ToolRules:
    """What the deployment allows tools, as far as a script is told."""

    off: frozenset[str] = frozenset()
    """Names of tools that are not offered."""
    files: bool = False
    """Whether tenants have folders."""
    files_bytes: int = limits.TENANT_FILES_BYTES
    """What a tenant's files may take."""
    network: bool = False
    """Whether tools may connect to other machines."""


def facts_of(
    caller: CallContext,
    run_limits: RunLimits,
    globals_off: Iterable[str] = (),
    rules: ToolRules = ToolRules(),
    providers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Sections of plain values, as `Config.get()` gives them.

    Args:
        caller: Whose run it is.
        run_limits: What limits it.
        globals_off: Globals that it does not have.
        rules: What the deployment allows tools.
        providers: Those that its tenant can use, by name.
    """
    off = frozenset(globals_off)
    levels = [] if "Tool" in off or not _may(caller, _TOOLS) else _levels(caller)
    return {
        "default_engine": "lua",
        "tenant": caller.tenant,
        "principal": caller.principal,
        "run_id": caller.request_id,
        "limits": _limits(run_limits),
        "security": _security(run_limits, rules, levels),
        "permissions": _permissions(caller, levels, providers or {}),
        "tools": _tools(rules, levels),
        "providers": dict(providers or {}),
        "runtime": {
            "globals_off": sorted(off),
            "max_concurrent_calls": 1,
            "script_timeout_seconds": run_limits.wall_s,
        },
    }


def _levels(caller: CallContext) -> list[str]:
    return [level for level, permission in _LEVELS.items() if _may(caller, permission)]


def _may(caller: CallContext, permission: str) -> bool:
    return permission in caller.permissions or _ALL in caller.permissions


def _limits(run_limits: RunLimits) -> Mapping[str, float]:
    return {
        "wall_s": run_limits.wall_s,
        "cpu_s": run_limits.cpu_s,
        "memory_bytes": run_limits.memory_bytes,
        "output_bytes": run_limits.output_bytes,
        "calls": run_limits.calls_max,
        "script_bytes": limits.SCRIPT_BYTES_MAX,
        "value_bytes": limits.FRAME_BYTES_MAX,
        "value_depth": limits.FRAME_DEPTH_MAX,
        "value_nodes": limits.FRAME_NODES_MAX,
    }


def _security(
    run_limits: RunLimits, rules: ToolRules, levels: Sequence[str]
) -> Mapping[str, object]:
    """A script itself has no files and no network; what is said here is of its tools.

    Every tool that touches files or starts a program is more than safe.
    """
    more = len(levels) > 1
    return {
        "allow_file_access": more and rules.files,
        "allow_network_access": bool(levels) and rules.network,
        "allow_process_spawn": more and _SPAWNS not in rules.off,
        "max_memory_bytes": run_limits.memory_bytes,
        "max_execution_time_ms": round(run_limits.wall_s * 1000),
    }


def _tools(rules: ToolRules, levels: Sequence[str]) -> Mapping[str, object]:
    return {
        "enabled": bool(levels),
        "levels": list(levels),
        "off": sorted(rules.off),
        "file_operations": {"enabled": rules.files, "max_bytes": rules.files_bytes},
        "network": {"enabled": rules.network},
    }


def _permissions(
    caller: CallContext, levels: Sequence[str], providers: Iterable[str]
) -> Mapping[str, object]:
    return {
        "read": True,
        "modify_providers": False,
        "modify_tools": False,
        "modify_runtime": False,
        "modify_security": False,
        "access_secrets": False,
        "allowed_providers": sorted(providers),
        "allowed_tools": [_ALL] if levels else [],
        "key": sorted(caller.permissions),
    }
