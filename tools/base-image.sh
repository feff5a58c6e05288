#!/usr/bin/env bash
# Makes the base image from Debian's packages, for a builder that reaches no image registry: debootstrap, then python3.
# Usage: tools/base-image.sh NAME [MIRROR [SCRATCH]] as root; the engine's configuration comes from the environment, and the
# mirror, where none is named, from this machine's apt.
set -euo pipefail
name=$1 scratch=${3:-$(mktemp -d)}
mirror=${2:-$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Component: main' 'Created-By: Packages' | head -n 1)}
root="$scratch/rootfs"
debootstrap --variant=minbase \
	--include=ca-certificates,python3-minimal,python3-venv,python3-pip,libpython3-stdlib bookworm "$root" "$mirror" \
	>"$scratch/debootstrap.log" 2>&1 || { tail -n 20 "$scratch/debootstrap.log" >&2; exit 1; }
ln -sf python3 "$root/usr/bin/python"
rm -rf "$root/var/lib/apt/lists" "$root/var/cache/apt/archives" "$root"/usr/lib/python3*/EXTERNALLY-MANAGED \
	"$root"/usr/share/{doc,man,locale}
for point in proc sys dev/pts dev; do # never archive or remove through a mount
	if mountpoint -q "$root/$point"; then umount "$root/$point"; fi
done
tar -C "$root" --numeric-owner --one-file-system -c . | podman import --quiet --change 'CMD ["python3"]' - "$name"
rm -rf --one-file-system "$root" "$scratch/debootstrap.log"
rmdir --ignore-fail-on-non-empty "$scratch"
