# One image for the four processes; compose.yaml gives each its command.
#
# BASE_IMAGE is any image with Python 3.11 or newer and its venv module as `python3`. In a closed
# network name one of your own that trusts your certificate authority (docs/guide/operate.md).
ARG BASE_IMAGE=python:3.11-slim-bookworm

# ---- build: wheels of the two distributions, and an environment that holds only what running needs
FROM ${BASE_IMAGE} AS build
WORKDIR /src
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/llmspell
COPY requirements.lock ./
RUN /build/bin/pip install --no-cache-dir --quiet --require-hashes -r requirements.lock \
    && /build/bin/pip --python /opt/llmspell install --no-cache-dir --quiet --require-hashes \
       -r requirements.lock
COPY pyproject.toml LICENSE ./
COPY protos protos
COPY clients/python clients/python
COPY services services
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels \
       ./clients/python . \
    && /build/bin/pip --python /opt/llmspell install --quiet --no-deps --no-index /wheels/*.whl \
    # The lock file also holds what builds the wheels; the image runs without it.
    && /build/bin/pip --python /opt/llmspell uninstall --quiet --yes \
       grpcio-tools hatchling pathspec pluggy setuptools tomlkit trove-classifiers \
    && /build/bin/pip --python /opt/llmspell check

# ---- run
FROM ${BASE_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent \
       --shell /usr/sbin/nologin llmspell \
    && install -d -o 10001 -g 10001 -m 0700 /data/runtime /data/state /data/vector
COPY --from=build /opt/llmspell /opt/llmspell
ENV PATH=/opt/llmspell/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    # onnxruntime would send usage data.
    ORT_DISABLE_TELEMETRY=1
USER 10001:10001
WORKDIR /tmp
CMD ["llmspell", "--help"]
