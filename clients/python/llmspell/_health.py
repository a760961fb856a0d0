"""grpc.health.v1: the request and the answer. No I/O.

The health package would be one more dependency for two fields, so well-known types stand in:
`StringValue` and `UInt32Value` have the wire form of its messages (field 1, text; field 1, enum).
"""

from __future__ import annotations

from google.protobuf.wrappers_pb2 import StringValue, UInt32Value

PATH = "/grpc.health.v1.Health/Check"
SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", SERVICE_UNKNOWN)


def write_request(service: str) -> bytes:
    """HealthCheckRequest."""
    return StringValue(value=service).SerializeToString()


def read_answer(data: bytes) -> str:
    """HealthCheckResponse: the status's name."""
    status = UInt32Value.FromString(data).value
    return _STATUSES[status] if status < len(_STATUSES) else "UNKNOWN"
