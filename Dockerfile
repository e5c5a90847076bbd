# A server of Parakit for the CPU, which runs as a user without rights. docs/deployment.md shows how to start it.
#
#   docker build -t parakit --build-arg TORCH_INDEX=URL .

FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY recipes recipes
# Without an index of builds for the CPU, which PyTorch's website names, pip takes the build with CUDA, ten times as large.
ARG TORCH_INDEX=
RUN python -m venv /usr/local/parakit \
 && /usr/local/parakit/bin/pip install --no-cache-dir -c constraints.txt \
      ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[serve,constrain]'

FROM python:3.11-slim
# The compiler makes the CPU kernels for the processor that the container runs on, once; they are kept in /data.
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin parakit \
 && install -d -o parakit -g parakit -m 700 /data
COPY --from=build /usr/local/parakit /usr/local/parakit
ENV PATH=/usr/local/parakit/bin:$PATH \
    PARAKIT_ACCOUNTS=/data/accounts.sqlite \
    PARAKIT_CACHE=/data/cache \
    PYTHONUNBUFFERED=1
USER parakit
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["parakit"]
CMD ["serve", "/models/model", "--host", "0.0.0.0", "--no-studio"]
