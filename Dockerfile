# syntax=docker/dockerfile:1
# Two stages: the build, and an image with the binary alone. The configuration and the schemas are inside the binary.
#   docker build -t streamward .
#   docker run --rm -p 127.0.0.1:8000:8000 streamward
FROM rust:1.95.0-bookworm AS build
WORKDIR /streamward
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/streamward/target \
    apt-get update && apt-get install --yes --no-install-recommends cmake \
    && cargo build --release --locked --features oidc --bin streamward \
    && cp target/release/streamward /usr/local/bin/streamward

FROM debian:12.11-slim
RUN useradd --system --uid 10001 --no-create-home streamward \
    && install --directory --owner=streamward /data
COPY --from=build /usr/local/bin/streamward /usr/local/bin/streamward
USER streamward
WORKDIR /data
VOLUME /data
EXPOSE 8000 8081 9092
# A container's ports are reached from outside it, so it listens on all its addresses and --insecure lifts the check for
# that. Publish the ports on 127.0.0.1, or mount a configuration with auth.tokens and leave --insecure out.
ENV STREAMWARD__NODE__DATA_DIR=/data \
    STREAMWARD__HTTP__LISTEN=0.0.0.0:8000 \
    STREAMWARD__REGISTRY__EMBEDDED__LISTEN=0.0.0.0:8081 \
    STREAMWARD__KAFKA__EMBEDDED__LISTEN=0.0.0.0:9092
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=5 \
    CMD ["streamward", "tree", "--json"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["streamward"]
CMD ["run", "--insecure"]
