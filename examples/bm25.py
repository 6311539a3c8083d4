"""Full-text search over titles with tantivy: BM25 over words, and over pairs of letters for scripts without spaces.

The search half of the examples. Any engine that returns candidates with a score can take its place.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tantivy

WORDS, LETTERS = "words", "letters"
LETTERS_BOOST = 0.3  # words count more: pairs of letters match too much
WRITER_BYTES = 30_000_000


class Hits(NamedTuple):
    """Places of the documents found, best first, and their BM25 scores."""

    places: list[int]
    scores: list[float]


class TitleIndex:
    """An index in memory. A document is named by its place in `titles`, from 0."""

    def __init__(self, titles: Sequence[str]) -> None:
        fields = tantivy.SchemaBuilder().add_integer_field("place", stored=True)
        for name in (WORDS, LETTERS):
            fields = fields.add_text_field(name, tokenizer_name=name)
        self._index = tantivy.Index(fields.build())
        self._analyzers = {
            WORDS: _analyzer(tantivy.Tokenizer.simple()),
            LETTERS: _analyzer(tantivy.Tokenizer.ngram(1, 2)),
        }
        for name, analyzer in self._analyzers.items():
            self._index.register_tokenizer(name, analyzer)
        writer = self._index.writer(WRITER_BYTES, 1)
        for place, title in enumerate(titles):
            document = tantivy.Document()
            document.add_integer("place", place)
            document.add_text(WORDS, title)
            document.add_text(LETTERS, title)
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    def search(self, query: str, limit: int) -> Hits:
        """Return the best documents that share a word or a pair of letters with the query; none may."""
        found = self._searcher.search(self._query(query), limit).hits
        places = [self._searcher.doc(address)["place"][0] for _, address in found]
        return Hits(places, [score for score, _ in found])

    def _query(self, text: str) -> tantivy.Query:
        parts = []
        for name, boost in ((WORDS, 1.0), (LETTERS, LETTERS_BOOST)):
            terms = list(dict.fromkeys(self._analyzers[name].analyze(text)))
            if name == LETTERS:  # a single letter counts only where the query has no more
                terms = [term for term in terms if len(term) == 2] or terms
            schema = self._index.schema
            parts += [tantivy.Query.boost_query(tantivy.Query.term_query(schema, name, term), boost) for term in terms]
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, part) for part in parts])


def _analyzer(tokenizer: tantivy.Tokenizer) -> tantivy.TextAnalyzer:
    filters = (tantivy.Filter.lowercase(), tantivy.Filter.ascii_fold())
    builder = tantivy.TextAnalyzerBuilder(tokenizer)
    for each in filters:
        builder = builder.filter(each)
    return builder.build()
