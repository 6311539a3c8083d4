"""No message holds a secret: what users may give by mistake is named, and not shown."""

import logging

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from relevance.errors import ConfigError
from relevance.model.card import explain
from relevance.secrets import bearer, without_secrets
from service.observability.logs import JsonFormatter
from service.observability.tracing import Tracer
from service.settings import Settings
from training.translation.backends.choice import backend_settings, open_translators
from training.translation.backends.openai_options import OpenAIOptions

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://me:{SECRET}@host/v1", "http://***@host/v1"),
        (f"me:{SECRET}@host", "***@host"),
        (f"http://host/v1?key={SECRET}", "http://host/v1?***"),
        (f'{{"url": "https://host/#{SECRET}"}}', '{"url": "https://host/?***"}'),
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("who? me", "who? me"),
        (f"a@b:{SECRET}@host, see http://a/b://c?{SECRET}", "***@host, see http://a/b://c?***"),
    ],
)
def test_urls_lose_their_secrets(text, shown):
    assert without_secrets(text) == shown


@pytest.mark.parametrize("piece", ["a", "://", "a:b,", "@", "?", "'a", "://a?"])
def test_a_text_of_megabytes_is_read_once(piece):
    """A pattern that starts anew at each place would take hours here, and the test would run out of time."""
    text = piece * (1_000_000 // len(piece))
    assert len(without_secrets(text)) <= len(text) + 3


@pytest.mark.parametrize("form", ["{}\n", "a\n{}", " {}", "{} ", "ü{}", "", "{}\x00"])
def test_key_that_is_no_header_value_is_named_by_its_source(form):
    with pytest.raises(ConfigError, match=r"environment variable KEY .*header value") as caught:
        bearer("environment variable KEY", form.format(SECRET))
    assert SECRET not in str(caught.value)


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str = ""
    number: int = 0


@pytest.mark.parametrize(
    "given",
    [
        {"api_key": SECRET},
        {"apikey": SECRET},
        {"client_secret": SECRET},
        {"number": {"Authorization": f"Bearer {SECRET}"}},
        {"number": f"http://me:{SECRET}@host"},
        {"number": f"http://host?token={SECRET}"},
    ],
)
def test_faults_of_options_show_no_secret(given):
    with pytest.raises(ValidationError) as caught:
        Options(**given)
    assert SECRET not in explain(caught.value)
    assert next(iter(given)) in explain(caught.value)


@pytest.mark.parametrize(
    "endpoint", [f"http://me:{SECRET}@host:4318", f"http://host?key={SECRET}", f"me:{SECRET}@host"]
)
def test_collector_with_a_password_is_refused(endpoint):
    with pytest.raises(ConfigError, match="otlp_endpoint") as caught:
        Settings.build(otlp_endpoint=endpoint)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("headers", [SECRET, f"a={SECRET}%0A", f"a=1,b c={SECRET}", f"a=1,{SECRET}", f"a={SECRET}é"])
@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
def test_headers_of_the_collector_are_checked_and_not_shown(monkeypatch, caplog, variable, headers):
    monkeypatch.setenv(variable, headers)
    with pytest.raises(ConfigError, match=rf"{variable} \(not shown\).*header values") as caught:
        Tracer.open(Settings(otlp_endpoint="http://127.0.0.1:9"))
    assert SECRET not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    "name",
    [
        f"openai:m@http://me:{SECRET}@host/v1",
        f"openai:m@me:{SECRET}@host",
        f"openai:m@http://host/v1?key={SECRET}",
        f"google:m@http://me:{SECRET}@host",
    ],
)
def test_translators_named_with_a_secret_are_refused(name):
    with pytest.raises(ConfigError) as caught, open_translators([name]):
        pass
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text", [f"openai.api_key={SECRET}", f"api_key={SECRET}", f"openai.url=http://me:{SECRET}@host"]
)
def test_settings_of_translators_that_hold_a_secret_are_not_shown(text):
    with pytest.raises(ConfigError) as caught, open_translators(["openai:m@http://host"], backend_settings([text])):
        pass
    assert SECRET not in str(caught.value)


def test_url_with_a_query_is_no_base_url_of_a_translator():
    with pytest.raises(ValidationError, match="query"):
        OpenAIOptions(model="m", url="http://host/v1?key=1")


class HeaderError(OSError):
    """As those of an HTTP client, which quote what they could not send."""


def test_log_quotes_no_error_of_an_http_client():
    try:
        raise HeaderError(f"invalid header value: {SECRET}")
    except HeaderError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), (type(error), error, error.__traceback__))
    assert SECRET not in JsonFormatter().format(record)
