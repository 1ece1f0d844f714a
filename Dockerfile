# The serving image: the model of this tree, the packages that serve it, nothing that trains.
# `make image` builds it with docker, podman or buildah after `make run`.
ARG PYTHON=3.11
FROM docker.io/library/python:${PYTHON}-slim AS build
WORKDIR /app
COPY requirements/serve.txt requirements/serve.txt
RUN python -m venv /app/venv \
 && /app/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-compile --require-hashes -r requirements/serve.txt \
 # What serving never imports: converters and tests; and what venv brings along, which no lock names.
 && cd /app/venv/lib/python*/site-packages \
 && rm -rf onnxruntime/transformers onnxruntime/tools onnxruntime/quantization onnxruntime/datasets \
    pip pip-* setuptools setuptools-* pkg_resources _distutils_hack distutils-precedence.pth \
 && find . -name tests -type d -prune -exec rm -rf {} + \
 && find . \( -name "*.pyi" -o -name "*.a" \) -delete
COPY src/perennial src/perennial
# Without bytecode a start takes ten times as long, and a read-only root filesystem could never write it.
RUN rm -rf src/perennial/pipeline src/perennial/review \
 && /app/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /app/venv/lib src
COPY models/model.onnx models/profile.json models/
COPY reports/metrics.json reports/
COPY dvc.lock .

FROM docker.io/library/python:${PYTHON}-slim
ARG GIT_COMMIT="" MODEL_SHA256=""
LABEL org.opencontainers.image.title="perennial" \
      org.opencontainers.image.revision="${GIT_COMMIT}" \
      org.opencontainers.image.licenses="MIT" \
      dev.perennial.model.sha256="${MODEL_SHA256}"
ENV PATH=/app/venv/bin:$PATH PYTHONPATH=/app/src PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 ORT_DISABLE_TELEMETRY=1 \
    GIT_COMMIT=${GIT_COMMIT} MODEL_SHA256=${MODEL_SHA256} LOG_DIR=/logs
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin serve && install -d -o serve -g serve /logs
COPY --from=build /app /app
WORKDIR /app
USER 10001
# Read-only root: all that is written goes to /logs and /dev/shm.
VOLUME /logs
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-m", "perennial.serving.probe"]
STOPSIGNAL SIGTERM
CMD ["python", "-m", "gunicorn", "--config", "python:perennial.serving.gunicorn_conf"]
