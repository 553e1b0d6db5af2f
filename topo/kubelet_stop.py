"""preStop hooks: what a pod's containers do before they are told to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from controller.api.objects import Obj
from topo.kubelet_spec import named_ports
from topo.probes import Probe, ProbeFailed, Target, ask

Execute = Callable[[Sequence[str], float], Awaitable[tuple[int, str]]]


async def before_stop(
    containers: Sequence[tuple[Obj, Execute]], address: str, netns: str, grace: float
) -> float:
    """Run the hooks beside each other; returns what is left of ``grace``, at least two seconds."""
    hooks = [
        (spec["lifecycle"]["preStop"], spec, execute)
        for spec, execute in containers
        if (spec.get("lifecycle") or {}).get("preStop")
    ]
    if not hooks:
        return grace
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(_hook(*hook, address, netns, grace) for hook in hooks))
    return max(grace - (loop.time() - began), 2)


async def _hook(hook: Obj, spec: Obj, execute: Execute, address: str, netns: str, grace: float) -> None:
    if "sleep" in hook:
        await asyncio.sleep(min(float(hook["sleep"].get("seconds") or 0), grace))
        return
    handler: Obj = {word: hook[word] for word in ("exec", "httpGet", "tcpSocket") if word in hook}
    target = Target(address=address, netns=netns, ports=named_ports(spec), execute=execute)
    try:
        await ask(Probe(kind="preStop", handler=handler, timeout=grace), target)
    except ProbeFailed:
        return  # a failed hook does not keep the container alive
