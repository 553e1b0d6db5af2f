"""Routes as the text of an nginx.conf. Pure.

nginx' own ways would often do otherwise than Kubernetes asks: its ``*.foo`` is any number of labels, its
``/foo`` is also ``/foobar``, and it sends ``/foo`` to ``/foo/`` by itself. Each is dealt with here, and
nothing else is: what the routes are is decided in ``routes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.ingress.routes import Location, Routes, Server, match

HTTP, STATUS = 80, 10254
"""Where it listens: for requests, and for the kubelet's probes."""

_HEAD = """\
daemon off;
worker_processes 1;
worker_shutdown_timeout 10s;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; multi_accept on; }}
http {{
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  log_format upstreaminfo '$remote_addr - [$time_local] "$request" $status $body_bytes_sent '
    '"$host" [$proxy_upstream_name] $upstream_addr $upstream_status $upstream_response_time $request_id';
  access_log {log} upstreaminfo;
  server_tokens off;
  server_names_hash_bucket_size 512;
  server_names_hash_max_size 16384;
  keepalive_timeout 75s;
  client_max_body_size 1m;
  absolute_redirect off;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  map $host $proxy_upstream_name {{ default '-'; }}
  proxy_http_version 1.1;
  proxy_connect_timeout 5s;
  proxy_next_upstream error timeout;
  proxy_next_upstream_tries 3;
  proxy_redirect off;
  proxy_set_header Host $http_host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  proxy_set_header X-Request-ID $request_id;
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Port $server_port;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for;
"""


def render(
    routes: Routes,
    *,
    directory: str,
    log: str = "/dev/stdout",
    http: Sequence[str] = (f"{HTTP}", f"[::]:{HTTP}"),
    status: Sequence[str] = (f"{STATUS}", f"[::]:{STATUS}"),
) -> str:
    """``directory`` is one nginx may write into; ``http`` and ``status`` are its listening sockets."""
    lines = [_HEAD.format(directory=directory, log=log).rstrip()]
    for name, addresses in routes.upstreams.items():
        if addresses:
            lines += [f"  upstream {name} {{", *(f"    server {a} max_fails=0;" for a in addresses), "  }"]
    hosts = {server.host for server in routes.servers}
    servers = [*([] if "" in hosts else [Server(host="", locations=())]), *routes.servers]
    for server in sorted(servers, key=_order):
        lines += _server(server, routes, http)
    lines += ["  server {", *(f"    listen {socket};" for socket in status), "    access_log off;"]
    lines += ['    location = /healthz { return 200 "ok"; }', "    location = /nginx_status { stub_status; }"]
    lines += ["    location / { return 404; }", "  }", "}", ""]
    return "\n".join(lines)


def _order(server: Server) -> tuple[int, int, str]:
    """nginx takes the first of several wildcards that fit, so the more precise comes first."""
    return int(server.host.startswith("*.")), -len(server.host), server.host


def _server(server: Server, routes: Routes, http: Sequence[str]) -> Iterator[str]:
    yield "  server {"
    yield from (f"    listen {socket}{'' if server.host else ' default_server'};" for socket in http)
    yield f"    server_name {_server_name(server.host)};"
    for location in server.locations:
        if location.prefix:
            yield from _block(f'"{location.path}/"', location.upstream, routes)
    for path in _exact_paths(server.locations):
        found = match(server.locations, path)
        yield from _block(f'= "{path}"', found.upstream if found else "", routes)
    if not any(location.prefix and not location.path for location in server.locations):
        yield from _block('"/"', "", routes)
    yield "  }"


def _server_name(host: str) -> str:
    if not host:
        return "_"
    if host.startswith("*."):
        return f'"~^[^.]+{host[1:].replace(".", chr(92) + ".")}$"'
    return host


def _exact_paths(locations: Sequence[Location]) -> list[str]:
    """Paths that need a word of their own: the exact ones, a prefix itself, and what nginx would send to
    the same path with a slash at its end."""
    found = {location.path for location in locations if location.path}
    return sorted(found | {path[:-1] for path in found if path.endswith("/") and path != "/"})


def _block(where: str, upstream: str, routes: Routes) -> Iterator[str]:
    """The default backend is nobody's: 404. A Service without ready endpoints: 503."""
    if not upstream:
        yield f"    location {where} {{ return 404; }}"
    elif not routes.upstreams[upstream]:
        yield f"    location {where} {{ set $proxy_upstream_name {upstream}; return 503; }}"
    else:
        yield f"    location {where} {{ set $proxy_upstream_name {upstream}; proxy_pass http://{upstream}; }}"
