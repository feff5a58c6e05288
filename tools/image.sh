#!/usr/bin/env bash
# Builds the image with buildah. A builder's own certificates and pip configuration are mounted, never baked in.
# Variables: IMAGE (weir:dev), BASE (the Dockerfile's).
set -euo pipefail
cd "$(dirname "$0")/.."
certificates=/etc/ssl/certs/ca-certificates.crt
options=(--isolation chroot --network host)
[ ! -f "$certificates" ] || options+=(-v "$certificates:$certificates:ro")
pip=${PIP_CONFIG_FILE:-/etc/pip.conf}
[ ! -f "$pip" ] || options+=(-v "$pip:/etc/pip.conf:ro")
[ -z "${BASE:-}" ] || options+=(--pull-never --build-arg "BASE=$BASE")
exec buildah bud "${options[@]}" -t "${IMAGE:-weir:dev}" .
