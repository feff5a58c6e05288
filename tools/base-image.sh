#!/usr/bin/env bash
# Makes the base image from Debian's packages, for a builder that reaches no image registry: debootstrap, then python3.
# Usage: tools/base-image.sh NAME MIRROR [SCRATCH]; the engine's configuration comes from the environment.
set -euo pipefail
name=$1 mirror=$2 scratch=${3:-$(mktemp -d)}
root="$scratch/rootfs"
debootstrap --variant=minbase \
	--include=ca-certificates,python3-minimal,python3-venv,python3-pip,libpython3-stdlib bookworm "$root" "$mirror" >"$scratch/debootstrap.log" 2>&1
ln -sf python3 "$root/usr/bin/python"
rm -rf "$root/var/lib/apt/lists" "$root/var/cache/apt/archives" "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
for file in /etc/apt/sources.list /etc/apt/sources.list.d; do # the mirrors of this machine, for the steps that install
	[ ! -e "$file" ] || { mkdir -p "$root$(dirname "$file")"; rm -rf "${root:?}$file"; cp -a "$file" "$root$file"; }
done
[ ! -d /etc/apt/apt.conf.d ] || cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
tar -C "$root" --numeric-owner -c . | podman import --change 'CMD ["python3"]' - "$name"
rm -rf --one-file-system "$root"
