# syntax=docker/dockerfile:1
# evoloom's images. Targets:
#   cpu   everything on the CPU: service, worker, vLLM's CPU engine, the bundled model
#   gpu   teacher and trainer on a GPU (the driver comes from the host; the rest is in the image)
#
#   docker build --target cpu --build-arg EVOLOOM_TORCH_INDEX=<PyTorch's CPU index> -t evoloom:cpu .
#   docker build --target gpu -t evoloom:gpu .

FROM python:3.11-slim-bookworm AS python
ENV UV_CACHE_DIR=/uv-cache UV_COMPILE_BYTECODE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 DO_NOT_TRACK=1 \
    PATH=/opt/evoloom/bin:$PATH
RUN useradd --create-home --uid 10001 evoloom \
    && install -d -o evoloom -g evoloom /data /cache /handover /prefect

FROM python AS wheel
COPY requirements/bootstrap.txt /tmp/bootstrap.txt
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r /tmp/bootstrap.txt
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY flows flows
COPY store store
COPY api api
COPY prompts prompts
COPY seeds seeds
RUN /opt/build/bin/uv build --wheel --out-dir /wheel

# The packages change less often than the code, so they are a layer of their own.
FROM wheel AS packages-cpu
ARG EVOLOOM_TORCH_INDEX=
COPY requirements/cpu.txt /tmp/packages.txt
RUN --mount=type=cache,target=/uv-cache python -m venv /opt/evoloom \
    && UV_INDEX="$EVOLOOM_TORCH_INDEX" /opt/build/bin/uv pip install --python /opt/evoloom \
       --index-strategy unsafe-best-match --require-hashes -r /tmp/packages.txt
RUN /opt/build/bin/uv pip install --python /opt/evoloom --no-deps /wheel/*.whl

FROM wheel AS packages-gpu
COPY requirements/gpu.txt /tmp/packages.txt
RUN --mount=type=cache,target=/uv-cache python -m venv /opt/evoloom \
    && /opt/build/bin/uv pip install --python /opt/evoloom --require-hashes -r /tmp/packages.txt
RUN /opt/build/bin/uv pip install --python /opt/evoloom --no-deps /wheel/*.whl

FROM python AS cpu
COPY --from=packages-cpu /opt/evoloom /opt/evoloom
ENV EVOLOOM_STORE__PATH=/data/evoloom.duckdb EVOLOOM_ENGINE__CACHE_DIR=/cache \
    HF_HUB_OFFLINE=1 NUMBA_CACHE_DIR=/cache/numba
USER evoloom
WORKDIR /data
ENTRYPOINT ["evoloom"]
CMD ["--help"]

FROM python AS gpu
# Triton compiles its kernels where they run.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=packages-gpu /opt/evoloom /opt/evoloom
ENV EVOLOOM_STORE__PATH=/data/evoloom.duckdb EVOLOOM_ENGINE__CACHE_DIR=/cache \
    HF_HUB_OFFLINE=1 NUMBA_CACHE_DIR=/cache/numba
USER evoloom
WORKDIR /data
ENTRYPOINT ["evoloom"]
CMD ["--help"]
