"""The JSON-RPC server over HTTP: authentication, batches, and answers with the status codes Bitcoin Core gives them."""

from __future__ import annotations

import asyncio
import base64
import hmac
import inspect
import json
import sqlite3
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from pool.dev.devchain.faults import Fault, Faults
from pool.dev.devchain.node import DevNode
from pool.dev.devchain.rpc_chain import ChainMethods
from pool.dev.devchain.rpc_dev import DevMethods
from pool.dev.devchain.rpc_mining import MiningMethods
from pool.dev.devchain.rpc_node import NodeMethods
from pool.dev.devchain.rpcbase import (
    DATABASE_ERROR,
    IN_WARMUP,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISC_ERROR,
    PARSE_ERROR,
    Methods,
    RawJson,
    RpcFault,
)
from pool.dev.devchain.template import Json

MAX_BODY = 0x02000000
IDLE_S = 30  # Bitcoin Core's -rpcservertimeout
AUTH_DELAY_S = 0.25
_HTTP_STATUS = {INVALID_REQUEST: 400, METHOD_NOT_FOUND: 404}

Handler = Callable[..., Awaitable["Json | RawJson"]]


class BrokenAnswer(Exception):
    """This call's answer is to be spoiled."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.kind)
        self.fault = fault


class RpcServer:
    """Dispatches to the method groups."""

    def __init__(self, node: DevNode, credentials: Mapping[str, str]) -> None:
        self._node = node
        self._credentials = {user.encode(): password.encode() for user, password in credentials.items()}
        self.faults = Faults()
        about = NodeMethods(node)
        groups: list[Methods] = [ChainMethods(node), MiningMethods(node), DevMethods(node, self.faults), about]
        self._handlers: dict[str, Handler] = {name: getattr(group, name) for group in groups for name in group.names}
        self._signatures = {name: inspect.signature(handler) for name, handler in self._handlers.items()}
        about.describe = self._describe

    def _describe(self) -> dict[str, str]:
        return {name: " ".join((inspect.getdoc(handler) or "").split()) for name, handler in self._handlers.items()}

    def app(self) -> web.Application:
        """The web application."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        return app

    def _authorised(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(token, validate=True).partition(b":")
        except ValueError:
            return False
        expected = self._credentials.get(user)
        return hmac.compare_digest(password, expected or b"") and expected is not None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=405, text="JSONRPC server handles only POST requests")
        if not self._authorised(request.headers.get("Authorization", "")):
            await asyncio.sleep(AUTH_DELAY_S)
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="jsonrpc"'})
        body = await request.read()
        try:
            status, text = await self._answer(body)
        except BrokenAnswer as broken:
            return await self._broken(request, broken.fault)
        if text is None:
            return web.Response(status=204)
        return web.Response(status=status, body=text.encode(), content_type="application/json")

    async def _answer(self, body: bytes) -> tuple[int, str | None]:
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return 500, _reply(None, RpcFault(PARSE_ERROR, "Parse error"), None, modern=False)
        if isinstance(request, list):
            parts = [(await self._one(entry))[1] for entry in request]
            kept = [part for part in parts if part is not None]
            return 200, f"[{','.join(kept)}]" if kept or not parts else None
        if isinstance(request, dict):
            return await self._one(request)
        return 500, _reply(None, RpcFault(PARSE_ERROR, "Top-level object parse error"), None, modern=False)

    async def _one(self, request: object) -> tuple[int, str | None]:
        """HTTP status and reply text of one call; no text for a notification of JSON-RPC 2.0."""
        if not isinstance(request, dict):
            return 400, _reply(None, RpcFault(INVALID_REQUEST, "Invalid Request object"), None, modern=False)
        modern = request.get("jsonrpc") == "2.0"
        call_id = request.get("id")
        result: Json | RawJson = None
        fault: RpcFault | None = None
        try:
            result = await self._call(request.get("method"), request.get("params"))
        except RpcFault as error:
            fault = error
        if modern and "id" not in request:
            return 204, None
        status = 200 if fault is None or modern else _HTTP_STATUS.get(fault.code, 500)
        return status, _reply(result, fault, call_id, modern=modern)

    async def _call(self, method: object, params: object) -> Json | RawJson:
        if not isinstance(method, str):
            raise RpcFault(INVALID_REQUEST, "Missing method" if method is None else "Method must be a string")
        if params is not None and not isinstance(params, list | dict):
            raise RpcFault(INVALID_REQUEST, "Params must be an array or object")
        await self.faults.pause(method)
        failure = self.faults.failure(method)
        if failure is not None and not failure.after:
            raise self._failing(failure)
        if time.monotonic() < self._node.conditions.warmup_until_s and not method.startswith("dev_"):
            raise RpcFault(IN_WARMUP, "Loading block index…")
        handler = self._handlers.get(method)
        if handler is None:
            raise RpcFault(METHOD_NOT_FOUND, "Method not found")
        try:
            bound = (
                self._signatures[method].bind(**params)
                if isinstance(params, dict)
                else self._signatures[method].bind(*params or ())
            )
        except TypeError as error:
            raise RpcFault(MISC_ERROR, f"{method}: {error}") from None
        try:
            result = await handler(*bound.args, **bound.kwargs)
        except RpcFault:
            raise
        except sqlite3.Error as error:
            self._node.fail(error)
            raise RpcFault(DATABASE_ERROR, f"the chain's file cannot be used: {error}; stopping") from error
        except Exception as error:
            traceback.print_exception(error)
            raise RpcFault(MISC_ERROR, f"internal error in {method}: {type(error).__name__}: {error}") from error
        if failure is not None:
            raise self._failing(failure)
        return result

    def _failing(self, fault: Fault) -> Exception:
        return RpcFault(fault.code, fault.message) if fault.kind == "error" else BrokenAnswer(fault)

    async def _broken(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        kind = str(fault.kind)
        if kind.startswith("http"):
            return web.Response(status=int(kind[4:]), text=fault.message)
        if kind == "garbage":
            return web.Response(body=b'<html>{"result": \xff\xfe', content_type="text/html")
        if kind == "empty":
            return web.Response(body=b"", content_type="application/json")
        if kind == "truncate":
            response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
            response.force_close()
            await response.prepare(request)
            await response.write(b'{"result": "00')
        if request.transport is not None:
            request.transport.abort() if kind == "close" else request.transport.close()
        return response if kind == "truncate" else web.Response(status=500)


def _reply(result: Json | RawJson, fault: RpcFault | None, call_id: object, *, modern: bool) -> str:
    """One reply object; a RawJson result is placed as it is."""
    error = None if fault is None else {"code": fault.code, "message": fault.message}
    shown = result if isinstance(result, RawJson) else json.dumps(result, separators=(",", ":"))
    ident = json.dumps(call_id)
    if modern:
        body = f'"result":{shown}' if error is None else f'"error":{json.dumps(error)}'
        return f'{{"jsonrpc":"2.0",{body},"id":{ident}}}\n'
    return f'{{"result":{shown if error is None else "null"},"error":{json.dumps(error)},"id":{ident}}}\n'
