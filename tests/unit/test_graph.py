"""What an environment variable says: a table of values, and the edges they make or do not make."""

from __future__ import annotations

from typing import Any

import pytest

from scenarios.graph.build import build
from scenarios.graph.model import Graph
from scenarios.graph.values import addresses, is_host_word

Obj = dict[str, Any]


def service(name: str, *ports: int | tuple[int, str], namespace: str = "shop", **spec: Any) -> Obj:
    made = [{"port": p} if isinstance(p, int) else {"port": p[0], "name": p[1]} for p in ports]
    selector = {"app": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector, "ports": made, **spec},
    }


def deployment(name: str, *containers: Obj, namespace: str = "shop", **spec: Any) -> Obj:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": list(containers) or [{"name": name, "image": name}], **spec},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "template": template},
    }


def container(**env: str) -> Obj:
    return {
        "name": "main",
        "image": "web",
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }


SERVICES = [
    service("cart", (7070, "grpc")),
    service("catalog", 3550),
    service("redis", 6379),
    service("db", 5432, (9187, "metrics")),
    service("web", 80, 443),
    service("mongo", 27017, clusterIP="None"),
    service("kafka", 9092),
    service("paypal", type="ExternalName", externalName="api.paypal.example"),
    service("mail", 25, namespace="office"),
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "empty"}},
]


def graph_of(*objects: Obj) -> Graph:
    return build([*SERVICES, *objects])


def edges(graph: Graph, source: str = "Deployment shop/front") -> list[str]:
    """``cart:7070``, ``office/mail:25``, ``outside www.example.com:443``."""
    shown = []
    for edge in graph.from_(source):
        target = edge.target.removeprefix("Service shop/").removeprefix("Service ")
        shown.append(f"{target}:{edge.port}" if edge.port else target)
    return shown


def doubts(graph: Graph) -> list[str]:
    return [doubt.text for doubt in graph.warnings if doubt.about.endswith("/front")]


EDGES: list[tuple[dict[str, str], list[str]]] = [
    ({"CART_ADDR": "cart:7070"}, ["cart:7070"]),
    ({"ANYTHING": "cart:7070"}, ["cart:7070"]),
    ({"CART_SERVICE": "cart"}, ["cart:7070"]),
    ({"cartHost": "cart"}, ["cart:7070"]),
    ({"CART_HOST_NAME": "cart"}, ["cart:7070"]),
    ({"REDIS": "redis"}, ["redis:6379"]),
    ({"CART_ADDR": "cart.shop"}, ["cart:7070"]),
    ({"X": "cart.shop"}, ["cart:7070"]),
    ({"X": "cart.shop.svc"}, ["cart:7070"]),
    ({"X": "cart.shop.svc.cluster.local"}, ["cart:7070"]),
    ({"X": "cart.shop.svc.cluster.local.:7070"}, ["cart:7070"]),
    ({"X": "Cart:7070"}, ["cart:7070"]),
    ({"MAIL": "mail.office:25"}, ["office/mail:25"]),
    ({"MAIL": "mail.office.svc:25"}, ["office/mail:25"]),
    ({"API": "http://web/path?x=redis:6379"}, ["web:80"]),
    ({"API": "https://web/"}, ["web:443"]),
    ({"API": "http://web:443/path"}, ["web:443"]),
    ({"API": "http://user:p%40ss@web:80/"}, ["web:80"]),
    ({"CACHE": "redis://:pw@redis:6379/0"}, ["redis:6379"]),
    ({"CACHE": "redis://redis"}, ["redis:6379"]),
    ({"DSN": "postgres://u:p@db/orders"}, ["db:5432"]),
    ({"DSN": "jdbc:postgresql://db:5432/orders?user=cart"}, ["db:5432"]),
    ({"DSN": "user:pw@tcp(db:5432)/orders"}, ["db:5432"]),
    ({"DSN": "host=db port=5432 user=me dbname=cart"}, ["db:5432"]),
    ({"DSN": "Server=db;Port=5432;Database=cart"}, ["db:5432"]),
    ({"GRPC": "dns:///cart:7070"}, ["cart:7070"]),
    ({"GRPC": "dns:cart:7070"}, ["cart:7070"]),
    ({"BROKERS": "kafka:9092,redis:6379"}, ["kafka:9092", "redis:6379"]),
    ({"BROKERS": "kafka:9092, redis:6379"}, ["kafka:9092", "redis:6379"]),
    ({"LISTENERS": "PLAINTEXT://kafka:9092,HOST://localhost:29092"}, ["kafka:9092"]),
    ({"URI": "mongodb://mongo-0.mongo:27017,mongo-1.mongo:27017/db?replicaSet=rs0"}, ["mongo:27017"]),
    ({"URI": "mongo-0.mongo.shop.svc.cluster.local:27017"}, ["mongo:27017"]),
    ({"REDIS_HOST": "redis", "REDIS_PORT": "6379"}, ["redis:6379"]),
    ({"DB_HOST": "db", "DB_PORT": "9187"}, ["db:9187"]),
    ({"DB_SERVICE": "db", "DB_SERVICE_PORT": "9187"}, ["db:9187"]),
    ({"DB_HOST": "db"}, ["db"]),
    ({"HOST": "cart", "ADDR": "$(HOST):7070"}, ["cart:7070"]),
    ({"ADDR": "$(CART_SERVICE_HOST):$(CART_SERVICE_PORT)"}, ["cart:7070"]),
    ({"URL": "$(CART_PORT)"}, ["cart:7070"]),
    ({"OPTS": "-Xmx1g -Dcart=http://web:80/x -Ddb=db.shop.svc"}, ["web:80", "db"]),
    ({"PAY_URL": "https://paypal"}, ["paypal:443"]),
    ({"PAY_URL": "https://api.example.com/v1"}, ["outside api.example.com:443"]),
    ({"PAY_HOST": "api.example.com"}, ["outside api.example.com"]),
    ({"PAY": "10.1.2.3:5432"}, ["outside 10.1.2.3:5432"]),
    ({"JSON": '{"cart":"http://web/","n":"cart"}'}, ["web:80"]),
    ({"SAME": "cart:7070", "ALSO": "cart:7070"}, ["cart:7070"]),
]


@pytest.mark.parametrize(("env", "wanted"), EDGES, ids=lambda given: str(given)[:60])
def test_a_value_that_names_a_service_is_an_edge(env: dict[str, str], wanted: list[str]) -> None:
    graph = graph_of(deployment("front", container(**env)))
    assert edges(graph) == wanted
    assert doubts(graph) == []


NO_EDGES = [
    {"MOTTO": "a cart full of goods"},
    {"MOTTO": "we ship cart:3 for redis:6 each"},
    {"OTEL_SERVICE_NAME": "cart"},
    {"DB_CONNECTION": "redis"},
    {"SESSION_DRIVER": "redis"},
    {"POSTGRES_DB": "cart"},
    {"TOPIC": "cart"},
    {"MODE": "web"},
    {"FEATURES": "cart,redis,web"},
    {"IMAGE": "redis:alpine"},
    {"IMAGE": "nginx:1.25"},
    {"IMAGE": "registry.example/team/cart:v3"},
    {"PATH_TO": "/cart:7070"},
    {"LISTEN_ADDR": "0.0.0.0:8080"},
    {"LISTEN_ADDR": ":8080"},
    {"SELF": "http://localhost:7070"},
    {"SELF": "127.0.0.1:6379"},
    {"CONFIG_ADDR": "settings.yaml"},
    {"TIME": "12:30"},
    {"RATIO": "a:1"},
    {"MAILTO": "cart@example.com"},
    {"PORT": "7070"},
    {"EMPTY_HOST": ""},
    {"TOO_MUCH": "cart:70700"},
    {"WEIRD": "://::,,;;@@//"},
    {"UNKNOWN_VARIABLE": "$(NOBODY):80"},
    {"WORDS": "carts cart-2 mycart"},
]


@pytest.mark.parametrize("env", NO_EDGES, ids=str)
def test_a_word_that_happens_to_be_a_services_name_is_no_edge(env: dict[str, str]) -> None:
    graph = graph_of(deployment("front", container(**env)))
    assert (edges(graph), doubts(graph)) == ([], [])


DOUBTS = [
    ({"CATALOG_ADDR": "catalog:3551"}, "env CATALOG_ADDR names catalog:3551, the Service has 3550"),
    ({"CART": "http://cart:80/"}, "env CART names cart:80, the Service has 7070 (grpc)"),
    (
        {"CART_URL": "http://cart/"},
        "env CART_URL names cart without a port (80 by default), the Service has 7070 (grpc)",
    ),
    ({"DB_HOST": "db", "DB_PORT": "3306"}, "env DB_HOST names db:3306, the Service has 5432, 9187 (metrics)"),
    ({"ADS_ADDR": "ads:9555"}, "env ADS_ADDR names ads:9555, and no Service has that name"),
    ({"ADS_HOST": "ads", "ADS_PORT": "9555"}, "env ADS_HOST names ads:9555, and no Service has that name"),
    ({"ADS": "ads:9555"}, "env ADS names ads:9555, and no Service has that name"),
    ({"ADS": "http://ads/x"}, "env ADS names ads, and no Service has that name"),
    ({"ADS": "ads.shop.svc"}, "env ADS names ads.shop.svc, and no Service has that name"),
    ({"ADS": "ads.empty:80"}, "env ADS names ads.empty:80, and no Service has that name"),
    ({"M": "mail:25"}, "env M names mail:25, and no Service has that name here (there is mail.office)"),
]


@pytest.mark.parametrize(("env", "text"), DOUBTS, ids=lambda given: str(given)[:50])
def test_what_does_not_fit_is_told(env: dict[str, str], text: str) -> None:
    assert doubts(graph_of(deployment("front", container(**env)))) == [text]


def test_a_port_that_the_service_lacks_is_an_edge_all_the_same() -> None:
    graph = graph_of(deployment("front", container(CATALOG_ADDR="catalog:3551")))
    assert edges(graph) == ["catalog:3551"]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ({"args": ["--cart=cart:7070", "--db-host", "db", "--name", "redis"]}, ["cart:7070", "db"]),
        ({"args": ["--db-host", "db", "--db-port", "9187"]}, ["db:9187"]),
        ({"args": ["--brokers=$(B)"], "env": [{"name": "B", "value": "kafka:9092"}]}, ["kafka:9092"]),
        ({"command": ["redis-cli", "-h", "redis", "ping"]}, []),
        ({"command": ["cart"], "args": ["web"]}, []),
        ({"command": ["sh", "-c", "until nc -z -w 2 db 5432; do sleep 1; done"]}, ["db:5432"]),
        ({"command": ["sh", "-c", "until nslookup redis; do echo waiting for cart; done"]}, ["redis:6379"]),
        ({"command": ["/bin/sh", "-c"], "args": ["curl -s http://web/x; echo cart"]}, ["web:80"]),
        ({"command": ["sh", "-c", "echo talk to nobody:8080 or http://cart:1/"]}, ["cart:1"]),
    ],
    ids=lambda given: str(given)[:50],
)
def test_commands_and_arguments_name_services_too(parts: Obj, wanted: list[str]) -> None:
    graph = graph_of(deployment("front", {"name": "main", "image": "web", **parts}))
    assert edges(graph) == wanted


def test_values_of_config_maps_and_secrets_are_read_and_a_secret_never_shown() -> None:
    config = {
        "kind": "ConfigMap",
        "metadata": {"name": "shop", "namespace": "shop"},
        "data": {"CART_ADDR": "cart:7070", "motto": "redis"},
    }
    secret = {
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "shop"},
        "data": {"dsn": "cG9zdGdyZXM6Ly91OnMzY3IzdEBkYjo1NDMyL3g="},
        "stringData": {"cache": "redis://:s3cr3t@redis:6379"},
    }
    front = {
        "name": "main",
        "image": "web",
        "envFrom": [{"prefix": "SHOP_", "configMapRef": {"name": "shop"}}, {"secretRef": {"name": "db"}}],
        "env": [{"name": "DSN", "valueFrom": {"secretKeyRef": {"name": "db", "key": "dsn"}}}],
    }
    graph = graph_of(config, secret, deployment("front", front))
    assert edges(graph) == ["cart:7070", "db:5432", "redis:6379"]
    assert [[reason.text for reason in edge.reasons] for edge in graph.edges] == [
        ["SHOP_CART_ADDR (ConfigMap shop)"],
        ["dsn (Secret db)", "DSN (Secret db)"],
        ["cache (Secret db)"],
    ]
    assert "s3cr3t" not in repr(graph)


def test_a_config_map_that_nobody_has_is_told_of_unless_it_is_optional() -> None:
    needs = {
        "name": "main",
        "image": "web",
        "envFrom": [{"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "b", "optional": True}}],
    }
    assert doubts(graph_of(deployment("front", needs))) == [
        "container main needs ConfigMap a, which nobody has"
    ]


def test_the_files_of_a_mounted_config_map_are_read_without_their_comments() -> None:
    text = "# proxy_pass http://redis:6379;\nlocation / { proxy_pass http://web:80; }\n"
    config = {
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "shop"},
        "data": {"nginx.conf": text},
    }
    front = deployment(
        "front",
        {"name": "main", "image": "nginx", "volumeMounts": [{"name": "v", "mountPath": "/etc/nginx"}]},
        volumes=[{"name": "v", "configMap": {"name": "c"}}],
    )
    assert edges(graph_of(config, front)) == ["web:80"]


def test_a_service_leads_to_the_workloads_whose_pods_it_selects() -> None:
    graph = graph_of(deployment("cart"), deployment("cart", namespace="office"))
    found = graph.service("Service shop/cart")
    assert found is not None
    assert found.backends == ("Deployment shop/cart",)


def test_a_service_that_leads_nowhere_is_told_of() -> None:
    lost = service("lost", 80, targetPort=8080)
    lost["spec"]["ports"][0]["targetPort"] = 8080
    told = [d.text for d in build([lost]).warnings]
    assert told == ["its selector selects the pods of no workload"]
    told = [d.text for d in build([lost, deployment("lost")]).warnings]
    assert told == ["its port 80 leads to port 8080, which no container of Deployment lost declares"]


def test_what_another_object_made_is_no_workload_of_its_own() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": "front-1",
            "namespace": "shop",
            "labels": {"app": "front"},
            "ownerReferences": [{"kind": "ReplicaSet", "controller": True}],
        },
        "spec": {"containers": [container(CART_ADDR="cart:7070")]},
    }
    alone = {**pod, "metadata": {"name": "alone", "namespace": "shop"}}
    assert [w.id for w in graph_of(pod, alone).workloads] == ["Pod shop/alone"]


def test_jobs_and_init_containers_talk_too() -> None:
    job = {
        "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [container(DB_URL="http://web")]}}}}
        },
    }
    waits = {"name": "wait", "image": "busybox", "command": ["sh", "-c", "nc -z cart 7070"]}
    graph = graph_of(job, deployment("front", container(), initContainers=[waits]))
    assert edges(graph, "CronJob shop/nightly") == ["web:80"]
    assert edges(graph) == ["cart:7070"]
    assert graph.from_("Deployment shop/front")[0].reasons[0].container == "wait"


def test_an_ingress_sends_to_the_services_of_its_rules() -> None:
    def backend(to: str, **port: Any) -> Obj:
        return {"path": f"/{to}", "backend": {"service": {"name": to, "port": port}}}

    paths = [backend("cart", name="grpc"), backend("web", number=81), backend("gone", number=80)]
    ingress = {
        "kind": "Ingress",
        "metadata": {"name": "front", "namespace": "shop"},
        "spec": {"rules": [{"host": "shop.example", "http": {"paths": paths}}]},
    }
    graph = graph_of(ingress)
    assert edges(graph, "Ingress shop/front") == ["cart:7070", "web:81"]
    assert doubts(graph) == [
        "rule shop.example/web names port 81 of Service web, the Service has 80, 443",
        "rule shop.example/gone names Service gone, which nobody has",
    ]


def test_a_workload_does_not_talk_to_itself_by_saying_its_name() -> None:
    graph = graph_of(deployment("cart", container(SERVICE="cart", PEERS="cart:7070")))
    (edge,) = graph.from_("Deployment shop/cart")
    assert [reason.name for reason in edge.reasons] == ["PEERS"]


ODD = [
    {"kind": "CronJob", "metadata": {"name": "a"}},
    {"kind": "CronJob", "metadata": {"name": "a"}, "spec": {"jobTemplate": {}}},
    {"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": None}},
    {"kind": "Ingress", "metadata": {"name": "a"}, "spec": {"rules": [{"host": "x"}, {"http": None}]}},
    {
        "kind": "Ingress",
        "metadata": {"name": "a"},
        "spec": {"defaultBackend": {"resource": {"kind": "b", "name": "c"}}},
    },
    {
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {
            "hostAliases": [{"ip": "1.2.3.4"}],
            "volumes": [{"name": "v", "configMap": {}}],
            "containers": [
                {
                    "name": "a",
                    "image": "b",
                    "env": [{"name": "X"}, {"name": "Y", "valueFrom": {}}],
                    "envFrom": [{}],
                    "volumeMounts": [{"name": "v", "mountPath": "/x"}],
                    "command": [],
                    "args": None,
                }
            ],
        },
    },
    {"kind": "Secret", "metadata": {"name": "a"}, "data": {"x": "%%%", "y": None}},
    {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": None},
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd["kind"])
def test_an_odd_object_makes_no_edges_and_no_fuss(odd: Obj) -> None:
    graph = build([odd])
    assert (graph.edges, graph.warnings) == ((), ())


def test_an_alias_of_the_pod_is_nobodys_service() -> None:
    aliases = [{"ip": "10.0.0.9", "hostnames": ["ads"]}]
    graph = graph_of(deployment("front", container(ADS_ADDR="ads:9555"), hostAliases=aliases))
    assert (edges(graph), doubts(graph)) == ([], [])


def test_a_cluster_ip_written_down_is_its_service() -> None:
    fixed = service("fixed", 80, clusterIP="10.96.0.50")
    graph = graph_of(fixed, deployment("front", container(FIXED="http://10.96.0.50")))
    assert edges(graph) == ["fixed:80"]


@pytest.mark.parametrize("value", ["x" * 20_000, "a." * 9000, "http://" * 3000, "a:1," * 9000, "-" * 20_000])
@pytest.mark.timeout(20)
def test_a_long_value_costs_no_more_than_its_length(value: str) -> None:
    assert len(addresses(value)) < 2
    addresses(value + " " + value)


@pytest.mark.parametrize(
    ("name", "host"),
    [("DB_HOST", True), ("dbUrl", True), ("--redis-addr", True), ("SERVICE_NAME", False), ("", False)],
)
def test_the_last_word_of_a_name_says_whether_it_holds_a_host(name: str, host: bool) -> None:
    assert is_host_word(name) == host
