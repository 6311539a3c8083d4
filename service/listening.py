"""The settings of sockets and connections: the part of `service.settings.Settings` that the process needs."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ListeningSettings(BaseSettings):
    """Where the service listens, who may connect, and how connections end."""

    model_config = SettingsConfigDict(env_prefix="RELEVANCE_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 lets other machines in")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes any free one")
    api_keys: Path | None = Field(
        None,
        description="TOML file of the API keys that may call, read again when it changes (docs/security.md); absent: "
        "everybody who reaches the port may call",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate, with its chain: serves HTTPS. Needs tls_key"
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key, without a password")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities whose client certificates are accepted; absent: none is needed"
    )
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of the admin interface, which changes models (docs/models.md); absent: there is none",
    )
    admin_host: str = Field("127.0.0.1", description="address that the admin interface listens on")
    keep_alive_seconds: int = Field(
        620,
        ge=1,
        description="how long an idle connection is kept. Set it above that of the load balancer in front (most: "
        "60 to 600 s); otherwise some requests meet a connection that was just closed",
    )
    max_idle_connections: int = Field(
        2000,
        ge=1,
        description="maximum idle connections, and at most half of the files that this process may open; beyond it the "
        "oldest is closed. Higher: more memory, some 20 kB each",
    )
    drain_seconds: float = Field(
        5.0,
        ge=0,
        description="after SIGTERM, how long the service still accepts requests while /readyz says 503. Higher: every "
        "load balancer notices. Lower: quicker restarts",
    )
    finish_seconds: float = Field(
        30.0, ge=0, description="after that, how long requests in progress may take before they are cut off"
    )
