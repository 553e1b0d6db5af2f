"""Datagrams larger than a packet: rows for both tiers, each a sentence.

In ``tests.packets``' scene. Every row is asked with 2,000 and 4,000 bytes, there and back.
"""

# ruff: noqa: E501 - a row of a table is a line

from __future__ import annotations

from tests.packets import Row, rows

SIZES = (2000, 4000)

FRAGMENT_ROWS: list[Row] = rows("""
a large datagram from a pod to a ClusterIP reaches every endpoint | pod/bob | svc/web:80/udp | web-0 web-1
a large datagram from a pod to a ClusterIP with an endpoint on its own node | pod/alice | svc/solo:80/udp | solo-0
a large datagram from a node to a ClusterIP | node3 | svc/far:80/udp | far-0
a large datagram from a pod to itself through its Service | pod/solo-0 | svc/solo:80/udp | solo-0 | hairpin
a large datagram from a pod to a hostNetwork endpoint | pod/alice | svc/host:80/udp | host-0
a large datagram from outside to a NodePort reaches every endpoint | client1 | node3:30080/udp | web-0 web-1 | node3
a large datagram from outside to a NodePort of policy Local | client1 | node2:30092/udp | web-1
a large datagram from a pod to a NodePort of its own node | pod/alice | node1:30080/udp | web-0 web-1 | node1
a large datagram from a node to its own NodePort by localhost | node3 | localhost:30080/udp | web-0 web-1 | node3
a large datagram from outside to a balancer's address | client1 | lb/lb@node1:80/udp | web-0 web-1 | node1
a large datagram from a pod to a balancer's address | pod/bob | lb/lb:80/udp | web-0 web-1 | node3
a large datagram from outside to an external IP | client1 | ext/ext@node3:80/udp | web-0 web-1 | node3
a large datagram with session affinity | pod/bob | svc/sticky:80/udp | one of web-0 web-1
a large datagram from pod to pod | pod/alice | pod/web-1:8080/udp | web-1
a large datagram from a pod to the outside world | pod/bob | client1:8080/udp | client1 | node3
a large datagram to a ClusterIP without endpoints is refused | pod/alice | svc/empty:80/udp | refused
a large datagram to a port that a ClusterIP does not serve is refused | node3 | svc/web:81/udp | refused
a large datagram to a NodePort without endpoints is refused | client1 | node1:30084/udp | refused
""")
