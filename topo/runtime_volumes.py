"""Volumes as directories and mounts: the shared ones beside the boxes, the rest in each box.

A shared volume is a tmpfs of the runtime's: a pod's goes when the kubelet says so, a claim's stays. What
holds files is made in the box itself and goes with it. Whatever a pod may have written into a volume is
resolved inside its box only, never on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from topo import linux
from topo.images.image import Mount, Volume

_STAGE = "/.volumes"
_QUIET = linux.MS_NOSUID | linux.MS_NODEV


def share(directory: Path, volumes: Sequence[Volume]) -> dict[str, str]:
    """Make what is not there of the shared volumes; name → directory."""
    made = {}
    for volume in volumes:
        if volume.shared:
            place = directory / volume.shared
            if not place.is_dir():
                place.mkdir(parents=True)
                linux.mount("volume", str(place), "tmpfs", _QUIET, f"size={volume.size},mode=1777")
            made[volume.name] = str(place)
    return made


def release(directory: Path, uid: str) -> None:
    """A pod is gone, and what it had for itself."""
    for place in directory.glob(f"pod_{uid}_*"):
        linux.umount(str(place))
        place.rmdir()


def stage(root: str, shared: Mapping[str, str]) -> None:
    """Before the box leaves the machine's root: bring the shared volumes along."""
    Path(root + _STAGE).mkdir(mode=0o700)
    for name, source in shared.items():
        Path(f"{root}{_STAGE}", name).mkdir()
        linux.mount(source, f"{root}{_STAGE}/{name}", flags=linux.MS_BIND)


def mount_all(volumes: Sequence[Volume], mounts: Sequence[Mount], user: int) -> None:
    """In the box's own root, not yet read-only: put every volume at its paths."""
    wanted = {mount.volume for mount in mounts}
    for volume in volumes:
        if not volume.shared and volume.name in wanted:
            _fill(volume, user)
    only_read = {volume.name for volume in volumes if not volume.shared}
    known = {volume.name for volume in volumes}
    for mount in mounts:
        if mount.volume in known:
            _bind(mount)
    for mount in mounts:
        if mount.volume in known:
            quiet = linux.MS_REMOUNT | linux.MS_BIND | _QUIET
            hard = mount.read_only or mount.volume in only_read
            linux.mount("none", mount.path, flags=quiet | (linux.MS_RDONLY if hard else 0))
    for volume in volumes:
        place = Path(_STAGE, volume.name)
        if place.is_mount():
            linux.umount(str(place))
            place.rmdir()
    Path(_STAGE).rmdir()


def _fill(volume: Volume, user: int) -> None:
    place = Path(_STAGE, volume.name)
    place.mkdir()
    linux.mount("volume", str(place), "tmpfs", _QUIET, "size=8m,mode=755")
    for name, text in volume.files.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode(errors="surrogateescape"))
        os.chown(file, user, user)
        file.chmod(volume.modes.get(name, 0o644))


def _bind(mount: Mount) -> None:
    source, target = Path(_STAGE, mount.volume, mount.sub_path), Path(mount.path)
    if not source.exists():
        source.mkdir(parents=True)
        source.chmod(0o1777)
    if not target.exists():
        if source.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    linux.mount(str(source), str(target), flags=linux.MS_BIND)
