#!/usr/bin/env bash
# Installs the Debian packages that a task needs where apt and root are there; else says what to install.
set -euo pipefail

needs() { # command or file, package
	case "$1" in
	/*) [ -e "$1" ] || echo "$2" ;;
	lib*) ldconfig -p | grep -q "$1" || echo "$2" ;;
	*) command -v "$1" >/dev/null || echo "$2" ;;
	esac
}

PATH="$PATH:/usr/sbin:/sbin"
missing=()
case "${1:-run}" in
run) list="clang:clang llvm-strip:llvm /usr/include/bpf/bpf_helpers.h:libbpf-dev libbpf.so.1:libbpf1" ;;
python) list="" ;;
integration) list="ip:iproute2 nft:nftables bpftool:bpftool cc:gcc setpriv:util-linux ss:iproute2" ;;
container) list="buildah:buildah podman:podman runc:runc debootstrap:debootstrap" ;;
*) echo "usage: $0 run|python|integration|container" >&2; exit 2 ;;
esac
for pair in $list; do
	found=$(needs "${pair%%:*}" "${pair##*:}")
	[ -z "$found" ] || missing+=("$found")
done
if [ "${1:-run}" = python ] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing+=(python3-venv); fi
if [ "${1:-run}" = python ] && ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	echo "Weir needs Python 3.11 or later; python3 is $(python3 --version)" >&2
	exit 1
fi
[ "${#missing[@]}" -gt 0 ] || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	echo "installing ${missing[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
	echo "please install: ${missing[*]} (Debian: apt-get install ${missing[*]})" >&2
	exit 1
fi
