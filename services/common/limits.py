"""Every limit, by name and with its unit. Crossing one is an error that names it.

A number becomes a setting only where a deployment needs another one; those are the defaults of
`runtime.config` and are marked.
"""

MIB = 1024 * 1024

MESSAGE_BYTES_MAX = 8 * MIB
METADATA_BYTES_MAX = 16 * 1024
HTTP_BODY_BYTES_MAX = 12 * MIB
"""A request by HTTP: a message of the limit in JSON, where bytes take a third more."""
HTTP_BODY_SECONDS_MAX = 30.0
"""How long it may take to arrive."""
HTTP_HEAD_SECONDS_MAX = 10.0
"""Likewise its headers, and how long a connection may be idle."""
HTTP_CONNECTIONS_MAX = 512
TRUNK_REQUEST_BYTES_MAX = 64 * 1024
"""A larger request is sent alone: others must not wait behind it."""
TRUNK_PIECE_BYTES = 64 * 1024
"""A larger answer comes in pieces, between which others pass."""
TRUNK_MESSAGE_BYTES = 256 * 1024
"""So many bytes are put together into one message, and the last of them."""

TENANT_ID_LENGTH_MAX = 63
SCOPE_BYTES_MAX = 112
STATE_KEY_BYTES_MAX = 256
RECORD_ID_BYTES_MAX = 256
DISPLAY_NAME_BYTES_MAX = 256
TENANT_LIMIT_MAX = 10**15
"""The largest figure that a tenant may be given: a JSON reader still tells it from the next."""
TENANT_WEIGHT_MIN = 0.01
TENANT_WEIGHT_MAX = 100.0
TENANT_METADATA_BYTES_MAX = 16 * 1024
TENANT_RETENTION_SECONDS_MAX = 3650 * 86_400
SCOPES_MAX = 128
"""Permissions that one key, token or grant may name."""
KEY_USE_SECONDS = 60
"""A key's last use is kept at most this often."""
KEY_USES_MAX = 10_000
"""Keys whose uses one gateway remembers or has waiting to be kept."""
KEY_OVERLAP_SECONDS = 24 * 3600
KEY_OVERLAP_SECONDS_MAX = 30 * 24 * 3600
TOKEN_SECONDS_MAX = 300
TOKEN_BYTES_MAX = 12 * 1024
JWT_BYTES_MAX = 8 * 1024
JWT_LEEWAY_SECONDS = 30
"""How far an issuer's clock may be from ours."""
JWT_REMEMBERED_SECONDS = 60
"""A token whose signature was good is not checked again for so long."""
JWT_REMEMBERED_MAX = 10_000
JWKS_BYTES_MAX = 256 * 1024
JWKS_KEYS_MAX = 64
JWKS_RETRY_SECONDS = 30
"""An issuer's keys are read at most this often."""
JWKS_OLD_SECONDS = 3600
RSA_BITS_MIN = 2048
GRANT_SECONDS = 3600
GRANT_SECONDS_MAX = 24 * 3600
GRANT_REASON_BYTES_MAX = 256
GRANTS_KEPT_MAX = 100
"""Of one tenant; the oldest is forgotten."""

STATE_VALUE_BYTES_MAX = MIB
BATCH_OPERATIONS_MAX = 256
BATCH_BYTES_MAX = 4 * MIB
TTL_SECONDS_MAX = 100 * 365 * 24 * 3600
PAGE_BYTES_MAX = 4 * MIB
CHANGES_KEPT_MAX = 100_000
TRANSFER_ITEMS_MAX = 10_000
TRANSFER_BYTES_MAX = 64 * MIB
REQUEST_ID_BYTES_MAX = 64
REQUEST_REMEMBERED_SECONDS = 600
REQUESTS_PER_TENANT_MAX = 10_000_000
DECIMAL_DIGITS_MAX = 34
DECIMAL_EXPONENT_MAX = 300
DECIMAL_TEXT_BYTES_MAX = 400
SCHEMAS_MAX = 100
SCHEMA_VERSIONS_MAX = 100
SCHEMA_FIELDS_MAX = 256
SCHEMA_TRANSFORMS_MAX = 256
SCHEMA_NAME_BYTES_MAX = 64
FIELD_PATH_BYTES_MAX = 256
FIELD_DEPTH_MAX = 8
DEFAULT_VALUE_BYTES_MAX = 16 * 1024
SEPARATOR_BYTES_MAX = 16
CUSTOM_TRANSFORM_BYTES_MAX = 64 * 1024
MIGRATION_ITEMS_AT_ONCE_MAX = 300_000
MIGRATION_BYTES_AT_ONCE_MAX = 256 * MIB
"""Beyond either, results are made ready in slices before the transaction that puts them."""
MIGRATIONS_KEPT_MAX = 100
MIGRATION_SAMPLES_MAX = 20
MIGRATION_WAIT_SECONDS_MAX = 30

WATCHES_PER_CALLER_MAX = 32
WATCHES_MAX = 128
"""Half of what a process serves at once, so that watches leave room for calls."""
WATCH_CHANGES_MAX = 500
WATCH_IDLE_SECONDS = 5.0

EVENT_TYPE_BYTES_MAX = 128
EVENT_DATA_BYTES_MAX = 64 * 1024
EVENT_TEXT_BYTES_MAX = 256
EVENTS_BATCH_MAX = 1000
EVENTS_BATCH_BYTES_MAX = 4 * MIB
EVENTS_PAGE_BYTES = MIB
EVENTS_KEPT_MAX = 1_000_000  # setting
EVENTS_KEPT_BYTES_MAX = 256 * MIB  # setting
EVENTS_KEPT_SECONDS = 7 * 24 * 3600.0  # setting
EVENT_POLL_SECONDS_MAX = 20.0
EVENT_IDLE_SECONDS = 5.0
JOURNAL_BATCH_MAX = 1000
JOURNAL_BATCH_BYTES_MAX = 6 * MIB
JOURNAL_METHOD_BYTES_MAX = 256
JOURNAL_BYTES_PER_TENANT_MAX = 4096 * MIB
"""Of requests and answers, as they are before they are packed."""
SUBSCRIPTIONS_PER_CALLER_MAX = 32
SUBSCRIPTIONS_PER_TENANT_MAX = 64
SUBSCRIPTIONS_MAX = 96
SESSIONS_PER_TENANT_MAX = 100_000
SESSION_NAME_BYTES_MAX = 256
SESSION_DESCRIPTION_BYTES_MAX = 4096
SESSION_END_REASON_BYTES_MAX = 1024
SESSION_TAGS_MAX = 64
SESSION_TAG_BYTES_MAX = 128
SESSION_TIMEOUT_SECONDS = 24 * 3600
"""Where a session names no other."""
SESSION_RETENTION_SECONDS = 30 * 24 * 3600
"""Likewise."""
SESSION_AUTO_SAVE_SECONDS = 300
"""Likewise."""
SESSION_AUTO_SAVE_SECONDS_MIN = 1
SESSION_ENDS_KEPT_MAX = 100_000
SESSION_ENDS_SECONDS = 30 * 24 * 3600
SESSION_ENDS_WAIT_SECONDS_MAX = 20.0
CHECKPOINTS_MAX = 100
CHECKPOINT_ITEMS_MAX = 10_000
CHECKPOINT_BYTES_MAX = 32 * MIB
CHECKPOINT_ARTIFACTS_MAX = 10_000
RESTORE_ITEMS_MAX = 50_000
"""Items that a session may have when one of its checkpoints is restored: one step removes them."""
RESTORE_ARTIFACTS_MAX = 20_000
"""Likewise of artifacts."""

UPSERT_RECORDS_MAX = 1000
DIMENSION_MAX = 4096
SEARCH_LIMIT_DEFAULT = 10
SEARCH_LIMIT_MAX = 1000
BATCH_SEARCH_QUERIES_MAX = 100
EXPANSION_MAX = 4096
HNSW_M_MAX = 64
HNSW_EF_CONSTRUCTION_MAX = 1000
HISTORY_SECONDS_MAX = 366 * 24 * 3600
UPDATE_MATCHES_MAX = 10_000
SNAPSHOTS_MAX = 100
ROW_FILTER_BYTES_MAX = 4096
FILTER_DEPTH_MAX = 8
FILTER_CONDITIONS_MAX = 64
RECORD_METADATA_BYTES_MAX = 16 * 1024
RECORD_METADATA_KEYS_MAX = 64
RECORD_TEXT_BYTES_MAX = 64 * 1024
VALUE_DEPTH_MAX = 16

DOCUMENTS_MAX = 256
DOCUMENT_ID_BYTES_MAX = 200
DOCUMENT_BYTES_MAX = 4 * MIB
CHUNKS_MAX = 5000
CHUNK_CHARACTERS_MAX = 8192
QUERY_TEXT_BYTES_MAX = 64 * 1024

ARTIFACT_BYTES_MAX = 1024 * MIB
ARTIFACT_CHUNK_BYTES_MAX = MIB
ARTIFACT_PUT_BYTES_MAX = 4 * MIB
ARTIFACT_COMPRESS_BYTES_MIN = 10 * 1024
ARTIFACT_NAME_BYTES_MAX = 256
ARTIFACT_TYPE_BYTES_MAX = 64
ARTIFACT_MIME_TYPE_BYTES_MAX = 128
ARTIFACT_DESCRIPTION_BYTES_MAX = 4096
ARTIFACT_TAGS_MAX = 32
ARTIFACT_TAG_BYTES_MAX = 64
ARTIFACT_METADATA_BYTES_MAX = 16 * 1024
ARTIFACT_VERSIONS_MAX = 10_000

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000

SCRIPT_BYTES_MAX = 256 * 1024
SCRIPT_ARGUMENTS_MAX = 64
SCRIPT_ARGUMENT_BYTES_MAX = 64 * 1024
RUN_MEMORY_BYTES = 64 * MIB  # setting
RUN_CPU_SECONDS = 10.0  # setting
RUN_WALL_SECONDS = 60.0  # setting
RUN_OUTPUT_BYTES = MIB  # setting
RUN_CALLS_MAX = 1000
TEMPLATE_DEPTH_MAX = 3
"""Templates within templates, the outermost counted."""
TEMPLATE_SECONDS = 300.0
INTERACT_IDLE_SECONDS = 1800.0
INTERACT_AT_ONCE = 16
TENANT_INTERACT_AT_ONCE = 4
INTERACT_CPU_FACTOR = 6
"""How often a run's processor time all pieces of an interactive run have together."""
RUN_METRICS_BYTES_MAX = 64 * 1024
RUN_JOURNAL_BYTES_MAX = 64 * MIB
"""Beyond it nothing more of a run is kept; it goes on, but cannot be resumed."""
RUN_JOURNAL_SECONDS = 7 * 24 * 3600
"""How long the journal of a run is kept that has no session."""
REPLAY_REPORTS_MAX = 1000
RUN_READINGS_MAX = 1_000_000
"""How often a run may ask for time, or for the size of its memory."""
TOOLS_AT_ONCE = 16  # setting
TOOL_RECEIPT_SECONDS = 7 * 24 * 3600
"""How long it is kept what came of an execution whose workflow nobody goes on with."""
TOOL_CONNECTIONS_MAX = 200
"""Connections that one execution of a tool may ask for."""
TENANT_CONNECTIONS_MAX = 400
"""Connections that a tenant's executions under way may have been given together."""
TOOL_CONNECT_SECONDS_MAX = 30.0
"""For one connection, its name's look-up included."""
TOOL_LOOKUP_SECONDS_MAX = 10.0
TOOL_LOOKUPS_AT_ONCE = 32
"""Names that are looked up at the same time."""
TENANT_LOOKUPS_AT_ONCE = 8
"""Of these, the most that one tenant has: a slow name server must not stop the others."""
TOOL_ADDRESSES_TRIED_MAX = 4
"""Addresses of one host that are tried, in the resolver's order."""
RUN_QUICK_SECONDS = 0.05
"""Of processor time that a run has at the services' own priority; then it gives way to others."""
TENANT_FILES_BYTES = 1024 * MIB  # setting
TENANT_FILES_COUNT = 100_000  # setting
"""Files and folders of one tenant, for its tools."""
RUNS_AT_ONCE = 16  # setting
TENANT_RUNS_AT_ONCE = 8  # setting
TENANT_RUNS_WAITING = 100  # setting
TENANT_CPU_SECONDS_A_MINUTE = 240.0  # setting
TENANT_CALLS_A_MINUTE = 600_000  # setting
TENANT_OUTPUT_BYTES_A_MINUTE = 256 * MIB  # setting

PROVIDER_ANSWER_BYTES_MAX = 8 * MIB
"""Of one answer as it comes over the wire."""
PROVIDER_PIECES_MAX = 200_000
"""Of one answer that comes in pieces."""
PROVIDER_TOOL_USES_MAX = 128
"""Of one answer; more are not heard."""
PROVIDER_ATTEMPTS_MAX = 5
PROVIDER_PAUSE_SECONDS_MIN = 0.25
"""Before a second attempt; each next pause is twice as long."""
PROVIDER_PAUSE_SECONDS_MAX = 8.0
PROVIDER_RETRY_AFTER_SECONDS_MAX = 60.0
"""A provider that wants to be left alone for longer is not asked again."""
PROVIDER_CONNECT_SECONDS_MAX = 10.0
PROVIDER_CONNECTIONS_MAX = 512
"""To one provider with one key."""
PROVIDER_CLIENTS_MAX = 256
"""Providers that are kept open, each with its key; the least lately used is closed beyond it."""
PROVIDER_WORDS_MAX = 300
"""Characters of what a provider says when it refuses."""
PROVIDER_SCRIPT_BYTES_MAX = 256 * 1024
"""Of a script that a caller gives the provider `scripted`."""
PROVIDER_PULL_SECONDS_MAX = 6 * 3600.0
"""For a model that a provider fetches."""
PROVIDER_PULLS_MAX = 16
"""Models that are fetched at the same time."""
PROVIDER_LIST_SECONDS_MAX = 10.0
"""For the list of its models."""

HOOK_FORKS_MAX = 32
"""Operations that the hooks of one run may begin beside its calls."""
HOOK_FORKS_AT_ONCE = 8
HOOK_SLEEP_SECONDS_MAX = 60.0
HOOK_KEPT_MAX = 1000  # setting
"""Answers that one hook keeps of a tenant."""
HOOK_KEPT_BYTES_MAX = 256 * 1024
"""Of one answer; a larger one is not kept."""
HOOK_TENANTS_MAX = 1000
"""Tenants of whom a hook keeps something; the least lately used is forgotten beyond it."""
OPERATION_EVENTS_MAX = 10_000  # setting
"""Events of operations that wait to be published."""
OPERATION_EVENTS_PER_SECOND = 1000  # setting

AGENT_TURNS_MAX = 25
"""How often an agent asks its model, where it names no other limit; likewise those below."""
AGENT_TOOL_CALLS_MAX = 100
AGENT_SECONDS_MAX = 300.0
AGENT_DEPTH_MAX = 10
"""How deep agents call agents; nothing asks for more."""
AGENT_TOOLS_AT_ONCE = 8
"""Calls that a model has asked for together and that are made at the same time."""
AGENT_TOOLS_MAX = 128
"""Tools, functions and agents that are offered to one model."""
AGENT_TOOL_USES_MAX = 64
"""Calls that a model may ask for in one answer."""
AGENT_ARGUMENTS_BYTES_MAX = 256 * 1024
"""Of one call, as the model wrote them."""
AGENT_TOOL_ANSWER_BYTES_MAX = 64 * 1024
"""Of what a tool gave that the model is shown; the rest is cut."""
AGENT_ANSWER_BYTES_MAX = MIB
"""Text of one answer of a model."""
AGENT_INPUT_BYTES_MAX = MIB
AGENT_CALLS_BYTES_MAX = 512 * 1024
"""Of all calls of tools that an output tells; scripts must be able to take it."""
AGENT_MEDIA_MAX = 16
AGENT_SPEC_BYTES_MAX = 256 * 1024
AGENT_SCHEMA_BYTES_MAX = 64 * 1024
AGENT_MEMBERS_MAX = 16
"""Agents of a composite."""
AGENT_TRANSITIONS_KEPT = 100
AGENT_RECOVERIES_MAX = 3
"""How often an agent is recovered until it must have been ready again."""
AGENT_PASSAGES = 5
AGENT_PASSAGES_MAX = 50
"""Passages of memory that a model is shown."""
CONVERSATION_MESSAGES = 100
"""Messages of a conversation that a model is shown, where its agent names no other limit."""
CONVERSATION_MESSAGES_KEPT = 1000
CONVERSATION_BYTES_MAX = 512 * 1024
RUN_CONVERSATION_SECONDS = 24 * 3600
"""How long a conversation is kept, after what was last said, that only a run knows of."""

EXECUTIONS_PER_TENANT_MAX = 1000
"""Agents and workflows of one tenant that go on at the same time in a process."""
EXECUTIONS_HEARD_PER_TENANT_MAX = 224
"""Calls of one tenant that wait for news at the same time: of those that a process serves at once
(`CALLS_AT_ONCE`) some must be left for others."""
EXECUTIONS_KEPT_BYTES_MAX = 64 * MIB
"""Outputs of those that ended, for who asks again; the oldest go first."""
EXECUTION_IDLE_SECONDS = 60.0
"""How long one goes on that nobody asks for, and how long its output is kept."""
EXECUTION_CALLBACK_SECONDS = 600.0
"""How long one goes on that waits for its caller's functions while nobody asks for it."""
EXECUTION_GATHER_SECONDS_MAX = 10.0
"""How long events may be gathered before they are told."""
EXECUTION_GRACE_SECONDS = 5.0
"""How long one goes on whose caller went away and may find it again by its request id."""
EXECUTION_WAIT_SECONDS_MAX = 60.0
"""How long one call waits for news."""
EXECUTION_EVENTS_BYTES_MAX = 4 * MIB
"""Events of one that nobody has fetched; beyond it events are let go."""
EXECUTION_NEWS_BYTES = 256 * 1024
"""Events in one answer, about; scripts must be able to take it."""

BUDGETS_PER_TENANT_MAX = 1000
BUDGET_USD_MAX = 1_000_000_000
BUDGET_TOKENS_MAX = 1_000_000_000_000_000
USAGE_ROWS_MAX = 20_000
"""Rows that one answer about usage may have."""
ESTIMATE_TEXTS_MAX = 10_000
ESTIMATE_DEPTH_MAX = 10
"""Agents and workflows within one another, of which an estimate is made."""

FRAME_BYTES_MAX = 2 * MIB
FRAME_DEPTH_MAX = 64
FRAME_NODES_MAX = 100_000

DEADLINE_SECONDS_DEFAULT = 10.0
DEADLINE_SECONDS_MAX = 300.0
IMPORT_SECONDS_MAX = 3600.0
"""A stream that a caller sends: one that stands still loses its place long before."""
CONTEXT_SECONDS_PAST_DEADLINE = 60.0
CONTEXT_DEPTH_MAX = 4
CALLS_AT_ONCE = 256
STREAMS_MAX = 256
"""Of one connection at a time; a process serves no more, and what is sent beyond waits in vain."""
PUBLIC_STREAMS_MAX = 128
"""Likewise at the public door, where a tenant has half of the places at most. A client of grpc
keeps the calls beyond at home."""
PUBLIC_PENDING_MAX = 4000
"""Calls that have come to the public door and wait to be looked at; of more, some are refused by
grpc, and of twice as many all. It does not know whose they are, so that this protects memory only.
"""
CONNECTIONS_MAX = 20_000
"""Of one process; more are closed as they come."""
CONNECTION_IDLE_SECONDS = 300
"""After so long without a call a caller's connection is ended; it connects again by itself."""
CONNECTION_AGE_SECONDS = 1800
"""How old a caller's connection may become, so that callers spread over new processes."""
CONNECTION_GRACE_SECONDS = 3600
"""How long calls on an old connection may go on."""
BREAKER_UNANSWERED_MAX = 5
"""So many calls in a row without an answer have a process asked for its health."""
BREAKER_PROBE_SECONDS = 0.5
"""How often a process that does not answer is asked again."""
CERTIFICATE_LOOK_SECONDS = 2.0
"""How often a process looks whether its certificates were replaced, beside each handshake."""
CERTIFICATE_WARN_SECONDS = 14 * 24 * 3600.0
"""How long before its end a certificate is told of."""
REQUESTS_A_MINUTE_UNLIMITED = 1_000_000_000
"""As good as none: such a quota is not counted."""
UPSTREAM_CALLS = 32
UPSTREAM_WAIT_SECONDS = 2.0

WORKFLOW_STEPS_MAX = 2000
"""Steps that one workflow may describe, those of workflows within included."""
WORKFLOW_BYTES_MAX = 512 * 1024
"""Of one that is described or registered."""
WORKFLOW_DEPTH_MAX = 8
"""Workflows within each other."""
WORKFLOW_STEPS_RUN_MAX = 20_000
"""Steps that one run may do, those of every iteration counted."""
WORKFLOW_NAME_LENGTH_MAX = 64
"""Characters of the name of a workflow, step or branch."""
WORKFLOW_CONCURRENCY = 4
"""Branches at once where a workflow says nothing."""
WORKFLOW_CONCURRENCY_MAX = 64
WORKFLOW_BRANCHES_MAX = 256
WORKFLOW_ITERATIONS = 1000
"""Of a loop that says nothing."""
WORKFLOW_ITERATIONS_MAX = 10_000
WORKFLOW_ATTEMPTS = 3
WORKFLOW_ATTEMPTS_MAX = 20
WORKFLOW_RETRY_PAUSE_SECONDS = 1.0
WORKFLOW_RETRY_PAUSE_SECONDS_MAX = 60.0
WORKFLOW_SECONDS = 300.0
"""For a workflow that says nothing."""
WORKFLOW_SECONDS_MAX = 24 * 3600.0
WORKFLOW_STEP_SECONDS = 30.0
WORKFLOW_STEP_SECONDS_LONG = 300.0
"""Of agents, workflows and templates."""
WORKFLOW_ROLLBACK_SECONDS_MAX = 300.0
"""For all that undoes a workflow; its own time is over by then."""
WORKFLOW_ARGUMENT_BYTES_MAX = MIB
"""What a step is given, after interpolation."""
WORKFLOW_OUTPUT_BYTES_MAX = 512 * 1024
"""What a step gives: it is kept, and read by those after it."""
WORKFLOW_MEMO_BYTES_MAX = 256 * 1024
"""Of one answer of a model, or one call of a tool, that is kept of an agent at work in a step."""
WORKFLOW_OUTPUTS_BYTES_MAX = 32 * MIB
"""What all steps of a run give: the process has it as long as the run goes on."""
TENANT_WORKFLOWS_AT_ONCE = 100
"""Runs of one tenant that go on in one process."""
WORKFLOW_SHARED_BYTES_MAX = 4 * MIB
"""Shared data of a workflow."""
WORKFLOW_CONDITION_DEPTH_MAX = 16
WORKFLOW_EXPRESSION_LENGTH_MAX = 2000
"""Characters."""
WORKFLOW_PROBLEMS_MAX = 100
"""That are told at once."""
WORKFLOW_RUN_SECONDS = 7 * 24 * 3600
"""How long a run is kept."""
WORKFLOW_LEASE_SECONDS = 30.0
"""After so long without a sign of a runtime, another one goes on with its workflows."""
WORKFLOW_SIGN_SECONDS = 8.0
"""How often a runtime gives that sign."""
WORKFLOW_RESUME_ATTEMPTS_MAX = 20
"""How often a run is resumed by itself: one that ends its process must not do so for ever."""
WORKFLOW_STEPS_TOLD_MAX = 2000
"""Steps in one answer; of more the first and the last."""

MEMBERS_MAX = 64
"""Processes of one kind."""
UPSTREAM_WAIT_SECONDS = 10.0
"""How long a call waits for a process where none serves."""
TENANTS_TOLD_MAX = 50
"""Tenants with series of their own in a process's metrics; the rest are one."""
TENANTS_COUNTED_MAX = 1000
"""Of the rest, those that are counted for a minute to see who should have one."""
LABEL_VALUES_MAX = 200
"""Values that a label of a counter may have, where callers choose them; the rest is one."""
LABEL_LENGTH_MAX = 100
METRICS_REQUEST_BYTES_MAX = 8 * 1024
"""Head of a request of Prometheus's."""
METRICS_CONNECTIONS_MAX = 16
METRICS_REQUEST_SECONDS = 5.0
SPANS_WAITING_MAX = 4096
"""Spans that wait to be written or sent; more are dropped and counted."""
SPAN_ATTRIBUTE_LENGTH_MAX = 200
SLOW_SPANS_A_SECOND = 100
"""Slow and failed spans that are kept although their trace is not."""
TRACES_ASKED_A_SECOND = 50
"""Traces that callers may have recorded by their own wish."""
TRACE_FILE_BYTES_MAX = 16 * MIB
"""A file of spans that is larger is put aside, in the place of the one before."""
AUDIT_BATCH_MAX = 1000
"""Entries of the audit log that are added at once."""
AUDIT_QUEUE_MAX = 4096
"""Entries that wait in a gateway; calls beyond are counted in a gap."""
AUDIT_WAIT_SECONDS = 1.0
"""How long an entry waits at most, where the call does not wait for it."""
AUDIT_TEXT_BYTES_MAX = 512
"""Of each text of an entry."""
AUDIT_EXPORT_CHUNK_BYTES = 256 * 1024

POLICIES_MAX = 10_000
POLICY_RULES_MAX = 100
"""Patterns of each kind in a policy."""
POLICY_BYTES_MAX = 2048
"""Of a policy's patterns and filter: they travel with each call."""
POLICIES_BYTES_MAX = 5 * 1024
"""Likewise, of all policies about a caller together."""
POLICY_LOOK_SECONDS = 0.4
"""How often a gateway looks whether a policy has changed."""
