"""The wires: namespaces, Mininet hosts, links, the private Open vSwitch, and what runs in pods."""
