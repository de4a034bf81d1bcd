# Two images: the server of Midas, and the webhook gateway with nothing of the server in it.
# Build: docker build -t midas .          docker build --target gateway -t midas-gateway .
# Run:   docker run -p 6011:6011 -v midas:/var/lib/midas --env-file … midas
#        docker run -p 6013:6013 --env-file … midas-gateway
# The volume keeps the default SQLite file: without it the payments are gone with the container.
FROM python:3.13-slim AS build
RUN python -m pip install --no-cache-dir uv
WORKDIR /src
COPY pyproject.toml README.md ./
COPY midas ./midas
COPY webhook_gateway ./webhook_gateway
COPY protos ./protos
COPY .ci/protos_in_wheel.py ./.ci/
# Constraints pin every version; an environment is complete and needs nothing of the build stage.
RUN UV_PROJECT_ENVIRONMENT=/opt/midas uv sync --no-dev --extra server --no-editable
RUN UV_PROJECT_ENVIRONMENT=/opt/gateway uv sync --no-dev --extra gateway --no-editable

FROM python:3.13-slim AS gateway
RUN useradd --system midas
COPY --from=build /opt/gateway /opt/gateway
USER midas
# Webhooks (6013) and the management port (6014) are open to whoever reaches the container: publish
# 6014 only to probes and Prometheus.
ENV PATH=/opt/gateway/bin:$PATH IP=0.0.0.0 WEBHOOK_MIP=0.0.0.0 DRAIN_DELAY_S=5 DRAIN_TIMEOUT_S=10
EXPOSE 6013 6014
# The stop may take DRAIN_DELAY_S and DRAIN_TIMEOUT_S together: allow more than that (docker stop -t 20),
# so that webhooks and deliveries under way are finished. By default Docker kills after 10 seconds.
STOPSIGNAL SIGTERM
ENTRYPOINT ["webhook-gateway"]

FROM python:3.13-slim AS server
RUN useradd --system --home /var/lib/midas --create-home midas
COPY --from=build /opt/midas /opt/midas
USER midas
WORKDIR /var/lib/midas
ENV PATH=/opt/midas/bin:$PATH IP=0.0.0.0 PORT=6011 DRAIN_DELAY_S=5 DRAIN_TIMEOUT_S=20
EXPOSE 6011
# The stop may take DRAIN_DELAY_S and DRAIN_TIMEOUT_S together: allow more than that (docker stop -t 30,
# terminationGracePeriodSeconds: 30), so that calls under way are finished and recorded. By default
# Docker kills after 10 seconds.
STOPSIGNAL SIGTERM
ENTRYPOINT ["midas"]
CMD ["serve"]
