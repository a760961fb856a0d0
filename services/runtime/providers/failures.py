"""What went wrong at a provider, as a reason of the contract, and whether to ask again.

What a provider says of it is told only where it is of use, shortened, and without what looks like a
credential: it may quote the key.
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from typing import Any

from services.common.clock import SystemClock
from services.common.errors import Reason, ServiceError
from services.common.limits import PROVIDER_WORDS_MAX
from services.common.redaction import REDACTED, redact_text

_OUT_OF_CREDIT = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credit_exhausted"}
)
_STATUS_OF = {
    "rate_limit_exceeded": 429, "rate_limit_error": 429, "too_many_requests": 429,
    "overloaded_error": 529, "overloaded": 529, "server_error": 500, "api_error": 500,
    "internal_error": 500, "internal_server_error": 500, "service_unavailable": 503,
    "invalid_request_error": 400, "authentication_error": 401, "invalid_api_key": 401,
    "permission_error": 403, "not_found_error": 404, "model_not_found": 404,
    "request_too_large": 413, "timeout": 408, "insufficient_quota": 429,
}  # fmt: skip
"""What errors that come within an answer would have been as a status."""
_TRANSIENT = frozenset({408, 409, 425, 429})
_BROKEN = 503
"""An error within an answer that says nothing that is known."""


class AttemptError(Exception):
    """An attempt that failed."""

    def __init__(
        self, error: ServiceError, *, transient: bool = False, retry_after_s: float | None = None
    ) -> None:
        """Say it.

        Args:
            error: What the caller is told if it was the last attempt.
            transient: Whether another attempt may go better.
            retry_after_s: How long the provider wants to be left alone; None: it does not say.
        """
        super().__init__(str(error))
        self.error = error
        self.transient = transient
        self.retry_after_s = retry_after_s
        self.tokens = 0
        """What it had taken, as far as that is known."""


def of_status(
    provider: str, status: int, body: Any, headers: Mapping[str, str], *, model: str, key: str
) -> AttemptError:
    """A status that is not 200, or an error that came in place of one.

    Args:
        provider: Its name.
        status: The HTTP status.
        body: What came with it: JSON, or text.
        headers: Likewise.
        model: That was asked for; empty: none was.
        key: That was sent, to be taken out of what is told.
    """
    facts = error_facts(body)
    told = {"provider": provider, "status": status}
    if status == 402 or "credit balance is too low" in facts["message"]:  # noqa: PLR2004
        return _out_of_credit(provider, told)
    if status == 429 or facts["code"] in _OUT_OF_CREDIT:  # noqa: PLR2004
        return _too_many(provider, facts, retry_after(headers), told)
    if status in _TRANSIENT or status >= 500:  # noqa: PLR2004
        text = f"The provider {provider} fails for now (HTTP status {status})."
        error = ServiceError(Reason.PROVIDER_UNAVAILABLE, text, **told)
        is_transient = status != 501  # noqa: PLR2004
        return AttemptError(error, transient=is_transient, retry_after_s=retry_after(headers))
    said = _said(facts["message"], key)
    if status in {401, 403} and "moderation" not in facts["message"].lower():
        text = f"The provider {provider} refuses the key, or wants one (HTTP status {status})."
        return AttemptError(ServiceError(Reason.PROVIDER_KEY_REFUSED, text, **told))
    if facts["code"] == "model_not_found" or (status == 404 and model and facts["message"]):  # noqa: PLR2004
        text = f"The provider {provider} has no model {model}{said}"
        return AttemptError(ServiceError(Reason.MODEL_NOT_FOUND, text, **told, model=model))
    text = f"The provider {provider} refuses the request (HTTP status {status}){said}"
    return AttemptError(ServiceError(Reason.PROVIDER_REFUSED, text, **told))


def within_answer(provider: str, body: Any, *, model: str, key: str) -> AttemptError:
    """An error object in an answer that began well."""
    code = error_facts(body)["code"]
    status = int(code) if code.isdecimal() and len(code) == 3 else _STATUS_OF.get(code, _BROKEN)  # noqa: PLR2004
    return of_status(provider, status, body, {}, model=model, key=key)


def unreachable(provider: str, why: str = "cannot be reached") -> AttemptError:
    """No connection, or one that broke."""
    text = f"The provider {provider} {why}."
    return AttemptError(
        ServiceError(Reason.PROVIDER_UNAVAILABLE, text, provider=provider), transient=True
    )


def not_of_protocol(provider: str, why: str) -> AttemptError:
    """What came is no answer."""
    text = f"The provider {provider} answers what is not of its protocol: {why}."
    return AttemptError(ServiceError(Reason.PROVIDER_ANSWER_INVALID, text, provider=provider))


def too_large(provider: str, limit: int, unit: str = "bytes") -> ServiceError:
    """An answer that is larger than answers may be."""
    text = f"The provider {provider} answers more than {limit} {unit}; the call was broken off."
    return ServiceError(
        Reason.PROVIDER_ANSWER_LIMIT, text, provider=provider, limit=limit, unit=unit
    )


def error_facts(body: Any) -> dict[str, str]:
    """Code and message of an error, in whichever of the usual shapes it comes."""
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(body, list) and body:  # Gemini wraps it in a list
        return error_facts(body[0])
    if isinstance(inner, str):
        return {"code": "", "message": "" if inner.lstrip().startswith("<") else inner}
    if not isinstance(inner, Mapping):
        return {"code": "", "message": ""}
    codes = [inner.get("code"), inner.get("type"), inner.get("status")]
    known = [str(code).lower() for code in codes if isinstance(code, str | int) and code != ""]
    chosen = next((code for code in known if code in _STATUS_OF or code in _OUT_OF_CREDIT), "")
    message = inner.get("message") or inner.get("detail") or ""
    return {"code": chosen or (known[0] if known else ""), "message": str(message)}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How long a provider wants to be left alone, in seconds; None: it does not say."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(float(headers.get(name, "")) * unit_s, 0.0)
        except ValueError:
            continue
    try:
        until = email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except ValueError:
        return None
    return max(until - SystemClock().now_ns() / 1e9, 0.0)


def _too_many(
    provider: str, facts: Mapping[str, str], retry_after_s: float | None, told: dict[str, object]
) -> AttemptError:
    if facts["code"] in _OUT_OF_CREDIT:
        return _out_of_credit(provider, told)
    text = f"The provider {provider} takes no more calls for now."
    if retry_after_s is not None:
        told["retry_after_s"] = f"{retry_after_s:g}"
    error = ServiceError(Reason.PROVIDER_RATE_LIMITED, text, **told)
    return AttemptError(error, transient=True, retry_after_s=retry_after_s)


def _out_of_credit(provider: str, told: dict[str, object]) -> AttemptError:
    text = f"The account at the provider {provider} has no credit left."
    return AttemptError(ServiceError(Reason.PROVIDER_OUT_OF_CREDIT, text, **told))


def _said(message: str, key: str) -> str:
    """The provider's own words as the end of a sentence."""
    clean = " ".join(message.split())
    if key:
        clean = clean.replace(key, REDACTED)
    clean = redact_text(clean).rstrip(".")
    if not clean:
        return "."
    short = clean if len(clean) <= PROVIDER_WORDS_MAX else clean[:PROVIDER_WORDS_MAX] + "…"
    return f": {short}."
