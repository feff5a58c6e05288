#!/usr/bin/env bash
# Builds the Collector of the tests once for each state of its sources, outside the tree, and prints where it is.
# The binary lies in ${XDG_CACHE_HOME:-$HOME/.cache}/weir; the first build takes a minute or two.
set -euo pipefail
cd "$(dirname "$0")"
digest=$(cat main.go fault.go go.mod go.sum | sha256sum | cut -c1-16)
target="${XDG_CACHE_HOME:-$HOME/.cache}/weir/otelcol-$digest/otelcol"
if [ ! -x "$target" ]; then
	command -v go >/dev/null || { echo "please install Go 1.26 or later: the tests' Collector is built with it" >&2; exit 1; }
	mkdir -p "$(dirname "$target")"
	half=$(mktemp "$target.XXXXXX") # renamed when it is whole: two builds at a time do not meet
	trap 'rm -f "$half"' EXIT
	go build -trimpath -ldflags="-s -w" -o "$half" . >&2
	chmod 755 "$half"
	mv "$half" "$target"
fi
echo "$target"
