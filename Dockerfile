# The annotation server on a CPU:
#   docker build --tag ivos .
#   docker run --rm --publish 127.0.0.1:8765:8765 --volume "$PWD/videos:/videos" --volume "$PWD/outputs:/outputs" \
#       ivos video=/videos/FILE
FROM python:3.12-slim AS build
RUN pip install --no-cache-dir uv
WORKDIR /source
# .git is not copied; the version of the package is therefore the fallback version in pyproject.toml.
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY ivos ivos
COPY conf conf
COPY kernels/correlation.cu kernels/
ENV UV_COMPILE_BYTECODE=0 UV_LINK_MODE=copy
RUN uv build --wheel --out-dir /wheel \
    && uv venv /opt/ivos \
    && uv pip install --python /opt/ivos --no-cache --torch-backend=cpu "$(ls /wheel/ivos-*.whl)[app,evaluate]"

FROM python:3.12-slim
COPY --from=build /opt/ivos /opt/ivos
RUN useradd --create-home ivos && mkdir /outputs && chown ivos /outputs
USER ivos
WORKDIR /
ENV PATH=/opt/ivos/bin:$PATH PYTHONDONTWRITEBYTECODE=1
EXPOSE 8765
# Inside of a container the server has to listen on all addresses; publish the port on 127.0.0.1 only.
ENTRYPOINT ["ivos-annotate", "host=0.0.0.0", "open_browser=false"]
