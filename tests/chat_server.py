"""A chat endpoint as a process of its own, which translates by a rule and misbehaves by a plan: for tests of clients.

Every request takes the next step of the plan; behind its end all are answered. `GET /log` tells what was seen. The
translation of `red cup` into German is `de red cup`.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Endpoint:
    """Where a running server is."""

    url: str
    process: subprocess.Popen

    def log(self) -> dict[str, Any]:
        """Return what the server saw: requests in order, and the most that were under way at once."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/log", timeout=10) as response:
            return json.load(response)

    def texts(self) -> list[str]:
        """Return the texts of all requests, in the order in which they came."""
        return [text for request in self.log()["requests"] for text in request["texts"]]


@contextlib.contextmanager
def chat_server(*plan: dict[str, Any], options: dict[str, Any] | None = None):
    """Start a server with a plan, yield its endpoint and end it."""
    command = [sys.executable, __file__, json.dumps(plan), json.dumps(options or {})]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip()
        yield Endpoint(f"http://127.0.0.1:{port}/v1", process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class State:
    """The plan and the log, shared by the server's threads."""

    def __init__(self, plan, options):
        self.plan, self.options = list(plan), options
        self.requests, self.active, self.most_active = [], 0, 0
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)

    def enter(self, request):
        with self.lock:
            self.requests.append(request)
            self.active += 1
            self.changed.notify_all()
            self.most_active = max(self.most_active, self.active)
            return self.plan.pop(0) if self.plan else {"do": "answer"}

    def wait_for_another(self, count):
        """Wait until more than `count` requests have come in."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.requests) > count, 120)

    def leave(self):
        with self.lock:
            self.active -= 1


class Handler(BaseHTTPRequestHandler):
    """Answers chat requests and `GET /log`."""

    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.state.lock:
            log = {"requests": self.state.requests, "most_active": self.state.most_active}
        self.reply(200, json.dumps(log))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = [query["text"] for query in json.loads(body["messages"][-1]["content"])["queries"]]
        form = body.get("response_format", {}).get("type", "text")
        seen = {"path": self.path, "texts": texts, "mode": form, "time": time.time(), "body": body}
        step = self.state.enter(
            seen | {"authorization": self.headers.get("authorization"), "headers": dict(self.headers)}
        )
        try:
            self.act(step, body, texts, form)
        finally:
            self.state.leave()

    def act(self, step, body, texts, form):
        options = self.state.options
        time.sleep(step.get("seconds", options.get("seconds", 0)))
        if step.get("late"):
            self.state.wait_for_another(step["late"])
        if options.get("key") and self.headers.get("authorization") != f"Bearer {options['key']}":
            self.reply(401, json.dumps({"error": f"bad key {self.headers.get('authorization')}"}))
        elif self.path != "/v1/chat/completions" or body["model"] != options.get("model", "m"):
            self.reply(404, "no such model")
        elif form in options.get("refuses", []):
            self.reply(400, f"response_format {form} is not supported")
        elif step["do"] == "status":
            self.reply(step["code"], step.get("body", "busy"), step.get("headers", {}))
        elif step["do"] == "drop":
            self.close_connection = True
        elif step["do"] == "html":
            self.reply(200, "<html>gateway</html>")
        else:
            self.reply(200, json.dumps(self.completion(step, body, texts)))

    def completion(self, step, body, texts):
        target = re.search(r"into \w+ \((\w+)\)", body["messages"][0]["content"])[1]
        skipped = set(step.get("skip", [])) | {
            n for n, t in enumerate(texts) if t in self.state.options.get("never", [])
        }
        items = [{"n": n, "text": f"{target} {text}"} for n, text in enumerate(texts) if n not in skipped]
        content = json.dumps({"translations": items}, ensure_ascii=False)
        shapes = {
            "truncate": lambda: content[: content.rindex("{") + 12] if len(items) > 1 else content[:20],
            "malformed": lambda: "Sure! Here you go: {translations: [de red",
            "fenced": lambda: f"Sure! Here you go:\n```json\n{content}\n```\nAnything else?",
            "empty": lambda: None,
        }
        content = shapes.get(step["do"], lambda: content)()
        choice = {"message": {"role": "assistant", "content": content}}
        choice["finish_reason"] = "length" if step["do"] == "truncate" else "stop"
        usage = {"prompt_tokens": 100, "completion_tokens": 10 * len(items)}
        return {"choices": [choice], "usage": usage}

    def reply(self, status, text, headers=None):
        data = text.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("plan", type=json.loads)
    parser.add_argument("options", type=json.loads)
    arguments = parser.parse_args()
    Handler.state = State(arguments.plan, arguments.options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
