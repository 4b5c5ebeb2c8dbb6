# pgweir in a small image: no shell needed, no root, nothing configured but by environment.
#
#   docker build -t pgweir .
#   docker run -p 6432:6432 -e PGWEIR_UPSTREAM=postgres://user:password@db:5432/app pgweir
#
# `make image-check` builds and runs exactly this file without a daemon.

FROM rust:1-slim-bookworm AS build
# The allocator is C and built by make; the image of Rust comes with a compiler alone.
RUN command -v make >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*)
WORKDIR /src
COPY . .
# More flags for cargo, as `--offline` with a source of crates that is mounted.
ARG CARGO_FLAGS=""
# The commit that is built, for `pgweir_build_info`: --build-arg COMMIT="$(git rev-parse --short=12 HEAD)"
ARG COMMIT=""
RUN PGWEIR_COMMIT="${COMMIT}" cargo build --release --locked --package pgweir ${CARGO_FLAGS} && strip target/release/pgweir

FROM debian:bookworm-slim
COPY --from=build /src/target/release/pgweir /usr/local/bin/pgweir
COPY LICENSE /usr/share/doc/pgweir/LICENSE
COPY docs/pgweir.1 /usr/share/man/man1/pgweir.1
# Clients come from other containers. The admin port stays inside: publishing it takes a token and a certificate.
ENV PGWEIR_LISTEN=0.0.0.0:6432 \
    PGWEIR_ADMIN=127.0.0.1:6433
EXPOSE 6432
# A number, so that orchestrators can see that it is not root.
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["pgweir", "health"]
ENTRYPOINT ["pgweir"]
CMD ["serve"]
