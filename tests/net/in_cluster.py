"""A program as one writes it for a pod: the official Python client, its service account, the API.

Run in a pod as ``python -c``; knows nothing of podwire. Says what it found, one line each, and waits in
the middle until somebody makes the Service ``late``.
"""
# mypy: ignore-errors

import json

from kubernetes import client, config, watch

config.load_incluster_config()
api = client.CoreV1Api()
found = api.list_namespaced_service("default")
print("services", *sorted(one.metadata.name for one in found.items))
print("server", client.Configuration.get_default_copy().host)
try:
    api.delete_namespaced_service("web", "default")
except client.ApiException as error:
    print("delete", error.status, json.loads(error.body)["message"])
try:
    api.create_namespaced_config_map("default", client.V1ConfigMap(metadata={"name": "mine"}))
except client.ApiException as error:
    print("create", error.status, error.reason)
print("watching")
stream = watch.Watch().stream(
    api.list_namespaced_service,
    "default",
    resource_version=found.metadata.resource_version,
    timeout_seconds=30,
)
for event in stream:
    print("event", event["type"], event["object"].metadata.name, event["object"].spec.ports[0].port)
    break
slices = client.DiscoveryV1Api().list_namespaced_endpoint_slice(
    "default", label_selector="kubernetes.io/service-name=web"
)
print("endpoints", *(address for one in slices.items for end in one.endpoints for address in end.addresses))
