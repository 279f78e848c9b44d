"""Fits the constants that make cosines between different modalities comparable.

    python -m trainer.mini --only calibration [--out embedder/mini/weights]

For each pair of a query's modality and a document's, Platt scaling: the midpoint and slope of
logit = slope · (cosine − midpoint) by weighted logistic regression over all pairs of topics.
Topics are of trainer/mini/topics.py; pairs of one family are left out. Relevant and unrelated
pairs are weighted as if one document in twenty were relevant: a hit has to be likelier than not
in a library that is mostly about other things.

Measured on 62 stamps of things that the classifier knows, 300 nouns, 150 packages and 476 pictures
that nobody asks for: 98 relevant pairs where a picture takes part (stamps of one name count for
each other), 548 between texts, against 31 thousand to 275 thousand unrelated ones. At log-odds
above 0 lie 85 % of the relevant pairs and 0.4 % of the unrelated ones for a text that looks for
texts or for pictures. Every pair of modalities is in settings.json with its counts. The weakest:
a picture that looks for a text (42 % and 0.9 %). These are figures on the data of the fit.
"""

import itertools
import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder import Content, Modality, Role
from embedder.mini.embedder import MiniEmbedder
from embedder.mini.weights import Weights
from trainer.mini.pictures import scenes
from trainer.mini.topics import Topic, backdrop, noun_topics, package_topics, stamp_topics

logger = logging.getLogger(__name__)

PRIOR = 0.05
NOUNS, PACKAGES = 300, 150
Floats = NDArray[np.float64]


def calibrate(out: Path) -> None:
    """Measures cosines with the weights of a folder, fits, and writes its settings.json."""
    topics = [*stamp_topics(), *noun_topics(NOUNS), *package_topics(PACKAGES)]
    topics += [backdrop(picture) for picture in scenes(every=3)]
    logger.info("%d topics", len(topics))
    with MiniEmbedder(Weights(out)) as embedder:
        table = {}
        rows = Rows(embedder, topics)
        for query, document in itertools.product(Modality, Modality):
            cosines, relevant = rows.pairs(query, document)
            table[f"{query} {document}"] = measured(cosines, relevant)
            logger.info("%-12s %s", f"{query} {document}", table[f"{query} {document}"])
        settings = {"dim": embedder.info.dim, "prior": PRIOR, "calibration": table}
    (out / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def measured(cosines: Floats, relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Constants for one pair of modalities, and how well they part what they were fitted on."""
    midpoint, slope = fit(cosines, relevant, PRIOR)
    return {
        "midpoint": round(midpoint, 4),
        "slope": round(slope, 2),
        "relevant": int(relevant.sum()),
        "unrelated": int((~relevant).sum()),
        "relevant_above": round(float((cosines[relevant] > midpoint).mean()), 3),
        "unrelated_above": round(float((cosines[~relevant] > midpoint).mean()), 5),
    }


class Rows:
    """The vectors of all topics, by role and modality."""

    def __init__(self, embedder: MiniEmbedder, topics: list[Topic]) -> None:
        self._topics = topics
        self._queries = {m: self._embed(embedder, m, "queries") for m in Modality}
        self._documents = {m: self._embed(embedder, m, "documents") for m in Modality}

    def _embed(
        self, embedder: MiniEmbedder, modality: Modality, kind: str
    ) -> tuple[list[int], NDArray[np.float32]]:
        """Which topics have that modality, and their vectors (n, dim)."""
        own = [i for i, topic in enumerate(self._topics) if modality in getattr(topic, kind)]
        contents: list[Content] = [getattr(self._topics[i], kind)[modality] for i in own]
        role: Role = "query" if kind == "queries" else "document"
        return own, embedder.embed(contents, role=role)

    def pairs(self, query: Modality, document: Modality) -> tuple[Floats, NDArray[np.bool_]]:
        """Cosines of all pairs that are clearly relevant or clearly not, and which they are."""
        own_queries, queries = self._queries[query]
        own_documents, documents = self._documents[document]
        names = np.array([topic.name for topic in self._topics])
        families = np.array([topic.family for topic in self._topics])
        same = names[own_queries][:, None] == names[own_documents][None]
        kin = families[own_queries][:, None] == families[own_documents][None]
        kept = same | ~kin
        cosines = (queries @ documents.T).astype(np.float64)
        return cosines[kept], same[kept]


def fit(cosines: Floats, relevant: NDArray[np.bool_], prior: float) -> tuple[float, float]:
    """Platt scaling by Newton's method.

    Args:
        cosines: Of the pairs (n,).
        relevant: Which of them match (n,).
        prior: Share of the weight that relevant pairs get together.

    Returns:
        Midpoint and slope of the log-odds.
    """
    weights = np.where(relevant, prior / relevant.sum(), (1 - prior) / (~relevant).sum())
    inputs = np.stack([cosines, np.ones_like(cosines)], axis=1)
    beta = np.array([20.0, -10.0])
    for _ in range(100):
        likely = 1 / (1 + np.exp(-(inputs @ beta)))
        gradient = inputs.T @ (weights * (likely - relevant))
        curvature = (inputs * (weights * likely * (1 - likely))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        beta -= step * min(1.0, 10 / np.abs(step).max())
    return float(-beta[1] / beta[0]), float(beta[0])
