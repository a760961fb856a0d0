"""Every setting of every process, with its default and its meaning.

One file describes the whole of `llmspell.toml`, so that any process can name an unknown key in any
table; `llmspell.toml.example` and the reference page are printed from it. A setting needs a reason
that a default cannot meet; otherwise it is a constant in `limits`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.common import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """What the four processes share."""

    context_key_file: str = ""
    """File with 64 hexadecimal digits: the key that seals calls between the processes. The same in
    all four."""
    drain_s: float = 5.0
    """How long calls in flight may go on after SIGTERM before they are cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What the processes tell of themselves."""

    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    def __post_init__(self) -> None:
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise ValueError("telemetry.log_level must be debug, info, warning or error")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The public door."""

    listen: str = "127.0.0.1:50060"
    """Address of the public port."""
    operator_key_file: str = ""
    """File with the operator's key; empty: there is no operator."""
    runtime: str = "127.0.0.1:50061"
    """Address of the runtime process."""
    vector: str = "127.0.0.1:50062"
    """Address of the vector process."""
    state: str = "127.0.0.1:50063"
    """Address of the state process."""
    reflection: bool = True
    """Whether `grpcurl`, `ghz` and `llmspell rpc` may read the contract from the public port."""
    calls_at_once: int = limits.CALLS_AT_ONCE
    """Calls in flight; more are refused with OVERLOADED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """Scripts."""

    listen: str = "127.0.0.1:50061"
    """Address that the gateway calls."""
    vector: str = "127.0.0.1:50062"
    """Address of the vector process."""
    state: str = "127.0.0.1:50063"
    """Address of the state process."""
    reflection: bool = False
    """Whether this process describes the contract too."""
    calls_at_once: int = limits.CALLS_AT_ONCE
    """Calls in flight; more are refused with OVERLOADED."""
    runs_at_once: int = limits.RUNS_AT_ONCE
    """Scripts that run at the same time; more wait."""
    run_wall_s: float = limits.RUN_WALL_SECONDS
    """Most time on the clock that a run may take."""
    run_cpu_s: float = limits.RUN_CPU_SECONDS
    """Most processor time that a run may take."""
    run_memory_bytes: int = limits.RUN_MEMORY_BYTES
    """Largest Lua heap of a run."""
    run_output_bytes: int = limits.RUN_OUTPUT_BYTES
    """Most bytes that a run may print."""
    require_kernel_layers: bool = False
    """Refuse to start where seccomp or Landlock is missing, instead of saying so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSettings:
    """Vectors and documents."""

    listen: str = "127.0.0.1:50062"
    """Address that the gateway and the runtime call."""
    state: str = "127.0.0.1:50063"
    """Address of the state process, which is asked which sessions have ended."""
    data: str = "data/vector"
    """Folder of this process's store. On a local disk."""
    engine: str = "embedded"
    """`embedded` keeps data on disk, `memory` forgets them at the end."""
    reflection: bool = False
    """Whether this process describes the contract too."""
    calls_at_once: int = limits.CALLS_AT_ONCE
    """Calls in flight; more are refused with OVERLOADED."""
    exact_threshold: int = 8000
    """Up to this many vectors a collection has no graph: a scan is as quick, and exact."""
    sweep_interval_s: float = 1.0
    """How often expired records are removed from disk. They are not returned before that either."""
    embedding_provider: str = "local"
    """`local` or `openai`; the one that is used where a request names none."""
    embedding_threads: int = 2
    """Threads of the local model."""
    openai_base_url: str = ""
    """Another address that speaks OpenAI's embeddings API; empty: OpenAI's own."""
    openai_model: str = "text-embedding-3-small"
    """Model of the openai provider."""
    openai_dimension: int = 384
    """Length of its vectors."""
    openai_api_key_file: str = ""
    """File with its key; empty: there is no openai provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """Scoped state."""

    listen: str = "127.0.0.1:50063"
    """Address that the gateway and the runtime call."""
    data: str = "data/state"
    """Folder of this process's store. On a local disk."""
    engine: str = "embedded"
    """`embedded` keeps data on disk, `memory` forgets them at the end."""
    reflection: bool = False
    """Whether this process describes the contract too."""
    calls_at_once: int = limits.CALLS_AT_ONCE
    """Calls in flight; more are refused with OVERLOADED."""
    sweep_interval_s: float = 1.0
    """How often expired items are removed from disk. They are not returned before that either."""
    backups: str = ""
    """Folder of backups; empty: `backups` in the folder of `data`."""
    backups_kept: int = 10
    """How many backups each tenant keeps, and the operator."""
    backup_days: float = 30.0
    """How old a backup may become; the newest one stays."""
    backup_bytes: int = 1024**4
    """What the backups of each tenant may take together; the newest one stays."""
    backup_sweep_s: float = 60.0
    """How often backups are removed that are kept no longer."""
    master_key_file: str = ""
    """File with 64 hexadecimal digits that nobody else may read: the master key, under which what
    tenants keep is encrypted. Empty: LLMSPELL_MASTER_KEY of the environment; without both, nothing
    is."""
    previous_master_key_file: str = ""
    """File with the master key before, while a rotation wraps data keys again. Empty:
    LLMSPELL_PREVIOUS_MASTER_KEY. A file that is not there is no error."""
    events_kept: int = limits.EVENTS_KEPT_MAX
    """Published events that are kept of each tenant; the oldest are let go beyond that."""
    events_kept_bytes: int = limits.EVENTS_KEPT_BYTES_MAX
    """Likewise, by their bytes."""
    events_kept_s: float = limits.EVENTS_KEPT_SECONDS
    """How long a published event is kept. A change counts for what is published after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration; one table a field."""

    deployment: DeploymentSettings = field(default_factory=DeploymentSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    vector: VectorSettings = field(default_factory=VectorSettings)
    state: StateSettings = field(default_factory=StateSettings)
