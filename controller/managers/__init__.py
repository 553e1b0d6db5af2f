"""The managers: kube-controller-manager and scheduler, one control loop a file, pure but for ``runner``.

A loop is ``reconcile(view, ref) -> changes`` and ``refs(view, old, new)``, which says what a change
makes it look at; ``loops`` is the table of them, ``view`` their eyes, ``runner`` their hands.
Addresses and ports of Services are given at admission (``allocator``), not by a loop.
"""
