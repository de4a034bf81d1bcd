"""What can go wrong, in two trees that share no class.

    SandboxError            raised to the person or test that operates the sandbox
      ControlError          a control that makes no sense now (paying a closed charge, ...)
    ApiError                an answer of the look-alike: HTTP status and error envelope

Texts that pingpp.md quotes are used word for word. Most of them are only reported of Ping++, not
recorded. The other texts are the sandbox's own. So a client must never branch on a text.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class SandboxError(Exception):
    """The sandbox cannot do what its operator asked; the text says what to do."""


class ControlError(SandboxError):
    """A control was refused; nothing changed."""


class ApiError(Exception):
    """An error answer of the API (pingpp.md section 6); nothing changed in the books."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.code = code
        self.param = param

    def envelope(self) -> Json:
        """`{"error": {type, message, code?, param?}}`, absent members left out."""
        error: Json = {"type": self.kind, "message": self.message}
        if self.code is not None:
            error["code"] = self.code
        if self.param is not None:
            error["param"] = self.param
        return {"error": error}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: a parameter or a business precondition."""
    return ApiError(400, "invalid_request_error", message, code=code, param=param)


def missing(param: str) -> ApiError:
    """400: a required parameter was not sent."""
    return invalid(f"缺少必要的参数: {param}", param)


def refused_by_channel(message: str, code: str) -> ApiError:
    """402: the parameters are fine but the channel refused."""
    return ApiError(402, "channel_error", message, code=code)


def not_found(kind: str, object_id: str, param: str = "id") -> ApiError:
    """404, with the reported text."""
    return ApiError(404, "invalid_request_error", f"未找到 {kind} : {object_id}", param=param)


def bad_api_key(key: str) -> ApiError:
    """401, with the reported text; the key is masked behind its prefix."""
    prefix = key[:8] if key.startswith(("sk_test_", "sk_live_")) else ""
    return ApiError(401, "invalid_request_error", f"提供了无效的 API KEY: {prefix}***")


def no_signature() -> ApiError:
    """400, with the reported text."""
    return invalid("没有提供签名串，需要在 header 中加入签名串。")


def bad_signature() -> ApiError:
    """400, with the reported text."""
    return invalid("提供了无效的签名")
