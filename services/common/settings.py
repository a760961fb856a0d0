"""Every setting of every process, with its default and its meaning.

One file describes the whole of `llmspell.toml`, so that any process can name an unknown key in any
table; `llmspell.toml.example` and the reference page are printed from it. A setting needs a reason
that a default cannot meet; otherwise it is a constant in `limits`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.common import limits

SCRIPT_GLOBALS = frozenset(
    {
        "Agent", "Artifact", "Config", "Debug", "Event", "Hook", "JSON", "LocalLLM", "Logger",
        "Metrics", "Provider", "RAG", "Replay", "Session", "State", "Streaming", "Template",
        "Tool", "Utils", "Workflow",
    }
)  # fmt: skip
"""What a deployment may switch off. What is left of Lua's own is always there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """What the four processes share."""

    context_key_file: str = ""
    """File with 64 hexadecimal digits: the key that seals calls between the processes. The same in
    all four."""
    tls_certificate_file: str = ""
    """Certificate (PEM) that this process shows to the others, when it is called and when it calls
    over TCP. Unix sockets are never encrypted. Empty: the processes speak plaintext."""
    tls_key_file: str = ""
    """Its key."""
    tls_ca_file: str = ""
    """Authority that signs the certificates of all four; who shows none of its is refused."""
    allow_plaintext: bool = False
    """Whether the processes behind the gateway may be reached in the clear by other machines: for
    a network that is closed or encrypted itself."""
    drain_s: float = 5.0
    """How long calls in flight may go on after SIGTERM before they are cancelled."""
    lame_duck_s: float = 0.02
    """How long a process goes on serving after SIGTERM while it says that it is not ready, so that
    whoever spreads calls stops sending it some. Then `drain_s` begins."""
    upstream_wait_s: float = limits.UPSTREAM_WAIT_SECONDS
    """How long a call waits where no process serves that could answer it, as when one is started
    again; its own deadline counts too."""

    def __post_init__(self) -> None:
        given = (self.tls_certificate_file, self.tls_key_file, self.tls_ca_file)
        if any(given) and not all(given):
            raise ValueError(
                "deployment.tls_certificate_file needs tls_key_file and tls_ca_file beside it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What the processes tell of themselves."""

    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    traces: str = ""
    """Folder in which each process writes its spans as JSON lines, for `llmspell trace`; empty:
    none. `llmspell up` has `traces` in its data folder."""
    traces_collector: str = ""
    """OpenTelemetry collector that gets the spans: `http://HOST:4317`, or `https://` for TLS.
    Empty: none. OTEL_EXPORTER_OTLP_HEADERS of the environment may have a key for it."""
    traces_a_second: float = 20.0
    """Traces that the gateway begins to record in a second; slow and failed calls are recorded in
    any case."""
    slow_s: float = 0.25
    """What takes longer is recorded in any case."""

    def __post_init__(self) -> None:
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise ValueError("telemetry.log_level must be debug, info, warning or error")
        if self.traces_collector and not self.traces_collector.startswith(("http://", "https://")):
            raise ValueError("telemetry.traces_collector must begin with http:// or https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The public door."""

    listen: str = "127.0.0.1:50060"
    """Address of the public port."""
    tls_certificate_file: str = ""
    """Certificate (PEM) of the public port, with what it is signed by. Renewed files count for the
    next connection. Empty: plaintext, which only this machine may reach."""
    tls_key_file: str = ""
    """Its key."""
    tls_client_ca_file: str = ""
    """Authority that signs the certificates of callers; who shows none is refused. Empty: callers
    need no certificate."""
    allow_plaintext: bool = False
    """Whether the public port may be reached in the clear by other machines: for a network that is
    closed or encrypted itself, such as behind a proxy that ends TLS."""
    operator_key_file: str = ""
    """File with the operator's key; empty: there is no operator."""
    operator_tenants: str = ""
    """Tenants that are the operator's own, with commas between them: it sees their data without a
    grant. `llmspell up` names `default` here."""
    tls_identities_file: str = ""
    """TOML file of the callers that their certificate speaks for, where callers show one; see
    docs/guide/identity.md. Empty: none."""
    jwt_issuers_file: str = ""
    """TOML file of the issuers whose tokens (JWT) are taken; see docs/guide/identity.md. Empty:
    none."""
    runtime: str = "127.0.0.1:50061"
    """Addresses of the runtime processes, with commas between them. A name may stand for several
    addresses. Each tenant has its home in one of those that serve."""
    vector: str = "127.0.0.1:50062"
    """Address of the vector process."""
    state: str = "127.0.0.1:50063"
    """Address of the state process."""
    reflection: bool = True
    """Whether `grpcurl`, `ghz` and `llmspell rpc` may read the contract from the public port, with
    a key."""
    metrics_listen: str = ""
    """Address at which Prometheus gets this process's metrics (`/metrics`), and those of all four
    (`/metrics/deployment`): `127.0.0.1:9464`, or `unix:/PATH`. Whoever reaches it may read names of
    tenants. Empty: only `llmspell metrics` and `llmspell top` have them."""
    http_listen: str = ""
    """Address for calls by HTTP, for curl and browsers (Connect with JSON, and gRPC-Web):
    `127.0.0.1:8080`. Empty: none."""
    http_origins: str = ""
    """Whose pages may call by HTTP, with commas between them: `https://app.example.com`. `*`:
    anybody's. Empty: nobody's."""
    calls_at_once: int = limits.CALLS_AT_ONCE
    """Calls in flight; more are refused with OVERLOADED."""
    audit_reads: bool = False
    """Whether the audit log has calls that change nothing, too. Those of an operator in a tenant's
    data, and those that were denied, it has always."""

    @property
    def operators_own(self) -> frozenset[str]:
        """The names in `operator_tenants`."""
        return frozenset(name.strip() for name in self.operator_tenants.split(",") if name.strip())

    def __post_init__(self) -> None:
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("gateway.tls_certificate_file and tls_key_file need each other")
        if self.tls_client_ca_file and not self.tls_certificate_file:
            raise ValueError("gateway.tls_client_ca_file needs tls_certificate_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSettings:
    """What each tenant may take at the public door, where it has no limits of its own."""

    requests_per_minute: int = limits.REQUESTS_A_MINUTE_UNLIMITED
    """Calls of every kind together. Up to a hundred may come at once; they come back evenly. From a
    billion on they are not counted."""
    reads_per_minute: int = limits.REQUESTS_A_MINUTE_UNLIMITED
    """Of these, calls that change nothing."""
    writes_per_minute: int = limits.REQUESTS_A_MINUTE_UNLIMITED
    """Of these, calls that change something."""
    searches_per_minute: int = limits.REQUESTS_A_MINUTE_UNLIMITED
    """Of these, reads of vectors and documents, searches among them."""
    runs_per_minute: int = limits.REQUESTS_A_MINUTE_UNLIMITED
    """Of these, scripts, tools, agents, workflows, and whatever else asks a model."""
    tokens_per_minute: int = limits.REQUESTS_A_MINUTE_UNLIMITED
    """Tokens that models read and write for it; counted in the runtime."""
    admin_per_minute: int = limits.REQUESTS_A_MINUTE_UNLIMITED
    """Of these, calls that manage: collections, backups, migrations, budgets of the tenant."""
    concurrent_calls: int = limits.CALLS_AT_ONCE
    """Calls in flight that are answered at once; those that wait for their turn count. In any case
    a tenant has no more than are free for the others."""
    concurrent_streams: int = limits.CALLS_AT_ONCE
    """Calls in flight that are answered with a stream."""
    gateways: int = 1
    """How many gateways share these limits; each gives out its part of them."""
    upstream_calls: int = limits.UPSTREAM_CALLS
    """Calls that one process behind the gateway is given at a time; the others wait here, and
    tenants take turns by their weight."""
    wait_s: float = limits.UPSTREAM_WAIT_SECONDS
    """How long a call may wait for its turn before it is refused with OVERLOADED."""


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
    metrics_listen: str = ""
    """Address at which Prometheus gets this process's metrics; see `gateway.metrics_listen`."""
    calls_at_once: int = limits.CALLS_AT_ONCE
    """Calls in flight; more are refused with OVERLOADED."""
    runs_at_once: int = limits.RUNS_AT_ONCE
    """Scripts that run at the same time; more wait, and tenants take turns."""
    tenant_runs_at_once: int = limits.TENANT_RUNS_AT_ONCE
    """Of these, the most that belong to one tenant."""
    tenant_runs_waiting: int = limits.TENANT_RUNS_WAITING
    """Runs of one tenant that may wait; more are refused with RUN_QUEUE_FULL."""
    tenant_cpu_s_a_minute: float = limits.TENANT_CPU_SECONDS_A_MINUTE
    """Processor time of all runs of one tenant in a minute; then RUN_TENANT_LIMIT, as below."""
    tenant_calls_a_minute: int = limits.TENANT_CALLS_A_MINUTE
    """Calls that all runs of one tenant may make in a minute."""
    tenant_output_bytes_a_minute: int = limits.TENANT_OUTPUT_BYTES_A_MINUTE
    """Bytes that all runs of one tenant may print in a minute."""
    run_wall_s: float = limits.RUN_WALL_SECONDS
    """Most time on the clock that a run may take."""
    run_cpu_s: float = limits.RUN_CPU_SECONDS
    """Most processor time that a run may take."""
    run_memory_bytes: int = limits.RUN_MEMORY_BYTES
    """Largest Lua heap of a run."""
    run_output_bytes: int = limits.RUN_OUTPUT_BYTES
    """Most bytes that a run may print."""
    data: str = "data/runtime"
    """Folder of the tenants' folders, whose files tools read and write; empty: there are none."""
    tools_off: str = ""
    """Names of tools that are not offered, with commas between them."""
    tool_environment: str = "LANG, LC_*, TERM, TZ"
    """Variables of this process's environment that the tool environment-reader may tell of, with
    commas between them, `*` for any letters. Names that look like credentials are never told."""
    tools_at_once: int = limits.TOOLS_AT_ONCE
    """Tools that are executed at the same time; more wait."""
    network: bool = True
    """Whether tools may connect to other machines at all."""
    allowed_hosts: str = ""
    """Hosts that tools may reach although they are not public, or on other ports, with commas
    between them: a name, `*.name`, an address or a network such as `10.1.0.0/16`, each with `:port`
    or for every port."""
    blocked_hosts: str = ""
    """Hosts that tools never reach, written likewise."""
    allowed_ports: str = "80, 443, 8080, 8443"
    """Ports of public addresses that tools may reach."""
    tenant_files_bytes: int = limits.TENANT_FILES_BYTES
    """Most bytes that the files of one tenant may have together; more is refused: FILES_FULL."""
    tenant_files_count: int = limits.TENANT_FILES_COUNT
    """Most files and folders that one tenant may have."""
    require_kernel_layers: bool = False
    """Refuse to start where seccomp or Landlock is missing, instead of saying so."""
    prices_file: str = ""
    """TOML file of prices that come before those of the data package: `[[prices]]` with `model` (as
    `provider/model`; a star at its end stands for whatever follows), `input_usd_per_million`,
    `output_usd_per_million`, `cached_usd_per_million`. Empty: none."""
    globals_off: str = ""
    """Globals that scripts do not have, with commas between them, such as `Event, RAG`: each reads
    as nil. Empty: none."""

    def __post_init__(self) -> None:
        unknown = self.globals_switched_off - SCRIPT_GLOBALS
        if unknown:
            raise ValueError(
                f"runtime.globals_off has {min(unknown)}; there are "
                f"{', '.join(sorted(SCRIPT_GLOBALS))}"
            )

    @property
    def globals_switched_off(self) -> frozenset[str]:
        """The names in `globals_off`."""
        return frozenset(name.strip() for name in self.globals_off.split(",") if name.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class HooksSettings:
    """Hooks of the runtime process around every call of a script."""

    order: str = ""
    """Names, with commas between them, the outermost first: `logging`, `metrics`, `caching`,
    `rate_limit`, `retry`, `cost`, `security`, `debugging`. Empty: there are none."""
    timeout_s: float = 5.0
    """How much time of its own a hook may take for one call; beyond it the call goes on without."""
    failure_threshold: int = 3
    """So many failures within `window_s` open a hook's breaker for that tenant."""
    success_threshold: int = 2
    """So many good calls after another close it again."""
    window_s: float = 30.0
    """See `failure_threshold`."""
    open_s: float = 15.0
    """How long an open breaker leaves its hook out before it is tried."""
    slow_s: float = 0.05
    """A hook that takes longer is slow."""
    slow_threshold: int = 2
    """So many slow calls within `window_s` open its breaker."""
    logging_data_bytes: int = 1024
    """`logging`: how much of a call's arguments is logged, without credentials and sensitive
    values."""
    metrics_interval_s: float = 60.0
    """`metrics`: how often the log has a tenant's counts at most, while it makes calls."""
    caching_methods: str = "ToolService/ListTools,ToolService/GetTool"
    """`caching`: methods whose answers are kept, with commas between them. Only such as change
    nothing."""
    caching_tools: str = "hash-calculator,base64-encoder,text-manipulator,diff-calculator"
    """`caching`: tools whose results are kept: same arguments, same result."""
    caching_ttl_s: float = 300.0
    """`caching`: how long."""
    caching_entries: int = limits.HOOK_KEPT_MAX
    """`caching`: how many of each tenant."""
    caching_slower_than_s: float = 0.01
    """`caching`: an answer that came sooner is not worth keeping."""
    rate_limit_per_minute: float = 6000.0
    """`rate_limit`: calls that a tenant's scripts may make, all runs together."""
    rate_limit_burst: int = 1000
    """`rate_limit`: calls at once, after a pause."""
    rate_limit_warn_share: float = 0.8
    """`rate_limit`: from this share of the burst on it is logged, once a minute."""
    retry_attempts: int = 3
    """`retry`: how often a call is made at most that another process could not take."""
    retry_delay_s: float = 0.1
    """`retry`: the first wait; each next one is twice as long."""
    retry_total_s: float = 300.0
    """`retry`: how long all waits together may be."""
    security_parameter_bytes: int = 10_000
    """`security`: longest text among a tool's arguments."""
    security_audit_events: int = 10_000
    """`security`: how many decisions are remembered of each tenant."""
    debugging_traces: int = 1000
    """`debugging`: how many calls are remembered of each tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsSettings:
    """Events of operations, which the runtime process publishes to the tenant that they concern."""

    enabled: bool = True
    """Whether there are any: `run.started`, `tool.executed`, `hook.failed` and so on."""
    buffer_size: int = limits.OPERATION_EVENTS_MAX
    """Events that wait to be published; more are dropped and counted."""
    max_events_per_second: int = limits.OPERATION_EVENTS_PER_SECOND
    """Of each tenant; more are dropped and counted."""
    emit_timing_events: bool = False
    """Whether calls that take longer than a second are told: `call.slow`."""
    emit_state_events: bool = False
    """Whether reads of state are told: `state.read`. State tells its changes anyway."""
    emit_debug_events: bool = False
    """Whether every call is told: `call.completed`, `call.failed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSettings:
    """Servers and keys of tools; the runtime process reads them."""

    authorities_file: str = ""
    """File with certificates (PEM) that tools trust beside the known authorities, such as those of
    a company; empty: none."""
    smtp_host: str = ""
    """Server that email-sender sends through; empty: there is none. That tool may reach it, public
    or not."""
    smtp_port: int = 587
    """Its port."""
    smtp_security: str = "starttls"
    """`starttls`, `tls` from the first byte, or `none`, which sends the password in the clear."""
    smtp_user: str = ""
    """Whom to log in as; empty: nobody."""
    smtp_password_file: str = ""
    """File with the password."""
    smtp_from: str = ""
    """Addresses that mail may come from, with commas between them; the first where a call names
    none. Empty: every address."""
    search_provider: str = ""
    """Service that web-searcher asks: `searxng`, `brave`, `tavily`, `serperdev`, `serpapi`,
    `google`, `bing` or `duckduckgo`. Empty: there is none."""
    search_base_url: str = ""
    """Its address; empty: the service's own. searxng has none of its own."""
    search_api_key_file: str = ""
    """File with its key; of google the key, a blank, and the id of the search engine."""
    databases_file: str = ""
    """TOML file of the PostgreSQL databases that database-connector may ask: a table for each name,
    with `dsn`, `tenants`, `write` and `tls`. Empty: none."""

    def __post_init__(self) -> None:
        if self.smtp_security not in {"starttls", "tls", "none"}:
            raise ValueError("tools.smtp_security must be starttls, tls or none")
        known = {"", "searxng", "brave", "tavily", "serperdev", "serpapi"}
        known |= {"google", "bing", "duckduckgo"}
        if self.search_provider not in known:
            raise ValueError(f"tools.search_provider must be one of {', '.join(sorted(known)[1:])}")
        if self.search_provider == "searxng" and not self.search_base_url:
            raise ValueError("tools.search_base_url must be set for searxng")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """Providers of chat models; the runtime process reads them."""

    file: str = ""
    """TOML file with a table for each provider: where it is, and where its keys are. Empty: those
    that are known by name, each with the key in its variable of the environment, such as
    OPENAI_API_KEY."""
    scripts: str = ""
    """Folder of JSON files that the provider `scripted` plays: `scripted/NAME` is NAME.json. Empty:
    there are none."""
    off: str = ""
    """Names of providers that are not offered, with commas between them."""

    @property
    def off_names(self) -> tuple[str, ...]:
        """The names in `off`."""
        return tuple(name.strip() for name in self.off.split(",") if name.strip())


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
    metrics_listen: str = ""
    """Likewise: this process's metrics for Prometheus."""
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
    metrics_listen: str = ""
    """Likewise: this process's metrics for Prometheus."""
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
    quotas: QuotaSettings = field(default_factory=QuotaSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    tools: ToolSettings = field(default_factory=ToolSettings)
    providers: ProviderSettings = field(default_factory=ProviderSettings)
    hooks: HooksSettings = field(default_factory=HooksSettings)
    events: EventsSettings = field(default_factory=EventsSettings)
    vector: VectorSettings = field(default_factory=VectorSettings)
    state: StateSettings = field(default_factory=StateSettings)
