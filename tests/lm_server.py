"""A language model with random weights behind an OpenAI-compatible endpoint, as a process of its own: for tests.

Answers `/v1/completions` and `/v1/chat/completions` with the log-probabilities of the next token, as vLLM does. `GET
/log` tells the prompts that were asked, in order.
"""

import contextlib
import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests import ROOT


@dataclass(frozen=True)
class Endpoint:
    """Where a running server is."""

    url: str

    def asked(self) -> list[str]:
        """Return the prompts of all requests, in the order in which they came."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/log", timeout=60) as response:
            return json.load(response)


@contextlib.contextmanager
def lm_server(folder: Path):
    """Serve the model of a folder as `tiny`, yield its endpoint and end it. As `silent`, no log-probability is told."""
    command = [sys.executable, "-m", "tests.lm_server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Endpoint(f"http://127.0.0.1:{process.stdout.readline().strip()}/v1")
        finally:
            process.kill()


class Handler(BaseHTTPRequestHandler):
    """Answers requests one at a time, by the model."""

    protocol_version = "HTTP/1.1"
    model: Any
    tokenizer: Any
    asked: list[str]

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(200, self.asked)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_chat = self.path == "/v1/chat/completions"
        text = body["messages"][-1]["content"] if is_chat else body["prompt"]
        self.asked.append(text)
        if body["model"] not in ("tiny", "silent") or body["max_tokens"] != 1:
            return self.reply(404, "no such model")
        best = self.best(text, body["top_logprobs"] if is_chat else body["logprobs"])
        token = next(iter(best))
        if is_chat:
            top = [{"token": each, "logprob": value} for each, value in best.items()]
            logprobs: Any = {"content": [{"token": token, "logprob": best[token], "top_logprobs": top}]}
            choice = {"message": {"role": "assistant", "content": token}}
        else:
            logprobs = {"tokens": [token], "token_logprobs": [best[token]], "top_logprobs": [best]}
            choice = {"text": token}
        choice["logprobs"] = None if body["model"] == "silent" else logprobs
        usage = {"prompt_tokens": len(self.tokenizer.encode(text).ids), "completion_tokens": 1}
        return self.reply(200, {"choices": [choice], "usage": usage})

    def best(self, text, count):
        """Return the likeliest next tokens with their log-probabilities, best first."""
        import torch

        with torch.inference_mode():
            logits = self.model(torch.tensor([self.tokenizer.encode(text).ids])).logits[0, -1]
        found = torch.log_softmax(logits, dim=-1).topk(min(count, len(logits)))
        pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        best: dict[str, float] = {}
        for token, value in pairs:
            best.setdefault(self.tokenizer.decode([token], skip_special_tokens=False), value)
        return best

    def reply(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main():
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    folder = Path(sys.argv[1])
    Handler.model = AutoModelForCausalLM.from_pretrained(folder).eval()
    Handler.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
