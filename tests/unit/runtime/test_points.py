"""Which points a call passes: one table for the host and for Lua."""

import pytest
from llmspell.v1.errors_pb2 import Reason

from services.common.access import METHODS
from services.common.status import status_code
from services.runtime.worker.points import PHASES, POINTS, Phase, error_points, lua_text

REASONS = sorted(name for name, number in Reason.items() if number)


@pytest.mark.parametrize("name", REASONS)
def test_a_failure_reaches_the_point_of_its_kind(name):
    """A refusal is a violation, a limit a limit; who was overtaken has a conflict, in state."""
    code = status_code(Reason.Value(name)).name
    reached = error_points(POINTS["StateService/SetState"], code, name)
    wanted = {
        "PERMISSION_DENIED": ("SecurityViolation",),
        "UNAUTHENTICATED": ("SecurityViolation",),
        "RESOURCE_EXHAUSTED": ("ResourceLimitExceeded",),
        "ABORTED": ("StateConflict",),
    }
    special = {
        "TENANT_NOT_FOUND": ("SecurityViolation",),
        "LIMIT_EXCEEDED": ("ResourceLimitExceeded",),
        "TOOL_TIME_LIMIT": ("ResourceLimitExceeded",),
    }
    assert reached == special.get(name, wanted.get(code, ()))
    if code == "ABORTED":
        assert error_points(None, code, name) == ()
    assert error_points(POINTS["ToolService/GetTool"], code, name)[0] == "ToolError"


def test_the_table_names_methods_of_the_contract():
    """A method that is renamed leaves no row behind, nor does an argument."""
    for name, points in POINTS.items():
        method = METHODS[f"/llmspell.v1.{name}"]
        fields = method.descriptor.input_type.fields_by_name
        for field in {points.name, points.target} - {"", "type"}:
            assert field in fields, (name, field)
        assert not method.streams


def test_every_method_that_has_points_is_in_the_lua_text():
    """What Lua is given has each row and each point."""
    text = lua_text().decode()
    assert all(f'["llmspell.v1.{name}"]' in text for name in POINTS)
    assert all(f'{name} = "{phase}"' in text for name, phase in PHASES.items())
    assert set(PHASES.values()) == set(Phase) - {Phase.CUSTOM}
