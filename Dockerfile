# Airflow with this project: what docker-compose.yaml and the Helm chart run.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS trusting
COPY deploy/ca/ /usr/local/share/ca-certificates/
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        ca-certificates curl libmariadb3 openssh-client python3 python3-venv \
    && update-ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# Python's clients bring lists of their own; the cloud's certificates may come from an authority of yours.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt

FROM trusting AS builder
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc libc6-dev libmariadb-dev pkg-config python3-dev
COPY requirements-deploy.txt requirements-dev.in /build/
RUN python3 -m venv /build/tools \
    && /build/tools/bin/pip install --quiet --cert "$SSL_CERT_FILE" "$(grep '^uv==' /build/requirements-dev.in)" \
    && python3 -m venv /opt/venv \
    && /build/tools/bin/uv pip install --quiet --python /opt/venv/bin/python --require-hashes --compile-bytecode \
        --requirements /build/requirements-deploy.txt

FROM trusting
COPY --from=builder /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    AIRFLOW_HOME=/opt/airflow \
    HOME=/opt/airflow \
    USER=airflow \
    PYTHONPATH=/opt/airflow/plugins \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Any account may run it, as long as its group is root's: a cluster may choose the number.
RUN useradd --uid 50000 --gid 0 --home-dir /opt/airflow --no-create-home --shell /bin/bash airflow \
    && install -d -m 775 -o airflow -g 0 /opt/airflow /opt/airflow/logs /opt/airflow/reports
COPY deploy/airflow.cfg deploy/webserver_config.py /opt/airflow/
COPY deploy/healthcheck deploy/initialize /usr/local/bin/
# Where the Helm chart's probes look for it.
COPY deploy/entrypoint /entrypoint
# Compose mounts the clone's own folders over these; a cluster runs what is in the image.
COPY dags /opt/airflow/dags
COPY plugins /opt/airflow/plugins
COPY include /opt/airflow/include
USER 50000:0
WORKDIR /opt/airflow
ENTRYPOINT ["/entrypoint"]
