# The image holds the server and nothing to build it with.
#
#   docker build -t perstack .
#   docker run -i --rm -v "$PWD:/workspace" --user "$(id -u):$(id -g)" perstack serve
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD:/workspace" --user "$(id -u):$(id -g)" \
#       perstack serve --http 0.0.0.0:8000 --allow-unauthenticated
#
# Another Debian-based image with Python 3.11 or newer can be given: --build-arg BASE=…
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv /opt/perstack
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY definitions ./definitions
COPY src ./src
# unchecked-hash: a copy into another stage may change the times of files, and the user of the image
# could not replace bytecode that then counts as stale.
RUN /opt/perstack/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check \
        --constraint constraints.txt . \
    && /opt/perstack/bin/pip uninstall --yes --quiet setuptools pip \
    && /opt/perstack/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        /opt/perstack/lib

FROM ${BASE}
# ca-certificates: providers and remote skills are reached through the system's trust store.
# tini: as process 1 it hands SIGTERM on and reaps what skill servers leave behind.
# No version is pinned: the base decides the distribution.
# compileall: the official Python images come without bytecode of the standard library.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates tini \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m compileall -q -j 0 -x '/(tests?|site-packages|dist-packages)/' \
        "$(python3 -c 'import os; print(os.path.dirname(os.__file__))')" \
    && groupadd --gid 10001 perstack \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin perstack \
    && install --directory --owner=10001 --group=10001 /workspace
COPY --from=build /opt/perstack /opt/perstack
# PERSTACK_SANDBOX: the container is the sandbox of what experts run.
ENV PATH=/opt/perstack/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PERSTACK_SANDBOX=1
USER 10001:10001
WORKDIR /workspace
ENTRYPOINT ["tini", "--", "perstack"]
CMD ["--help"]
