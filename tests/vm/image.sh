#!/usr/bin/env bash
# Builds a small Debian 12 in the current directory: root.img, vmlinuz, initrd.img, and the key id.
# Needs root. It gets what a Vagrant box has and the Debian packages in $1 (commas between them).
set -euo pipefail
packages=$1
base=linux-image-cloud-amd64,initramfs-tools,zstd,systemd-sysv,systemd-resolved,udev,dbus,kmod,iproute2
base=$base,iputils-ping,procps,ca-certificates,openssh-server,sudo,less,python3,python3-venv
umask 022
rm -rf root root.img id id.pub
ssh-keygen -q -t ed25519 -N '' -f id
cat >hook.sh <<'HOOK'
set -e
root=$1
# The package sources and certificates of the machine that builds the image: its own names reach them.
if [ -e /etc/apt/sources.list.d/debian.sources ] && grep -q bookworm /etc/apt/sources.list.d/debian.sources; then
    rm -f "$root/etc/apt/sources.list"
    cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/"
    cp -n /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
fi
cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
chroot "$root" update-ca-certificates >/dev/null
echo podwire >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 podwire\n' >"$root/etc/hosts"
echo '/dev/vda / ext4 defaults,noatime 0 0' >"$root/etc/fstab"
printf '[Match]\nName=en* eth0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n' >"$root/etc/systemd/network/80-dhcp.network"
chroot "$root" systemctl enable systemd-networkd systemd-resolved ssh >/dev/null 2>&1
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
install -d -m 700 "$root/root/.ssh"
cp id.pub "$root/root/.ssh/authorized_keys"
printf 'UseDNS no\nPermitRootLogin prohibit-password\n' >"$root/etc/ssh/sshd_config.d/podwire.conf"
# The user whom Vagrant boxes have, with the right they have.
chroot "$root" useradd -m -s /bin/bash vagrant
echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/vagrant"
# Emulated, each service costs seconds of the start.
chroot "$root" systemctl mask -q systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_all.timer e2scrub_reap fstrim.timer man-db.timer dpkg-db-backup.timer getty@tty1 >/dev/null 2>&1
# An initramfs with only what finds /dev/vda.
sed -i 's/^MODULES=.*/MODULES=list/; s/^# *COMPRESS=.*//; s/^COMPRESS=.*/COMPRESS=zstd/' \
    "$root/etc/initramfs-tools/initramfs.conf"
printf 'virtio_pci\nvirtio_mmio\nvirtio_blk\nvirtio_net\n' >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u >/dev/null 2>&1
HOOK
mmdebstrap -q --variant=minbase --include="$base${packages:+,$packages}" \
    --aptopt='Apt::Install-Recommends "false"' --customize-hook='sh hook.sh "$1"' bookworm root
cp root/boot/vmlinuz-* vmlinuz
cp root/boot/initrd.img-* initrd.img
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1 -d root root.part 4G
rm -rf root hook.sh
mv root.part root.img # whole or not there
