"""Where calls go that name a run, and who is asked next where one does not know an execution."""

from types import SimpleNamespace

import pytest
from llmspell.v1 import execution_pb2, run_pb2, state_pb2

from services.common.access import METHODS
from services.common.errors import Reason, ServiceError
from services.common.members import TAG_LENGTH
from services.gateway.homes import Homes, tag_in
from services.runtime.run_desk import new_run_id

TAG = "ab" * (TAG_LENGTH // 2)


def method(path):
    """A method of the contract."""
    return METHODS[f"/llmspell.v1.{path}"]


@pytest.mark.parametrize("name", ["GetRun", "CancelRun", "DeleteRun", "ReplayRun", "ResumeRun"])
def test_a_run_is_asked_for_where_it_goes_on(name):
    """Its id ends with the tag of its process."""
    request = getattr(run_pb2, f"{name}Request")(run_id=new_run_id(10**18, TAG))
    assert tag_in(method(f"RunService/{name}"), request.SerializeToString()) == TAG


def test_other_calls_name_no_run():
    """A run's id in another field says nothing, and bytes that are no message neither."""
    request = state_pb2.SetStateRequest(scope="global", key=new_run_id(10**18, TAG))
    assert not tag_in(method("StateService/SetState"), request.SerializeToString())
    assert not tag_in(method("RunService/GetRun"), b"\xff\xff")


def test_who_does_not_know_an_execution_is_not_the_last_to_be_asked():
    """Others are asked for it and for its callbacks only."""
    first, second, third = (object() for _ in range(3))
    members = [SimpleNamespace(upstream=each) for each in (first, second, third)]
    homes = Homes(SimpleNamespace(all_alive=members))
    missing = ServiceError(Reason.EXECUTION_NOT_FOUND, "It is not here.")
    assert homes.others(missing, second) == [first, third]
    assert not homes.others(ServiceError(Reason.ITEM_NOT_FOUND, "No."), second)
    assert "execution_id" in execution_pb2.ContinueExecutionRequest.DESCRIPTOR.fields_by_name
