"""The verbs of the `vlret` command and their functions, whose signatures and docstrings define options and help."""

from typing import NamedTuple


class Verb(NamedTuple):
    """`vlret STAGE NAME` calls `function`, "module:function", with its parameters as options.

    What it makes is a result of the workflow, with a note of its settings, unless `result` is false.
    """

    stage: str
    name: str
    function: str
    result: bool = True

    def __str__(self) -> str:
        return f"{self.stage} {self.name}"


VERBS = (
    Verb("data", "download", "vlret.data.downloads:download"),
    Verb("data", "repository", "vlret.data.hub:fetch_repository"),
    Verb("data", "source", "vlret.data.sources:fetch"),
    Verb("data", "images", "vlret.data.archives:unpack_images"),
    Verb("data", "missing", "vlret.data.declared:missing"),
    Verb("data", "sample", "vlret.data.sample:build"),
    Verb("data", "articles", "vlret.data.articles:import_articles"),
    Verb("data", "questions", "vlret.data.questions:import_questions"),
    Verb("data", "triviaqa", "vlret.data.triviaqa:join"),
    Verb("data", "passages", "vlret.data.passages:split"),
    Verb("data", "published-passages", "vlret.data.published_passages:import_passages"),
    Verb("data", "entities", "vlret.data.entities:build"),
    Verb("data", "entity-images", "vlret.data.entity_images:fetch_images", result=False),
    Verb("data", "normalise", "vlret.data.relevance:normalise"),
    Verb("data", "qrels", "vlret.data.relevance:judge"),
    Verb("data", "pool", "vlret.data.relevance:pool"),
    Verb("features", "extract", "vlret.features.extract:extract"),
    Verb("features", "gather", "vlret.features.store:gather"),
    Verb("lexical", "index", "vlret.lexical.index:build"),
    Verb("lexical", "tune", "vlret.lexical.tune:tune"),
    Verb("lexical", "search", "vlret.lexical.search:search"),
    Verb("lexical", "join", "vlret.runs:join"),
    Verb("negatives", "mine", "vlret.negatives.mine:mine"),
    Verb("training", "train", "vlret.training.train:train"),
    Verb("retrieval", "embed", "vlret.retrieval.embed:embed_passages"),
    Verb("retrieval", "embed-questions", "vlret.retrieval.embed:embed_questions"),
    Verb("retrieval", "index", "vlret.retrieval.index:build"),
    Verb("retrieval", "search", "vlret.retrieval.search:search"),
    Verb("retrieval", "fuse", "vlret.retrieval.fuse:fuse"),
    Verb("evaluation", "metrics", "vlret.evaluation.metrics:evaluate"),
    Verb("evaluation", "table", "vlret.evaluation.table:table"),
    Verb("cluster", "check", "vlret.cluster.check:check"),
    Verb("cluster", "recover", "vlret.cluster.recover:recover"),
)
