"""Every RPC under a policy: one that refuses all, and one that hides the scopes that it names."""

from __future__ import annotations

import pytest
from llmspell import Client
from llmspell.types import Policy

from services.common.access import METHODS
from services.common.scope_guard import SPANNING, _form
from services.gateway.roles import ROLES
from tests.integration import test_isolation_matrix as matrix

caller, acme_data = matrix.caller, matrix.acme_data

SCOPED = ("State", "Session", "Artifact", "Vector", "Rag", "Journal", "Script")
"""Services whose things are in scopes; agents, workflows and backups are the tenant's."""
NAMES = sorted(
    name
    for name in matrix.requests_for("secret")
    if name.partition("Service/")[0] in SCOPED and not name.startswith("ScriptService/Check")
)
NO_SCOPE = {
    "ArtifactService": set(),
    "EventService": {"PublishEvents", "GetEventStats"},
    "JournalService": set(),
    "RagService": {"ChunkText", "EmbedTexts", "ListEmbeddingProviders"},
    "SessionService": {"ListEndedSessions"},
    "StateService": {"PurgeState"},
    "VectorAdminService": {"ConfigureVectorTenant", "UnloadVectors"},
    "VectorService": {"PurgeVectors"},
    "BackupService": {
        "CleanUpBackups", "DeleteBackup", "GetBackupUsage", "ListBackups", "VerifyBackup",
    },
    "MigrationService": {
        "CancelMigration", "DeleteSchema", "GetMigration", "GetSchema", "ListMigrations",
        "ListSchemas",
    },
}  # fmt: skip
"""Methods of stores that say nothing of what is in a scope."""


@pytest.fixture(scope="module")
def key_under(deployment):
    """Makes a key of acme's under a policy; metadata to call with it."""
    with Client(deployment.address, deployment.operator_key) as operator:
        made = []

        def make(**rules):
            key = operator.create_key("acme")
            subject = f"key:{key.api_key.key_id}"
            operator.set_policy(Policy(tenant_id="acme", subject=subject, **rules))
            made.append(subject)
            return (("authorization", f"Bearer {key.key}"),)

        yield make
        for subject in made:
            operator.delete_policy("acme", subject)


def test_a_policy_that_refuses_all(key_under, caller):
    """Nothing gets past it but who one is."""
    metadata = key_under(allow=["*"], deny=["*"])
    for path, method in METHODS.items():
        code, reason, _, data = caller(path, None, metadata)
        if path.endswith("/WhoAmI"):
            assert code == "OK"
        elif method.permission in ROLES["admin"]:
            assert (code, reason, data) == ("PERMISSION_DENIED", "POLICY_DENIED", b""), path
        else:
            assert (code, reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED"), path


def test_a_scope_that_may_not_be_seen(key_under, caller, acme_data):
    """What is there answers as what is not: code, reason, text, and nothing of what it holds."""
    metadata = key_under(allow=["*"], scopes=["user:somebody-else"])
    existing, nothing = matrix.requests_for("secret"), matrix.requests_for("nosuch")
    for name in NAMES:
        path = f"/llmspell.v1.{name}"
        there = caller(path, existing[name], metadata)
        absent = caller(path, nothing[name], metadata)
        assert there[:2] == absent[:2], name
        assert there[2].replace("secret", "NAME") == absent[2].replace("nosuch", "NAME"), name
        assert b"cats" not in there[3], name
        facts = matrix._facts(path, there[3], "secret"), matrix._facts(path, absent[3], "nosuch")
        assert facts[0] == facts[1], name
    assert (
        caller("/llmspell.v1.StateService/GetState", existing["StateService/GetState"], acme_data)[
            0
        ]
        == "OK"
    )


def test_every_method_of_a_store_is_thought_of():
    """Each names a scope, or filters, or is refused to who sees some, or is about none."""
    for path, method in METHODS.items():
        service, name = path.removeprefix("/llmspell.v1.").split("/")
        if service in NO_SCOPE:
            short = f"{service}/{name}"
            known = short in SPANNING["filtered"] | SPANNING["refused"] or name in NO_SCOPE[service]
            assert known or not _form(path).is_empty, method.path
