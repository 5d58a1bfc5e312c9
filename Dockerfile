# One image for every part: `worker`, or any other command of `img2img`.
# PyPI's PyTorch brings its own CUDA libraries; the host needs only the NVIDIA driver and container toolkit.

FROM python:3.12-slim AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/img2img
ENV PATH=/opt/img2img/bin:$PATH
# the dependencies first: they change seldom and are large
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python - <<'PY' > requirements.txt
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["worker"], *extras["upscalers"], *extras["gateway"], sep="\n")
PY
RUN pip install -c constraints.txt -r requirements.txt
COPY shared shared
COPY producer producer
COPY gateway gateway
COPY worker worker
RUN pip install --no-deps -c constraints.txt '.[worker,upscalers,gateway]'

FROM python:3.12-slim
# with which Triton makes a GPU's kernels, at the first start on a card: they are kept in /data
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/img2img /opt/img2img
ENV PATH=/opt/img2img/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    IMG2IMG_DATA_DIR=/data
RUN useradd --uid 10001 --create-home farm && install -d -o farm /data
USER farm
VOLUME /data
ENTRYPOINT ["img2img"]
CMD ["--help"]
