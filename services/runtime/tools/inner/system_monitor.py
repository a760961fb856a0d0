"""system-monitor: processor, memory and disk of the machine, and nothing of who uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from services.common.clock import SystemClock
from services.runtime.toolbox.model import Arguments, Level, Outcome, Tool, parameters
from services.runtime.tools.inner.desk import InnerDesk

_PROCESSOR_S = 0.1
"""Seconds over which the processor's use is measured."""
_KIB = 1024.0
DISK = "data"
"""What the disk of the tenants' folders is called; where it is mounted is the operator's matter."""


def _cpu() -> dict[str, Any]:
    return {
        "cpu_usage_percent": psutil.cpu_percent(_PROCESSOR_S),
        "cpu_count": psutil.cpu_count() or 1,
        "load_average": list(psutil.getloadavg()),
    }


def _memory() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    sizes = {"total": memory.total, "used": memory.used, "available": memory.available}
    told: dict[str, Any] = {f"{name}_memory_bytes": size for name, size in sizes.items()}
    told |= {f"{name}_memory_formatted": _formatted(size) for name, size in sizes.items()}
    return told | {"memory_usage_percent": memory.percent}


def _disk(folder: str) -> dict[str, Any]:
    if not folder:
        return {"disk_usage": {}}
    disk = psutil.disk_usage(_existing(folder))
    told = {
        "total_bytes": disk.total,
        "available_bytes": disk.free,
        "used_bytes": disk.used,
        "usage_percent": disk.percent,
    }
    return {"disk_usage": {DISK: told}}


def _existing(folder: str) -> Path:
    """The folder, or where it will be made."""
    path = Path(folder)
    return next(each for each in (path, *path.parents) if each.exists())


def _all(folder: str) -> dict[str, Any]:
    told = _cpu() | _memory() | _disk(folder)
    told["uptime_seconds"] = max(0, round(SystemClock().now_ns() / 1e9 - psutil.boot_time()))
    told["process_count"] = len(psutil.pids())
    told["formatted"] = {
        "uptime": _duration(told["uptime_seconds"]),
        "total_memory": told["total_memory_formatted"],
        "used_memory": told["used_memory_formatted"],
        "available_memory": told["available_memory_formatted"],
    }
    return told


async def _run(arguments: Arguments, desk: InnerDesk) -> Outcome:
    operation, folder = arguments["operation"], desk.surroundings.data
    read: Mapping[str, Any] = {
        "cpu": _cpu,
        "memory": _memory,
        "disk": lambda: _disk(folder),
        "all": lambda: _all(folder),
        "stats": lambda: _all(folder),
    }
    # Measuring waits, and a disk may answer late.
    return Outcome(operation=operation, result=await asyncio.to_thread(read[operation]))


def _formatted(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < _KIB:
            return f"{size:.2f} {unit}"
        size /= _KIB
    return f"{size:.2f} TB"


def _duration(seconds: int) -> str:
    minutes, _ = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h {minutes}m"


_NUMBERS = {
    "cpu_usage_percent": "Of all processors, over a tenth of a second.",
    "cpu_count": "Processors.",
    "total_memory_bytes": "All memory.",
    "used_memory_bytes": "Memory in use.",
    "available_memory_bytes": "Memory that can be had.",
    "memory_usage_percent": "Share of memory in use.",
    "uptime_seconds": "Since the machine started.",
    "process_count": "Processes of the machine, whoever's they are.",
}
TOOL = Tool(
    name="system-monitor",
    description="Tells how busy the machine is: processor, memory, load, disk, uptime.",
    category="system",
    level=Level.SAFE,
    synonyms={"input": "operation", "metric": "operation"},
    parameters=parameters(
        operation={
            "enum": ["all", "stats", "cpu", "memory", "disk"],
            "default": "all",
            "description": "What to tell; `stats` is `all`.",
        },
    ),
    result={
        "type": "object",
        "properties": {
            **{name: {"type": "number", "description": text} for name, text in _NUMBERS.items()},
            "load_average": {
                "type": "array",
                "items": {"type": "number"},
                "description": "Over 1, 5 and 15 minutes.",
            },
            "total_memory_formatted": {"type": "string", "description": "Such as `3.84 GB`."},
            "used_memory_formatted": {"type": "string", "description": "Likewise."},
            "available_memory_formatted": {"type": "string", "description": "Likewise."},
            "disk_usage": {
                "type": "object",
                "description": "Of the disk `data`, where tenants' files are: `total_bytes`, "
                "`available_bytes`, `used_bytes`, `usage_percent`.",
            },
            "formatted": {"type": "object", "description": "Uptime and memory, for people."},
        },
    },
    notes="Figures of the whole machine or container, no process and no tenant among them.",
    run=_run,
)
