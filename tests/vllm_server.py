"""A stand-in for vLLM, as a process of its own: for tests. It is not vLLM, which needs a GPU build.

It serves folders with transformers by the route `/classify` in the shapes that vLLM documents: token ids in, `index`,
`label`, `probs` and `num_classes` out, errors as `{"error": {"message", "type", "param", "code"}}`. Without
`use_activation: false` it answers sigmoids. Each input runs alone, so that no padding is read. Every request takes the
next step of a plan; behind its end all are answered. `GET /log` tells the requests, and the most under way at once.
"""

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests import ROOT


@dataclass(frozen=True)
class Endpoint:
    """Where a running server is."""

    url: str

    def plan(self, *steps: dict[str, Any]) -> None:
        """Replace the plan, and forget the requests so far."""
        request = urllib.request.Request(f"{self.url}/plan", json.dumps(steps).encode())
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()

    def log(self) -> dict[str, Any]:
        """Return the bodies of all requests since the plan, their headers, and the most that were under way at once."""
        with urllib.request.urlopen(f"{self.url}/log", timeout=60) as response:
            return json.load(response)


@contextlib.contextmanager
def vllm_server(**models: dict[str, Any]):
    """Serve models by name (`folder`, `max_model_len`, `knows_use_activation`), yield the endpoint and end it."""
    command = [sys.executable, "-m", "tests.vllm_server", json.dumps(models)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Endpoint(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        finally:
            process.kill()


class State:
    """The plan and the log, shared by the server's threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.reset([])

    def reset(self, plan):
        self.plan, self.log, self.active, self.most_active = list(plan), [], 0, 0

    def enter(self, body, headers):
        with self.lock:
            self.log.append({"body": body, "headers": headers})
            self.active += 1
            self.most_active = max(self.most_active, self.active)
            return self.plan.pop(0) if self.plan else {}

    def leave(self):
        with self.lock:
            self.active -= 1


class Handler(BaseHTTPRequestHandler):
    """Answers by the models."""

    protocol_version = "HTTP/1.1"
    models: dict[str, dict[str, Any]]
    state = State()

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(200, {"requests": self.state.log, "most_active": self.state.most_active})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/plan":
            self.state.reset(body)
            return self.reply(200, {})
        if self.path != "/classify":
            return self.reply(404, {"detail": "Not Found"})
        step = self.state.enter(body, dict(self.headers))
        try:
            time.sleep(step.get("seconds", 0))
            self.classify(body, step)
        finally:
            self.state.leave()

    def classify(self, body, step):
        model = self.models.get(body["model"])
        if status := step.get("status"):
            return self.error(status, "the engine is overloaded", "ServiceUnavailableError")
        if model is None:
            return self.error(404, f"The model `{body['model']}` does not exist.", "NotFoundError", "model")
        longest, most = max(map(len, body["input"])), model["max_model_len"]
        if longest > most:
            text = f"This model's maximum context length is {most} tokens. However, your request has {longest} input "
            return self.error(400, f"{text}tokens. Please reduce the length of the input messages.", "BadRequestError")
        raw = body.get("use_activation") is False and model.get("knows_use_activation", True)
        probs = [self.probs(model["network"], ids, raw) for ids in body["input"]]
        probs = probs[step.get("left_out", 0) :]
        if "logit" in step:
            probs[-1] = [step["logit"]]
        if step.get("classes") == 2:
            probs = [[1 - value, value] for (value,) in probs]
        data = [
            {"index": place, "label": "LABEL_0", "probs": each, "num_classes": len(each)}
            for place, each in enumerate(probs)
        ]
        tokens = sum(map(len, body["input"]))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}
        reply = {"id": "classify-1", "object": "list", "created": 1, "model": body["model"], "data": data}
        return self.reply(200, step.get("reply", reply | {"usage": usage}))

    def probs(self, network, ids, raw):
        """Return the one output of an input, its sigmoid unless `raw`."""
        import torch

        with torch.inference_mode():
            output = network(input_ids=torch.tensor([ids])).logits[0]
        return (output if raw else output.sigmoid()).tolist()

    def error(self, status, message, kind, param=None):
        self.reply(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})

    def reply(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a client that waits no longer
            self.wfile.write(data)


def main():
    from transformers import AutoModelForSequenceClassification

    models = json.loads(sys.argv[1])
    for model in models.values():
        model["network"] = AutoModelForSequenceClassification.from_pretrained(model["folder"]).eval()
    Handler.models = models
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
