"""What the Python clients of Kubernetes do with a cluster: list, watch, create, patch, exec, port-forward.

    python python_clients.py kubernetes|kubernetes_asyncio|kr8s|lightkube

Run by their own Python (``tests.clients_kit``) with KUBECONFIG set; knows nothing of podwire. There are a
node ``node1`` and a pod ``shell`` whose port 7777 says hello and hangs up. Prints ``ok`` if all went well.
"""
# mypy: ignore-errors

import asyncio
import sys

COMMAND = ["sh", "-c", "echo out; echo err >&2; exit 3"]


def config_map(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
            "data": {"a": "1"}}  # fmt: skip


def use_kubernetes():
    from kubernetes import client, config, watch
    from kubernetes.stream import portforward, stream

    config.load_kube_config()
    api = client.CoreV1Api()
    assert "node1" in [node.metadata.name for node in api.list_node().items]
    made = api.create_namespaced_config_map("default", config_map("official"))
    api.patch_namespaced_config_map("official", "default", {"data": {"b": "2"}})
    seen = []
    for event in watch.Watch().stream(
        api.list_namespaced_config_map, "default", timeout_seconds=20,
        resource_version=made.metadata.resource_version,
    ):  # fmt: skip
        seen.append((event["type"], event["object"].data))
        break
    assert seen == [("MODIFIED", {"a": "1", "b": "2"})], seen
    ran = stream(
        api.connect_get_namespaced_pod_exec, "shell", "default", command=COMMAND,
        stdin=False, stdout=True, stderr=True, tty=False, _preload_content=False,
    )  # fmt: skip
    ran.run_forever(timeout=20)
    assert (ran.read_stdout(), ran.read_stderr(), ran.returncode) == ("out\n", "err\n", 3)
    forward = portforward(api.connect_get_namespaced_pod_portforward, "shell", "default", ports="7777")
    made = forward.socket(7777)
    made.setblocking(True)
    assert made.recv(100) == b"hello\n"
    assert forward.error(7777) is None
    api.delete_namespaced_config_map("official", "default")


def use_kubernetes_asyncio():
    from kubernetes_asyncio import client, config, watch
    from kubernetes_asyncio.stream import WsApiClient
    from kubernetes_asyncio.stream.ws_client import ERROR_CHANNEL, STDERR_CHANNEL, STDOUT_CHANNEL

    async def use():
        await config.load_kube_config()
        async with client.ApiClient() as plain:
            api = client.CoreV1Api(plain)
            assert "node1" in [node.metadata.name for node in (await api.list_node()).items]
            made = await api.create_namespaced_config_map("default", config_map("async"))
            await api.patch_namespaced_config_map("async", "default", {"data": {"b": "2"}})
            async with watch.Watch().stream(
                api.list_namespaced_config_map, "default", timeout_seconds=20,
                resource_version=made.metadata.resource_version,
            ) as events:  # fmt: skip
                async for event in events:
                    assert (event["type"], event["object"].data) == ("MODIFIED", {"a": "1", "b": "2"})
                    break
            await api.delete_namespaced_config_map("async", "default")
        async with WsApiClient() as streaming:
            api = client.CoreV1Api(streaming)
            opened = await api.connect_get_namespaced_pod_exec(
                "shell", "default", command=COMMAND, stdin=False, stdout=True, stderr=True, tty=False,
                _preload_content=False,
            )  # fmt: skip
            got = {STDOUT_CHANNEL: b"", STDERR_CHANNEL: b"", ERROR_CHANNEL: b""}
            async with opened as socket:
                async for message in socket:
                    data = message.data if isinstance(message.data, bytes) else message.data.encode()
                    got[data[0]] += data[1:]
            assert (got[STDOUT_CHANNEL], got[STDERR_CHANNEL]) == (b"out\n", b"err\n")
            assert streaming.parse_error_data(got[ERROR_CHANNEL].decode()) == 3
            # It has no port-forward of its own: the WebSocket, as it comes.
            opened = await api.connect_get_namespaced_pod_portforward(
                "shell", "default", ports=7777, _preload_content=False
            )
            text = b""
            async with opened as socket:
                async for message in socket:
                    if message.data[0] == 0:
                        text += message.data[1:]
            assert text == (7777).to_bytes(2, "little") + b"hello\n", text

    asyncio.run(use())


def use_kr8s():
    import kr8s.asyncio
    from kr8s.asyncio.objects import ConfigMap, Pod

    async def use():
        api = await kr8s.asyncio.api()
        assert "node1" in [node.name async for node in api.get("nodes")]
        made = await ConfigMap(config_map("kr8s"))
        await made.create()
        await made.patch({"data": {"b": "2"}})
        async for _, obj in api.watch("configmaps", namespace="default"):
            if obj.name == "kr8s":
                assert obj.raw["data"] == {"a": "1", "b": "2"}
                break
        pod = await Pod.get("shell", namespace="default")
        ran = await pod.exec(COMMAND, check=False)
        assert (ran.stdout, ran.stderr, ran.returncode) == (b"out\n", b"err\n", 3)
        async with pod.portforward(7777, local_port=None) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readline() == b"hello\n"
            writer.close()
        await made.delete()

    asyncio.run(use())


def use_lightkube():
    from lightkube import Client
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap, Node

    client = Client()
    assert "node1" in [node.metadata.name for node in client.list(Node)]
    made = client.create(ConfigMap(metadata=ObjectMeta(name="light", namespace="default"), data={"a": "1"}))
    client.patch(ConfigMap, "light", {"data": {"b": "2"}}, namespace="default")
    for change, obj in client.watch(
        ConfigMap, namespace="default", resource_version=made.metadata.resourceVersion
    ):
        assert (change, obj.data) == ("MODIFIED", {"a": "1", "b": "2"})
        break
    client.delete(ConfigMap, "light", namespace="default")
    ran = client.exec("shell", namespace="default", command=COMMAND, stdout=True, stderr=True)
    assert (ran.stdout, ran.stderr, ran.exit_code) == ("out\n", "err\n", 3), ran


if __name__ == "__main__":
    globals()[f"use_{sys.argv[1]}"]()
    print("ok")
