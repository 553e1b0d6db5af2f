#!/usr/bin/env bash
# The kernel datapath, in a throw-away Debian 12 machine (QEMU), because not every kernel has the
# openvswitch and netem modules. Not part of ./lab test: emulated, it takes about half an hour.
#
#   tests/vm.sh             all: build, start, install, test, compare, end; exit status 0 when all is well
#   tests/vm.sh build       only the machine's image (once; a minute)
#   tests/vm.sh up | down   start the machine with this checkout's HEAD in /vagrant; end it
#   tests/vm.sh copy        this checkout's HEAD into the running machine again
#   tests/vm.sh ssh CMD     a command in it, as root
#   tests/vm.sh STEP...     steps in a running machine: provision box rows net lessons links conformance
#
# Environment: VM_DIR (${TMPDIR:-/tmp}/podwire-vm: image, key, results), VM_PORT (2222, on this machine's
# loopback), VM_CPUS (2), VM_MEMORY (3072), VM_ACCEL (tcg,thread=multi; kvm where there is one), VM_VENV
# (an environment of Debian 12 made by ./lab, copied first, so that pip adds only what it lacks: minutes less),
# VM_TESTS (what the step net gives to ./lab test), VM_LESSONS (those of the step lessons), VM_FAMILIES (of the step
# rows: ipv4 dual),
# VM_PACKAGES (Debian packages in the image; the others come by ./lab setup; none: a fresh box).
# The machine reaches the package registries, by their own names, as this one does; it is reached by none.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
dir=${VM_DIR:-${TMPDIR:-/tmp}/podwire-vm}
port=${VM_PORT:-2222}
packages=${VM_PACKAGES-mininet,openvswitch-switch,tcpdump,tshark,iperf3,nftables,ethtool,curl,busybox,dnsutils}
lessons=${VM_LESSONS:-nodeport clusterip loadbalancer kubectl_tour ingress dualstack}
# Nothing of root's may be left in /vagrant: the step box looks for it, in whatever order the steps run.
python='cd /vagrant && PYTHONDONTWRITEBYTECODE=1 python -m'
steps='provision box rows net lessons links conformance'
mkdir -p "$dir/out"
cd "$dir"

say() { printf 'vm: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

vm() { # as root, in the machine
    timeout "${VM_TIMEOUT:-3600}" ssh -q -i id -p "$port" -o BatchMode=yes -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5 -o ServerAliveInterval=15 root@127.0.0.1 -- "$@"
}

need() {
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "$program is missing:" \
            "apt-get install qemu-system-x86 mmdebstrap e2fsprogs openssh-client"
    done
}

build() {
    need mmdebstrap mke2fs ssh-keygen
    [ "$(id -u)" -eq 0 ] || fail "building the image needs root"
    say "building the image in $dir"
    bash "$here/tests/vm/image.sh" "$packages"
}

running() { [ -s qemu.pid ] && [ "$(cat "/proc/$(cat qemu.pid)/comm" 2>/dev/null)" = qemu-system-x86 ]; }

copy() { # HEAD, in the place and with the owner that Vagrant's shared folder has
    git -C "$here" archive HEAD |
        vm 'mkdir -p /vagrant && find /vagrant -mindepth 1 -delete && tar x -C /vagrant --no-same-owner &&
            chown -R vagrant: /vagrant'
}

up() {
    need qemu-system-x86_64 ssh
    ! running || fail "the machine in $dir runs already: tests/vm.sh down"
    if [ ! -s root.img ]; then build; fi
    began=$SECONDS
    # snapshot=on: what happens in the machine is gone with it.
    qemu-system-x86_64 -machine q35 -accel "${VM_ACCEL:-tcg,thread=multi,tb-size=512}" \
        -smp "${VM_CPUS:-2}" -m "${VM_MEMORY:-3072}" \
        -display none -monitor none -nodefaults -no-reboot -serial file:console.log \
        -kernel vmlinuz -initrd initrd.img \
        -append "root=/dev/vda rw console=ttyS0,115200 mitigations=off net.ifnames=0 quiet" \
        -drive file=root.img,format=raw,if=virtio,cache=unsafe,snapshot=on \
        -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net,romfile= \
        -device virtio-rng-pci >qemu.log 2>&1 </dev/null &
    echo $! >qemu.pid
    for _ in $(seq 240); do
        running || { cat qemu.log >&2; fail "QEMU ended"; }
        if VM_TIMEOUT=20 vm true 2>/dev/null; then
            say "started in $((SECONDS - began)) s: $(vm uname -r)"
            copy
            return
        fi
        sleep 0.5
    done
    tail console.log >&2
    fail "the machine does not answer"
}

down() {
    running || { rm -f qemu.pid; return 0; }
    process=$(cat qemu.pid)
    VM_TIMEOUT=20 vm poweroff 2>/dev/null || true
    for _ in $(seq 40); do
        running || { rm -f qemu.pid; return 0; }
        sleep 0.5
    done
    kill "$process"
    rm -f qemu.pid
}

# The steps. Each says what it found by its exit status; what it wrote is fetched into $dir/out.

provision() { # what the Vagrantfile does, word for word (its \\ is Ruby's)
    if [ -n "${VM_VENV-}" ]; then
        tar c -C "$(dirname "$VM_VENV")" "$(basename "$VM_VENV")" |
            vm 'mkdir -p /var/lib/podwire && tar x -C /var/lib/podwire' || return 1
    fi
    sed -n '/<<~SCRIPT/,/^ *SCRIPT$/p' "$here/Vagrantfile" | sed '1d;$d;s/\\\\/\\/g' |
        vm 'cat >/tmp/provision.sh && grep -q "lab setup" /tmp/provision.sh && sh /tmp/provision.sh'
}

box() { # what a user types in the Vagrant box, as the user vagrant
    vm "runuser -l vagrant -c 'rm -rf captures && sudo python scenarios/nodeport.py --out captures'" &&
        vm 'runuser -l vagrant -c "touch captures/mine && tshark -r captures/nodeport-01.pcapng >captures/mine" &&
            [ -z "$(find /vagrant -user root)" ] && ! ls -A /run/podwire 2>/dev/null | grep .'
}

rows() { # every row's packets, hop by hop, over both datapaths, in both families
    status=0
    for family in ${VM_FAMILIES:-ipv4 dual}; do
        for datapath in user kernel; do
            file=rows-$family-$datapath.json
            vm "$python tests.vm.packets record \
                /tmp/$file --datapath $datapath --ip-family $family" || return 1
            vm cat "/tmp/$file" >"out/$file"
        done
        vm "$python tests.vm.packets compare /tmp/rows-$family-{user,kernel}.json" || status=1
    done
    return $status
}

net() { # the net tier, whose labs choose the kernel's datapath by themselves
    tests=${VM_TESTS:-tests/net/test_packets.py tests/net/test_packets_dual.py tests/net/test_dual_wires.py tests/net/test_topology.py tests/net/test_private_ovs.py \
tests/net/test_netns.py tests/net/test_lab.py}
    vm "cd /vagrant && modprobe openvswitch && ./lab test -o timeout=1800 $tests"
}

lessons() { # each lesson over both datapaths
    status=0
    for lesson in $lessons; do
        for datapath in user kernel; do
            file=$lesson-$datapath.json
            vm "cd /vagrant && ./lab $lesson --datapath $datapath --json >/root/$file" || status=1
            vm cat "/root/$file" >"out/$file"
        done
        vm "$python tests.vm.packets compare /root/$lesson-{user,kernel}.json" || status=1
    done
    return $status
}

links() { # delay and loss, which need netem
    vm "$python tests.vm.links"
}

conformance() { # upstream's cases that need a kernel with SCTP, over the kernel's datapath
    vm 'modprobe openvswitch && modprobe sctp && cd /vagrant &&
        ./lab conformance sctp --case-seconds 200 --seconds 900'
}

run_steps() {
    results=
    for step; do
        case " $steps " in *" $step "*) ;; *) fail "there is no step '$step'; there are $steps" ;; esac
        began=$SECONDS
        say "== $step"
        if "$step" > >(tee "out/$step.log") 2>&1; then outcome=passed; else outcome=FAILED; fi
        results="$results$(printf '%s  %-10s %5d s' "$outcome" "$step" $((SECONDS - began)))"$'\n'
        if [ "$step$outcome" = provisionFAILED ]; then break; fi
    done
    printf '\n%s' "$results"
    case $results in *FAILED*) return 1 ;; esac
}

case ${1-all} in
    all)
        trap down EXIT
        up
        # shellcheck disable=SC2086 # a list of words
        run_steps $steps
        ;;
    build | up | copy | down) "$1" ;;
    ssh)
        shift
        vm "$@"
        ;;
    -h | --help | help) sed -n '2,/^set /p' "$0" | sed '$d;s/^# \{0,1\}//' ;;
    *) run_steps "$@" ;;
esac
