"""Every upstream end-to-end case about Services, DNS and their neighbours, by its upstream name: pure data.

Names are those of kubernetes/kubernetes test/e2e at about 1.37 (braces of generated names written out).
``C`` marks [Conformance]. How a case is tried stands in ``cases_*.py`` under the same
name; a unit test holds both sides together.
"""

# ruff: noqa: E501 - a case is a line, however long upstream named it

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """One case."""

    group: str
    name: str
    conformance: bool

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


_TABLE = """
# Services
should serve a basic endpoint from pods [C]
should serve multiport endpoints from pods [C]
should be updated after adding or deleting ports
should preserve source pod IP for traffic thru service cluster IP [LinuxOnly]
should allow pods to hairpin back to themselves through services
should be able to up and down services
should work after the service has been recreated
should work after restarting kube-proxy [Disruptive]
should work after restarting apiserver [Disruptive]
should be able to create a functioning NodePort service [C]
should be possible to connect to a service via ExternalIP when the external IP is not assigned to a node
should be able to update service type to NodePort listening on same port number but different protocols
should be able to change the type from ExternalName to ClusterIP [C]
should be able to change the type from ExternalName to NodePort [C]
should be able to change the type from ClusterIP to ExternalName [C]
should be able to change the type from NodePort to ExternalName [C]
should prevent NodePort collisions
should check NodePort out-of-range
should release NodePorts on delete
should create endpoints for unready pods
should be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is true
should not be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is false
should have session affinity work for service with type clusterIP [LinuxOnly] [C]
should have session affinity timeout work for service with type clusterIP [LinuxOnly]
should be able to switch session affinity for service with type clusterIP [LinuxOnly] [C]
should have session affinity work for NodePort service [LinuxOnly] [C]
should have session affinity timeout work for NodePort service [LinuxOnly]
should be able to switch session affinity for NodePort service [LinuxOnly] [C]
should implement service.kubernetes.io/service-proxy-name
should implement service.kubernetes.io/headless
should be rejected when no endpoints exist
should be rejected for evicted pods (no endpoints exist)
should respect internalTrafficPolicy=Local Pod to Pod
should respect internalTrafficPolicy=Local Pod (hostNetwork: true) to Pod
should respect internalTrafficPolicy=Local Pod and Node, to Pod (hostNetwork: true)
should fail health check node port if there are only terminating endpoints
should fallback to terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Cluster
should fallback to local terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Local
should fallback to terminating endpoints when there are no ready endpoints with externallTrafficPolicy=Cluster
should fallback to local terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Local
should find a service from listing all namespaces [C]
should complete a service status lifecycle [C]
should delete a collection of services [C]
should serve endpoints on same port and different protocols [C]
should serve endpoints on same port and different protocol for internal traffic on Type LoadBalancer
should allow creating a basic SCTP service with pod and endpoints [LinuxOnly][Serial]
should support named targetPorts that resolve to different ports on different endpoints
# API Server
should provide secure master service [C]
should have Endpoints and EndpointSlices pointing to API Server [C]
# Endpoints
should test the lifecycle of an Endpoint [C]
# EndpointSlice
should create and delete EndpointSlices for a Service with a selector that matches no pods [C]
should create Endpoints and EndpointSlices for Pods matching a Service [C]
should support creating EndpointSlice API operations [C]
should support a Service with multiple ports specified in multiple EndpointSlices [C]
should support a Service with multiple endpoint IPs specified in multiple EndpointSlices [C]
# EndpointsController
should create Endpoints for Pods matching a Service [C]
should create and delete Endpoints for a Service with a selector that matches no pods [C]
# EndpointSliceMirroring
should mirror a custom Endpoints resource through create update and delete [C]
should mirror a custom Endpoint with multiple subsets and same IP address
# ServiceCIDR and IPAddress API
should support ServiceCIDR API operations [C]
should support IPAddress API operations [C]
# CVE-2021-29923
IPv4 Service Type ClusterIP with leading zeros should work interpreted as decimal
# Service endpoints latency
should not be very high [C]
# DNS
should provide DNS for the cluster [C]
should provide DNS for the cluster [Provider:GCE]
should resolve DNS of partial qualified names for the cluster [LinuxOnly]
should provide /etc/hosts entries for the cluster [C]
should provide DNS for services [C]
should resolve DNS of partial qualified names for services [LinuxOnly] [C]
should provide DNS for pods for Hostname [C]
should provide DNS for pods for Subdomain [C]
should provide DNS for ExternalName services [C]
should support configurable pod DNS nameservers [C]
should support configurable pod resolv.conf
should work with the pod containing more than 6 DNS search paths and longer than 256 search list characters
should work with a search path containing an underscore and a search path with a single dot
should work with a service name that starts with a digit [FeatureGate:RelaxedServiceNameValidation]
# DNS HostNetwork
should resolve DNS of partial qualified names for services on hostNetwork pods with dnsPolicy: ClusterFirstWithHostNet [LinuxOnly]
spec.Hostname field is not silently ignored and is used for hostname for a Pod
spec.Hostname field is silently ignored and the node hostname is used when hostNetwork is set to true for a Pod
# DNS configMap nameserver
Change stubDomain should be able to change stubDomain configuration
Forward PTR lookup should forward PTR records lookup to upstream nameserver
Forward external name lookup should forward externalname lookup to upstream nameserver
# DNS at scale
[Feature:PerformanceDNS] Should answer DNS query for maximum number of services per cluster
ClusterDns should create pod that uses dns
# Conntrack
should be able to preserve UDP traffic when server pod cycles for a NodePort service
should be able to preserve UDP traffic when server pod cycles for a ClusterIP service
should be able to preserve UDP traffic when server pod cycles for a ClusterIP service with InternalTrafficPolicy set to Local
should be able to preserve UDP traffic when server pod cycles for a ClusterIP service and client is hostNetwork
should be able to preserve UDP traffic when initial unready endpoints get ready
should drop INVALID conntrack entries [Privileged]
# KubeProxy
should set TCP CLOSE_WAIT timeout [Privileged]
should update metric for tracking accepted packets destined for localhost nodeports
# Proxy version v1
should proxy through a service and a pod [C]
A set of valid responses are returned for both pod and service Proxy [C]
A set of valid responses are returned for both pod and service ProxyWithPath [C]
should proxy logs on node using proxy subresource
should proxy logs on node with explicit kubelet port using proxy subresource
# Networking Granular Checks: Services
should function for pod-Service: http
should function for pod-Service: udp
should function for pod-Service: sctp
should function for node-Service: http
should function for node-Service: udp
should function for node-Service: sctp
should function for endpoint-Service: http
should function for endpoint-Service: udp
should function for endpoint-Service: sctp
should update endpoints: http
should update endpoints: udp
should update nodePort: http [Slow]
should update nodePort: udp [Slow]
should function for client IP based session affinity: http [LinuxOnly]
should function for client IP based session affinity: udp [LinuxOnly]
should be able to handle large requests: http
should be able to handle large requests: udp
should function for service endpoints using hostNetwork
should function for multiple endpoint-Services with same selector
should support basic nodePort: udp functionality
# Networking Granular Checks: Pods
should function for intra-pod communication: http [C]
should function for intra-pod communication: udp [C]
should function for intra-pod communication: sctp
should function for node-pod communication: http [C]
should function for node-pod communication: udp [C]
should function for node-pod communication: sctp
# Networking
should check kube-proxy urls
should recreate its iptables rules if they are deleted [Disruptive]
should provide Internet connection for containers [Feature:Networking-IPv4]
should provide Internet connection for containers [Feature:Networking-IPv6]
should provide unchanging, static URL paths for kubernetes api services
should allow creating a Pod with an SCTP HostPort [LinuxOnly]
# Networking by name
should provide Internet connection for containers [Feature:Networking-DNS]
# Networking others
IPerf2 should run iperf2
NoSNAT Should be able to send traffic between Pods without SNAT
Connectivity Pod Lifecycle should be able to connect from a Pod to a terminating Pod
Connectivity Pod Lifecycle should be able to connect to other Pod from a terminating Pod
# LoadBalancers
should be able to change the type and ports of a TCP service
should be able to change the type and ports of a UDP service
should only allow access from service loadbalancer source ranges
should be able to create an internal type load balancer
should have session affinity work for LoadBalancer service with ESIPP on
should have session affinity work for LoadBalancer service with ESIPP off
should be able to switch session affinity for LoadBalancer service with ESIPP on
should be able to switch session affinity for LoadBalancer service with ESIPP off
should handle load balancer cleanup finalizer for service
should be able to create LoadBalancer Service without NodePort and change it
should be able to preserve UDP traffic when server pod cycles for a LoadBalancer service on different nodes
should be able to preserve UDP traffic when server pod cycles for a LoadBalancer service on the same nodes
should not have connectivity disruption during rolling update with externalTrafficPolicy=Cluster
should not have connectivity disruption during rolling update with externalTrafficPolicy=Local
should reconcile LB health check interval
# LoadBalancers ESIPP
should work for type=LoadBalancer
should work for type=NodePort
should only target nodes with endpoints
should work from pods
should handle updates to ExternalTrafficPolicy field
# Dual stack
should have ipv4 and ipv6 internal node ip
should create pod, add ipv6 and ipv4 ip to pod ips
should be able to reach pod on ipv4 and ipv6 ip
should create a single stack service with cluster ip from primary service range
should create service with ipv4 cluster ip
should create service with ipv6 cluster ip
should create service with ipv4,v6 cluster ip
should create service with ipv6,v4 cluster ip
# Dual stack Granular Checks: Services Secondary IP Family
should function for pod-Service: http
should function for pod-Service: udp
should function for pod-Service: sctp
should function for node-Service: http
should function for node-Service: udp
should function for node-Service: sctp
should function for endpoint-Service: http
should function for endpoint-Service: udp
should function for endpoint-Service: sctp
should update endpoints: http
should update endpoints: udp
should function for client IP based session affinity: http [LinuxOnly]
should function for client IP based session affinity: udp [LinuxOnly]
should be able to handle large requests: http
should be able to handle large requests: udp
should function for service endpoints using hostNetwork
# Topology Hints
should distribute endpoints evenly
# Traffic Distribution
should route traffic to an endpoint in the same zone when using PreferClose
should route traffic to an endpoint in the same zone when using PreferSameZone
should route traffic correctly between pods on multiple nodes when using PreferClose
should route traffic correctly between pods on multiple nodes when using PreferSameZone
should route traffic to an endpoint on the same node or fall back to same zone when using PreferSameNode
should route traffic to an endpoint on the same node when using PreferSameNode and fall back when the endpoint becomes unavailable
# HostPort
validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly] [C]
# sig-node
Pods should contain environment variables for services [C]
KubeletManagedEtcHosts should test kubelet managed /etc/hosts file [C]
Kubelet when scheduling a busybox Pod with hostAliases should write entries to /etc/hosts [C]
"""


def _parse(table: str) -> Iterator[Upstream]:
    group = ""
    for line in table.strip().splitlines():
        if line.startswith("# "):
            group = line[2:]
            continue
        name = line.removesuffix(" [C]")
        yield Upstream(group=group, name=name, conformance=name != line)


CASES: tuple[Upstream, ...] = tuple(_parse(_TABLE))
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(case.group for case in CASES))
