"""The ingress controller: Ingress objects in, a real nginx' configuration out.

One of its modules knows Kubernetes and no nginx (``routes``), one nginx and no Kubernetes (``render``);
``nginx`` runs the program, ``app`` puts them together in a pod. Names, ports and headers are
ingress-nginx' own.
"""
