# Weir as a container. Two stages: the first compiles the BPF objects and the wheel, the second carries neither
# compiler nor headers. Another base (of the same Python) may be named by BASE.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends clang llvm libbpf-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE Makefile ./
COPY requirements requirements
COPY tools tools
COPY bpf bpf
COPY receiver receiver
RUN make bpf PYTHON=python3
RUN python3 -m venv /opt/weir \
    && /opt/weir/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements/runtime.txt \
    && python3 -m venv /tmp/build && /tmp/build/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements/build.txt \
    && /tmp/build/bin/pip wheel --quiet --no-deps --no-build-isolation --no-cache-dir -w /tmp/wheel . \
    && /opt/weir/bin/pip install --quiet --no-cache-dir --no-deps /tmp/wheel/*.whl \
    && /opt/weir/bin/pip uninstall --quiet -y pip setuptools \
    && find /opt/weir -path '*/numpy/*' -type d -name tests -prune -exec rm -r {} +

FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends libbpf1 && rm -rf /var/lib/apt/lists/* /var/cache/apt
COPY --from=build /opt/weir /opt/weir
COPY config/minimal.yaml /etc/weir/config.yaml
ENV PATH=/opt/weir/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1
# No uid is set here: an engine gives added capabilities to uid 0, and only some (podman) give them to others as
# ambient ones. Weir drops what it does not need once it is loaded, and sets no_new_privs.
ENTRYPOINT ["weir"]
CMD ["run", "--config", "/etc/weir/config.yaml"]
