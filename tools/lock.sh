#!/usr/bin/env bash
# Renews requirements/*.txt from pyproject.toml: pinned, with hashes, without the name of any index.
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url --no-emit-find-links
	--no-emit-trusted-host --upgrade)
.venv/bin/pip-compile "${options[@]}" -o requirements/runtime.txt pyproject.toml
.venv/bin/python - >requirements/dev.in <<'PY'
import tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
print("-r runtime.txt")
print("\n".join([*project["dependency-groups"]["dev"], *project["build-system"]["requires"], "editables"]))
PY
.venv/bin/pip-compile "${options[@]}" -o requirements/dev.txt requirements/dev.in
rm requirements/dev.in
