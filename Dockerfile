# The `darkroom` command for docker-compose.yml: the same image for workers, gateway, emulator and setup.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS wheels
WORKDIR /build
# Only what the lock file names, at its versions and with its hashes, is ever fetched.
COPY requirements.lock ./
RUN pip wheel --no-cache-dir --require-hashes --prefer-binary --wheel-dir /wheels --requirement requirements.lock
COPY . ./
# The emulator signs webhooks; the rest of the extra `demo` are servers, which have containers of their own here.
RUN python -m venv /darkroom \
    && /darkroom/bin/pip install --no-cache-dir --no-index --find-links /wheels . standardwebhooks

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin darkroom \
    && mkdir /data \
    && chown darkroom /data
COPY --from=wheels /darkroom /darkroom
ENV PATH=/darkroom/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DARKROOM_HOME=/data
USER darkroom
WORKDIR /data
VOLUME /data
ENTRYPOINT ["darkroom"]
CMD ["--help"]
