"""Every RPC, with another tenant's ids, with another tenant's name, and past the gateway.

The tables are checked against the contract: a new method fails the first test until it has a row.
"""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import message_factory
from google.rpc import error_details_pb2, status_pb2
from llmspell.v1 import (
    agent_pb2,
    artifact_pb2,
    audit_pb2,
    backup_pb2,
    event_pb2,
    execution_pb2,
    identity_pb2,
    journal_pb2,
    migration_pb2,
    policy_pb2,
    rag_pb2,
    run_pb2,
    script_pb2,
    session_pb2,
    state_pb2,
    tenant_pb2,
    tool_pb2,
    types_pb2,
    usage_pb2,
    vault_pb2,
    vector_admin_pb2,
    vector_pb2,
    workflow_pb2,
)

from services.common.access import METHODS
from services.common.clock import SystemClock
from services.common.context import METADATA_KEY, CallContext, Seal, read_key

OWNERS = {
    "llmspell.v1.EventService": "state",
    "llmspell.v1.JournalService": "state",
    "llmspell.v1.StateService": "state",
    "llmspell.v1.ArtifactService": "state",
    "llmspell.v1.MigrationService": "state",
    "llmspell.v1.BackupService": "state",
    "llmspell.v1.SessionService": "state",
    "llmspell.v1.AuditService": "state",
    "llmspell.v1.VectorService": "vector",
    "llmspell.v1.VectorAdminService": "vector",
    "llmspell.v1.RagService": "vector",
    "llmspell.v1.ScriptService": "runtime",
    "llmspell.v1.RunService": "runtime",
    "llmspell.v1.ToolService": "runtime",
    "llmspell.v1.ProviderService": "runtime",
    "llmspell.v1.UsageService": "runtime",
    "llmspell.v1.AgentService": "runtime",
    "llmspell.v1.WorkflowService": "runtime",
    "llmspell.v1.ExecutionService": "runtime",
    "llmspell.v1.TemplateService": "runtime",
}
VECTOR = types_pb2.Vector(values=[1.0, 2.0, 3.0])


def state(name, **fields):
    return getattr(state_pb2, f"{name}Request")(**fields)


def journal(name, **fields):
    return getattr(journal_pb2, f"{name}Request")(**fields)


def event(name, **fields):
    return getattr(event_pb2, f"{name}Request")(**fields)


def artifact(method, **fields):
    return getattr(artifact_pb2, f"{method}Request")(**fields)


def vector(name, **fields):
    return getattr(vector_pb2, f"{name}Request")(**fields)


def care(name, **fields):
    return getattr(vector_admin_pb2, f"{name}Request")(**fields)


def rag(name, **fields):
    return getattr(rag_pb2, f"{name}Request")(**fields)


def migration(name, **fields):
    return getattr(migration_pb2, f"{name}Request")(**fields)


def backup(name, **fields):
    return getattr(backup_pb2, f"{name}Request")(**fields)


def session(method, **fields):
    return getattr(session_pb2, f"{method}Request")(**fields)


def run_requests(name):
    """Likewise, for runs."""
    which = "Get Cancel Delete Replay Resume"
    requests = {
        f"{verb}Run": getattr(run_pb2, f"{verb}RunRequest")(run_id=f"run-{name}")
        for verb in which.split()
    }
    requests["ListRuns"] = run_pb2.ListRunsRequest(session_id=name)
    requests["ListRunCalls"] = run_pb2.ListRunCallsRequest(run_id=f"run-{name}", content=True)
    requests["ReplaySession"] = run_pb2.ReplaySessionRequest(session_id=name)
    return {f"RunService/{each}": request for each, request in requests.items()}


def kept_run(name):
    """Entries of the journal of a run."""
    source = b"print('cats')"
    begin = run_pb2.RunBegin(run_id=f"run-{name}", name="cats", session_id=name, seeds=[1, 2])
    texts = {"run.begin": begin.SerializeToString(), "run.source": source}
    return [
        journal_pb2.JournalEntry(sequence=number, method=method, request=request, answer=b"")
        for number, (method, request) in enumerate(texts.items(), start=1)
    ]


def agent_requests(name):
    """Likewise, for agents and what goes on of them."""
    execute = agent_pb2.ExecuteAgentRequest(
        agent=agent_pb2.AgentRef(name=name), input=agent_pb2.AgentInput(text="a secret?")
    )
    kept = {"agent": "clerk", "session_id": name}
    going = {"execution_id": f"exec_{name}"}
    requests = {
        "GetAgent": agent_pb2.GetAgentRequest(name=name),
        "ListAgents": agent_pb2.ListAgentsRequest(),
        "TransitionAgent": agent_pb2.TransitionAgentRequest(
            name=name, to=agent_pb2.AGENT_STATE_PAUSED
        ),
        "DeleteAgent": agent_pb2.DeleteAgentRequest(name=name),
        "ExecuteAgent": execute,
        "StreamAgent": agent_pb2.StreamAgentRequest(execute=execute),
        "GetConversation": agent_pb2.GetConversationRequest(**kept),
        "DeleteConversation": agent_pb2.DeleteConversationRequest(**kept),
    }
    return {f"AgentService/{each}": request for each, request in requests.items()} | {
        "ExecutionService/ContinueExecution": execution_pb2.ContinueExecutionRequest(**going),
        "ExecutionService/CancelExecution": execution_pb2.CancelExecutionRequest(**going),
    }


def workflow_requests(name):
    """Likewise, for workflows and their runs."""
    execute = workflow_pb2.ExecuteWorkflowRequest(name=name)
    within = workflow_pb2.Workflow(name="around")
    within.sequential.steps.add(name="s").workflow.name = name
    run = {"execution_id": f"wf_{name}"}
    requests = {
        "ValidateWorkflow": workflow_pb2.ValidateWorkflowRequest(workflow=within),
        "GetWorkflow": workflow_pb2.GetWorkflowRequest(name=name),
        "ListWorkflows": workflow_pb2.ListWorkflowsRequest(),
        "DeleteWorkflow": workflow_pb2.DeleteWorkflowRequest(name=name),
        "ExecuteWorkflow": execute,
        "StreamWorkflow": workflow_pb2.StreamWorkflowRequest(execute=execute),
        "GetWorkflowRun": workflow_pb2.GetWorkflowRunRequest(**run),
        "ListWorkflowRuns": workflow_pb2.ListWorkflowRunsRequest(name=name),
        "CancelWorkflowRun": workflow_pb2.CancelWorkflowRunRequest(**run),
        "ResumeWorkflowRun": workflow_pb2.ResumeWorkflowRunRequest(**run),
        "DeleteWorkflowRun": workflow_pb2.DeleteWorkflowRunRequest(**run),
    }
    return {f"WorkflowService/{each}": request for each, request in requests.items()}


def usage_requests(name):
    """Likewise, for money."""
    agent = agent_pb2.ExecuteAgentRequest(agent=agent_pb2.AgentRef(name=name))
    return {
        "UsageService/GetUsage": usage_pb2.GetUsageRequest(group_by=["USAGE_GROUP_AGENT"]),
        "UsageService/GetTenantUsage": usage_pb2.GetTenantUsageRequest(),
        "UsageService/ListBudgets": usage_pb2.ListBudgetsRequest(),
        "UsageService/DeleteBudget": usage_pb2.DeleteBudgetRequest(subject=f"agent:{name}"),
        "UsageService/EstimateCost": usage_pb2.EstimateCostRequest(agent=agent),
    }


def session_requests(name):
    """Likewise, for sessions."""
    asked = {
        "CreateSession": {"name": name},
        "UpdateSession": {"description": "x"},
        "FailSession": {"reason": "x"},
        "RestoreCheckpoint": {"checkpoint_id": "autosave"},
        "DeleteCheckpoint": {"checkpoint_id": "autosave"},
    }
    plain = "Get Save Suspend Resume Complete Archive Delete"
    asked |= {f"{verb}Session": {} for verb in plain.split()}
    asked |= {"CreateCheckpoint": {}, "ListCheckpoints": {}}
    requests = {each: session(each, session_id=name, **more) for each, more in asked.items()}
    requests["ListSessions"] = session("ListSessions", name_contains=name)
    return {f"SessionService/{each}": request for each, request in requests.items()}


def requests_for(name: str):
    """A request for each tenant-owned method that asks for the thing called `name`."""
    payload = state_pb2.Payload(json="1")
    present = state_pb2.Precondition(present=True)
    check = state_pb2.StateCheck(scope="session:s", key=name, precondition=present)
    head = artifact_pb2.ArtifactHeader(scope="session:x", name=name)
    chosen = artifact_pb2.ArtifactChoice(scope="session:s", name=name, version=1)
    where = {"scope": "session:s", "collection_id": name}
    origin = {"source_scope": "session:s", "source_key": name}
    record = vector_pb2.VectorRecord(record_id="r1", vector=VECTOR)
    source = f'return {{State.load("session:s", "{name}"), #RAG.search("x", {{k=1}}).results}}'
    return (
        session_requests(name)
        | run_requests(name)
        | agent_requests(name)
        | workflow_requests(name)
        | usage_requests(name)
        | {
            "StateService/GetState": state("GetState", scope="session:s", key=name),
            "StateService/SetState": state(
                "SetState", scope="session:s", key=name, value=payload, precondition=present
            ),
            "StateService/DeleteState": state("DeleteState", scope="session:s", key=name),
            "StateService/IncrementState": state(
                "IncrementState", scope="session:s", key=f"{name}-counter", int_delta=1
            ),
            "StateService/ListState": state("ListState", scope="session:s", prefix=name),
            "StateService/BatchState": state("BatchState", checks=[check]),
            "MigrationService/GetSchema": migration_pb2.GetSchemaRequest(name=name),
            "MigrationService/ListSchemas": migration("ListSchemas"),
            "MigrationService/DeleteSchema": migration_pb2.DeleteSchemaRequest(name=name),
            "MigrationService/PlanMigration": migration("PlanMigration", schema=name),
            "MigrationService/StartMigration": migration("StartMigration", schema=name),
            "MigrationService/GetMigration": migration("GetMigration", migration_id=name),
            "MigrationService/ListMigrations": migration("ListMigrations"),
            "MigrationService/CancelMigration": migration("CancelMigration", migration_id=name),
            "BackupService/CreateBackup": backup("CreateBackup"),
            "BackupService/ListBackups": backup("ListBackups"),
            "BackupService/VerifyBackup": backup("VerifyBackup", backup_id=name),
            "BackupService/DeleteBackup": backup("DeleteBackup", backup_id=name),
            "BackupService/RestoreBackup": backup("RestoreBackup", backup_id=name),
            "BackupService/GetBackupUsage": backup("GetBackupUsage"),
            "BackupService/CleanUpBackups": backup("CleanUpBackups"),
            "StateService/ResolveState": state("ResolveState", session_id="s", key=name),
            "StateService/CopyState": state("CopyState", key="copy", **origin),
            "StateService/MoveState": state("MoveState", key="moved", **origin),
            "StateService/CopyStateScope": state(
                "CopyStateScope", source_scope="session:s", scope="user:copy", prefix=name
            ),
            "StateService/MoveStateScope": state(
                "MoveStateScope", source_scope="session:s", scope="user:moved", prefix=name
            ),
            "StateService/ClearState": state("ClearState", scope="session:s", prefix=name),
            "JournalService/AppendJournal": journal(
                "AppendJournal",
                session_id=name,
                entries=[journal_pb2.JournalEntry(sequence=9, method="m", answer=b"")],
            ),
            "JournalService/ReadJournal": journal("ReadJournal", session_id=name),
            "JournalService/ListJournalEntries": journal("ListJournalEntries", session_id=name),
            "JournalService/ListJournals": journal("ListJournals"),
            "JournalService/GetJournal": journal("GetJournal", session_id=name),
            "JournalService/DeleteJournal": journal("DeleteJournal", session_id=name),
            "EventService/PublishEvents": event("PublishEvents"),
            "EventService/ListEvents": event("ListEvents", pattern=f"{name}.*"),
            "EventService/PollEvents": event("PollEvents", pattern=f"{name}.*", after=0),
            "ArtifactService/StoreArtifact": artifact("StoreArtifact", header=head),
            "ArtifactService/PutArtifact": artifact("PutArtifact", header=head, content=b"mine"),
            "ArtifactService/GetArtifact": artifact("GetArtifact", artifact=chosen),
            "ArtifactService/ReadArtifact": artifact("ReadArtifact", artifact=chosen),
            "ArtifactService/FetchArtifact": artifact("FetchArtifact", artifact=chosen),
            "ArtifactService/ListArtifacts": artifact("ListArtifacts", scope="session:s"),
            "ArtifactService/ListArtifactVersions": artifact(
                "ListArtifactVersions", scope="session:s", name=name
            ),
            "ArtifactService/DeleteArtifact": artifact("DeleteArtifact", artifact=chosen),
            "VectorService/CreateCollection": vector("CreateCollection", dimension=3, **where),
            "VectorService/GetCollection": vector("GetCollection", **where),
            "VectorService/ListCollections": vector("ListCollections", scope="session:x"),
            "VectorService/DeleteCollection": vector("DeleteCollection", **where),
            "VectorService/UpsertVectors": vector("UpsertVectors", records=[record], **where),
            "VectorService/GetVectors": vector("GetVectors", record_ids=["r1"], **where),
            "VectorService/ListVectors": vector("ListVectors", **where),
            "VectorService/DeleteVectors": vector("DeleteVectors", record_ids=["r1"], **where),
            "VectorService/DeleteScope": vector("DeleteScope", scope="session:x"),
            "VectorService/Search": vector("Search", vector=VECTOR, **where),
            "VectorService/BatchSearch": vector("BatchSearch", vectors=[VECTOR], **where),
            "VectorService/UpdateCollection": vector("UpdateCollection", ef_search=50, **where),
            "VectorService/UpdateMetadata": vector("UpdateMetadata", record_ids=["r1"], **where),
            "VectorService/ImportVectors": vector("ImportVectors", records=[record], **where),
            "VectorService/ConfigureScope": vector("ConfigureScope", scope="session:x"),
            "VectorAdminService/CreateSnapshot": care("CreateSnapshot", **where),
            "VectorAdminService/ListSnapshots": care("ListSnapshots", **where),
            "VectorAdminService/RestoreSnapshot": care(
                "RestoreSnapshot", snapshot_id=name, **where
            ),
            "VectorAdminService/DeleteSnapshot": care("DeleteSnapshot", snapshot_id=name),
            "VectorAdminService/RebuildIndex": care("RebuildIndex", **where),
            "VectorAdminService/CheckpointIndex": care("CheckpointIndex", **where),
            "VectorService/GetVectorStats": vector("GetVectorStats", scope="session:x"),
            "RagService/RetrieveDocuments": rag("RetrieveDocuments", text="a secret", **where),
            "RagService/DeleteDocuments": rag("DeleteDocuments", document_ids=["d1"], **where),
            "RagService/ListDocuments": rag("ListDocuments", **where),
            "RagService/ReembedCollection": rag("ReembedCollection", provider="local", **where),
            "RagService/GetReembedding": rag("GetReembedding", **where),
            "RagService/EndReembedding": rag("EndReembedding", **where),
            "RagService/ListEmbeddingProviders": rag("ListEmbeddingProviders"),
            "ScriptService/CheckScript": script_pb2.CheckScriptRequest(source=source),
            "ScriptService/RunScript": script_pb2.RunScriptRequest(source=source),
        }
    )


OPERATOR_ONLY = {
    "TenantService/CreateTenant": lambda t: tenant_pb2.CreateTenantRequest(tenant_id=t),
    "TenantService/GetTenant": lambda t: tenant_pb2.GetTenantRequest(tenant_id=t),
    "TenantService/ListTenants": lambda _: tenant_pb2.ListTenantsRequest(),
    "TenantService/UpdateTenant": lambda t: tenant_pb2.UpdateTenantRequest(tenant_id=t),
    "TenantService/SuspendTenant": lambda t: tenant_pb2.SuspendTenantRequest(tenant_id=t),
    "TenantService/ResumeTenant": lambda t: tenant_pb2.ResumeTenantRequest(tenant_id=t),
    "TenantService/FreezeTenant": lambda t: tenant_pb2.FreezeTenantRequest(tenant_id=t),
    "TenantService/DeleteTenant": lambda t: tenant_pb2.DeleteTenantRequest(tenant_id=t),
    "TenantService/GetDeletionReceipt": lambda t: tenant_pb2.GetDeletionReceiptRequest(tenant_id=t),
    "TenantService/CreateApiKey": lambda t: tenant_pb2.CreateApiKeyRequest(tenant_id=t),
    "TenantService/ListApiKeys": lambda t: tenant_pb2.ListApiKeysRequest(tenant_id=t),
    "TenantService/RevokeApiKey": lambda t: tenant_pb2.RevokeApiKeyRequest(key_id=t),
    "IdentityService/RotateApiKey": lambda t: identity_pb2.RotateApiKeyRequest(key_id=t),
    "IdentityService/GrantAccess": lambda t: identity_pb2.GrantAccessRequest(tenant_id=t),
    "IdentityService/ListGrants": lambda t: identity_pb2.ListGrantsRequest(tenant_id=t),
    "IdentityService/EndGrant": lambda t: identity_pb2.EndGrantRequest(tenant_id=t),
    "ProcessService/GetProcessStatus": lambda _: None,
    "ProcessService/GetMetrics": lambda _: None,
    "PolicyService/SetPolicy": lambda t: policy_pb2.SetPolicyRequest(
        policy=policy_pb2.Policy(tenant_id=t, subject="*", allow=["*"])
    ),
    "PolicyService/GetPolicy": lambda t: policy_pb2.GetPolicyRequest(tenant_id=t, subject="*"),
    "PolicyService/ListPolicies": lambda t: policy_pb2.ListPoliciesRequest(tenant_id=t),
    "PolicyService/ListPolicyVersions": lambda t: policy_pb2.ListPolicyVersionsRequest(
        tenant_id=t, subject="*"
    ),
    "PolicyService/DeletePolicy": lambda t: policy_pb2.DeletePolicyRequest(
        tenant_id=t, subject="*"
    ),
    "PolicyService/TestPolicy": lambda t: policy_pb2.TestPolicyRequest(tenant_id=t),
    "AuditService/AppendAudit": lambda _: audit_pb2.AppendAuditRequest(),
    "AuditService/VerifyAudit": lambda _: audit_pb2.VerifyAuditRequest(),
    "SessionService/ListEndedSessions": lambda _: session("ListEndedSessions"),
    "StateService/PurgeState": lambda _: state_pb2.PurgeStateRequest(),
    "UsageService/PurgeUsage": lambda _: usage_pb2.PurgeUsageRequest(),
    "ToolService/PurgeFiles": lambda _: tool_pb2.PurgeFilesRequest(),
    "VaultService/RotateMasterKey": lambda _: vault_pb2.RotateMasterKeyRequest(),
    "VaultService/GetVaultStatus": lambda _: vault_pb2.GetVaultStatusRequest(),
    "VectorService/PurgeVectors": lambda _: vector_pb2.PurgeVectorsRequest(),
    "VectorAdminService/UnloadVectors": lambda _: care("UnloadVectors"),
    "VectorAdminService/ConfigureVectorTenant": lambda _: care("ConfigureVectorTenant"),
}
COVERED_ELSEWHERE = {
    "QuotaService/GetQuotaUsage": "the caller's own; see test_quotas_deployed",
    "WorkflowService/CreateWorkflow": "writes the caller's own; see "
    "test_registered_workflows_belong_to_their_tenant in test_workflows",
    "AgentService/CreateAgent": "writes the caller's own; see test_agents_are_apart in test_agents",
    "ProviderService/ListProviders": "the operator's; see test_providers",
    "ProviderService/GetProvider": "likewise",
    "ProviderService/TestProvider": "likewise",
    "ProviderService/ListModels": "likewise",
    "ProviderService/GetModel": "likewise",
    "ProviderService/PullModel": "the operator alone may; likewise",
    "TemplateService/ListTemplates": "the same for every tenant; see test_template_runs",
    "TemplateService/GetTemplate": "the same for every tenant; see test_template_runs",
    "TemplateService/ExecuteTemplate": "a run of the caller's own; likewise",
    "TemplateService/EstimateTemplate": "likewise",
    "UsageService/SetBudget": "writes the caller's own; see test_budgets_are_apart in test_usage",
    "ScriptService/Interact": "does not end; see test_what_is_written_is_the_tenant_s_own in "
    "test_repl",
    "AuditService/ListAudit": "of the caller's own; see test_entries_are_apart in test_audit",
    "AuditService/ExportAudit": "likewise",
    "VaultService/RotateTenantKey": "names nothing; see test_sealed_deployment",
    "BackupService/ExportTenant": "names nothing; see test_export_and_import in test_backups",
    "BackupService/ImportTenant": "writes to the caller's own tenant; likewise",
    "EventService/SubscribeEvents": "does not end; see test_tenants_are_apart in test_events",
    "EventService/GetEventStats": "counts of the caller's own; likewise",
    "MigrationService/PutSchema": "writes the caller's own; see test_migrations_are_apart",
    "IdentityService/ExchangeToken": "answers about the caller only; see test_tokens",
    "TenantService/WhoAmI": "answers about the caller only; see test_who_am_i",
    "StateService/WatchState": "never ends by itself; see test_watch_is_apart in test_state_watch",
    "ToolService/ListTools": "the same for every tenant; see test_tools",
    "ToolService/GetTool": "likewise",
    "ToolService/ExecuteTool": "files of the caller's own; see test_files_are_apart in test_tools",
    "RagService/IngestDocuments": "writes to the caller's own tenant; see test_ingestion_is_apart",
    "RagService/ImportDocuments": "likewise",
    "RagService/ChunkText": "names nothing and stores nothing; see test_tools",
    "RagService/EmbedTexts": "likewise; the cache is the tenant's own",
    "RagService/EnsureDocumentCollection": "likewise",
}


def short(path: str) -> str:
    return path.removeprefix("/llmspell.v1.")


class Caller:
    """Calls any method with raw messages, and keeps what came back."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)

    def __call__(self, path: str, request, metadata):
        """(code, reason, message, response bytes)."""
        method = METHODS[path]
        data = b"" if request is None else request.SerializeToString()
        kind = self._channel.unary_stream if method.streams else self._channel.unary_unary
        if method.request_streams:
            kind, data = self._channel.stream_stream, iter([data])
        try:
            answer = kind(path)(data, metadata=metadata, timeout=20)
            parts = list(answer) if method.streams else [answer]
        except grpc.RpcError as error:
            return error.code().name, _reason(error), error.details(), b""
        return "OK", "", "", parts[-1] if parts else b""

    def close(self) -> None:
        self._channel.close()


def _reason(error) -> str:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return info.reason


def key(up, tenant: str):
    return (("authorization", f"Bearer {up.keys[tenant]}"),)


@pytest.fixture(scope="module")
def caller(deployment):
    caller = Caller(deployment.address)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def acme_data(deployment, caller):
    """What `plant` makes."""
    return plant(deployment, caller)


def plant(deployment, caller):
    """Acme has an item, a counter, and a collection with a record and a document, all `secret`.

    Modules that share the deployment each ask for that: what one has planted is there already.
    """
    mine = key(deployment, "acme")

    def call(name, request):
        code, reason, message, _ = caller(f"/llmspell.v1.{name}", request, mine)
        assert code in {"OK", "ALREADY_EXISTS"}, (name, reason, message)

    for name in ("secret", "secret-counter"):
        call(
            "StateService/SetState",
            state("SetState", scope="session:s", key=name, value=state_pb2.Payload(json="41")),
        )
    call(
        "SessionService/CreateSession", session("CreateSession", session_id="secret", name="secret")
    )
    kept = journal("AppendJournal", session_id="run-secret", entries=kept_run("secret"))
    call("JournalService/AppendJournal", kept)
    call("SessionService/SaveSession", session("SaveSession", session_id="secret"))
    head = artifact_pb2.ArtifactHeader(scope="session:s", name="secret")
    content = b"The secret is that cats can fly."
    call("ArtifactService/PutArtifact", artifact("PutArtifact", header=head, content=content))
    spec = agent_pb2.AgentSpec(name="secret", type="basic", system_prompt="The cats can fly.")
    call("AgentService/CreateAgent", agent_pb2.CreateAgentRequest(spec=spec))
    made = workflow_pb2.Workflow(name="secret", description="The cats can fly.")
    step = made.sequential.steps.add(name="s")
    step.tool.tool = "calculator"
    step.tool.arguments.fields["input"].string_value = "6 * 7"
    call("WorkflowService/CreateWorkflow", workflow_pb2.CreateWorkflowRequest(workflow=made))
    budget = usage_pb2.Budget(subject="agent:secret", limit_usd=41.0)
    call("UsageService/SetBudget", usage_pb2.SetBudgetRequest(budget=budget))
    document = rag_pb2.Document(document_id="d1", text="The secret is that cats can fly.")
    where = {"scope": "session:s", "collection_id": "secret"}
    call("RagService/IngestDocuments", rag("IngestDocuments", documents=[document], **where))
    return mine


def test_every_method_has_a_row():
    """A method that is in no table here would go untested; the contract's list is compared."""
    rows = set(requests_for("x")) | set(OPERATOR_ONLY) | set(COVERED_ELSEWHERE)
    assert rows == {short(path) for path in METHODS}


@pytest.mark.parametrize("name", sorted(requests_for("x")))
def test_another_tenants_things_look_like_nothing(deployment, caller, acme_data, name):
    """Globex asking for acme's ids gets what it would get for ids that nobody has."""
    theirs = key(deployment, "globex")
    path = f"/llmspell.v1.{name}"
    existing = caller(path, requests_for("secret")[name], theirs)
    nothing = caller(path, requests_for("nosuch")[name], theirs)
    assert existing[:2] == nothing[:2]
    assert existing[2].replace("secret", "NAME") == nothing[2].replace("nosuch", "NAME")
    assert b"cats" not in existing[3]
    assert _facts(path, existing[3], "secret") == _facts(path, nothing[3], "nosuch")


def _facts(path: str, data: bytes, name: str):
    """An answer without the caller's own doing: the name asked for, revisions, times, new ids."""
    if path.endswith("/RunScript"):
        answer = script_pb2.RunScriptResponse.FromString(data)
        return answer.result.json
    output = message_factory.GetMessageClass(METHODS[path].descriptor.output_type)
    text = str(output.FromString(data)).replace(name, "NAME")
    apart = ("revision:", "seconds:", "nanos:")
    if path.endswith(("/CreateSnapshot", "/ListSnapshots")):  # of two collections, made in turn
        apart += ("snapshot_id:", "digest:")
    if path.endswith(("/CreateBackup", "/ListBackups", "/GetBackupUsage")):  # there is one more
        apart += ("backup_id:", "written_bytes:", "backup_count:", "stored_bytes:", "plain_bytes:")
        apart += ("record_count:",)  # events of operations come by themselves
    if path.endswith(("/StoreArtifact", "/PutArtifact")):  # one after the other in one scope
        apart += ("sequence:",)
    if path.endswith("/CreateSnapshot"):  # each has an id and a digest of its own
        apart += ("snapshot_id:", "digest:")
    return [line.strip() for line in text.splitlines() if not line.strip().startswith(apart)]


def test_acmes_data_is_still_there(deployment, caller, acme_data):
    """After all that globex tried, acme finds every one of its things unchanged."""
    for name, request in requests_for("secret").items():
        if not name.endswith("Run") and name.startswith(
            (
                "StateService/Get",
                "SessionService/Get",
                "SessionService/ListC",
                "VectorService/GetC",
                "RagService/Retrieve",
                "AgentService/GetA",
                "AgentService/Ex",
                "WorkflowService/GetWorkflow",
                "WorkflowService/ExecuteW",
            )
        ):
            code, _, message, data = caller(f"/llmspell.v1.{name}", request, acme_data)
            assert code == "OK", message
            assert data
    request = state("GetState", scope="session:s", key="secret")
    _, _, _, data = caller("/llmspell.v1.StateService/GetState", request, acme_data)
    assert state_pb2.GetStateResponse.FromString(data).item.value.json == "41"


@pytest.mark.parametrize("path", sorted(METHODS))
@pytest.mark.parametrize("tenant", ["acme", "nosuchtenant", "_system", "ACME", "acme2"])
def test_naming_another_tenant_is_refused_in_the_same_words(deployment, caller, path, tenant):
    """A tenant's key with another tenant in metadata is refused, whether or not that one exists."""
    metadata = (*key(deployment, "globex"), ("llmspell-tenant", tenant))
    code, reason, message, data = caller(path, None, metadata)
    assert (code, reason, data) == ("PERMISSION_DENIED", "PERMISSION_DENIED", b"")
    assert message == "This key may not act for the tenant that was named."


@pytest.mark.parametrize("name", sorted(OPERATOR_ONLY))
def test_the_operators_methods_refuse_a_tenants_key(deployment, caller, name):
    """Asking about acme, or about nobody, a tenant's key hears the same refusal."""
    make = OPERATOR_ONLY[name]
    answers = {
        caller(f"/llmspell.v1.{name}", make(tenant), key(deployment, "globex"))
        for tenant in ("acme", "globex", "nosuchtenant")
    }
    assert len(answers) == 1
    code, reason, _, _ = answers.pop()
    assert (code, reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")


@pytest.mark.parametrize("path", sorted(METHODS))
@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer llms_0123456789abcdef_" + "x" * 43),),
        (("authorization", "Bearer nonsense"),),
        (("authorization", "Bearer "),),
        (("llmspell-context-bin", b"x" * 200),),
    ],
    ids=["nothing", "unknown-key", "no-key", "empty-key", "context-instead"],
)
def test_the_gateway_refuses_who_it_does_not_know(caller, path, metadata):
    """No credential, or a bad one, gets no further than the door."""
    code, reason, _, data = caller(path, None, metadata)
    assert (code, data) == ("UNAUTHENTICATED", b"")
    assert reason in {"CREDENTIAL_MISSING", "CREDENTIAL_INVALID"}


def test_a_key_sent_twice_is_refused(deployment, caller):
    """Two credentials on one call are refused, though each alone is good."""
    both = (*key(deployment, "acme"), *key(deployment, "globex"))
    code, reason, _, _ = caller("/llmspell.v1.TenantService/WhoAmI", None, both)
    assert (code, reason) == ("UNAUTHENTICATED", "CREDENTIAL_INVALID")


def test_who_am_i(deployment, caller):
    """Each key is told its own tenant."""
    for tenant in ("acme", "globex"):
        _, _, _, data = caller("/llmspell.v1.TenantService/WhoAmI", None, key(deployment, tenant))
        assert tenant_pb2.WhoAmIResponse.FromString(data).tenant_id == tenant


@pytest.mark.parametrize("name", ["IngestDocuments", "ImportDocuments"])
def test_ingestion_is_apart(deployment, caller, name):
    """Globex ingesting under acme's ids changes nothing of acme's."""
    where = {"scope": f"session:apart-{name.lower()}", "collection_id": "same"}
    ingest = f"/llmspell.v1.RagService/{name}"
    ask = rag("RetrieveDocuments", text="x", **where)
    ensure = rag("EnsureDocumentCollection", **where)
    path = "/llmspell.v1.RagService/EnsureDocumentCollection"
    assert caller(path, ensure, key(deployment, "globex"))[0] == "OK"
    texts = {"acme": "Acme was here first.", "globex": "Globex was here."}
    for tenant, text in texts.items():
        document = rag_pb2.Document(document_id="d1", text=text)
        request = rag(name, documents=[document], **where)
        code, _, message, _ = caller(ingest, request, key(deployment, tenant))
        assert code == "OK", message
    for tenant, text in texts.items():
        path = "/llmspell.v1.RagService/RetrieveDocuments"
        _, _, _, data = caller(path, ask, key(deployment, tenant))
        passages = rag_pb2.RetrieveDocumentsResponse.FromString(data).passages
        assert [passage.text for passage in passages] == [text]


def contexts(deployment):
    """Sealed contexts that no process may accept."""
    clock = SystemClock()
    right = read_key(deployment.data / "secrets" / "context.key")
    context = CallContext(tenant="acme", principal="x", permissions=("*",), any_tenant=True)
    good = Seal(right, clock).seal(context, lifetime_s=60)
    return {
        "none": [],
        "empty": [b""],
        "forged": [Seal(bytes(32), clock).seal(context, lifetime_s=60)],
        "altered": [good.replace(b"acme", b"globe")],
        "cut": [good[:-1]],
        "expired": [Seal(right, clock).seal(context, lifetime_s=-1)],
        "twice": [good, good],
    }


@pytest.mark.parametrize("service", sorted(OWNERS))
@pytest.mark.parametrize("bad", ["none", "empty", "forged", "altered", "cut", "expired", "twice"])
def test_inner_processes_take_calls_from_the_gateway_only(deployment, service, bad):
    """Past the gateway, every method of every service refuses a call without a good context."""
    inner = Caller(deployment.inner_address(OWNERS[service]))
    metadata = tuple((METADATA_KEY, sealed) for sealed in contexts(deployment)[bad])
    credential = ("authorization", f"Bearer {deployment.operator_key}")
    paths = [path for path, method in METHODS.items() if method.service == service]
    assert paths
    for path in paths:
        code, reason, message, data = inner(path, None, (*metadata, credential))
        assert (code, reason, data) == ("UNAUTHENTICATED", "CONTEXT_INVALID", b""), path
        assert "acme" not in message
    inner.close()


def test_a_good_context_is_accepted(deployment):
    """The test above fails for the right reason: with a good seal the same call goes through."""
    inner = Caller(deployment.inner_address("state"))
    context = CallContext(tenant="acme", principal="x", permissions=("state.read",))
    right = read_key(deployment.data / "secrets" / "context.key")
    sealed = Seal(right, SystemClock()).seal(context, lifetime_s=60)
    request = state("ListState", scope="session:none")
    code, _, _, _ = inner("/llmspell.v1.StateService/ListState", request, ((METADATA_KEY, sealed),))
    assert code == "OK"
    inner.close()
