#!/usr/bin/env bash
# Renews requirements/*.txt from pyproject.toml: pinned, with hashes, without the name of any index.
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url --no-emit-find-links
	--no-emit-trusted-host --upgrade)
trap 'rm -f requirements/build.in requirements/dev.in' EXIT
.venv/bin/pip-compile "${options[@]}" -o requirements/runtime.txt pyproject.toml
.venv/bin/python - <<'PY'
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())
build = [*project["build-system"]["requires"], "editables"]
Path("requirements/build.in").write_text("\n".join(build) + "\n")
development = ["-r runtime.txt", "-r build.txt", *project["dependency-groups"]["dev"]]
Path("requirements/dev.in").write_text("\n".join(development) + "\n")
PY
.venv/bin/pip-compile "${options[@]}" -o requirements/build.txt requirements/build.in
.venv/bin/pip-compile "${options[@]}" -o requirements/dev.txt requirements/dev.in
