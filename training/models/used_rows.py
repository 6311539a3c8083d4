"""Training of the word embeddings by the rows that a run uses: some ten thousand of a vocabulary of 250,000."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.models.cross_encoder import CrossEncoder


class UsedRows(nn.Module):
    """Word embeddings of some ids; every other id is an error. Gradients are sparse: of the batch's rows only."""

    def __init__(self, table: nn.Embedding, ids: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[ids].clone())
        places = torch.full((table.num_embeddings,), -1, device=ids.device)
        places[ids] = torch.arange(len(ids), device=ids.device)
        self.register_buffer("places", places, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return embeddings [B, T, H] of token ids [B, T]."""
        return nn.functional.embedding(self.places[ids], self.weight, sparse=True)


@contextmanager
def used_rows(model: CrossEncoder, ids: Iterable[int]) -> Iterator[None]:
    """Train only the rows of these ids of the word embeddings; at the end they are back in the whole table.

    Where the word embeddings are frozen, or no plain table, nothing changes.
    """
    table = model.encoder.get_input_embeddings()
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        yield
        return
    padding = [] if table.padding_idx is None else [table.padding_idx]
    used = torch.tensor(sorted({*ids, *padding}), device=table.weight.device)
    rows = UsedRows(table, used)
    model.encoder.set_input_embeddings(rows)
    try:
        yield
    finally:
        model.encoder.set_input_embeddings(table)
        with torch.no_grad():
            table.weight[used] = rows.weight
