# The server of Midas.
# Build: docker build -t midas .
# Run:   docker run -p 6011:6011 -v midas:/var/lib/midas --env-file … midas
# The volume keeps the default SQLite file: without it the payments are gone with the container.
FROM python:3.13-slim AS build
RUN python -m pip install --no-cache-dir uv
WORKDIR /src
COPY pyproject.toml README.md ./
COPY midas ./midas
# Constraints pin every version; the environment is complete and needs nothing of the build stage.
RUN UV_PROJECT_ENVIRONMENT=/opt/midas uv sync --no-dev --extra server --no-editable

FROM python:3.13-slim
RUN useradd --system --home /var/lib/midas --create-home midas
COPY --from=build /opt/midas /opt/midas
USER midas
WORKDIR /var/lib/midas
ENV PATH=/opt/midas/bin:$PATH IP=0.0.0.0 PORT=6011
EXPOSE 6011
# Stop gracefully: longer than DRAIN_TIMEOUT_S, so that calls under way are finished and recorded.
STOPSIGNAL SIGTERM
ENTRYPOINT ["midas"]
CMD ["serve"]
