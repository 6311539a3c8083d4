# Three images: `service-cpu` (the default), `service-gpu` and `training`.
#   docker build --target service-cpu -t relevance:cpu .
# Base images are pinned by tag: digests could not be looked up where this file was written. Pin them where you build.
# Packages are pinned by version and hash in requirements/*.lock. No image holds a model: bundles are mounted.
FROM python:3.11.14-slim-bookworm AS python
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    DO_NOT_TRACK=1 \
    PATH=/opt/relevance/bin:$PATH
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin relevance

# The environment that later stages fill has no pip: nothing can be installed in a running container.
FROM python AS build
RUN python -m venv --without-pip /opt/relevance \
    && pip install --no-cache-dir setuptools==80.9.0

FROM build AS packages-cpu
COPY requirements/service-cpu.lock /locks/
RUN pip --python /opt/relevance/bin/python install --no-cache-dir --require-hashes -r /locks/service-cpu.lock

# The lock holds onnxruntime-gpu and the CUDA 13 runtime and cuDNN 9 as wheels: the driver alone comes from the host.
FROM build AS packages-gpu
COPY requirements/service-gpu.lock /locks/
RUN pip --python /opt/relevance/bin/python install --no-cache-dir --require-hashes -r /locks/service-gpu.lock

FROM build AS packages-training
COPY requirements/training.lock /locks/
RUN pip --python /opt/relevance/bin/python install --no-cache-dir --require-hashes -r /locks/training.lock

# The project lies apart from its packages: a change of code is a layer of some hundred kilobytes.
FROM build AS project-service
WORKDIR /src
COPY pyproject.toml README.md ./
COPY relevance relevance
COPY service service
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation -w /wheels . \
    && pip --python /opt/relevance/bin/python install --no-cache-dir --no-deps --prefix /opt/project /wheels/*.whl

FROM build AS project-training
WORKDIR /src
COPY pyproject.toml README.md ./
COPY relevance relevance
COPY training training
COPY export export
COPY service service
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation -w /wheels . \
    && pip --python /opt/relevance/bin/python install --no-cache-dir --no-deps --prefix /opt/project /wheels/*.whl

# docker run --gpus all -v ./data:/work -w /work relevance:training pipeline run ...
FROM python AS training
ARG VERSION=0.1.0
ARG REVISION=unknown
COPY --from=packages-training /opt/relevance /opt/relevance
COPY --from=project-training /opt/project /opt/relevance
COPY configs /opt/configs
ENV HOME=/tmp
WORKDIR /work
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["relevance"]
LABEL org.opencontainers.image.title="relevance-training" \
      org.opencontainers.image.description="Mend data, fine-tune, evaluate and export relevance models" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION

# What both service images share. The root file system may be read-only; /tmp must be writable.
FROM python AS service
COPY deploy/healthcheck.py /opt/healthcheck.py
ENV RELEVANCE_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --start-interval=2s --retries=3 \
    CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["relevance", "serve"]

FROM service AS service-gpu
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV RELEVANCE_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/relevance /opt/relevance
COPY --from=project-service /opt/project /opt/relevance
LABEL org.opencontainers.image.title="relevance-service-gpu" \
      org.opencontainers.image.description="Score query-category and query-item pairs over HTTP on a CUDA 13 GPU" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION

FROM service AS service-cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
COPY --from=packages-cpu /opt/relevance /opt/relevance
COPY --from=project-service /opt/project /opt/relevance
LABEL org.opencontainers.image.title="relevance-service-cpu" \
      org.opencontainers.image.description="Score query-category and query-item pairs over HTTP on CPU cores" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
