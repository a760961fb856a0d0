"""Claims and receipts for tests."""

from services.common.errors import Reason, ServiceError
from services.runtime.claims import Claim

ZYGOTE = "tests.unit.runtime.tool_zygote"


def claim_of(name, *, begun_ns=None, may_repeat=False, is_left=lambda: False):
    """An execution that is known by a receipt's name."""
    unknown = ServiceError(Reason.WORKFLOW_STEP_UNKNOWN, "Nobody knows.", step="s")
    return Claim(unknown, "id", name, begun_ns, may_repeat=may_repeat, is_left=is_left)
