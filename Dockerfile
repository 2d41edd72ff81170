# The service's image. The container's command chooses the program: web, consumer, keeper, jobs or manage.py.
FROM python:3.11-slim-bookworm AS packages
WORKDIR /build
COPY requirements.txt requirements-dev.txt ./
COPY bin/pip-locked bin/pip-locked
# the shipped image needs no setuptools, which only built one package
RUN python -m venv /opt/venv \
    && PIP_NO_CACHE_DIR=1 bin/pip-locked /opt/venv/bin/python requirements.txt \
    && /opt/venv/bin/pip uninstall --yes --quiet setuptools

FROM python:3.11-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin coupons
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY manage.py ./
COPY bin/web bin/web
COPY couponsite couponsite
COPY coupons coupons
COPY consumers consumers
RUN python -m compileall -q couponsite coupons consumers
USER coupons
EXPOSE 8000
CMD ["bin/web"]
