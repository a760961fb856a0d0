"""WorkflowService as tests call it: plain trees in, plain trees out, through the gateway."""

from __future__ import annotations

import time
from contextlib import contextmanager

import grpc
from google.protobuf import message_factory
from llmspell.v1 import errors_pb2

from services.common.access import METHODS
from services.common.status import DETAILS_KEY, from_trailer
from services.runtime import marshal

PACKAGE = "llmspell.v1."


class Refused(Exception):  # noqa: N818  (what the door says)
    """What a call was refused with."""

    def __init__(self, error):
        super().__init__(str(error))
        self.reason = errors_pb2.Reason.Name(error.reason)
        self.message = error.message
        self.metadata = error.metadata


class Door:
    """Calls methods as one tenant."""

    def __init__(self, channel, key):
        self._channel = channel
        self._key = key

    def call(self, method, /, timeout=60, **tree):
        """The answer of a unary method."""
        known = METHODS[f"/{PACKAGE}{method}"]
        request = message_factory.GetMessageClass(known.descriptor.input_type)()
        marshal.fill(request, tree)
        kind = message_factory.GetMessageClass(known.descriptor.output_type)
        stub = self._channel.unary_unary(
            known.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        try:
            answer = stub(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _refused(error) from None
        return marshal.read(answer)

    def stream(self, method, /, timeout=60, **tree):
        """The answers of a method that streams."""
        known = METHODS[f"/{PACKAGE}{method}"]
        request = message_factory.GetMessageClass(known.descriptor.input_type)()
        marshal.fill(request, tree)
        kind = message_factory.GetMessageClass(known.descriptor.output_type)
        stub = self._channel.unary_stream(
            known.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        for answer in stub(request, timeout=timeout, metadata=self._metadata):
            yield marshal.read(answer)

    @property
    def _metadata(self):
        return (("authorization", f"Bearer {self._key}"),)

    def execute(self, workflow, /, functions=None, **more):
        """The output of a workflow; `functions` do what comes back."""
        progress = self.call("WorkflowService/ExecuteWorkflow", workflow=workflow, **more)
        return self.finish(progress["progress"], functions)

    def finish(self, progress, functions=None):
        """The output of an execution that goes on."""
        while not progress.get("done"):
            results = [_done(one, functions or {}) for one in progress["callbacks"]]
            progress = self.call(
                "ExecutionService/ContinueExecution",
                execution_id=progress["execution_id"],
                results=results,
                wait=20,
            )["progress"]
        return progress["workflow"]

    def run(self, execution_id):
        """What is known of a run."""
        return self.call("WorkflowService/GetWorkflowRun", execution_id=execution_id)["run"]

    def run_that_ends(self, execution_id, *, timeout_s=60):
        """What is known of a run once it has ended."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            try:
                run = self.run(execution_id)
            except Refused as error:
                if error.reason != "SERVICE_UNAVAILABLE":
                    raise
            else:
                if run["status"] not in {"RUNNING", "INTERRUPTED", "PENDING"}:
                    return run
            time.sleep(0.1)
        raise AssertionError(f"{execution_id} has not ended")

    def get(self, scope, key):
        """The JSON text of an item of state; None where there is none."""
        try:
            item = self.call("StateService/GetState", scope=scope, key=key)["item"]
        except Refused as error:
            if error.reason == "ITEM_NOT_FOUND":
                return None
            raise
        return item["value"]["json"]


def _done(callback, functions):
    try:
        value = functions[callback["name"]](**callback["arguments"])
    except ValueError as error:
        failure = {"message": str(error)}
        return {"callback_id": callback["callback_id"], "failure": failure}
    return {"callback_id": callback["callback_id"], "value": value}


def _refused(error):
    trailers = dict(error.trailing_metadata() or ())
    details = trailers.get(DETAILS_KEY)
    return Refused(from_trailer(error.code(), error.details() or "", details))


@contextmanager
def doors(deployment, *tenants):
    """A door for each tenant."""
    with grpc.insecure_channel(deployment.address) as channel:
        yield [Door(channel, deployment.keys[tenant]) for tenant in tenants]
