# syntax=docker/dockerfile:1
# Images of the services: `docker build --target envelope .`, or envelope-docx (with LibreOffice, which makes PDFs of DOCX), or
# notifier. The base images are named by tag; pin what you have looked at:
#   --build-arg RUST=rust:1.95-slim-bookworm@sha256:… --build-arg BASE=gcr.io/distroless/cc-debian12:nonroot@sha256:…
ARG RUST=rust:1.95-slim-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot
ARG BASE_DOCX=debian:12-slim

FROM ${RUST} AS build
WORKDIR /source
COPY . .
# The registry and what was compiled stay between builds; the programs do not, so they are copied out.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    cargo build --locked --release --package countersign-envelope --package countersign-notifier \
    && mkdir /programs \
    && cp target/release/countersign-envelope target/release/countersign-notifier /programs/

# Nothing but the program, the C library, the CAs of the platform and a user who is not root.
FROM ${BASE} AS notifier
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="countersign-notifier" \
      org.opencontainers.image.description="Follows the status stream of Countersign and tells those who must know" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /programs/countersign-notifier /usr/local/bin/countersign-notifier
USER 65532:65532
EXPOSE 50052
ENTRYPOINT ["/usr/local/bin/countersign-notifier"]
CMD ["serve"]

FROM ${BASE} AS envelope
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="countersign-envelope" \
      org.opencontainers.image.description="The envelope service of Countersign; takes PDF" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /programs/countersign-envelope /usr/local/bin/countersign-envelope
USER 65532:65532
EXPOSE 50051
ENTRYPOINT ["/usr/local/bin/countersign-envelope"]
CMD ["serve"]

# The converter wants a shell and `timeout` besides LibreOffice itself, so this one is a small Debian.
FROM ${BASE_DOCX} AS envelope-docx
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="countersign-envelope-docx" \
      org.opencontainers.image.description="The envelope service of Countersign; takes PDF and DOCX" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Versions are those of the base image's release, which gets security updates: a rebuild takes them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates fonts-crosextra-caladea fonts-crosextra-carlito fonts-dejavu-core fonts-liberation libreoffice-writer-nogui \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /programs/countersign-envelope /usr/local/bin/countersign-envelope
USER 65532:65532
EXPOSE 50051
ENTRYPOINT ["/usr/local/bin/countersign-envelope"]
CMD ["serve"]
