"""ERRORS of a server in their one form, which clients of OpenAI read: {"error": {"type", "message", "param"}}."""

from typing import Any

_TYPES = {
    400: "bad_request",
    401: "unauthorised",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "not_possible_with_this_model",
    413: "too_large",
    415: "wrong_content_type",
    421: "wrong_host",
    422: "invalid_request",
    431: "too_large",
    500: "internal_error",
    503: "overloaded",
    504: "timeout",
}


class Refusal(Exception):
    """A request that is not answered, and why.

    Args:
        status: of HTTP.
        message: what is wrong and how to mend it, in a sentence.
        param: which field is meant.
    """

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param

    @property
    def headers(self) -> dict[str, str]:
        """What clients need beside the body."""
        if self.status == 503:
            return {"Retry-After": "1"}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}

    def body(self, path: str = "") -> dict[str, Any]:
        """The JSON of the answer; the Open Inference Protocol has a form of its own."""
        if path.startswith("/v2"):
            return {"error": self.message}
        return {"error": error_of(self.status, self.message, self.param)}


def error_of(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """What is said of an error."""
    return {"type": _TYPES.get(status, "error"), "message": message, "param": param}
