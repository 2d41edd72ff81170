#!/bin/sh
# start-engine.sh ROOT CGROUP: runs dockerd with ROOT as its root folder. Begins in a mount and a network namespace of
# its own, so no mount, port, address or firewall rule of the machine is touched.
set -eu
root=$1 cgroup=$2
ip link set lo up
# the way out, which slirp4netns makes from outside
for _ in $(seq 150); do
    if ip address show dev tap0 2>/dev/null | grep -q 'inet '; then break; fi
    sleep 0.2
done
mount --bind "$root" "$root"
for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
mkdir -p "$root/.old"
cd "$root"
pivot_root . .old
cd /
umount -l /.old
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec dockerd --storage-driver overlay2 --cgroup-parent "/$cgroup" --exec-root /run/docker --pidfile /run/docker.pid
