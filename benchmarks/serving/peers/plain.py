"""What most teams start with: FastAPI that calls sentence_transformers.CrossEncoder, a request at a time.

`python plain.py CHECKPOINT MAX_LENGTH PORT [cpu|cuda [PAIRS_A_RUN]]`; on a GPU in fp16.
"""

import asyncio
import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import CrossEncoder


class Request(BaseModel):
    pairs: list[tuple[str, str]]


def create_app(checkpoint: str, max_length: int, device: str, batch: int) -> FastAPI:
    model = CrossEncoder(checkpoint, max_length=max_length, device=device, activation_fn=torch.nn.Sigmoid())
    if device == "cuda":
        model.half()
    app, turn = FastAPI(), asyncio.Lock()

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, list[float]]:
        async with turn:  # two at a time would only take the cores from one another
            scores = await asyncio.to_thread(model.predict, request.pairs, batch_size=batch, show_progress_bar=False)
        return {"scores": scores.tolist()}

    return app


if __name__ == "__main__":
    device, batch = [*sys.argv[4:], *("cpu", "32")[len(sys.argv) - 4 :]]
    app = create_app(sys.argv[1], int(sys.argv[2]), device, int(batch))
    uvicorn.run(app, port=int(sys.argv[3]), log_level="warning")
