"""From aiohttp's requests and to its responses: bodies, content types, Warning headers."""

from __future__ import annotations

from collections.abc import Iterable

from controller.api.aiohttp_web import web

JSON = "application/json"


async def read(request: web.BaseRequest) -> bytes:
    """The whole body."""
    if not request.body_exists:
        return b""
    return await request.read()


def body_type(request: web.BaseRequest, body: bytes) -> str:
    # aiohttp answers application/octet-stream when there is no header; kubectl scale sends none.
    return request.content_type if body and request.headers.get("Content-Type") else ""


def respond(
    code: int, body: bytes, *, content_type: str = JSON, warnings: Iterable[str] = ()
) -> web.Response:
    made = web.Response(status=code, body=body, headers={"Content-Type": content_type})
    for text in warnings:
        made.headers.add("Warning", f"299 - {_quoted(text)}")
    return made


def _quoted(text: str) -> str:
    """A quoted-string of RFC 9110: whatever a user named a field, it stays one header line."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in text)
    return '"' + shown.replace("\\", r"\\").replace('"', r"\"") + '"'
