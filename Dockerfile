# The scoring service: no torch, no transformers. Bundles are mounted at /bundles.
#   docker build -t relevance .                                  CPU
#   docker build -t relevance:gpu --build-arg EXTRA=serve-gpu .  onnxruntime-gpu (needs the CUDA runtime on the host)
#   docker run -p 8080:8080 -v ./build/demo:/bundles:ro relevance \
#     --bundle qc=/bundles/qc/bundle --bundle qi=/bundles/qi/bundle
FROM python:3.11-slim AS build
ARG EXTRA=serve
WORKDIR /src
COPY pyproject.toml README.md ./
COPY relevance relevance
COPY training training
COPY export export
COPY service service
RUN python -m venv /opt/relevance && /opt/relevance/bin/pip install --no-cache-dir ".[${EXTRA}]"

FROM python:3.11-slim
RUN useradd --system --uid 10001 relevance
COPY --from=build /opt/relevance /opt/relevance
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["/opt/relevance/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/relevance/bin/relevance", "serve", "--host", "0.0.0.0", "--port", "8080"]
