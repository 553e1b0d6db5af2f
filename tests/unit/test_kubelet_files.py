"""resolv.conf, hosts and hostname of a pod, and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from controller.api.objects import Obj
from topo.kubelet_env import ConfigError, environment, expand, references
from topo.kubelet_files import files, hosts, resolv_conf

MACHINE = "domain old.example\nsearch example.com\nnameserver 9.9.9.9\noptions timeout:3 rotate\n"


def pod(name: str = "web-1", namespace: str = "shop", **spec: Any) -> Obj:
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": "u1", "labels": {"app": "web"}},
        "spec": {"nodeName": "node1", "containers": [], **spec},
    }


def service(name: str, namespace: str = "shop", address: str = "10.96.0.7", *ports: Obj) -> Obj:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": list(ports) or [{"port": 80, "protocol": "TCP"}]},
    }


def env_of(
    container: Obj,
    *services: Obj,
    of: Obj | None = None,
    objects: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, str]:
    known = objects or {}
    fields = {"status.podIP": "10.244.1.2", "status.hostIP": "192.168.49.2"}
    return environment(
        of or pod(),
        container,
        services,
        fields=fields,
        lookup=lambda kind, ns, name: known.get(f"{kind}/{ns}/{name}"),
    )


def test_a_pod_asks_the_cluster_dns_with_the_search_path_of_its_namespace() -> None:
    assert resolv_conf(pod(), MACHINE) == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 10.96.0.10\n"
        "options ndots:5\n"
    )


@pytest.mark.parametrize("spec", [{"dnsPolicy": "Default"}, {"hostNetwork": True}])
def test_default_policy_and_the_host_network_use_the_nodes_resolver(spec: Obj) -> None:
    assert resolv_conf(pod(**spec), MACHINE) == (
        "search example.com\nnameserver 9.9.9.9\noptions timeout:3 rotate\n"
    )


def test_a_host_network_pod_may_ask_for_the_cluster_dns() -> None:
    assert "10.96.0.10" in resolv_conf(pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"), MACHINE)


def test_policy_none_has_only_what_dns_config_says() -> None:
    config = {
        "nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"],
        "searches": ["a.example"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    text = resolv_conf(pod(dnsPolicy="None", dnsConfig=config), MACHINE)
    assert text == (
        "search a.example\n"
        "nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n"
        "options ndots:2 edns0\n"
    )


def test_dns_config_adds_to_the_policy_and_wins_over_its_options() -> None:
    config = {"nameservers": ["10.96.0.10", "1.1.1.1"], "options": [{"name": "ndots", "value": "1"}]}
    text = resolv_conf(pod(dnsConfig=config), MACHINE)
    assert text.count("nameserver") == 2
    assert "options ndots:1\n" in text


def test_the_hosts_file_has_the_pods_name_and_its_aliases() -> None:
    aliases = [{"ip": "10.0.0.1", "hostnames": ["one", "eins"]}]
    text = hosts(pod(hostAliases=aliases), ["10.244.1.2", "fd00:10:244:1::2"], "node1")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "\n10.244.1.2\tweb-1\nfd00:10:244:1::2\tweb-1\n" in text
    assert text.endswith("# Entries added by HostAliases.\n10.0.0.1\tone\teins\n")


def test_hostname_and_subdomain_give_a_full_name() -> None:
    made = files(
        pod(hostname="db", subdomain="peers"), addresses=["10.244.1.2"], node="node1", machine_resolv_conf=""
    )
    assert made["/etc/hostname"] == "db\n"
    assert "10.244.1.2\tdb.peers.shop.svc.cluster.local\tdb\n" in made["/etc/hosts"]


def test_a_long_pod_name_is_cut_to_a_host_name() -> None:
    made = files(pod("a" * 62 + "-b"), addresses=[], node="node1", machine_resolv_conf="")
    assert made["/etc/hostname"] == "a" * 62 + "\n"


def test_service_variables_are_those_of_kubernetes_and_docker_links() -> None:
    web = {"name": "http", "port": 80, "protocol": "TCP"}
    dns = {"name": "dns-udp", "port": 53, "protocol": "UDP"}
    assert env_of({}, service("my-db", "shop", "10.96.0.7", web, dns)) == {
        "MY_DB_SERVICE_HOST": "10.96.0.7",
        "MY_DB_SERVICE_PORT": "80",
        "MY_DB_SERVICE_PORT_HTTP": "80",
        "MY_DB_SERVICE_PORT_DNS_UDP": "53",
        "MY_DB_PORT": "tcp://10.96.0.7:80",
        "MY_DB_PORT_80_TCP": "tcp://10.96.0.7:80",
        "MY_DB_PORT_80_TCP_PROTO": "tcp",
        "MY_DB_PORT_80_TCP_PORT": "80",
        "MY_DB_PORT_80_TCP_ADDR": "10.96.0.7",
        "MY_DB_PORT_53_UDP": "udp://10.96.0.7:53",
        "MY_DB_PORT_53_UDP_PROTO": "udp",
        "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_ADDR": "10.96.0.7",
    }


def test_only_services_of_the_namespace_and_the_api_itself_give_variables() -> None:
    others = service("other", "elsewhere"), service("headless", "shop", "None")
    api = service("kubernetes", "default", "10.96.0.1")
    assert {name.split("_")[0] for name in env_of({}, *others, api)} == {"KUBERNETES"}
    mine = env_of({}, api, service("kubernetes", "shop", "10.96.9.9"))
    assert mine["KUBERNETES_SERVICE_HOST"] == "10.96.9.9"


def test_service_links_can_be_turned_off_but_not_for_the_api() -> None:
    both = service("db"), service("kubernetes", "default", "10.96.0.1")
    env = env_of({}, *both, of=pod(enableServiceLinks=False))
    assert "DB_SERVICE_HOST" not in env
    assert env["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"


def test_a_containers_own_variable_wins_over_a_services() -> None:
    own = {"env": [{"name": "DB_SERVICE_HOST", "value": "mine"}]}
    assert env_of(own, service("db"))["DB_SERVICE_HOST"] == "mine"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
    ],
)
def test_references_expand_as_kubernetes_expands_them(text: str, value: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == value


def test_variables_see_only_what_stands_before_them() -> None:
    entries = [
        {"name": "B", "value": "$(A)"},
        {"name": "A", "value": "1"},
        {"name": "C", "value": "$(A)$(B)"},
    ]
    assert env_of({"env": entries}) == {"A": "1", "B": "$(A)", "C": "1$(A)"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status.podIP", "10.244.1.2"),
        ("status.hostIP", "192.168.49.2"),
        ("metadata.name", "web-1"),
        ("metadata.uid", "u1"),
        ("spec.nodeName", "node1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['none']", ""),
    ],
)
def test_field_references(path: str, value: str) -> None:
    entry = {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}
    assert env_of({"env": [entry]}) == {"X": value}


def test_config_maps_and_secrets_are_asked_for_and_used() -> None:
    key = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    container = {"env": [key], "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}]}
    assert references(container) == {("Secret", "s"), ("ConfigMap", "c")}
    known = {"Secret/shop/s": {"k": "v"}, "ConfigMap/shop/c": {"a": "b"}}
    assert env_of(container, objects=known) == {"X": "v", "P_a": "b"}


def test_a_missing_config_map_is_an_error_unless_optional() -> None:
    reference = {"name": "c", "key": "k"}
    with pytest.raises(ConfigError, match='configmap "c" not found'):
        env_of({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": reference}}]})
    known = {"ConfigMap/shop/c": {"other": ""}}
    with pytest.raises(ConfigError, match="couldn't find key k in ConfigMap shop/c"):
        env_of({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": reference}}]}, objects=known)
    optional = {**reference, "optional": True}
    assert env_of({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": optional}}]}) == {}
